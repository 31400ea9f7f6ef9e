"""Examples of shards, and what it is to come back exactly."""

from attribution import records
import numpy as np


def make_columns(
    count: int = 3, *, shape=(4, 6, 3), classes: int = 1, seed: int = 0
) -> records.Columns:
  """Random examples, each column as a shard must give it back."""
  rng = np.random.default_rng(seed)
  return {
      'id': np.array([f'train/{seed}_{i:03d}.png' for i in range(count)]),
      'split': np.array(['train', 'validation'] * count)[:count],
      'image': rng.integers(0, 256, (count, *shape), np.uint8),
      'label': rng.integers(0, 1000, count, np.int32),
      'classes': rng.integers(0, 1000, (count, classes), np.int32),
      'map': rng.normal(size=(count, *shape, classes)).astype(np.float32),
      'base_value': rng.normal(size=(count, classes)).astype(np.float32),
      'full_value': rng.normal(size=(count, classes)).astype(np.float32),
  }


def assert_equal(read: records.Columns, written: records.Columns) -> None:
  assert read.keys() == written.keys()
  for name, column in written.items():
    np.testing.assert_array_equal(read[name], column, err_msg=name)
    assert read[name].shape == column.shape, name
    assert read[name].dtype.kind == column.dtype.kind, name
    if column.dtype.kind != 'U':
      assert read[name].dtype == column.dtype, name
