"""Regions of images: which pixels they have, and how they are hidden."""

from collections.abc import Callable
import functools
from typing import Any

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import batched
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

# What is drawn -> the share of each pixel that is shown, [n, H, W].
Expand = Callable[[Any], jax.Array]


def cells(height: int, width: int, grid: int) -> np.ndarray:
  """Returns which cell of a grid each pixel is in, int32 [H, W]."""
  rows, columns = (np.arange(n) * grid // n for n in (height, width))
  return (rows[:, None] * grid + columns).astype(np.int32)


def spread(values: jax.Array, regions: np.ndarray, channels: int) -> jax.Array:
  """Shares the values of regions among their pixels and channels.

  Args:
    values: [N, d, K'].
    regions: int [H, W], of each pixel.
    channels: C.

  Returns:
    [N, H, W, C, K'], which sums to the same.
  """
  pixels = np.bincount(regions.ravel(), minlength=values.shape[1])
  shares = values / (channels * pixels[:, None])
  return jnp.repeat(shares[:, regions][:, :, :, None], channels, axis=3)


def scorer(
    score: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    backgrounds: jax.Array,
    classes: jax.Array,
    limit: int,
) -> Callable[[Expand, Any], jax.Array]:
  """Builds what scores images of which a share of each pixel is shown.

  Args:
    score: Images [B, H, W, C] -> scores [B, K].
    images: float32 [N, H, W, C].
    backgrounds: What is there where nothing is shown.
    classes: int32 [N, K'].
    limit: The largest number of images in one call of the model.

  Returns:
    (expand, drawn) -> scores [N, n, K'], of n draws along the leading axis.
  """
  count = len(images)

  def part(expand, drawn):
    shown = expand(drawn)[None, ..., None]
    mixed = shown * images[:, None] + (1 - shown) * backgrounds[:, None]
    scores = score(mixed.reshape(-1, *images.shape[1:])).astype(jnp.float32)
    scores = scores.reshape(count, -1, scores.shape[-1])
    return jnp.take_along_axis(scores, classes[:, None, :], axis=-1)

  def call(expand, drawn):
    total = len(jax.tree.leaves(drawn)[0])
    size = max(1, limit // count)
    parts = -(-total // size)
    if parts == 1:
      return part(expand, drawn)
    size = -(-total // parts)
    in_parts = jax.tree.map(
        lambda x: jnp.pad(
            x, ((0, parts * size - total), *((0, 0),) * (x.ndim - 1)),
            mode='edge',
        ).reshape(parts, size, *x.shape[1:]),
        drawn,
    )
    scores = lax.map(functools.partial(part, expand), in_parts)
    return scores.swapaxes(0, 1).reshape(count, parts * size, -1)[:, :total]

  return call


def program(
    values: Callable[..., jax.Array], score_fn: ScoreFn, masker: Masker
) -> Program:
  """Makes a program of what gives maps from a scorer and the image's shape."""
  if masker.inpaints:
    raise InputError(
        f'The masker {masker.name!r} is for explainer=shap_partition alone; '
        f'this explainer takes {", ".join(maskers.BACKGROUND_MASKERS)}.',
        'masker', 'NAME',
    )

  def explain(variables, images, classes):
    shape = images.shape[1:]
    score = scorer(
        functools.partial(score_fn, variables), images,
        masker.background(images), classes,
        batched.images_per_call(score_fn, variables, shape),
    )
    return values(score, shape)

  return explain


def of_sets(regions: np.ndarray) -> Expand:
  """Returns what shows the pixels of the regions in a set, bool [n, d]."""
  return lambda sets: sets[:, regions].astype(jnp.float32)
