"""The tree of axis-aligned splits behind Partition SHAP's Image masker.

An image of H x W x C features is halved again and again: its longer side
first, rows before columns where they are alike, channels last. A side of odd
length leaves the smaller half at its far end, as in `shap.maskers.Image`,
whose feature numbers run against its own boxes.

How a mask is written in one integer: the recursion reaches a node along a
path, and at every split of the path the sibling that was left behind is either
shown or hidden. A feature outside the node belongs to exactly one of these
siblings, that of the *first* split that separates it from the node. The
context has one bit for each split of a path, and a feature is visible if the
bit of its split is set; the features inside the node are hidden. The node's
box is a product of three intervals, so the first separating split is the
earliest of the first ones along rows, columns and channels: small tables for
one dimension each are enough, for any image.
"""

import dataclasses
import functools

from attribution.errors import InputError
import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jax.Array
# A table entry is rank << RANK_SHIFT | bit.
RANK_SHIFT = 5
BIT_MASK = 31
# The sign bit of a context stands for the inside of the node: it is set only
# in SHOW_ALL, the context that shows the whole image.
INSIDE = 1 << RANK_SHIFT | 31
SHOW_ALL = -1
# Which of `child_entries` have the masks m10 and m01 as their hidden-node mask.
EVALUATED = [3, 2]


@dataclasses.dataclass(frozen=True, eq=False)
class PartitionTree:
  """The splits of one image shape; nodes are numbered level by level.

  Attributes:
    shape: H, W, C.
    boxes: int32 [M, 2, 3], first and one past the last row, column, channel.
    children: int32 [M, 2], -1 for the leaves. The first is the far half.
    parents: int32 [M], -1 for the root.
    sizes: int32 [M], the number of features in a node.
    depths: int32 [M].
    level_starts: int64 [levels + 1], the first node of each level, and M.
    leaves: int32 [H * W * C], the leaf of each feature in raster order.
    split_bits: int32 [M], the context bit of a node's own split; 0 for the
      leaves, which have none.
    intervals: int32 [M, 3], the rows of `tables` that belong to a node.
    tables: For rows, columns and channels, int32 [intervals, length]: the
      first split that separates a position from an interval, as
      rank << RANK_SHIFT | bit. Earlier splits have larger ranks.
  """

  shape: tuple[int, int, int]
  boxes: np.ndarray
  children: np.ndarray
  parents: np.ndarray
  sizes: np.ndarray
  depths: np.ndarray
  level_starts: np.ndarray
  leaves: np.ndarray
  split_bits: np.ndarray
  intervals: np.ndarray
  tables: tuple[np.ndarray, np.ndarray, np.ndarray]

  @property
  def inner(self) -> np.ndarray:
    """bool [M], whether a node has children."""
    return self.sizes > 1


@functools.lru_cache(maxsize=16)
def build_tree(shape: tuple[int, int, int]) -> PartitionTree:
  """Builds the tree of an image shape (H, W, C) in O(features) memory.

  Raises:
    InputError: for a side of zero, or more than 31 splits on a path.
  """
  if len(shape) != 3 or min(shape) < 1:
    raise InputError(
        f'Cannot explain images of shape {shape}: give [N, H, W, C] with '
        'sides and channels of 1 or more.'
    )
  lows, highs, axes, level_starts = _split_boxes(shape)
  sizes = np.prod(highs - lows, axis=1)
  inner = np.flatnonzero(sizes > 1)
  children = np.full((len(sizes), 2), -1)
  # Level by level, so the children of successive nodes are successive pairs.
  children[inner] = 1 + np.arange(2 * len(inner)).reshape(-1, 2)
  parents = np.full(len(sizes), -1)
  parents[children[inner]] = inner[:, None]
  leaf = np.flatnonzero(sizes == 1)
  leaves = np.empty(np.prod(shape), np.int64)
  leaves[np.ravel_multi_index(lows[leaf].T, shape)] = leaf
  tables, intervals, split_bits = _separation_tables(shape, lows, highs, axes)
  levels = len(level_starts) - 1
  return PartitionTree(
      shape=shape,
      boxes=np.stack([lows, highs], axis=1).astype(np.int32),
      children=children.astype(np.int32),
      parents=parents.astype(np.int32),
      sizes=sizes.astype(np.int32),
      depths=np.repeat(np.arange(levels), np.diff(level_starts)).astype(
          np.int32
      ),
      level_starts=level_starts,
      leaves=leaves.astype(np.int32),
      split_bits=split_bits.astype(np.int32),
      intervals=intervals.astype(np.int32),
      tables=tables,
  )


