"""Shards of attribution maps: the record's schema, the manifest, reading.

A directory of maps holds `maps-00000-of-00010.tfrecord` … and a
`manifest.json`, written last. Records are self-contained (id, split, image,
explained classes, maps, base and full values, and what else the examples
have, such as labels and masks), so that training on maps reads shards and
nothing else.

In memory, examples are columns: a dict of arrays with one row an example.
TensorFlow is imported only inside the functions that need it.
"""

import hashlib
import json
from typing import Any

from attribution import files
from attribution.errors import InputError
from etils import epath
import numpy as np

Columns = dict[str, np.ndarray]
MANIFEST = 'manifest.json'
WEIGHTED = -1  # In place of a class: all of them, weighted.
REMAKE = (
    'Delete the file and make the maps again: only what is missing is '
    'computed.'
)
# The features that every record has; `shape` is the map's.
_FEATURES = (
    'id', 'split', 'image', 'classes', 'shape', 'map', 'base_value',
    'full_value',
)


def shard_name(index: int, count: int) -> str:
  """Returns the file name of shard `index` of `count`."""
  return f'maps-{index:05d}-of-{count:05d}.tfrecord'


def write_shard(path: epath.Path, columns: Columns) -> None:
  """Writes examples as one TFRecord shard, whole or not at all.

  Args:
    path: The shard's final name.
    columns: `id` and `split` (str [N]), `image` (uint8 [N, H, W, C], or float32
      as the model takes them),
      `classes` (int [N, K'], of which one may be WEIGHTED), `map` (float32
      [N, H, W, C, K']), `base_value` and `full_value` (float32 [N, K']): the
      score of each explained class with everything hidden and with nothing
      hidden. Any further ones, such as `label`, are numbers or booleans,
      [N, …]; whole numbers [N] are kept as int32.

  Raises:
    InputError: for a further column that cannot be kept.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  def int_list(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

  def float_list(values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))

  def bytes_list(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

  def further(name, value):
    """The features of one row of a column that not every record has."""
    if value.ndim == 0 and value.dtype.kind in 'iu':
      return {name: int_list([int(value)])}
    if value.ndim == 0 and value.dtype == np.float32:
      return {name: float_list([float(value)])}
    dtype = value.dtype.newbyteorder('<')
    return {
        name: bytes_list(value.astype(dtype).tobytes()),
        f'{name}/shape': int_list(value.shape),
        f'{name}/dtype': bytes_list(dtype.str.encode()),
    }

  check_further(columns)
  is_float = columns['image'].dtype.kind == 'f'
  others = {
      name: np.asarray(column)
      for name, column in columns.items()
      if name not in _FEATURES
  }

  def write(name: str) -> None:
    with tf.io.TFRecordWriter(name) as writer:
      for i in range(len(columns['id'])):
        maps = columns['map'][i]
        feature = {
            'id': bytes_list(str(columns['id'][i]).encode()),
            'split': bytes_list(str(columns['split'][i]).encode()),
            'image': bytes_list(_image_bytes(columns['image'][i])),
            'classes': int_list(columns['classes'][i].tolist()),
            'shape': int_list(maps.shape),
            'map': bytes_list(maps.astype('<f4').tobytes()),
            'base_value': float_list(columns['base_value'][i].tolist()),
            'full_value': float_list(columns['full_value'][i].tolist()),
        }
        if is_float:  # Without it, as in older shards, they are uint8.
          feature['image/dtype'] = bytes_list(b'<f4')
        for other, column in others.items():
          feature |= further(other, column[i])
        example = tf.train.Example(
            features=tf.train.Features(feature=feature)
        )
        # Features are a proto map, whose order is otherwise not fixed.
        writer.write(example.SerializeToString(deterministic=True))

  files.write_atomically(path, write)


def _image_bytes(image: np.ndarray) -> bytes:
  return image.astype('<f4' if image.dtype.kind == 'f' else np.uint8).tobytes()


def check_further(columns: Columns) -> None:
  """Raises InputError for a further column that a shard cannot keep."""
  for name in columns.keys() - set(_FEATURES) | columns.keys() & {'shape'}:
    column = np.asarray(columns[name])
    kind = column.dtype.kind
    if '/' in name or name == 'shape' or kind not in 'biuf':
      raise InputError(
          f'A shard cannot keep the column {name!r} of {column.dtype}: give '
          'numbers or booleans, under a name without "/" that is not "shape".'
      )
    if column.ndim == 1 and kind in 'iu' and (
        column.astype(np.int32) != column
    ).any():
      raise InputError(
          f'The whole numbers of the column {name!r} do not fit into int32: '
          'give floats, or [N, 1].'
      )


def read_shard(path: epath.Path) -> Columns:
  """Reads one shard; see `write_shard` for the columns.

  Raises:
    InputError: if the shard is truncated or damaged.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  from google.protobuf import message  # pylint: disable=g-import-not-at-top

  try:
    serialized = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    return _parse(serialized)
  except (
      tf.errors.OpError, message.DecodeError, LookupError, TypeError, ValueError
  ) as error:
    raise InputError(
        f'The shard {path} is truncated or damaged ({type(error).__name__}). '
        f'{REMAKE}'
    ) from error


