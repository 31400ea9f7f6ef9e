"""Shapley values of the regions of an image: by draws, and of all sets.

The regions are the user's, or the cells of a grid. What is drawn depends on the
seed and on the number of regions alone, so that the map of an image is the same
whatever images are explained beside it. Each function builds a program, see
`batched`.
"""

import itertools
import math
from typing import Any

from attribution import maskers
from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.explainers import masking
from attribution.explainers import regions
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
import jax.numpy as jnp
import numpy as np

# Up to so many regions, all sets of them can be scored.
ALL_SETS = 16


def permutation_shap(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 4,
    num_regions: int = 0,
    max_evals: int = 2000,
    seed: int = 0,
) -> Program:
  """Shapley values of a grid's cells by orders, each also backwards.

  A value is the mean of what its cell adds to those before it (Castro et al.,
  2009), over orders that are drawn in pairs (Mitchell et al., 2022). Complete,
  whatever the number of orders.

  Args:
    score_fn: (variables, images [B, H, W, C]) -> scores [B, K].
    masker: What stands in for what is hidden.
    grid: Cells a side.
    num_regions: How many the user gives, at most; 0 for cells.
    max_evals: Images that are scored, at most.
    seed: Of the draws.

  Returns:
    Of variables, images, classes and, where there are any, regions; see
    `batched`.

  Raises:
    InputError: for a budget that is not enough for one pair.
  """
  players = regions.number(grid, num_regions)
  check_at_least('max_evals', max_evals, 2)
  pair = 2 * (players - 1)
  orders = (max_evals - 2) // pair if players > 1 else 1
  _check_budget('permutation_shap', orders, players, max_evals, pair + 2)

  def values(score, places):
    # The rank of each player in each order.
    ranks = jax.vmap(lambda key: jax.random.permutation(key, players))(
        jax.random.split(jax.random.key(seed), orders)
    )
    ranks = jnp.concatenate([ranks, players - 1 - ranks])
    # Of an order, the first 0 to d: the ends are the same in all.
    counts = jnp.arange(1, players)
    inner = ranks[:, None] < counts[:, None]
    ends = jnp.stack([jnp.zeros(players, bool), jnp.ones(players, bool)])
    sets = jnp.concatenate([inner.reshape(-1, players), ends])
    scores = score(masking.of_sets(places), sets)
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
    added = jnp.take_along_axis(steps, ranks[None, :, :, None], axis=2)
    return added.mean(axis=1)

  return masking.values_program(values, score_fn, masker, grid)