def _split_boxes(shape):
  """Splits the image level by level.

  Returns:
    First and one past the last index of every box, int [M, 3] both; the axis
    along which each is split, int [M], -1 for the leaves; the first node of
    each level and M.
  """
  lows, highs = [np.zeros((1, 3), int)], [np.array([shape])]
  axes, starts = [], [0, 1]
  while True:
    low, high = lows[-1], highs[-1]
    rows, columns, channels = (high - low).T
    axis = np.where(columns > 1, 1, np.where(channels > 1, 2, -1))
    axis = np.where((rows >= columns) & (rows > 1), 0, axis)
    axes.append(axis)
    inner = np.flatnonzero(axis >= 0)
    if not len(inner):
      break
    pair = np.arange(len(inner))
    low, high, axis = low[inner], high[inner], axis[inner]
    middle = high[pair, axis] - (high - low)[pair, axis] // 2
    low, high = np.repeat(low, 2, axis=0), np.repeat(high, 2, axis=0)
    low[2 * pair, axis] = middle
    high[2 * pair + 1, axis] = middle
    lows.append(low)
    highs.append(high)
    starts.append(starts[-1] + len(low))
  return (
      np.concatenate(lows),
      np.concatenate(highs),
      np.concatenate(axes),
      np.array(starts),
  )


def _halve(length: int):
  """Halves one dimension again and again, down to single positions.

  Returns:
    bounds int [intervals, 2] and depths int [intervals]; then, int
    [intervals, length], which split separates a position from an interval
    first: the length of what is split there, 0 for a position inside, and the
    depth of the split.
  """
  bounds, depths = [(0, length)], [0]
  lengths, levels = [np.zeros(length, int)], [np.zeros(length, int)]
  for i, (low, high) in enumerate(bounds):  # Grows as it is read.
    if high - low == 1:
      continue
    middle = high - (high - low) // 2
    halves = (low, middle), (middle, high)
    for own, other in (halves, halves[::-1]):
      bounds.append(own)
      depths.append(depths[i] + 1)
      lengths.append(lengths[i].copy())
      lengths[-1][slice(*other)] = high - low
      levels.append(levels[i].copy())
      levels[-1][slice(*other)] = depths[i]
  return tuple(map(np.array, (bounds, depths, lengths, levels)))


def _separation_tables(shape, lows, highs, axes):
  """Returns the tree's tables, intervals and split_bits."""

  def order(axis, length):
    # Larger is earlier on every path: the longer side is split first, rows
    # before columns of the same length, and channels when both are 1.
    return length if axis == 2 else shape[2] + 1 + 2 * length + (axis == 0)

  halvings = [_halve(length) for length in shape]
  # From 2 on, because the inside of a node ranks 1, below every split.
  orders = [
      order(axis, lengths[lengths > 0])
      for axis, (_, _, lengths, _) in enumerate(halvings)
  ]
  orders = np.unique(np.concatenate(orders))
  tables, intervals = [], []
  split_bits = np.zeros(len(lows), int)
  first_bit = 0
  for axis, (bounds, depths, lengths, levels) in enumerate(halvings):
    ranks = 2 + np.searchsorted(orders, order(axis, lengths))
    table = ranks << RANK_SHIFT | first_bit + levels
    tables.append(np.where(lengths > 0, table, INSIDE).astype(np.int32))
    keys = bounds @ [1, shape[axis] + 1]
    by_key = np.argsort(keys)
    own = lows[:, axis] + highs[:, axis] * (shape[axis] + 1)
    interval = by_key[np.searchsorted(keys[by_key], own)]
    intervals.append(interval)
    split_bits[axes == axis] = first_bit + depths[interval[axes == axis]]
    first_bit += depths.max()
  if first_bit > BIT_MASK:
    raise InputError(
        f'Images of shape {shape} are too large: the partition tree has '
        f'{first_bit} splits on a path, and 31 are possible. Resize them.'
    )
  return tuple(tables), np.stack(intervals, axis=1), split_bits


