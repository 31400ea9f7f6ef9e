"""What explainers that hide regions share: images of which a part is shown."""

from collections.abc import Callable
import functools
from typing import Any

from attribution.explainers import batched
from attribution.explainers import regions as region_lib
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

# What is drawn -> the share of each pixel that is shown: [n, 1, H, W] for all
# images alike, or [n, N, H, W].
Expand = Callable[[Any], jax.Array]


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
    shown = expand(drawn).swapaxes(0, 1)[..., None]
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
    maps: Callable[..., jax.Array], score_fn: ScoreFn, masker: Masker
) -> Program:
  """Makes a program of what gives maps from what scores masked images.

  Args:
    maps: (score, (H, W, C), regions) -> maps [N, H, W, C, K'].
    score_fn: (variables, images [B, H, W, C]) -> scores [B, K].
    masker: One that has a background.

  Returns:
    Variables, images [N, H, W, C], classes int32 [N, K'] and, where there are
    any, regions int32 [N, H, W] -> maps [N, H, W, C, K'].

  Raises:
    InputError: for another masker.
  """
  batched.check_background(masker)

  def explain(variables, images, classes, regions=None):
    shape = images.shape[1:]
    score = scorer(
        functools.partial(score_fn, variables), images,
        masker.background(images), classes,
        batched.images_per_call(score_fn, variables, shape),
    )
    return maps(score, shape, regions)

  return explain


def values_program(
    values: Callable[..., jax.Array],
    score_fn: ScoreFn,
    masker: Masker,
    grid: int,
) -> Program:
  """The same of what gives values of regions; a grid's, where none are given.

  Args:
    values: (score, regions int [1 or N, H, W]) -> values [N, d, K'].
    score_fn: With the masker, see `program`.
    masker: One that has a background.
    grid: Cells a side.
  """

  def maps(score, shape, regions):
    if regions is None:
      regions = region_lib.cells(*shape[:2], grid)
    return region_lib.spread(values(score, regions), regions, shape[2])

  return program(maps, score_fn, masker)


def of_sets(regions: np.ndarray | jax.Array) -> Expand:
  """Returns what shows the pixels of the regions in a set, bool [n, d]."""
  return lambda sets: sets[:, regions].astype(jnp.float32)
