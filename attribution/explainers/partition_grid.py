"""Exact Owen values of the cells of a grid: no queue, no ties, no chance.

The recursion of `partition` spends its budget where the score changes most.
`partition_grid` expands the same tree level by level instead, down to a grid,
so that the masks are the same for every image, and the map of an image
depends on nothing but the image. This module also has what both explainers
are made of: scoring masked images, and explaining batches of a fixed size.
"""

from collections.abc import Callable
from typing import NamedTuple

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import partition_tree
from attribution.explainers.partition_tree import PartitionTree
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

ScoreFn = Callable[[jax.Array], jax.Array]
Explain = Callable[[np.ndarray, np.ndarray], np.ndarray]
# images [N, H, W, C], backgrounds alike, classes int32 [N, K'] ->
# maps [N, H, W, C, K'].
Run = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Keys = tuple[jax.Array, jax.Array]

# Bounds of one call of the model: the bytes of its largest intermediate array,
# and the number of images. A CPU is fastest while they stay in its cache.
CALL_BYTES = {'cpu': 6 * 2**20, 'other': 2**30}
CALL_IMAGES = {'cpu': 512, 'other': 16384}


def partition_grid(
    score_fn: ScoreFn,
    *,
    masker: str = 'blur',
    blur_kernel: int | None = None,
    mask_value: float | np.ndarray = 0.0,
    grid: int = 8,
    images_per_step: int | None = None,
    compile_fn: Callable[[Run], Run] = jax.jit,
) -> Explain:
  """Builds an explainer that gives each cell of a grid its exact Owen value.

  The cells are the nodes of the partition tree after 2 log2(grid) splits,
  or single pixels where these are reached first. On a square image they are a
  grid x grid checkerboard; on another one there are as many, as near to
  squares as the tree makes them. A cell's value is spread evenly over its
  pixels and channels. It takes 2 (grid^4 - 1) / 3 evaluations an image (2730
  for 8) and two for the ends; `shap.PartitionExplainer` gives the same if it
  may take as many and the leaves of its tree are the cells.

  Args:
    score_fn: Jittable, images float32 [B, H, W, C] -> scores [B, K]. The score
      of a label is explained as it comes, without a link function.
    masker: `blur`, `mean` or `constant`, see `attribution.maskers`.
    blur_kernel: Side of the blur in pixels; None or 0 is half the side.
    mask_value: Colour of the masks `mean` and `constant`.
    grid: Cells along a side, a power of two.
    images_per_step: Images explained at once; see `partition`.
    compile_fn: Compiles the program of one batch; see `partition`.

  Returns:
    `explain(images, labels) -> maps`, see `attribution.explainers`.

  Raises:
    InputError: for settings that cannot be met. `explain` raises it for
      images and labels that do not fit each other or the model.
  """
  if grid < 1 or grid & (grid - 1):
    raise InputError(
        f'The grid has {grid} cells a side; it must be a power of two. Change '
        'it with grid=N.'
    )
  splits = 2 * (grid.bit_length() - 1)

  def build(tree, limit):
    pixels = np.prod(tree.boxes[:, 1, :2] - tree.boxes[:, 0, :2], axis=1)
    plan = exact_plan(tree, (tree.depths < splits) & (pixels > 1))

    def run(images, backgrounds, classes):
      score = masked_scorer(score_fn, images, backgrounds, classes, limit)
      entries = exact_entries(plan, score(plan.keys(tree)))
      credit = jnp.zeros((len(images), len(tree.sizes), classes.shape[1]))
      for level, f00, f11 in entries:
        # Every node of a level is reached once in each of 2^depth contexts,
        # all of the same weight.
        order = np.argsort(level.nodes, kind='stable')
        nodes = np.unique(level.nodes)
        change = (f11 - f00)[:, order]
        change = change.reshape(len(change), len(nodes), -1, change.shape[-1])
        credit = credit.at[:, nodes].set(change.mean(axis=2))
      return partition_tree.spread(tree, credit)

    return run

  return batched_explainer(
      build,
      score_fn,
      masker=masker,
      blur_kernel=blur_kernel,
      mask_value=mask_value,
      images_per_step=images_per_step,
      evals_per_step=16,
      compile_fn=compile_fn,
  )