def child_entries(
    tree: PartitionTree, nodes: Array, contexts: Array
) -> tuple[Array, Array]:
  """Lists what the recursion reaches from (node, context) pairs in one step.

  With f00 and f11 the scores without and with a node's features, and f10 and
  f01 those with only the features of its first and of its second child, the
  four entries below a node are, in this order,

    first child, sibling hidden:  f00 -> f10
    second child, sibling hidden: f00 -> f01
    first child, sibling shown:   f01 -> f11
    second child, sibling shown:  f10 -> f11

  so the two masks that must be evaluated, m10 and m01, are those that hide the
  node of the fourth and of the third entry.

  Args:
    tree: Of the images.
    nodes: int [..., n], none of them a leaf.
    contexts: int [..., n].

  Returns:
    Nodes and contexts of the entries, int [..., n, 4] both; NumPy for NumPy.
  """
  xp = np if isinstance(nodes, np.ndarray) else jnp
  children, bits = xp.asarray(tree.children), xp.asarray(tree.split_bits)
  first, second = children[nodes, 0], children[nodes, 1]
  shown = contexts | 1 << bits[nodes]
  return (
      xp.stack([first, second, first, second], axis=-1),
      xp.stack([contexts, contexts, shown, shown], axis=-1),
  )


def child_scores(
    f00: jax.Array, f11: jax.Array, f10: jax.Array, f01: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns both ends of `child_entries`: [..., n, K'] -> [..., n, 4, K']."""
  return (
      jnp.stack([f00, f00, f01, f10], axis=-2),
      jnp.stack([f10, f01, f11, f11], axis=-2),
  )


def visibility_keys(
    tree: PartitionTree, nodes: jax.Array, contexts: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Describes masks by one number a row and one number a column and channel.

  A key is the rank of the split that separates the row, or the column and
  channel, from the node first, positive if its sibling is shown. A feature is
  visible if the two keys add up to more than zero, for the larger one is the
  earlier split and decides.

  Args:
    tree: Of the images.
    nodes: int32 [...].
    contexts: int32 [...], or SHOW_ALL with the root.

  Returns:
    float32 [..., H] and [..., W * C].
  """

  def signed_ranks(axis):
    table = jnp.asarray(tree.tables[axis])
    entry = table[jnp.asarray(tree.intervals[:, axis])[nodes]]
    rank = (entry >> RANK_SHIFT).astype(jnp.float32)
    shown = contexts[..., None] >> (entry & BIT_MASK) & 1
    return jnp.where(shown == 1, rank, -rank)

  rows, columns, channels = map(signed_ranks, range(3))
  columns, channels = columns[..., :, None], channels[..., None, :]
  later = jnp.abs(columns) < jnp.abs(channels)
  columns = jnp.where(later, channels, columns)
  return rows, columns.reshape(*columns.shape[:-2], -1)


def sizes_of(tree: PartitionTree, there: jax.Array) -> jax.Array:
  """Counts the features of each node that an image has.

  Args:
    tree: Of one row, (1, W, 1).
    there: bool [N, W], which features an image has.

  Returns:
    int32 [N, M].
  """
  before = jnp.pad(jnp.cumsum(there, axis=1), ((0, 0), (1, 0)))
  first, end = tree.boxes[:, :, 1].T
  return before[:, end] - before[:, first]


def spread(
    tree: PartitionTree, sizes: jax.Array, credit: jax.Array
) -> jax.Array:
  """Hands the credit of every node down to its features, in equal parts.

  Args:
    tree: Of the images.
    sizes: int [1 or N, M], among how many features a node's credit is shared.
    credit: float32 [N, M, K'].

  Returns:
    float32 [N, H, W, C, K'].
  """
  share = credit / jnp.maximum(sizes, 1).astype(jnp.float32)[..., None]
  starts = tree.level_starts
  levels = [share[:, :1]]
  for above, start, stop in zip(starts, starts[1:-1], starts[2:], strict=False):
    parents = tree.parents[start:stop] - above
    levels.append(share[:, start:stop] + levels[-1][:, parents])
  shares = jnp.concatenate(levels, axis=1)[:, tree.leaves]
  return shares.reshape(-1, *tree.shape, credit.shape[-1])