def kernel_shap(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 4,
    num_regions: int = 0,
    max_evals: int = 2000,
    seed: int = 0,
) -> Program:
  """Shapley values of regions by weighted least squares.

  Kernel SHAP (Lundberg and Lee, 2017) with sets in pairs (Covert and Lee,
  2021), all of the sizes that there are few sets of and a sample of the others;
  see `kernel_sets`. Where the budget is enough for all sets, the values are
  exact. Complete either way.

  Arguments and result are those of `permutation_shap`.

  Raises:
    InputError: for a budget of fewer sets than there are regions.
  """
  players = regions.number(grid, num_regions)
  check_at_least('max_evals', max_evals, 2)
  if players <= ALL_SETS and 2**players <= max_evals:
    return exact_shap(
        score_fn, masker=masker, grid=grid, num_regions=num_regions
    )
  drawn = (max_evals - 2) // 2 * 2
  # With fewer, there are values that no set tells apart.
  least = 2 * players + 2
  if players <= ALL_SETS:
    least = min(least, 2**players)
  _check_budget('kernel_shap', max_evals // least, players, max_evals, least)
  drawn, weights = kernel_sets(players, drawn, seed)

  def values(score, places):
    ends = jnp.stack([jnp.zeros(players, bool), jnp.ones(players, bool)])
    scores = score(masking.of_sets(places), jnp.concatenate([drawn, ends]))
    empty, full = scores[:, -2], scores[:, -1]
    fit, share = _least_squares(drawn, weights, places)
    fitted = fit @ (scores[:, :-2] - empty[:, None])
    lacks = full - empty - fitted.sum(axis=1)
    return fitted + share * lacks[:, None]

  return masking.values_program(values, score_fn, masker, grid)


def _least_squares(
    sets: np.ndarray, weights: np.ndarray, places: np.ndarray | jax.Array
) -> tuple[np.ndarray | jax.Array, np.ndarray | jax.Array]:
  """Solves for values that sum to what is given, of the regions there are.

  On the host, in float64, where the regions are known: those of a grid.

  Args:
    sets: bool [n, d].
    weights: float32 [n].
    places: int [1 or N, H, W], the region of each pixel.

  Returns:
    float32 [1 or N, d, n], from what the sets score to values; and [1 or N, d,
    1], how the rest of the sum is shared.
  """
  players = sets.shape[1]
  if isinstance(places, np.ndarray):
    xp, dtype = np, np.float64
    there = np.stack([np.isin(np.arange(players), x) for x in places])
  else:
    xp, dtype = jnp, jnp.float32
    there = regions.there(places, players)
  shown = (sets & there[:, None]).astype(dtype)  # [1 or N, n, d]
  weighted = (shown * weights[:, None]).swapaxes(1, 2)
  inverse = xp.linalg.pinv(weighted @ shown, hermitian=True)
  share = inverse.sum(axis=2, keepdims=True)
  share = share / share.sum(axis=1, keepdims=True)
  return (inverse @ weighted).astype('float32'), share.astype('float32')


def kernel_sets(
    players: int, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses sets for Kernel SHAP, each with its complement.

  From the smallest and largest sets on, those of a size are all taken while
  there are no more than the share of the budget that Shapley's kernel would
  give them. Of each size between, as many are drawn as its share of the rest,
  none or each once as far as there are enough, and weighted so that a size that
  is drawn counts as much as all of its sets would. Drawn anew until they tell
  all players apart.

  Args:
    players: d, at least 2.
    count: n, even, less than there are sets.
    seed: Of the draws.

  Returns:
    bool [n, d], and what each counts, float32 [n].
  """
  generator = np.random.default_rng(seed)
  for _ in range(20):
    sets, weights = _draw_sets(players, count, generator)
    if np.linalg.matrix_rank(sets.astype(np.float64)) == players:
      break
  return sets, weights


def _draw_sets(
    players: int, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """Does once what `kernel_sets` says."""
  sizes = np.arange(1, players // 2 + 1)
  # Of all sets of a size, and of their complements.
  mass = (players - 1) / (sizes * (players - sizes))
  pairs = np.array([math.comb(players, int(n)) for n in sizes], object)
  if players % 2 == 0:  # The middle size holds its own complements.
    mass[-1] /= 2
    pairs[-1] //= 2
  left = count // 2
  chosen, weights = [], []

  def take(sets, mass):
    chosen.append(sets)
    weights.append(np.full(len(sets), mass / len(sets), np.float32))

  while len(sizes) and left * mass[0] >= pairs[0] * mass.sum():
    members = itertools.combinations(range(players), int(sizes[0]))
    sets = np.zeros((math.comb(players, int(sizes[0])), players), bool)
    for i, inside in enumerate(members):
      sets[i, list(inside)] = True
    # Of the middle size, those with the first player: the rest mirror them.
    take(sets[:int(pairs[0])], mass[0])
    left -= int(pairs[0])
    sizes, mass, pairs = sizes[1:], mass[1:], pairs[1:]
  # As many whole draws as fit, and one more where most is cut off.
  wanted = left * mass / mass.sum() if len(sizes) else mass
  draws = np.floor(wanted).astype(int)
  draws[np.argsort(draws - wanted, kind='stable')[:left - draws.sum()]] += 1
  for size, weight, number in zip(sizes, mass, draws, strict=True):
    if number:
      take(_sets_of_size(players, int(size), int(number), generator), weight)
  chosen = np.concatenate(chosen)
  return np.concatenate([chosen, ~chosen]), np.tile(np.concatenate(weights), 2)


def _sets_of_size(
    players: int, size: int, count: int, generator: np.random.Generator
) -> np.ndarray:
  """Draws sets, none twice if that is soon done, bool [count, d]."""
  found = np.zeros((0, players), bool)
  for _ in range(10):
    order = generator.random((2 * count, players)).argsort(axis=1)
    more = order < size
    if 2 * size == players:  # A set and its complement are one pair.
      more ^= ~more[:, :1]
    joined = np.concatenate([found, more])
    _, first = np.unique(joined, axis=0, return_index=True)
    found = joined[np.sort(first)][:count]
    if len(found) == count:
      return found
  return np.concatenate([found, more])[:count]


def exact_shap(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 4,
    num_regions: int = 0,
) -> Program:
  """Shapley values of regions from all sets of them.

  Arguments and result are those of `permutation_shap`.

  Raises:
    InputError: for more than 16 regions.
  """
  players = regions.number(grid, num_regions)
  if players > ALL_SETS:
    raise InputError(
        f'{players} regions have {2**players:,} sets, too many to score all '
        f'of them. Take {ALL_SETS} regions, or a grid of 4, or less.',
        'grid', 'N',
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

  def values(score, places):
    scores = score(masking.of_sets(places), jnp.asarray(sets))
    scores -= scores[:, :1]  # Small numbers lose less in a sum.
    return jnp.einsum('nd,bnk->bdk', counts, scores)

  return masking.values_program(values, score_fn, masker, grid)


def _check_budget(
    name: str, rounds: int, players: int, max_evals: int, least: int
) -> None:
  """Raises InputError where there is not enough for one round of draws."""
  if rounds < 1:
    raise InputError(
        f'{name} needs {least} evaluations or more for {players} regions, '
        f'and max_evals is {max_evals}. Take more, or fewer regions (a '
        'smaller grid).', 'max_evals', 'N',
    )


def permutation_evaluations(
    *, grid: int, num_regions: int, max_evals: int, **options: Any
) -> int:
  """Returns what whole pairs of orders take, of at most `max_evals`."""
  del options
  pair = 2 * ((num_regions or grid**2) - 1)
  return 2 + (max_evals - 2) // pair * pair if pair else 2


def kernel_evaluations(
    *, grid: int, num_regions: int, max_evals: int, **options: Any
) -> int:
  """Returns all sets, where so many are allowed, or whole pairs of them."""
  del options
  players = num_regions or grid**2
  if players <= ALL_SETS and 2**players <= max_evals:
    return 2**players
  return max_evals // 2 * 2
