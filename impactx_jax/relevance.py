"""What relevance does in training: to features, units and losses.

Weber et al., 'Beyond explaining: Opportunities and challenges of XAI-based
model improvement', Information Fusion 2023. Relevance r is of the same shape as
what it is of, signed, of the true class, and gets no gradient here unless it
says so.
"""

from collections.abc import Sequence

import chex
import jax
from jax import lax
import jax.numpy as jnp


def of_largest(
    relevance: jax.Array, axes: int | Sequence[int] | None = None
) -> jax.Array:
  """Divides by the largest magnitude along some axes; 0 where all are 0.

  Args:
    relevance: float [B, …].
    axes: Of which the largest is taken; None for all but the first.

  Returns:
    The same shape, in [-1, 1].
  """
  if axes is None:
    axes = tuple(range(1, relevance.ndim))
  largest = jnp.abs(relevance).max(axis=axes, keepdims=True)
  return relevance / jnp.where(largest == 0, 1, largest)


def attention(relevance: jax.Array) -> jax.Array:
  """The mask M = 0.5 + (r' + 1) / 2 that features are multiplied by (eq. 22).

  Args:
    relevance: float [B, …], of the features; r' is it over its largest
      magnitude in an example.

  Returns:
    The same shape, in [0.5, 1.5]; 1 where nothing is relevant.
  """
  return lax.stop_gradient(0.5 + (of_largest(relevance) + 1) / 2)


def guided_dropout(
    features: jax.Array, score: jax.Array, share: float
) -> jax.Array:
  """Sets the features of the largest scores to 0, and keeps the others' sum.

  Args:
    features: float [B, F], 0 or more.
    score: float [B, F], such as the magnitude of their relevance; or random,
      for as many at random.
    share: Of the features of an example that go, of which whole ones do, one at
      least.

  Returns:
    [B, F]; what is left of an example is scaled so that its mean stays, and is
    not where nothing is left of it.
  """
  chex.assert_equal_shape([features, score])
  count = max(1, int(share * features.shape[-1] + 1e-6))
  order = jnp.argsort(jnp.argsort(-lax.stop_gradient(score), axis=-1), axis=-1)
  kept = features * (order >= count)
  before, after = (
      lax.stop_gradient(x.sum(axis=-1, keepdims=True)) for x in (features, kept)
  )
  return kept * jnp.where(after > 0, before / jnp.where(after > 0, after, 1), 1)


def ground_truth_loss(
    relevance: jax.Array, truth: jax.Array, *, detached: bool = False
) -> jax.Array:
  """The squares of relevance where there should be none (eq. 24).

  Args:
    relevance: float [B, …]; its magnitude over the largest of an example. It
      has a gradient.
    truth: [B, …] or [1, …] in [0, 1], 1 where relevance should be.
    detached: Whether the largest magnitude has none: else a feature that is the
      largest is not made smaller.

  Returns:
    float [B].
  """
  size = jnp.abs(relevance)
  axes = tuple(range(1, relevance.ndim))
  largest = size.max(axis=axes, keepdims=True)
  if detached:
    largest = lax.stop_gradient(largest)
  share = size / jnp.where(largest == 0, 1, largest)
  return (((1 - truth) * share) ** 2).sum(axis=axes)
