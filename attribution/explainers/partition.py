"""Partition SHAP for many images at once, as one program on the device.

`shap.PartitionExplainer` explains one image at a time and makes its masks in
Python. Here the same recursion runs for a batch of images in lockstep: the
priority queue, the masks, the masking and the model are one compiled loop.

The values are those of shap 0.51: the same tree, the same number of
evaluations between two looks at the queue, the same credit for what the budget
leaves unexpanded. They differ in two cases. Entries of exactly equal priority
are expanded in the order in which they were queued, by shap in random order.
And two priorities that differ by no more than the rounding of the model's
scores can change places, so that another entry is expanded last or in another
batch; the map keeps its sum, and changes inside those entries' boxes.
"""

import math
from typing import Any
from typing import NamedTuple

from attribution import maskers
from attribution.errors import check_at_least
from attribution.explainers import batched
from attribution.explainers import partition_tree
from attribution.explainers.batched import Explain
from attribution.explainers.batched import Program
from attribution.explainers.batched import ScoreMasks
from attribution.explainers.partition_grid import exact_entries
from attribution.explainers.partition_grid import exact_plan
from attribution.explainers.partition_tree import PartitionTree
from attribution.explainers.shapley import exact_shap
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

# Priorities of what cannot be expanded. Those of the others are 0 or more.
LEAF = -1.0
GONE = -2.0  # Expanded already, or never queued.
# Up to so many regions of a user's are explained by all sets of them.
FEW = 12


def partition(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    max_evals: int = 2000,
    batch_size: int = 10,
    num_regions: int = 0,
    images_per_step: int | None = None,
) -> Explain:
  """Builds an explainer with the values of `shap.PartitionExplainer`.

  Args:
    score_fn: Jittable, (variables, images float32 [B, H, W, C]) -> scores
      [B, K]. The score of a label is explained as it comes, without a link
      function.
    masker: `blur`, `mean` or `constant`.
    max_evals: Model evaluations an image, the two ends included, as in shap.
    batch_size: Evaluations of an image between two looks at the priority
      queue. It is part of the result, because it decides what is expanded
      first; an odd one acts as the next even one.
    num_regions: How many regions the user gives, at most: what is explained is
      then these, by a tree of them, or, where they are 12 or less and the
      budget allows, by all sets of them, which gives Shapley values. 0 for
      pixels.
    images_per_step: Images explained in lockstep on each device. It changes
      speed and memory and not the result. None chooses by the size of the
      model's arrays: few enough to fit, and no more than were given.

  Returns:
    `explain(variables, images, labels) -> maps`, see
    `attribution.explainers`. NumPy or JAX arrays in, NumPy out. It compiles
    at the first call, for each shape of image, number of classes, and number
    of images in lockstep, whatever the values of the variables.

  Raises:
    InputError: for settings that cannot be met. `explain` raises it for
      images and labels that do not fit each other or the model.
  """
  return batched.batched(
      program(
          score_fn, masker=masker, max_evals=max_evals, batch_size=batch_size,
          num_regions=num_regions,
      ),
      score_fn,
      images_per_step=images_per_step,
      evals_per_step=2 * _expansions(batch_size),
  )


