"""Columns in, batches out; the order is a function of (seed, epoch)."""

from collections.abc import Iterator

from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
import numpy as np

Batch = dict[str, np.ndarray]


def training_epoch(
    columns: Columns, *, batch_size: int, seed: int, epoch: int
) -> Iterator[Batch]:
  """Yields one shuffled epoch; what does not fill a batch is left out.

  An epoch has every example once, or, where the columns say with
  `sampling_share` that some are to be seen more often than others, as many
  examples, each as often as its share, rounded up or down.

  Args:
    columns: Of the training split.
    batch_size: Of all devices of all processes together.
    seed: Of the run.
    epoch: From 0.

  Yields:
    This process's slice of each batch: all columns but text, as
    `columns.for_device` gives them; `position` int32 [B], each example's place
    in the global batch; and `row` int32 [B], its place in the columns.
  """
  count = column_lib.count(columns)
  generator = rng.numpy_stream(seed, 'order', epoch)
  order = generator.permutation(
      drawn(columns[column_lib.SHARE], generator)
      if column_lib.SHARE in columns else count
  )
  positions = parallel.process_rows(np.arange(batch_size, dtype=np.int32))
  for start in range(0, count - batch_size + 1, batch_size):
    rows = order[start + positions]
    yield {
        **_take(columns, rows),
        'position': positions,
        'row': rows.astype(np.int32),
    }


def drawn(shares: np.ndarray, generator: np.random.Generator) -> np.ndarray:
  """Draws as many rows as there are, systematically.

  Args:
    shares: [N], 0 or more and not all 0; row i is drawn N shares[i] /
      sum(shares) times, rounded up or down, and that often in the mean.
    generator: Of the epoch.

  Returns:
    int [N], ascending; all rows where the shares are equal.
  """
  count, edges = len(shares), np.cumsum(shares, dtype=np.float64)
  # Without what rounding leaves, by which a row could be seen twice.
  edges = np.round(edges * (count / edges[-1]), 9)
  points = np.minimum(np.arange(count) + generator.random(), count - 1e-6)
  return np.searchsorted(edges, points, side='right')


def evaluation_pass(columns: Columns, *, batch_size: int) -> Iterator[Batch]:
  """Yields every example once, in order.

  The last batch is filled up with copies of the first example, which `weight`
  marks with 0, so that a compiled step sees one shape only.

  Args:
    columns: Of the split to evaluate.
    batch_size: Of this process's devices together.

  Yields:
    All columns but text, and `weight` float32 [B].
  """
  count = column_lib.count(columns)
  for start in range(0, count, batch_size):
    rows = np.arange(start, start + batch_size)
    weight = (rows < count).astype(np.float32)
    yield {
        **_take(columns, np.where(rows < count, rows, 0)), 'weight': weight
    }


def _take(columns: Columns, rows: np.ndarray) -> Batch:
  return {
      name: column_lib.for_device(name, column[rows])
      for name, column in columns.items()
      if column_lib.kind_of(name) != column_lib.TEXT
      and name != column_lib.SHARE
  }