class Level(NamedTuple):
  """The entries that the exact pass reaches after a number of splits.

  Attributes:
    nodes: int [n].
    contexts: int [n].
    expanded: bool [n]; the others keep their credit.
  """

  nodes: np.ndarray
  contexts: np.ndarray
  expanded: np.ndarray


class ExactPlan(NamedTuple):
  """What the exact pass evaluates; it is the same for all images.

  Attributes:
    levels: From the root down.
    nodes: int [n], with `contexts` the masks: nothing shown, everything
      shown, then two for each expanded entry, level by level.
    contexts: int [n].
  """

  levels: list[Level]
  nodes: np.ndarray
  contexts: np.ndarray

  def keys(self, tree: PartitionTree) -> Keys:
    """Returns the masks, float32 [1, n, H] and [1, n, W * C]."""
    return partition_tree.visibility_keys(
        tree,
        jnp.asarray(self.nodes, jnp.int32)[None],
        jnp.asarray(self.contexts, jnp.int32)[None],
    )


def exact_plan(tree: PartitionTree, expanded: np.ndarray) -> ExactPlan:
  """Plans the recursion that expands nodes in every context.

  Args:
    tree: Of the images.
    expanded: bool [M], which nodes are expanded if they are reached.
  """
  nodes, contexts = np.zeros(1, int), np.zeros(1, int)
  mask_nodes = [np.zeros(2, int)]
  mask_contexts = [np.array([0, partition_tree.SHOW_ALL])]
  levels = []
  while True:
    levels.append(Level(nodes, contexts, expanded[nodes]))
    if not levels[-1].expanded.any():
      break
    nodes, contexts = partition_tree.child_entries(
        tree, nodes[expanded[nodes]], contexts[expanded[nodes]]
    )
    mask_nodes.append(nodes[:, partition_tree.EVALUATED].ravel())
    mask_contexts.append(contexts[:, partition_tree.EVALUATED].ravel())
    nodes, contexts = nodes.ravel(), contexts.ravel()
  return ExactPlan(
      levels, np.concatenate(mask_nodes), np.concatenate(mask_contexts)
  )


def exact_entries(
    plan: ExactPlan, scores: jax.Array
) -> list[tuple[Level, jax.Array, jax.Array]]:
  """Follows the plan.

  Args:
    plan: The masks that were evaluated.
    scores: float32 [N, n, K'], theirs.

  Returns:
    For each level the entries that are not expanded, with their scores
    without and with the node, float32 [N, entries, K'] both.
  """
  f00, f11 = scores[:, :1], scores[:, 1:2]
  start = 2
  entries = []
  for level in plan.levels:
    kept = ~level.expanded
    if kept.any():
      level_kept = Level(*(x[kept] for x in level))
      entries.append((level_kept, f00[:, kept], f11[:, kept]))
    count = int(level.expanded.sum())
    pairs = scores[:, start : start + 2 * count]
    pairs = pairs.reshape(len(scores), count, 2, -1)
    start += 2 * count
    f00, f11 = partition_tree.child_scores(
        f00[:, level.expanded],
        f11[:, level.expanded],
        pairs[:, :, 0],
        pairs[:, :, 1],
    )
    f00, f11 = (x.reshape(len(scores), 4 * count, -1) for x in (f00, f11))
  return entries