def _parse(serialized: list[bytes]) -> Columns:
  """Parses records that have the features of the first one."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  first = tf.train.Example.FromString(serialized[0]).features.feature
  others = {
      name: feature.WhichOneof('kind')
      for name, feature in first.items()
      if name not in _FEATURES and '/' not in name
  }
  one = tf.io.FixedLenFeature
  kinds = {
      'int64_list': one([], tf.int64),
      'float_list': one([], tf.float32),
      'bytes_list': one([], tf.string),
  }
  parsed = tf.io.parse_example(
      serialized,
      {
          'id': one([], tf.string),
          'split': one([], tf.string),
          'image': one([], tf.string),
          'classes': tf.io.VarLenFeature(tf.int64),
          'shape': one([4], tf.int64),
          'map': one([], tf.string),
          'base_value': tf.io.VarLenFeature(tf.float32),
          'full_value': tf.io.VarLenFeature(tf.float32),
          **{name: kinds[kind] for name, kind in others.items()},
      },
  )
  count = len(serialized)
  (image_dtype,) = first['image/dtype'].bytes_list.value or (b'|u1',)
  shape = tuple(parsed['shape'].numpy()[0])

  def raw(name, dtype, shape):
    joined = b''.join(parsed[name].numpy().tolist())
    return np.frombuffer(joined, dtype).reshape(count, *shape)

  def text(name):
    # astype('U') would take bytes for ASCII; file names may hold any text.
    return np.array([value.decode() for value in parsed[name].numpy()])

  def ragged(name):
    return tf.sparse.to_dense(parsed[name]).numpy().reshape(count, -1)

  def further(name, kind):
    if kind == 'bytes_list':
      (dtype,) = first[f'{name}/dtype'].bytes_list.value
      sides = first[f'{name}/shape'].int64_list.value
      return raw(name, np.dtype(dtype.decode()), sides)
    values = parsed[name].numpy()
    return values.astype(np.int32) if kind == 'int64_list' else values

  return {
      'id': text('id'),
      'split': text('split'),
      'image': raw('image', np.dtype(image_dtype.decode()), shape[:3]),
      **{name: further(name, others[name]) for name in sorted(others)},
      'classes': ragged('classes').astype(np.int32),
      'map': raw('map', np.dtype('<f4'), shape),
      'base_value': ragged('base_value'),
      'full_value': ragged('full_value'),
  }


def checksum(path: epath.Path) -> str:
  """Returns the SHA-256 of a file, in hexadecimal."""
  digest = hashlib.sha256()
  with path.open('rb') as file:
    while block := file.read(1 << 22):
      digest.update(block)
  return digest.hexdigest()


def read_manifest(directory: epath.PathLike) -> dict[str, Any]:
  """Reads the manifest of a directory of maps.

  Raises:
    InputError: if there is none, that is if the maps are not complete.
  """
  path = epath.Path(directory) / MANIFEST
  if not path.exists():
    raise InputError(
        f'There are no complete attribution maps in {path.parent}: it has no '
        f'{MANIFEST}. Make the maps, or continue what was stopped by making '
        'them again: only what is missing is computed.'
    )
  return files.read_json(path)


def is_complete(directory: epath.PathLike) -> bool:
  """Whether manifest and all shards are there; `read` checks what they hold."""
  directory = epath.Path(directory)
  if not (directory / MANIFEST).exists():
    return False
  shards = read_manifest(directory)['shards']
  return all((directory / shard['name']).exists() for shard in shards)


def unmapped(manifest: dict[str, Any]) -> int:
  """Counts the training and validation images that have no map."""
  return sum(
      manifest['data']['examples'][split] - manifest['examples'].get(split, 0)
      for split in ('train', 'validation')
  )


def check(
    directory: epath.PathLike,
    manifest: dict[str, Any],
    expected: dict[str, Any],
) -> None:
  """Raises InputError unless the manifest of a directory says what it must.

  Args:
    directory: Where the shards are.
    manifest: Of these.
    expected: (Part of) its entries.
  """
  for name, wanted in files.as_json(expected).items():
    if manifest.get(name) != wanted:
      raise InputError(
          f'The maps in {directory} were made with another {name}: the '
          f'manifest says {_short(manifest.get(name))}, wanted is '
          f'{_short(wanted)}. Use another directory, or delete this one and '
          'make the maps again.'
      )


def read(
    directory: epath.PathLike, expected: dict[str, Any] | None = None
) -> tuple[Columns, dict[str, Any]]:
  """Reads all shards of a directory of maps, after checking them.

  Args:
    directory: Where the shards and the manifest are.
    expected: What the manifest must say, as (part of) its entries; a shard
      made by another classifier, say, is refused.

  Returns:
    The columns of all examples in order, and the manifest.

  Raises:
    InputError: if the maps are incomplete, altered, or not the expected ones.
  """
  directory = epath.Path(directory)
  manifest = read_manifest(directory)
  check(directory, manifest, expected or {})
  parts = []
  for shard in manifest['shards']:
    path = directory / shard['name']
    if not path.exists():
      raise InputError(f'The shard {path} is missing. {REMAKE}')
    if checksum(path) != shard['sha256']:
      raise InputError(
          f'The shard {path} is not the one that was written: its SHA-256 '
          f'differs from the manifest. {REMAKE}'
      )
    parts.append(read_shard(path))
  columns = {
      name: np.concatenate([part[name] for part in parts])
      for name in parts[0]
  }
  return columns, manifest


def _short(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return text if len(text) < 200 else text[:200] + ' …'
