"""Explainers that hide regions: occlusion, RISE, and Shapley values by draws.

The regions are the cells of a grid. What is drawn depends on the seed alone, so
that the map of an image is the same whatever images are explained beside it.
Each function builds a program, see `batched`.
"""

import itertools
from typing import Any

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import batched
from attribution.explainers import fastshap
from attribution.explainers import regions
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

# Up to so many regions, all sets of them can be scored.
ALL_SETS = 16


# --- Occlusion ----------------------------------------------------------------


def occlusion(
    score_fn: ScoreFn, *, masker: Masker = maskers.BLUR, grid: int = 8
) -> Program:
  """What the score loses when a cell is hidden (Zeiler and Fergus, 2014)."""
  batched.check_at_least('grid', grid, 1)

  def values(score, shape):
    cells = regions.cells(*shape[:2], grid)
    sets = ~np.eye(grid**2 + 1, grid**2, dtype=bool)  # The last shows all.
    scores = score(regions.of_sets(cells), jnp.asarray(sets))
    return regions.spread(scores[:, -1:] - scores[:, :-1], cells, shape[2])

  return regions.program(values, score_fn, masker)


# --- RISE ---------------------------------------------------------------------


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
  """
  batched.check_at_least('grid', grid, 1)
  batched.check_at_least('max_evals', max_evals, 2)

  def values(score, shape):
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

      return jax.vmap(one)(*drawn)

    scores = score(expand, (points, moved))
    scores -= scores.mean(axis=1, keepdims=True)

    # The masks a second time, one by one: all at once may not fit.
    def add(total, drawn):
      *drawn, score = drawn
      shown = expand(jax.tree.map(lambda x: x[None], tuple(drawn)))[0]
      return total + (shown - 0.5)[..., None] * score[:, None, None, :], None

    start = jnp.zeros((scores.shape[0], height, width, scores.shape[-1]))
    total, _ = lax.scan(add, start, (points, moved, scores.swapaxes(0, 1)))
    maps = total / (max_evals * channels)
    return jnp.repeat(maps[:, :, :, None], channels, axis=3)

  return regions.program(values, score_fn, masker)


def _between(size: int, grid: int, start: jax.Array) -> jax.Array:
  """Returns the weights of grid + 1 points at each pixel, linear, [size, .]."""
  place = (jnp.arange(size) + 0.5) / size * (grid - 1) + start
  return jax.nn.relu(1 - abs(place[:, None] - jnp.arange(grid + 1)))


# --- Shapley values -----------------------------------------------------------


def permutation_shap(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 4,
    max_evals: int = 2000,
    seed: int = 0,
) -> Program:
  """Shapley values of a grid's cells by orders, each also backwards.

  A value is the mean of what its cell adds to those before it (Castro et al.,
  2009), over orders that are drawn in pairs (Mitchell et al., 2022). Complete,
  whatever the number of orders.

  Raises:
    InputError: for a budget that is not enough for one pair.
  """
  batched.check_at_least('grid', grid, 1)
  batched.check_at_least('max_evals', max_evals, 2)
  players = grid**2
  pair = 2 * (players - 1)
  orders = (max_evals - 2) // pair if players > 1 else 1
  _check_budget('permutation_shap', orders, grid, max_evals, pair + 2)

  def values(score, shape):
    cells = regions.cells(*shape[:2], grid)
    # The place of each player in each order.
    places = jax.vmap(lambda key: jax.random.permutation(key, players))(
        jax.random.split(jax.random.key(seed), orders)
    )
    places = jnp.concatenate([places, players - 1 - places])
    # Of an order, the first 0 to d: the ends are the same in all.
    counts = jnp.arange(1, players)
    inner = places[:, None] < counts[:, None]
    ends = jnp.stack([jnp.zeros(players, bool), jnp.ones(players, bool)])
    sets = jnp.concatenate([inner.reshape(-1, players), ends])
    scores = score(regions.of_sets(cells), sets)
    between = scores[:, :-2].reshape(
        len(scores), 2 * orders, players - 1, scores.shape[-1]
    )
    empty, full = (
        jnp.broadcast_to(
            scores[:, None, i, None], (*between.shape[:2], 1, between.shape[3])
        )
        for i in (-2, -1)
    )
    steps = jnp.diff(
        jnp.concatenate([empty, between, full], axis=2), axis=2
    )
    added = jnp.take_along_axis(steps, places[None, :, :, None], axis=2)
    return regions.spread(added.mean(axis=1), cells, shape[2])

  return regions.program(values, score_fn, masker)


def kernel_shap(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 4,
    max_evals: int = 2000,
    seed: int = 0,
) -> Program:
  """Shapley values of a grid's cells by weighted least squares.

  Kernel SHAP (Lundberg and Lee, 2017) with sets in pairs (Covert and Lee,
  2021). Where the budget is enough for all sets, they are all scored, and the
  values are exact. Complete either way.

  Raises:
    InputError: for a budget of fewer sets than there are cells.
  """
  batched.check_at_least('grid', grid, 1)
  batched.check_at_least('max_evals', max_evals, 2)
  players = grid**2
  if players <= ALL_SETS and 2**players <= max_evals:
    return exact_shap(score_fn, masker=masker, grid=grid)
  drawn = (max_evals - 2) // 2 * 2
  _check_budget(
      'kernel_shap', drawn // players, grid, max_evals,
      players + players % 2 + 2,
  )

  def values(score, shape):
    cells = regions.cells(*shape[:2], grid)
    sets = fastshap.subsets(jax.random.key(seed), drawn, players)
    ends = jnp.stack([jnp.zeros(players, bool), jnp.ones(players, bool)])
    scores = score(regions.of_sets(cells), jnp.concatenate([sets, ends]))
    empty, full = scores[:, -2], scores[:, -1]
    sets = sets.astype(jnp.float32)
    # Least squares under the condition that the values sum to full - empty.
    inverse = jnp.linalg.pinv(sets.T @ sets, hermitian=True)
    fitted = inverse @ jnp.einsum(
        'nd,bnk->bdk', sets, scores[:, :-2] - empty[:, None]
    )
    ones = inverse.sum(axis=1)
    lacks = full - empty - fitted.sum(axis=1)
    return regions.spread(
        fitted + (ones / ones.sum())[:, None] * lacks[:, None], cells,
        shape[2],
    )

  return regions.program(values, score_fn, masker)


def exact_shap(
    score_fn: ScoreFn, *, masker: Masker = maskers.BLUR, grid: int = 4
) -> Program:
  """Shapley values of a grid's cells from all sets of them.

  Raises:
    InputError: for more than 16 cells.
  """
  batched.check_at_least('grid', grid, 1)
  players = grid**2
  if players > ALL_SETS:
    raise InputError(
        f'{grid}x{grid} cells have {2**players:,} sets, too many to score all '
        'of them. Take a grid of 4 or less.', 'grid', 'N',
    )
  sets = np.array([*itertools.product([False, True], repeat=players)])
  sizes = sets.sum(axis=1)
  # Of the sets of s others, each has the weight s! (d - s - 1)! / d!.
  weight = np.cumprod([1 / players, *(
      s / (players - s) for s in range(1, players)
  )])
  # What a set counts for a player: for those it is in, and against the others.
  counts = np.where(
      sets, weight[sizes - 1][:, None],
      -weight[np.minimum(sizes, players - 1)][:, None],
  ).astype(np.float32)

  def values(score, shape):
    cells = regions.cells(*shape[:2], grid)
    scores = score(regions.of_sets(cells), jnp.asarray(sets))
    scores -= scores[:, :1]  # Small numbers lose less in a sum.
    found = jnp.einsum('nd,bnk->bdk', counts, scores)
    return regions.spread(found, cells, shape[2])

  return regions.program(values, score_fn, masker)


def _check_budget(
    name: str, rounds: int, grid: int, max_evals: int, least: int
) -> None:
  """Raises InputError where there is not enough for one round of draws."""
  if rounds < 1:
    raise InputError(
        f'{name} needs {least} evaluations or more for {grid}x{grid} cells, '
        f'and max_evals is {max_evals}. Take more, or a smaller grid.',
        'max_evals', 'N',
    )


def permutation_evaluations(
    *, grid: int, max_evals: int, **options: Any
) -> int:
  """Returns what whole pairs of orders take, of at most `max_evals`."""
  del options
  pair = max(1, 2 * (grid**2 - 1))
  return max(1, (max_evals - 2) // pair) * pair + 2


def kernel_evaluations(*, grid: int, max_evals: int, **options: Any) -> int:
  """Returns all sets, where so many are allowed, or whole pairs of them."""
  del options
  if grid**2 <= ALL_SETS and 2 ** grid**2 <= max_evals:
    return 2 ** grid**2
  return max_evals // 2 * 2
