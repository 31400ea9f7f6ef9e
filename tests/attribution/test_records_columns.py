"""Tests for the further columns of shards: anything with numbers in it."""

from attribution import records
from attribution.errors import InputError
from etils import epath
import numpy as np
import pytest
from tests.attribution.records_fixtures import assert_equal
from tests.attribution.records_fixtures import make_columns


def test_the_bytes_of_a_shard_are_those_of_the_first_version(tmp_path):
  # Shards that were written before there were further columns stay valid.
  count, shape, classes = 3, (2, 3, 3), 2
  size = count * int(np.prod(shape))
  maps = np.arange(size * classes, dtype=np.float32) / 7 - 3
  columns = {
      'id': np.array(['train/0.png', 'train/Bär.png', 'x']),
      'split': np.array(['train', 'validation', 'train']),
      'image': np.arange(size).astype(np.uint8).reshape(count, *shape),
      'label': np.array([3, 0, 999], np.int32),
      'classes': np.array([[3, 1], [0, 2], [-1, 5]], np.int32),
      'map': maps.reshape(count, *shape, classes),
      'base_value': np.array([[0.5, -1], [2, 0], [1e-3, 7]], np.float32),
      'full_value': np.array([[1.5, -2], [0, 0.25], [3, -7]], np.float32),
  }
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  assert records.checksum(path) == (
      'f30c3df6f18e57c834ad89152cd8f1e2828316176fd0dc6e227245a7a24d7ade'
  )
  assert_equal(records.read_shard(path), columns)


_RNG = np.random.default_rng(7)
_FURTHER = {
    'labels': _RNG.integers(0, 2, (3, 5)).astype(np.int8),
    'mask': _RNG.random((3, 4, 6)) > 0.5,
    'masks': _RNG.integers(0, 9, (3, 2, 4, 6)).astype(np.int64),
    'boxes': _RNG.normal(size=(3, 2, 4)).astype(np.float32),
    'no_boxes': np.zeros((3, 0, 4), np.float32),
    'group': np.array([3, -1, 2**31 - 1], np.int32),
    'weight': np.array([0.1, np.nan, -0.0], np.float32),
    'age': np.array([0.1, 1e-300, 3.0]),
    'half': np.array([0.1, 2, 3], np.float16),
    'correct': np.array([True, False, True]),
    'one': np.array([[2**40], [2], [3]]),
}


@pytest.mark.parametrize('names', [*([name] for name in _FURTHER), _FURTHER])
def test_any_further_column_comes_back_exactly(tmp_path, names):
  columns = make_columns(3) | {name: _FURTHER[name] for name in names}
  del columns['label']  # Nothing needs it.
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  read = records.read_shard(path)
  assert_equal(read, columns)
  for name in names:
    assert read[name].tobytes() == columns[name].tobytes()


@pytest.mark.parametrize('dtype', ['>f4', '>i8', '>f8'])
def test_further_columns_are_little_endian_in_the_file(tmp_path, dtype):
  values = np.arange(6).reshape(3, 2)
  path, other = (epath.Path(tmp_path) / name for name in ('shard', 'other'))
  records.write_shard(path, make_columns(3) | {'x': values.astype(dtype)})
  dtype = np.dtype(dtype).newbyteorder('<')
  records.write_shard(other, make_columns(3) | {'x': values.astype(dtype)})
  assert path.read_bytes() == other.read_bytes()
  assert records.read_shard(path)['x'].dtype == dtype


@pytest.mark.parametrize(('name', 'column'), [
    ('text', np.array(['a', 'b', 'c'])),
    ('thing', np.array([1, None, 'x'], object)),
    ('a/b', np.arange(3)),
    ('shape', np.arange(3)),
    ('hash', np.array([0, 1, 2**31])),
    ('hash', np.array([0, 1, 2**63], np.uint64)),
])
def test_a_column_that_cannot_be_kept_is_refused(tmp_path, name, column):
  path = epath.Path(tmp_path) / 'shard'
  with pytest.raises(InputError, match=repr(name)):
    records.write_shard(path, make_columns(3) | {name: column})
  assert not path.exists()


def test_a_later_record_that_lacks_a_column_is_damage(tmp_path):
  first, second, mixed = (epath.Path(tmp_path) / name for name in 'abc')
  records.write_shard(first, make_columns(3) | {'boxes': _FURTHER['boxes']})
  records.write_shard(second, make_columns(3))
  mixed.write_bytes(first.read_bytes() + second.read_bytes())
  with pytest.raises(InputError, match='truncated or damaged'):
    records.read_shard(mixed)


@pytest.mark.parametrize('change', [
    lambda feature: feature['boxes/dtype'].bytes_list.value.__setitem__(
        0, b'nonsense'
    ),
    lambda feature: feature['boxes/shape'].int64_list.value.append(7),
    lambda feature: feature['map'].bytes_list.value.__setitem__(0, b'1234'),
    lambda feature: feature.__delitem__('boxes/dtype'),
    lambda feature: feature.__delitem__('image'),
    lambda feature: feature['boxes'].Clear(),
])
def test_a_record_that_contradicts_itself_is_damage(tmp_path, change):
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, make_columns(3) | {'boxes': _FURTHER['boxes']})
  (first, *rest) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
  example = tf.train.Example.FromString(first)
  change(example.features.feature)
  with tf.io.TFRecordWriter(str(path)) as writer:
    for record in (example.SerializeToString(), *rest):
      writer.write(record)
  with pytest.raises(InputError, match='truncated or damaged') as error:
    records.read_shard(path)
  assert records.REMAKE in str(error.value)
