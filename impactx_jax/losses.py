"""Losses, one value an example, and the scaling of the maps they see.

The four localisation losses are those of model guidance (Rao et al., ICCV
2023): how much of a map lies outside a mask.
"""

from collections.abc import Callable
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

MAP_SCALINGS = ('max_abs', 'global_std', 'pixels', 'none')
# Below this a map, or its positive part, counts as empty.
EMPTY = 1e-7


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """CE of IMPACTX's equation 1.

  Args:
    logits: float [B, K].
    labels: int [B] in 0..K-1.

  Returns:
    float [B], in nats.
  """
  chex.assert_rank([logits, labels], [2, 1])
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def binary_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """BCE of a sigmoid for each class, as model guidance trains with.

  Args:
    logits: float [B, K].
    labels: [B, K], 1 for the classes that are in the image and 0 for others.

  Returns:
    float [B], the mean over the classes, in nats.
  """
  chex.assert_equal_shape([logits, labels])
  return optax.sigmoid_binary_cross_entropy(logits, labels).mean(axis=-1)


def map_mse(predicted: jax.Array, target: jax.Array) -> jax.Array:
  """MSE of IMPACTX's equation 1: the mean over a map's values.

  Args:
    predicted: D(LEP(x)), [B, H, W, C].
    target: The attribution map r, [B, H, W, C], scaled as `scale_maps` does.

  Returns:
    float [B].
  """
  chex.assert_equal_shape([predicted, target])
  return jnp.mean(jnp.square(predicted - target), axis=(1, 2, 3))


def energy_loss(maps: jax.Array, masks: jax.Array) -> jax.Array:
  """The share of positive relevance outside the mask, equation 6 plus 1.

  Args:
    maps: float [B, H, W], signed; its scale makes no difference.
    masks: [B, H, W] in [0, 1], 1 where the map should be.

  Returns:
    float [B] in [0, 1].
  """
  chex.assert_equal_shape([maps, masks])
  positive = jax.nn.relu(maps)
  total, inside = positive.sum((1, 2)), (positive * masks).sum((1, 2))
  empty = total < EMPTY
  return 1 - inside / jnp.where(empty, 1, total)


def l1_loss(maps: jax.Array, masks: jax.Array) -> jax.Array:
  """The mean distance of the map's positive part from the mask, equation 3.

  Args:
    maps: float [B, H, W], signed; divided by its largest value.
    masks: [B, H, W] in [0, 1].

  Returns:
    float [B] in [0, 1].
  """
  chex.assert_equal_shape([maps, masks])
  return jnp.mean(jnp.abs(masks - _of_largest(jax.nn.relu(maps))), axis=(1, 2))


def ppce_loss(maps: jax.Array, masks: jax.Array) -> jax.Array:
  """Cross-entropy of the map's positive part inside the mask, equation 4.

  What is outside the mask is free.

  Args:
    maps: float [B, H, W], signed; divided by its largest value.
    masks: [B, H, W] in [0, 1].

  Returns:
    float [B], 0 for a map that is at its largest all over the mask, in nats.
  """
  chex.assert_equal_shape([maps, masks])
  share = jnp.maximum(_of_largest(jax.nn.relu(maps)), EMPTY)
  size = jnp.maximum(masks.sum((1, 2)), 1)
  return -(masks * jnp.log(share)).sum((1, 2)) / size


def rrr_loss(
    maps: jax.Array, masks: jax.Array, *, detached: bool = False
) -> jax.Array:
  """The squares of the map outside the mask, of both signs, equation 5.

  Args:
    maps: float [B, H, W], signed; divided by its largest magnitude.
    masks: [B, H, W] in [0, 1].
    detached: Whether that magnitude gets no gradient. With one, a map whose
      largest value is outside is told to raise it.

  Returns:
    float [B], a sum over pixels.
  """
  chex.assert_equal_shape([maps, masks])
  shares = _of_largest(maps, detached=detached)
  return ((1 - masks) * jnp.square(shares)).sum((1, 2))


LOCALISATION: dict[str, Callable[..., jax.Array]] = {
    'energy': energy_loss,
    'l1': l1_loss,
    'ppce': ppce_loss,
    'rrr': rrr_loss,
}


def _of_largest(maps: jax.Array, *, detached: bool = False) -> jax.Array:
  """Divides each map by its largest magnitude; an empty map stays."""
  largest = jnp.abs(maps).max(axis=(1, 2), keepdims=True)
  if detached:
    largest = jax.lax.stop_gradient(largest)
  return maps / jnp.where(largest < EMPTY, 1, largest)


def targets(
    maps: np.ndarray | jax.Array, *, channels: int, cell: int, scaling: str
) -> np.ndarray | jax.Array:
  """Turns attribution maps into what a decoder learns.

  Args:
    maps: float32 [N, H, W, C], NumPy or JAX.
    channels: 1 sums a map over the image's channels; 0 keeps them.
    cell: Side of the cells over which values are averaged.
    scaling: See `scale_maps`, which comes last; `pixels` multiplies by H W,
      so that the mean of a map is what its sum was, f(x) - f(hidden).

  Returns:
    float32 [N, H, W, C'] of the same kind, a cell's value on all its pixels.
  """
  if channels == 1:
    maps = maps.sum(axis=-1, keepdims=True)
  if scaling == 'pixels':
    maps = maps * math.prod(maps.shape[1:3])
  return spread(scale_maps(pool(maps, cell), scaling), cell)


def pool(
    maps: np.ndarray | jax.Array, cell: int
) -> np.ndarray | jax.Array:
  """Averages cells of pixels: [N, H, W, C] -> [N, H / cell, W / cell, C]."""
  if cell == 1:
    return maps
  count, height, width, channels = maps.shape
  return maps.reshape(
      count, height // cell, cell, width // cell, cell, channels
  ).mean(axis=(2, 4))


def spread(
    cells: np.ndarray | jax.Array, cell: int
) -> np.ndarray | jax.Array:
  """Gives each pixel its cell's value: the inverse of `pool` by repetition."""
  return cells.repeat(cell, axis=1).repeat(cell, axis=2) if cell > 1 else cells


def scale_maps(
    maps: np.ndarray | jax.Array, scaling: str
) -> np.ndarray | jax.Array:
  """Scales maps before the MSE sees them.

  SHAP values of a probability sum to at most 1 over thousands of pixels, so
  unscaled their MSE is about 1e-7 and no usual weight makes it count.

  Args:
    maps: float32 [N, H, W, C], NumPy or JAX.
    scaling: `max_abs` brings each map to [-1, 1] by its largest magnitude (a
      map of zeros stays); the others leave them: to divide by one number for
      all is for who has all, see `targets` and `data.maps.targets`.

  Returns:
    float32 [N, H, W, C].
  """
  if scaling != 'max_abs':
    return maps
  numpy = maps.__array_namespace__()
  largest = abs(maps).max(axis=(1, 2, 3), keepdims=True)
  return maps / numpy.where(largest > 0, largest, 1)
