"""Exact Owen values of the cells of a grid: no queue, no ties, no chance.

The recursion of `partition` spends its budget where the score changes most.
`partition_grid` expands the same tree level by level instead, down to a grid,
so that the masks are the same for every image, and the map of an image
depends on nothing but the image.
"""

from typing import NamedTuple

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import batched
from attribution.explainers import partition_tree
from attribution.explainers.batched import Explain
from attribution.explainers.batched import Program
from attribution.explainers.batched import ScoreMasks
from attribution.explainers.partition_tree import PartitionTree
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
import jax.numpy as jnp
import numpy as np


def partition_grid(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    grid: int = 8,
    images_per_step: int | None = None,
) -> Explain:
  """Builds an explainer that gives each cell of a grid its exact Owen value.

  The cells are the nodes of the partition tree after 2 log2(grid) splits,
  or single pixels where these are reached first. On a square image they are a
  grid x grid checkerboard; on another one there are as many, as near to
  squares as the tree makes them. A cell's value is spread evenly over its
  pixels and channels. It takes 2 (grid^4 - 1) / 3 evaluations an image, 2730
  for 8, and two for the ends.

  Args:
    score_fn: Jittable, (variables, images float32 [B, H, W, C]) -> scores
      [B, K]. The score of a label is explained as it comes, without a link
      function.
    masker: `blur`, `mean` or `constant`.
    grid: Cells along a side, a power of two.
    images_per_step: Images explained at once; see `partition`.

  Returns:
    `explain(variables, images, labels) -> maps`, see
    `attribution.explainers`.

  Raises:
    InputError: for settings that cannot be met. `explain` raises it for
      images and labels that do not fit each other or the model.
  """
  return batched.batched(
      program(score_fn, masker=masker, grid=grid),
      score_fn,
      images_per_step=images_per_step,
      evals_per_step=16,
  )


def program(
    score_fn: ScoreFn, *, masker: Masker = maskers.BLUR, grid: int = 8
) -> Program:
  """The same as a pure function, for use inside another jitted one.

  Args:
    score_fn: With the further arguments see `partition_grid`.
    masker: `blur`, `mean` or `constant`.
    grid: Cells along a side, a power of two.

  Returns:
    Variables, images float32 [N, H, W, C], classes int32 [N, K'] -> maps
    [N, H, W, C, K'].

  Raises:
    InputError: for settings that cannot be met.
  """
  if not isinstance(grid, int) or grid < 1 or grid & (grid - 1):
    raise InputError(
        f'The grid has {grid} cells a side; it must be a power of two.',
        'grid',
        'N',
    )
  splits = 2 * (grid.bit_length() - 1)

  def credit_of(tree, score_masks, several):
    del several
    pixels = np.prod(tree.boxes[:, 1, :2] - tree.boxes[:, 0, :2], axis=1)
    expanded = (tree.depths < splits) & (pixels > 1)
    plan = exact_plan(tree, expanded)
    entries = exact_entries(tree, plan, score_masks)
    count, _, classes = entries[0][0].shape
    credit = jnp.zeros((count, len(tree.sizes), classes))
    for level, (f00, f11) in enumerate(entries):
      # Every node of a level is reached in 2^level contexts of one weight.
      nodes = plan.nodes[level][~plan.expanded[level]]
      order = np.argsort(nodes, kind='stable')
      change = (f11 - f00)[:, order]
      change = change.reshape(count, -1, 2**level, classes)
      credit = credit.at[:, np.unique(nodes)].set(change.mean(axis=2))
    return credit

  return batched.tree_program(credit_of, score_fn, masker)


class ExactPlan(NamedTuple):
  """What the exact pass evaluates; it is the same for all images.

  Attributes:
    nodes: For each level from the root down, int [entries].
    contexts: For each level, int [entries].
    expanded: For each level, bool [entries]; the others keep their credit.
    masks: int [2, n], nodes and contexts: nothing shown, everything shown,
      then two for each expanded entry, level by level.
  """

  nodes: tuple[np.ndarray, ...]
  contexts: tuple[np.ndarray, ...]
  expanded: tuple[np.ndarray, ...]
  masks: np.ndarray


def exact_plan(tree: PartitionTree, expanded: np.ndarray) -> ExactPlan:
  """Plans to expand nodes in all their contexts, given bool [M] which."""
  nodes, contexts = np.zeros(1, int), np.zeros(1, int)
  masks = [np.array([[0, 0], [0, partition_tree.SHOW_ALL]])]
  levels = [(nodes, contexts, expanded[nodes])]
  while levels[-1][-1].any():
    grow = expanded[nodes]
    nodes, contexts = partition_tree.child_entries(
        tree, nodes[grow], contexts[grow]
    )
    evaluated = np.stack([nodes, contexts])[:, :, partition_tree.EVALUATED]
    masks.append(evaluated.reshape(2, -1))
    nodes, contexts = nodes.ravel(), contexts.ravel()
    levels.append((nodes, contexts, expanded[nodes]))
  return ExactPlan(*zip(*levels, strict=True), np.concatenate(masks, axis=1))


def exact_entries(
    tree: PartitionTree, plan: ExactPlan, score_masks: ScoreMasks
) -> list[tuple[jax.Array, jax.Array]]:
  """Follows the plan.

  Args:
    tree: Of the images.
    plan: Made for it.
    score_masks: From `batched.masked_scorer`.

  Returns:
    For each level the scores f00 and f11, without and with the node, of the
    entries that are not expanded, float32 [N, entries, K'] both.
  """
  nodes, contexts = jnp.asarray(plan.masks, jnp.int32)
  scores = score_masks(
      partition_tree.visibility_keys(tree, nodes[None], contexts[None])
  )
  f00, f11, start, kept = scores[:, :1], scores[:, 1:2], 2, []
  for expanded in plan.expanded:
    kept.append((f00[:, ~expanded], f11[:, ~expanded]))
    stop = start + 2 * expanded.sum()
    f00, f11 = partition_tree.child_scores(
        f00[:, expanded],
        f11[:, expanded],
        scores[:, start:stop:2],
        scores[:, start + 1 : stop : 2],
    )
    start = stop
    f00, f11 = (
        x.reshape(len(scores), -1, scores.shape[-1]) for x in (f00, f11)
    )
  return kept
