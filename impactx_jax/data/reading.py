"""Splits of prepared data sets, read into memory as columns."""

from concurrent import futures
import hashlib
from typing import Any

from absl import logging
from attribution.errors import InputError
from etils import epath
from impactx_jax.data import builders
from impactx_jax.data import columns as column_lib
from impactx_jax.data import pictures
from impactx_jax.data.columns import Columns
from ml_collections import ConfigDict
import numpy as np


def read(builder: Any, split: str, data: ConfigDict) -> Columns:
  """Reads one split into memory.

  Args:
    builder: From `builders.find`.
    split: Its name.
    data: `config.data`.

  Returns:
    `id` str [N], `image` uint8 [N, H, W, C], `label` int32 [N] or `labels`
    int32 [N, K], whatever other numbers the data set has (masks, boxes, groups;
    see `data.columns`), of a data set with `objects` their `boxes` float32
    [N, K, R, 4] by class, and of a folder of pictures `file_digest` str [N].

  Raises:
    InputError: if it is empty, without labels, or an example cannot be read.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  folder = data.name == 'image_folder'
  try:
    rows = (_pictures if folder else _examples)(builder, split, data)
  except tf.errors.OpError as error:
    # TensorFlow puts the names of its graph before the reason.
    reason = error.message.splitlines()[0].rsplit(': ', 1)[-1]
    advice = f'Prepare the data set in {builder.data_path} again.'
    if folder:
      advice = f'Mend or remove what is in the way in {data.data_dir}.'
    raise InputError(
        f'The split {split!r} of {data.name} cannot be read ({reason}). '
        f'{advice}'
    ) from error
  if not rows:
    raise InputError(f'The split {split!r} of {data.name} has no examples.')
  if 'objects' in rows[0]:
    classes = builders.classes_of(
        builders.labels_feature(builder.info.features, 'labels')
    )
    _sort_objects(rows, len(classes))
  columns = {
      name: np.stack([row[name] for row in rows])
      for name in rows[0]
      if name != 'id'
  }
  for name, column in columns.items():
    if column_lib.kind_of(name) == column_lib.LABEL:
      columns[name] = column.astype(np.int32)
  if 'labels' in columns and not columns['labels'].any():
    raise InputError(
        f'No image of the split {split!r} of {data.name} has a label: those of '
        'this split are not published. Choose others of '
        f'{", ".join(sorted(builder.info.splits))} with '
        '--config.data.train_split=NAME and --config.data.test_split=NAME.'
    )
  ids = [row['id'].decode() for row in rows]
  if folder:
    # Split, class and file name: an id that survives moving the folder.
    ids = ['/'.join([split, *epath.Path(name).parts[-2:]]) for name in ids]
  columns['id'] = np.array(ids)
  return columns


def _sort_objects(rows: list[dict[str, Any]], num_classes: int) -> None:
  """Puts `labels` [K] and `boxes` [K, R, 4] in the place of the objects.

  R is the largest number of objects of one class in an image of the split;
  what is not there is a box of zeros. A box without an area, of which COCO has
  some, says nothing of where its object is: it leaves the label alone.
  """
  most = max(
      np.bincount(row['objects']['label'], minlength=1).max() for row in rows
  )
  flat = 0
  for row in rows:
    objects = row.pop('objects')
    boxes = np.zeros((num_classes, max(most, 1), 4), np.float32)
    labels = np.zeros(num_classes, np.int32)
    labels[np.unique(objects['label'])] = 1
    corners = objects['bbox']
    filled = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    flat += np.sum(~filled)
    for k in np.flatnonzero(labels):
      mine = corners[(objects['label'] == k) & filled]
      boxes[k, : len(mine)] = mine
    row['boxes'] = boxes
    row.setdefault('labels', labels)
  if flat:
    logging.warning('%d boxes have no area and are left out.', flat)


def _kept(features) -> list[str]:
  """Names the features that become columns: numbers of one shape.

  Those whose names batches or shards need are left out, and it is said.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  def fits(name, feature):
    kind = column_lib.kind_of(name)
    if kind == column_lib.LABEL:
      return bool(builders.classes_of(feature))
    if not isinstance(feature, (tfds.features.Tensor, tfds.features.Image)):
      return False
    if np.dtype(feature.np_dtype).kind not in 'biuf':
      return False
    if name in column_lib.RESERVED or kind in (column_lib.TEXT, column_lib.MAP):
      logging.warning(
          'The feature %r of the data set is left out: columns of that name '
          'are made here. In data of your own, call it otherwise.', name,
      )
      return False
    if kind == column_lib.SCALAR:
      return feature.shape == ()
    return kind == column_lib.MASK or None not in feature.shape

  return [name for name, feature in features.items() if fits(name, feature)]


def _examples(builder, split: str, data) -> list[dict[str, Any]]:
  """Returns the examples of a prepared data set, resized if sizes vary."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  features = builder.info.features
  resize = None in features['image'].shape[:2]
  objects = builders.objects_of(features)
  size = tuple(data.image_size)
  names = [name for name in _kept(features) if name != 'image']
  several = {  # Class numbers of any length -> 0 and 1 for each class.
      name: len(builders.classes_of(features[name]))
      for name in names
      if isinstance(features[name], tfds.features.Sequence)
  }

  def prepare(example):
    kept = {name: example[name] for name in names}
    for name, num_classes in several.items():
      one_hot = tf.one_hot(example[name], num_classes, dtype=tf.int32)
      kept[name] = tf.reduce_max(
          tf.concat([one_hot, tf.zeros((1, num_classes), tf.int32)], 0), axis=0
      )
    kept |= {'id': example['tfds_id'], 'image': example['image']}
    if objects:  # Their boxes are shares of the sides, whatever these are.
      kept['objects'] = {
          name: example['objects'][name] for name in ('label', 'bbox')
      }
    if resize:
      image = tf.image.resize(
          example['image'], size, method='bilinear', antialias=True
      )
      kept['image'] = tf.cast(
          tf.clip_by_value(tf.round(image), 0, 255), tf.uint8
      )
      for name in names:
        if column_lib.kind_of(name) == column_lib.MASK:
          kept[name] = tf.image.resize(example[name], size, method='nearest')
    return kept

  dataset = builder.as_dataset(
      split=split,
      shuffle_files=False,
      read_config=tfds.ReadConfig(add_tfds_id=True),
  )
  dataset = dataset.map(
      prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )
  return list(tfds.as_numpy(dataset.prefetch(tf.data.AUTOTUNE)))


def _pictures(builder, split: str, data) -> list[dict[str, Any]]:
  """Returns the pictures of a folder, as `impactx-explain` would read them."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  shape = (*data.image_size, builder.info.features['image'].shape[-1])
  encoded = builder.as_dataset(
      split=split,
      shuffle_files=False,
      decoders={'image': tfds.decode.SkipDecoding()},
  )
  rows = []
  with futures.ThreadPoolExecutor() as pool:
    for batch in tfds.as_numpy(encoded.batch(64).prefetch(1)):
      names = batch['image/filename']
      images = pool.map(
          lambda content, name: pictures.decode(content, name.decode(), shape),
          batch['image'], names,
      )
      rows += [
          {
              'id': name,
              'image': image,
              'label': label,
              'file_digest': hashlib.sha256(content).hexdigest(),
          }
          for name, image, label, content in zip(
              names, images, batch['label'], batch['image'], strict=True
          )
      ]
  return rows