def program(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    max_evals: int = 2000,
    batch_size: int = 10,
    num_regions: int = 0,
) -> Program:
  """The same as a pure function, for use inside another jitted one.

  Args:
    score_fn: With the further arguments see `partition`.
    masker: `blur`, `mean` or `constant`.
    max_evals: Model evaluations an image.
    batch_size: Evaluations of an image between two looks at the queue.
    num_regions: Of the user's; 0 for pixels.

  Returns:
    Variables, images float32 [N, H, W, C], classes int32 [N, K'] -> maps
    [N, H, W, C, K'].

  Raises:
    InputError: for settings that cannot be met.
  """
  check_at_least('max_evals', max_evals, 2)
  check_at_least('batch_size', batch_size, 1)
  budget = -(-(max_evals - 2) // 2)
  if _all_sets(num_regions, max_evals):
    return exact_shap(score_fn, masker=masker, num_regions=num_regions)

  def credit_of(tree, score_masks, several):
    return _best_first(
        tree, score_masks, several, _expansions(batch_size), budget
    )

  return batched.tree_program(credit_of, score_fn, masker, num_regions)


def partition_evaluations(
    *, max_evals: int, num_regions: int, **options: Any
) -> int:
  """Returns all sets of few regions, or the budget."""
  del options
  return 2**num_regions if _all_sets(num_regions, max_evals) else max_evals


def _all_sets(num_regions: int, max_evals: int) -> bool:
  return 0 < num_regions <= FEW and 2**num_regions <= max_evals


def _expansions(batch_size: int) -> int:
  return -(-batch_size // 2)  # Each costs two evaluations.


class _Queue(NamedTuple):
  """What has been reached: for each image E entries, in order of arrival.

  An entry is a node, a context, and the scores f00 and f11 without and with
  the node's features.

  Attributes:
    priority: float32 [N, E], the largest change of an explained score times
      the entry's weight; or LEAF or GONE.
    nodes: int32 [N, E].
    contexts: int32 [N, E].
    f00: float32 [N, E, K'].
    f11: float32 [N, E, K'].
  """

  priority: jax.Array
  nodes: jax.Array
  contexts: jax.Array
  f00: jax.Array
  f11: jax.Array


class _Expansion(NamedTuple):
  """The P entries of each image that are expanded next.

  Attributes:
    valid: bool [N, P]; false where the queue or the budget had fewer.
    nodes: int32 [N, P, 4], those of the entries below.
    contexts: int32 [N, P, 4].
    f00: float32 [N, P, K'], of the entries themselves.
    f11: float32 [N, P, K'].
    keys: The masks to evaluate, [N, 2 P, H] and [N, 2 P, W * C].
  """

  valid: jax.Array
  nodes: jax.Array
  contexts: jax.Array
  f00: jax.Array
  f11: jax.Array
  keys: tuple[jax.Array, jax.Array]


def _best_first(
    tree: PartitionTree,
    score_masks: ScoreMasks,
    several: jax.Array,
    expansions: int,
    budget: int,
) -> jax.Array:
  """Runs the best-first recursion for a batch of images.

  Args:
    tree: Of the images.
    score_masks: Scores their masks.
    several: bool [1 or N, M], which nodes have more than one feature.
    expansions: P, the entries expanded between two looks at the queue.
    budget: How many entries may be expanded for an image.

  Returns:
    The credit of each node, float32 [N, M, K'].
  """
  inner = tree.inner
  # As many entries as there are, if that is less: 2^depth for each node.
  budget = min(budget, int(np.sum(2.0 ** tree.depths[inner])))
  levels = _first_levels(tree, expansions, budget)
  plan = exact_plan(tree, inner & (tree.depths < levels))
  first = 4**levels
  budget -= (4**levels - 1) // 3
  # A step in which less than P entries are expanded empties the queue, or is
  # the last one. Emptying it takes one level off what remains, so there are
  # no more of these steps than levels.
  height = int(tree.depths[inner].max(initial=-1)) + 1 - levels
  steps = min(budget, budget // expansions + height + 1)
  size = first + 4 * expansions * steps
  # Entries lie in `groups` strided groups; see `pop`.
  members = max(1, math.isqrt(size // expansions))
  groups = -(-size // members)
  size = members * groups
  weights = 0.5 ** tree.depths.astype(np.float32)

  def priority_of(nodes, f00, f11):
    change = jnp.max(jnp.abs(f11 - f00), axis=-1)
    priority = change * jnp.asarray(weights)[nodes]
    if len(several) == 1:
      can_split = several[0][nodes]
    else:
      can_split = jax.vmap(lambda own, nodes: own[nodes])(several, nodes)
    return jnp.where(can_split, priority, LEAF)

  def start(f00, f11):
    nodes, contexts = (
        jnp.broadcast_to(jnp.asarray(x, jnp.int32), f00.shape[:2])
        for x in (plan.nodes[-1], plan.contexts[-1])
    )

    def grow(x, value):
      widths = [(0, 0), (0, size - first)] + [(0, 0)] * (x.ndim - 2)
      return jnp.pad(x, widths, constant_values=value)

    return _Queue(
        grow(priority_of(nodes, f00, f11), GONE),
        *(grow(x, 0) for x in (nodes, contexts, f00, f11)),
    )

  def highest(priority):
    """The P highest priorities of each image, and where they are."""
    if groups < 2 * expansions:
      return lax.top_k(priority, expansions)
    # They lie in the P groups with the highest maxima. To sort these and
    # then the members of P groups is much less than to sort all entries.
    table = priority.reshape(-1, members, groups)
    _, group = lax.top_k(table.max(axis=1), expansions)
    candidates = jnp.take_along_axis(table, group[:, None], axis=2)
    values, place = lax.top_k(
        candidates.reshape(-1, members * expansions), expansions
    )
    group = jnp.take_along_axis(group, place % expansions, axis=1)
    return values, place // expansions * groups + group

  def pop(queue, left):
    values, index = highest(queue.priority)
    valid = (values >= 0) & (jnp.arange(expansions) < left[:, None])
    images = jnp.arange(len(index))[:, None]
    gone = jnp.where(valid, index, size)  # Out of bounds is dropped.
    priority = queue.priority.at[images, gone].set(GONE, mode='drop')
    nodes, contexts, f00, f11 = (x[images, index] for x in queue[1:])
    # The children of a leaf, of which there are none, are never used.
    nodes, contexts = partition_tree.child_entries(tree, nodes, contexts)
    evaluated = np.array(partition_tree.EVALUATED)
    keys = partition_tree.visibility_keys(
        tree,
        nodes[..., evaluated].reshape(len(index), -1),
        contexts[..., evaluated].reshape(len(index), -1),
    )
    expansion = _Expansion(valid, nodes, contexts, f00, f11, keys)
    return queue._replace(priority=priority), left - valid.sum(1), expansion

  def push(queue, step, expansion, scores):
    valid, nodes, contexts, f00, f11, _ = expansion
    scores = scores.reshape(*valid.shape, 2, -1)
    f00, f11 = partition_tree.child_scores(
        f00, f11, scores[:, :, 0], scores[:, :, 1]
    )
    priority = priority_of(nodes, f00, f11)
    priority = jnp.where(valid[..., None], priority, GONE)
    offset = first + step * 4 * expansions

    def write(all_entries, new):
      new = new.reshape(len(new), 4 * expansions, *new.shape[3:])
      return lax.dynamic_update_slice_in_dim(all_entries, new, offset, axis=1)

    new = _Queue(priority, nodes, contexts, f00, f11)
    return _Queue(*map(write, queue, new))

  # The masks of a step are made at the end of the one before it: as a part
  # of the loop's state they are computed once, where a compiler that merges
  # them into the masking would compute them anew for every pixel.
  def step(state):
    index, left, queue, expansion = state
    # Valid ones come first; the last step of a budget often has few.
    used = 2 * expansion.valid.sum(1).max()
    queue = push(queue, index, expansion, score_masks(expansion.keys, used))
    queue, left, expansion = pop(queue, left)
    return index + 1, left, queue, expansion

  queue = start(*exact_entries(tree, plan, score_masks)[-1])
  count, _, classes = queue.f00.shape
  if budget:
    left = jnp.full(count, budget, jnp.int32)
    queue, left, expansion = pop(queue, left)
    state = jnp.int32(0), left, queue, expansion
    state = lax.while_loop(lambda state: state[3].valid.any(), step, state)
    queue = state[2]
  credit = (queue.f11 - queue.f00) * jnp.asarray(weights)[queue.nodes, None]
  # What was expanded has handed its credit on; one of NaN is never expanded.
  credit = jnp.where(queue.priority[..., None] == GONE, 0.0, credit)
  by_node = jnp.zeros((count, len(weights), classes))
  by_node = by_node.at[jnp.arange(count)[:, None], queue.nodes].add(credit)
  return by_node


def _first_levels(tree: PartitionTree, expansions: int, budget: int) -> int:
  """Counts the levels that are expanded whole before there is a choice.

  While the queue has no more entries than a step expands, all are taken, so
  the masks are known beforehand and are evaluated together.
  """
  levels = 0
  inner_nodes = np.bincount(tree.depths[tree.inner], minlength=64)
  while (
      inner_nodes[levels] == 2**levels  # No leaf among them.
      and 4**levels <= min(expansions, budget - (4**levels - 1) // 3)
  ):
    levels += 1
  return levels
