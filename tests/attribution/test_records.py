"""Tests for the shards: what is written is read, or else it is refused."""

import hashlib

from attribution import files
from attribution import records
from attribution.errors import InputError
from etils import epath
import numpy as np
import pytest
from tests.attribution.records_fixtures import assert_equal
from tests.attribution.records_fixtures import make_columns

_CURE = 'Delete the file and make the maps again'


@pytest.fixture
def directory(tmp_path) -> epath.Path:
  """Two shards of 3 and 2 examples, and their manifest."""
  directory = epath.Path(tmp_path)
  shards = []
  for i, count in enumerate((3, 2)):
    path = directory / records.shard_name(i, 2)
    records.write_shard(path, make_columns(count, seed=i))
    shards.append({'name': path.name, 'sha256': records.checksum(path)})
  files.write_json(
      directory / records.MANIFEST,
      {
          'classifier': 'abc',
          'explainer': {'masker': 'blur', 'max_evals': 40},
          'shards': shards,
      },
  )
  return directory


@pytest.mark.parametrize('classes', [1, 3])
@pytest.mark.parametrize('shape', [(4, 6, 3), (6, 4, 1)])
@pytest.mark.parametrize('count', [1, 3])
def test_every_column_comes_back_exactly(tmp_path, count, shape, classes):
  columns = make_columns(count, shape=shape, classes=classes)
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  assert_equal(records.read_shard(path), columns)


def test_images_of_floats_come_back_exactly(tmp_path):
  columns = make_columns()
  columns['image'] = columns['map'][..., 0] * 1e3
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  assert_equal(records.read_shard(path), columns)


def test_unusual_numbers_come_back_exactly(tmp_path):
  columns = make_columns(2, shape=(1, 3, 1), classes=2)
  unusual = np.array([-0.0, 1e-45, 3.4e38, np.inf, np.nan, 0.1], np.float32)
  columns['map'][0] = unusual.reshape(1, 3, 1, 2)
  columns['base_value'][0] = unusual[:2]
  columns['full_value'][1] = unusual[2:4]
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  read = records.read_shard(path)
  for name in ('map', 'base_value', 'full_value'):  # Bits: -0.0 is not 0.0.
    assert read[name].tobytes() == columns[name].tobytes(), name


def test_images_and_maps_need_not_be_contiguous(tmp_path):
  columns = make_columns(2)
  for name in ('image', 'map'):
    columns[name] = columns[name][:, ::-1, ::2]
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  assert_equal(records.read_shard(path), columns)


def test_all_classes_weighted_come_back_as_such(tmp_path):
  columns = make_columns(3)
  columns['classes'][:] = records.WEIGHTED
  assert records.WEIGHTED < 0  # No class.
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  assert_equal(records.read_shard(path), columns)


def test_unmapped_are_the_images_that_could_have_had_a_map():
  examples = {'train': 90, 'validation': 10, 'test': 50}
  manifest = {
      'data': {'examples': examples},
      'examples': {'train': 40, 'validation': 5, 'test': 50},
  }
  assert records.unmapped(manifest) == 50 + 5
  manifest['examples'] = {'train': 90, 'validation': 10}
  assert records.unmapped(manifest) == 0


def test_an_id_may_be_any_text(tmp_path):
  # The ids of a folder of pictures are its file names.
  columns = make_columns(3)
  columns['id'] = np.array(['train/Bär/naïve 1.png', '猫.png', 'plain.png'])
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, columns)
  assert_equal(records.read_shard(path), columns)


def test_the_same_examples_give_the_same_bytes(tmp_path):
  columns = make_columns()
  first, second = (epath.Path(tmp_path) / name for name in 'ab')
  records.write_shard(first, columns)
  records.write_shard(second, dict(reversed(columns.items())))
  assert first.read_bytes() == second.read_bytes()


def test_shards_are_named_by_number_and_count():
  assert records.shard_name(3, 10) == 'maps-00003-of-00010.tfrecord'


def _fail_half_way(path: epath.Path) -> None:
  """Writes a shard of which only the first two examples can be written."""
  columns = make_columns()
  columns['classes'] = [*columns['classes'][:2], 'no array']
  with pytest.raises(AttributeError, match='tolist'):
    records.write_shard(path, columns)


def test_a_write_that_fails_half_way_leaves_no_shard(tmp_path):
  path = epath.Path(tmp_path) / records.shard_name(0, 1)
  _fail_half_way(path)
  assert not path.exists()
  # Nor anything else that could be taken for one.
  assert not list(epath.Path(tmp_path).glob('maps-*'))


def test_a_write_that_fails_half_way_keeps_the_old_shard(tmp_path):
  path = epath.Path(tmp_path) / records.shard_name(0, 1)
  columns = make_columns(2, seed=1)
  records.write_shard(path, columns)
  before = path.read_bytes()
  _fail_half_way(path)
  assert path.read_bytes() == before
  assert_equal(records.read_shard(path), columns)


def test_a_write_after_a_failed_one_is_whole(tmp_path):
  path = epath.Path(tmp_path) / records.shard_name(0, 1)
  _fail_half_way(path)
  records.write_shard(path, make_columns())
  assert_equal(records.read_shard(path), make_columns())
  assert [file.name for file in epath.Path(tmp_path).iterdir()] == [path.name]


