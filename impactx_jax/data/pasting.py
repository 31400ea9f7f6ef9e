"""Data sets that are made of the pictures of another one.

The other one, `source`, is any classification set of tensorflow-datasets with
8-bit images. Its train pictures are only in train, its test pictures in test.
"""

from collections.abc import Sequence
from typing import Any

from attribution.errors import InputError
from impactx_jax.data import drawn
import numpy as np
import tensorflow_datasets as tfds


class PastingBuilder(drawn.DrawnBuilder, skip_registration=True):
  """Writes a set whose config has a `source`, the name of another set."""

  # The prepared builder of the source; `builders.find` sets it. Elsewhere the
  # source is looked for in this builder's own data_dir.
  found: Any = None

  @property
  def source(self) -> Any:
    """Returns the builder of the source."""
    name = self.builder_config.source
    return self.found or tfds.builder(name, data_dir=str(self.data_dir_root))


def labels_of(source: Any) -> list[str]:
  """Returns the names of a source's classes.

  Raises:
    InputError: if its images have not one class each, or are not of 8 bits.
  """
  features = source.info.features
  if not (
      {'image', 'label'} <= {*features}
      and isinstance(features['label'], tfds.features.ClassLabel)
      and np.dtype(features['image'].np_dtype) == np.uint8
  ):
    raise InputError(
        f'{source.name} has no images of uint8 with a label each, of which '
        f'others could be made; it has the features {", ".join(features)}. '
        'Name another source in the config of the data set, such as cifar10.'
    )
  return features['label'].names


def read(
    source: Any, split: str, side: int, classes: Sequence[int]
) -> list[np.ndarray]:
  """Reads the pictures of classes of a split.

  Args:
    source: A prepared builder.
    split: Its name.
    side: To which they are brought, in pixels; those of that size stay.
    classes: Their numbers.

  Returns:
    For each of the classes uint8 [N, side, side, 3], in the order of the
    source.

  Raises:
    InputError: if there is no such split.
  """
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  if split not in source.info.splits:
    raise InputError(
        f'{source.name} has no split {split!r} to make pictures of; it has '
        f'{", ".join(sorted(source.info.splits))}. Name another source in the '
        'config of the data set, such as cifar10.'
    )

  wanted = np.array(classes, np.int64)

  def is_wanted(example):
    return tf.reduce_any(example['label'] == wanted)

  def prepare(example):
    image = source.info.features['image'].decode_example(example['image'])
    if image.shape[:2] != (side, side):
      image = tf.image.resize(
          image, (side, side), method='bilinear', antialias=True
      )
      image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    # A grey one has as much of each colour.
    return tf.broadcast_to(image, (side, side, 3)), example['label']

  encoded = source.as_dataset(
      split=split,
      shuffle_files=False,
      decoders={'image': tfds.decode.SkipDecoding()},
  ).filter(is_wanted)
  rows = encoded.map(
      prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )
  images, labels = map(np.concatenate, zip(
      *tfds.as_numpy(rows.batch(1000)), strict=True
  ))
  return [images[labels == k] for k in classes]


def ellipse(side: int) -> np.ndarray:
  """Returns the disc that fits into a square, bool [side, side, 1]."""
  y, x = (np.mgrid[:side, :side] + 0.5) * 2 / side - 1
  return (np.hypot(x, y) <= 1)[..., None]