def masked_scorer(
    score_fn: ScoreFn,
    images: jax.Array,
    backgrounds: jax.Array,
    classes: jax.Array,
    limit: int,
) -> Callable[[Keys], jax.Array]:
  """Builds the function that scores masked images.

  Args:
    score_fn: Images [B, H, W, C] -> scores [B, K].
    images: float32 [N, H, W, C].
    backgrounds: float32 [N, H, W, C], what hidden pixels are replaced by.
    classes: int32 [N, K'].
    limit: The largest number of images in one call of the model.

  Returns:
    A function of `partition_tree.visibility_keys` [N or 1, n, …] that gives
    the scores of the classes, float32 [N, n, K'].
  """
  count, height, width, channels = images.shape
  # A row's columns and channels in one axis: long enough for vector units.
  images = images.reshape(count, 1, height, width * channels)
  backgrounds = backgrounds.reshape(images.shape)

  def score(keys):
    rows, columns = keys
    visible = rows[..., :, None] + columns[..., None, :] > 0
    masked = jnp.where(visible, images, backgrounds)
    scores = score_fn(masked.reshape(-1, height, width, channels))
    scores = scores.astype(jnp.float32).reshape(count, masked.shape[1], -1)
    return jnp.take_along_axis(scores, classes[:, None, :], axis=-1)

  def score_in_parts(keys):
    masks = keys[0].shape[1]
    parts = -(-masks * count // limit)
    if parts <= 1 or masks == 1:
      return score(keys)
    size = -(-masks // parts)
    parts = -(-masks // size)
    padding = (0, 0), (0, parts * size - masks), (0, 0)
    keys = tuple(
        jnp.pad(x, padding, mode='edge')
        .reshape(x.shape[0], parts, size, x.shape[2])
        .swapaxes(0, 1)
        for x in keys
    )
    scores = lax.map(score, keys).swapaxes(0, 1)
    return scores.reshape(count, parts * size, -1)[:, :masks]

  return score_in_parts


def batched_explainer(
    build: Callable[[PartitionTree, int], Run],
    score_fn: ScoreFn,
    *,
    masker: str,
    blur_kernel: int | None,
    mask_value: float | np.ndarray,
    images_per_step: int | None,
    evals_per_step: int,
    compile_fn: Callable[[Run], Run],
) -> Explain:
  """Makes an explainer of any number of images from a program for a batch.

  Args:
    build: Takes the tree of the images and the largest number of images in
      one call of the model, and returns the program.
    score_fn: Images -> scores [B, K].
    masker: See `attribution.maskers`.
    blur_kernel: See `attribution.maskers`.
    mask_value: See `attribution.maskers`.
    images_per_step: Rows of a batch, or None.
    evals_per_step: Evaluations of an image in one call of the model; decides
      the rows of a batch if `images_per_step` is None.
    compile_fn: Compiles the program.

  Raises:
    InputError: for settings that cannot be met.
  """
  maskers.check(masker, blur_kernel)
  if masker in maskers.INPAINT_MASKERS:
    raise InputError(
        f'The masker {masker!r} fills hidden pixels from the visible ones, '
        'mask by mask, and needs the explainer shap_partition; this one '
        f'takes {", ".join(maskers.BACKGROUND_MASKERS)}. Change the one with '
        '--config.attribution.explainer=NAME or the other with '
        '--config.attribution.masker=NAME.'
    )
  if images_per_step is not None:
    check_at_least('images_per_step', images_per_step, 1)
  programs = {}

  def explain(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    shape, classes = images.shape[1:], labels.shape[1:]
    limit = _check_inputs(score_fn, images, labels)
    if not len(images):
      return np.zeros((*images.shape, *classes), np.float32)
    rows = images_per_step
    if rows is None:
      # Few images are not padded to a whole batch; rounded up to a power of
      # two, for otherwise every number of images would be compiled anew.
      few = 1 << (len(images) - 1).bit_length()
      rows = min(max(1, limit // evals_per_step), few)
    if (shape, classes, rows) not in programs:
      program = build(partition_tree.build_tree(shape), limit)
      programs[shape, classes, rows] = compile_fn(program)
    program = programs[shape, classes, rows]
    labels = labels.reshape(len(labels), -1).astype(np.int32)
    maps, pending = [], None
    for start in range(0, len(images), rows):
      # The last rows are padded with the last image.
      index = np.minimum(np.arange(start, start + rows), len(images) - 1)
      batch = images[index]
      hidden = maskers.background(
          batch, masker, blur_kernel=blur_kernel, mask_value=mask_value
      )
      # Dispatched before the result of the last batch is waited for.
      result = program(batch, hidden, labels[index])
      if pending is not None:
        maps.append(np.asarray(pending))
      pending = result
    maps.append(np.asarray(pending))
    maps = np.concatenate(maps)[: len(images)]
    return maps.reshape(*images.shape, *classes)

  return explain


def check_at_least(name: str, value: int, least: int) -> None:
  """Raises InputError for a number that is too small."""
  if value < least:
    raise InputError(
        f'{name} is {value}; it must be {least} or more. Change it with '
        f'--config.attribution.{name}=N.'
    )