@pytest.mark.parametrize('kept', ['none', 'one byte', 'half', 'all but one'])
def test_a_truncated_shard_is_refused(tmp_path, kept):
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, make_columns())
  content = path.read_bytes()
  length = {
      'none': 0, 'one byte': 1, 'half': len(content) // 2,
      'all but one': len(content) - 1,
  }[kept]
  path.write_bytes(content[:length])
  with pytest.raises(InputError, match='truncated or damaged') as error:
    records.read_shard(path)
  assert str(path) in str(error.value)
  assert _CURE in str(error.value)


def _flip(path: epath.Path, position: int) -> None:
  content = bytearray(path.read_bytes())
  content[position] ^= 0x10
  path.write_bytes(bytes(content))


# A record is its length (8 bytes), that one's CRC (4), the data, its CRC (4).
@pytest.mark.parametrize('position', [0, 7, 8, 12, 100, 500, -4, -1])
def test_a_flipped_bit_is_refused(tmp_path, position):
  path = epath.Path(tmp_path) / 'shard'
  records.write_shard(path, make_columns())
  _flip(path, position)
  with pytest.raises(InputError, match='truncated or damaged') as error:
    records.read_shard(path)
  assert str(path) in str(error.value)
  assert _CURE in str(error.value)


def test_a_shard_of_something_else_is_refused(tmp_path):
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  path = epath.Path(tmp_path) / 'shard'
  with tf.io.TFRecordWriter(str(path)) as writer:
    writer.write(tf.train.Example().SerializeToString())
  with pytest.raises(InputError, match='truncated or damaged'):
    records.read_shard(path)


def test_checksum_is_sha256_of_files_of_any_size(tmp_path):
  path = epath.Path(tmp_path) / 'file'
  for size in (0, 10, (1 << 22) + 1):  # It reads 4 MiB at a time.
    content = b'x' * size
    path.write_bytes(content)
    assert records.checksum(path) == hashlib.sha256(content).hexdigest()


def test_read_gives_all_examples_in_order_and_the_manifest(directory):
  columns, manifest = records.read(directory)
  first, second = make_columns(3, seed=0), make_columns(2, seed=1)
  assert_equal(
      columns,
      {name: np.concatenate([first[name], second[name]]) for name in first},
  )
  assert manifest == records.read_manifest(directory)
  assert manifest['classifier'] == 'abc'


def test_maps_without_a_manifest_are_incomplete(directory):
  (directory / records.MANIFEST).unlink()
  for read in (records.read, records.read_manifest):
    with pytest.raises(InputError, match='no complete') as error:
      read(directory)
    assert str(directory) in str(error.value)
    assert 'Make the maps' in str(error.value)


def _read_refused(directory: epath.Path, bad: epath.Path) -> str:
  with pytest.raises(InputError) as error:
    records.read(directory)
  message = str(error.value)
  assert str(bad) in message
  assert _CURE in message
  return message


def test_a_missing_shard_is_named(directory):
  path = directory / records.shard_name(1, 2)
  path.unlink()
  assert 'is missing' in _read_refused(directory, path)


def test_a_truncated_shard_is_named(directory):
  path = directory / records.shard_name(1, 2)
  path.write_bytes(path.read_bytes()[:-20])
  _read_refused(directory, path)


def test_a_shard_that_lost_its_last_record_is_named(directory):
  # Each record that is left is whole, so only the manifest can tell.
  path = directory / records.shard_name(0, 2)
  records.write_shard(
      path, {name: column[:2] for name, column in make_columns(3).items()}
  )
  assert len(records.read_shard(path)['id']) == 2
  _read_refused(directory, path)


@pytest.mark.parametrize('position', [3, 200, -2])
def test_a_shard_with_a_flipped_bit_is_named(directory, position):
  path = directory / records.shard_name(0, 2)
  _flip(path, position)
  _read_refused(directory, path)


def test_a_shard_altered_under_a_right_crc_is_named(directory):
  path = directory / records.shard_name(0, 2)
  columns = make_columns(3)
  columns['map'][0, 0, 0, 0, 0] += 1e-3
  records.write_shard(path, columns)
  records.read_shard(path)  # The shard itself is sound.
  assert 'SHA-256' in _read_refused(directory, path)


def test_swapped_shards_are_noticed(directory):
  first, second = (directory / records.shard_name(i, 2) for i in range(2))
  content = first.read_bytes()
  first.write_bytes(second.read_bytes())
  second.write_bytes(content)
  _read_refused(directory, first)


def test_expected_entries_are_let_through(directory):
  columns, _ = records.read(
      directory,
      expected={
          'classifier': 'abc',
          'explainer': {'max_evals': 40, 'masker': 'blur'},
      },
  )
  assert len(columns['id']) == 5


@pytest.mark.parametrize(
    ('expected', 'named'),
    [
        ({'classifier': 'abd'}, ['classifier', '"abc"', '"abd"']),
        (
            {'explainer': {'masker': 'mean', 'max_evals': 40}},
            ['explainer', '"blur"', '"mean"'],
        ),
        ({'seed': 3}, ['seed', 'null', '3']),
        ({'classifier': 'abc', 'seed': 0}, ['seed', 'null', '0']),
    ],
)
def test_maps_that_are_not_the_expected_ones_are_refused(
    directory, expected, named
):
  with pytest.raises(InputError, match='made with another') as error:
    records.read(directory, expected)
  message = str(error.value)
  for part in [*named, str(directory), 'delete', 'make the maps again']:
    assert part in message


def test_long_entries_are_cut_short_in_the_message(directory):
  with pytest.raises(InputError) as error:
    records.read(directory, {'classifier': 'x' * 10_000})
  assert len(str(error.value)) < 1000
