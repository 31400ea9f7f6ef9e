"""Explainers that look at what hiding parts of an image does to the score.

Each function builds a program, see `batched`.
"""

from typing import Any

from attribution import maskers
from attribution.errors import check_at_least
from attribution.explainers import masking
from attribution.explainers import regions
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np


def occlusion(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 8,
    num_regions: int = 0,
) -> Program:
  """What the score loses when a region is hidden (Zeiler and Fergus, 2014).

  Args:
    score_fn: (variables, images [B, H, W, C]) -> scores [B, K].
    masker: What stands in for what is hidden.
    grid: Cells a side.
    num_regions: How many the user gives, at most; 0 for cells.

  Returns:
    Of variables, images, classes and, where there are any, regions; see
    `batched`.
  """
  players = regions.number(grid, num_regions)

  def values(score, places):
    sets = ~np.eye(players + 1, players, dtype=bool)  # The last shows all.
    scores = score(masking.of_sets(places), jnp.asarray(sets))
    return scores[:, -1:] - scores[:, :-1]

  return masking.values_program(values, score_fn, masker, grid)


def rise(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 8,
    max_evals: int = 2000,
    seed: int = 0,
) -> Program:
  """Pixels by the mean score where they are shown (Petsiuk et al., 2018).

  Half of the points of a grid are shown, with smooth edges, and the grid is
  moved by up to a cell. A map is the mean over the draws of the score above
  the mean score, times what is shown above its mean, so that it has both signs
  (the original has neither mean, and ranks pixels alike).

  Args:
    score_fn: (variables, images [B, H, W, C]) -> scores [B, K].
    masker: What stands in for what is hidden.
    grid: Points a side, between which the mask is linear.
    max_evals: Masks.
    seed: Of the draws.

  Returns:
    Of variables, images, classes and, where there are any, regions; see
    `batched`.
  """
  check_at_least('grid', grid, 1)
  check_at_least('max_evals', max_evals, 2)

  def maps(score, shape, places):
    del places
    height, width, channels = shape
    key_shown, key_moved = jax.random.split(jax.random.key(seed))
    points = jax.random.bernoulli(
        key_shown, 0.5, (max_evals, grid + 1, grid + 1)
    ).astype(jnp.float32)
    moved = jax.random.uniform(key_moved, (max_evals, 2))

    def expand(drawn):
      def one(points, moved):
        # A cell more than the image is high, which begins within the first.
        along = [
            _between(n, grid, start) for n, start in zip(
                (height, width), moved, strict=True
            )
        ]
        return along[0] @ points @ along[1].T

      return jax.vmap(one)(*drawn)[:, None]

    scores = score(expand, (points, moved))
    scores -= scores.mean(axis=1, keepdims=True)

    # The masks a second time, one by one: all at once may not fit.
    def add(total, drawn):
      *drawn, score = drawn
      shown = expand(jax.tree.map(lambda x: x[None], tuple(drawn)))[0, 0]
      return total + (shown - 0.5)[..., None] * score[:, None, None, :], None

    start = jnp.zeros((scores.shape[0], height, width, scores.shape[-1]))
    total, _ = lax.scan(add, start, (points, moved, scores.swapaxes(0, 1)))
    total /= max_evals * channels
    return jnp.repeat(total[:, :, :, None], channels, axis=3)

  return masking.program(maps, score_fn, masker)


def _between(size: int, grid: int, start: jax.Array) -> jax.Array:
  """Returns the weights of grid + 1 points at each pixel, linear, [size, .]."""
  place = (jnp.arange(size) + 0.5) / size * (grid - 1) + start
  return jax.nn.relu(1 - abs(place[:, None] - jnp.arange(grid + 1)))


def occlusion_evaluations(
    *, grid: int, num_regions: int, **options: Any
) -> int:
  """Returns one for each region, and one with all shown."""
  del options
  return (num_regions or grid**2) + 1
