"""Data sets, all through tensorflow-datasets, as columns in memory.

Images are kept as the uint8 the data set holds (CIFAR-10: 184 MB), which
makes every epoch's order a permutation of row numbers.
"""

import dataclasses
import functools
import json
from typing import Any

from absl import logging
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import rng
from ml_collections import ConfigDict
import numpy as np

Columns = dict[str, np.ndarray]
DATA_SETS = (
    'digits, shapes, image_folder, and any image-classification data set of '
    'tensorflow-datasets, such as cifar10'
)
FOLDER_LAYOUT = 'FOLDER/train/CLASS/PICTURE.png and FOLDER/test/CLASS/…'


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set, split.

  Attributes:
    name: With its builder config and version, such as 'cifar10/3.0.2'.
    class_names: [K].
    train: Columns `id` (str [N]), `image` (uint8 [N, H, W, C]) and `label`
      (int32 [N]), and further ones the data set may have.
    validation: The part of the training split held out by `split_by_id`.
    test: The same columns of the test split.
  """

  name: str
  class_names: tuple[str, ...]
  train: Columns
  validation: Columns
  test: Columns

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.train['image'].shape[1:]

  def columns(self) -> dict[str, Columns]:
    """What is trained on: {'train', 'validation'}."""
    return {'train': self.train, 'validation': self.validation}

  def fingerprint(self) -> dict[str, Any]:
    """What must agree between the stages, JSON-compatible."""
    return {
        'name': self.name,
        'class_names': list(self.class_names),
        'image_shape': list(self.image_shape),
        'examples': {
            split: len(getattr(self, split)['id'])
            for split in ('train', 'validation', 'test')
        },
    }


def load(data, seed: int) -> Dataset:
  """Loads what `config.data` names, and keeps the latest for the next call.

  Args:
    data: The config's section.
    seed: Of the run; it decides which examples are held out.

  Returns:
    The data set.

  Raises:
    InputError: if it is unknown, not prepared, or lacks what is needed.
  """
  return _load(data.to_json(), seed)


@functools.lru_cache(maxsize=1)
def _load(data_json: str, seed: int) -> Dataset:
  data = ConfigDict(json.loads(data_json))
  builder = _builder(data)
  splits = set(builder.info.splits)
  if data.train_split not in splits:
    raise _missing_split(builder, data.train_split, 'train_split', splits)
  training = _columns(builder, data.train_split, data)
  if data.test_split in splits:
    test = _columns(builder, data.test_split, data)
  elif data.name == 'image_folder':
    # The split depends on the name of each file alone, not on the run's seed:
    # what was once a test picture stays one.
    held_out = rng.uniform_by_id(0, 'test', training['id']) < data.test_fraction
    test, training = _rows(training, held_out), _rows(training, ~held_out)
    logging.warning(
        'There is no folder %r, so %d of the training pictures '
        '(--config.data.test_fraction=%g, chosen by file name) are the test '
        'split and take no part in training.',
        data.test_split, held_out.sum(), data.test_fraction,
    )
  else:
    raise _missing_split(builder, data.test_split, 'test_split', splits)
  training = _rows(
      training,
      labelled(training['id'], training['label'], seed, data.label_fraction),
  )
  held_out = split_by_id(training['id'], seed, data.validation_fraction)
  dataset = Dataset(
      name=_name(builder, data),
      class_names=tuple(builder.info.features['label'].names),
      train=_rows(training, ~held_out),
      validation=_rows(training, held_out),
      test=test,
  )
  for split in ('train', 'validation', 'test'):
    if not len(getattr(dataset, split)['id']):
      raise InputError(
          f'The {split} split of {dataset.name} is empty. The validation '
          'split is the part of the training split set by '
          '--config.data.validation_fraction=F, the test split of a folder '
          'without one by --config.data.test_fraction=F.'
      )
  return dataset


def split_by_id(ids: np.ndarray, seed: int, fraction: float) -> np.ndarray:
  """Returns which examples are held out for validation, bool [N].

  A function of (seed, fraction, id) and nothing else, so that every stage,
  subset and machine agrees.
  """
  return rng.uniform_by_id(seed, 'validation', ids) < fraction


def labelled(
    ids: np.ndarray, labels: np.ndarray, seed: int, fraction: float
) -> np.ndarray:
  """Returns which examples a share of the labels leaves, bool [N].

  As large a share of each class, and at least one example of it; those of a
  small share are among those of a larger one.

  Args:
    ids: str [N].
    labels: int [N].
    seed: Of the run.
    fraction: The share, above 0 and at most 1.
  """
  if fraction == 1:
    return np.ones(len(ids), bool)
  chosen = np.zeros(len(ids), bool)
  priority = rng.uniform_by_id(seed, 'labels', ids)
  for label in np.unique(labels):
    rows = np.flatnonzero(labels == label)
    rows = rows[np.argsort(priority[rows], kind='stable')]
    chosen[rows[: max(1, round(fraction * len(rows)))]] = True
  return chosen


def _name(builder, data) -> str:
  if data.name == 'image_folder':
    return 'image_folder'
  return builder.info.full_name


def _missing_split(builder, given, field, splits) -> InputError:
  return InputError(
      f'{builder.name} has no split {given!r}; it has '
      f'{", ".join(sorted(splits))}. Change it with --config.data.{field}=NAME.'
  )


def _builder(data):
  """Returns the prepared TFDS builder."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  if data.name == 'image_folder':
    return _folder_builder(data)
  own = _own_builders()
  options = {'data_dir': data.data_dir} if data.data_dir else {}
  try:
    builder = tfds.builder(data.name, **options)
  except tfds.core.DatasetNotFoundError as error:
    raise _unknown(data.name, own, tfds) from error
  # TFDS raises an AssertionError for an unknown version, and an ImportError
  # for a data set that needs a package of its own.
  except (ValueError, KeyError, AssertionError, ImportError) as error:
    raise _unusable(data.name, error, tfds) from error
  features = builder.info.features
  if not {'image', 'label'} <= {*features} or not isinstance(
      features['label'], tfds.features.ClassLabel
  ):
    raise InputError(
        f'{data.name} is not an image-classification data set: it has the '
        f'features {", ".join(features)}, and needs image and (a class) '
        'label. Choose another with --config.data.name=NAME.'
    )
  if builder.name in own or data.download:
    if builder.name in own:  # It takes a second.
      tfds.disable_progress_bar()
    try:
      builder.download_and_prepare()
    except OSError as error:
      raise InputError(
          f'The data set {data.name} cannot be prepared in '
          f'{builder.data_path}: {error}. Give a folder that can be written '
          'to with --config.data.data_dir=DIR.'
      ) from error
  elif not builder.data_path.exists():
    # DIR/name/version, or DIR/name/config/version.
    where = builder.data_path.parents[2 if builder.builder_config else 1]
    raise InputError(
        f'The data set {data.name} is not prepared in {where}. Prepare it with '
        f'"tfds build {data.name} --data_dir={where}", or let this command '
        'download it with --config.data.download=True; if it is elsewhere, say '
        'where with --config.data.data_dir=DIR.'
    )
  return builder


def _own_builders() -> tuple[str, ...]:
  """Registers this project's builders with TFDS, and returns their names."""
  # pylint: disable=g-import-not-at-top
  from impactx_jax.data import digits
  from impactx_jax.data import shapes

  return digits.Digits.name, shapes.Shapes.name


def _unknown(name: str, own: tuple[str, ...], tfds) -> InputError:
  """Says so without the over a thousand names of TFDS."""
  known = [*own, 'image_folder', *tfds.list_builders()]
  message = str(unknown_choice('data set', name, known, '--config.data.name'))
  return InputError(message.replace(
      f'Allowed: {", ".join(sorted(known))}.', f'Allowed: {DATA_SETS}.'
  ))


def _unusable(name: str, error: Exception, tfds) -> InputError:
  """For a name that TFDS knows, with a config or version it does not."""
  family, _, variant = name.partition('/')
  try:
    configs = tfds.builder_cls(family).builder_configs
  except (tfds.core.DatasetNotFoundError, ValueError, ImportError):
    configs = {}
  if variant and configs and variant not in configs:
    return unknown_choice(
        'data set', name, [f'{family}/{config}' for config in configs],
        '--config.data.name',
    )
  return InputError(
      f'The data set {name!r} cannot be used: {str(error).splitlines()[0]} '
      f'Allowed: {DATA_SETS}. Change it with --config.data.name=NAME or '
      'NAME/CONFIG.'
  )


def _folder_builder(data):
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  if not data.data_dir:
    raise InputError(
        'image_folder needs the folder of your pictures: give it with '
        f'--config.data.data_dir=FOLDER, laid out as {FOLDER_LAYOUT}.'
    )
  folder = epath.Path(data.data_dir).expanduser()
  if not folder.is_dir():
    raise InputError(
        f'There is no folder {folder}. Change it with '
        f'--config.data.data_dir=FOLDER, laid out as {FOLDER_LAYOUT}.'
    )
  builder = tfds.folder_dataset.ImageFolder(str(folder))
  # A split is there as soon as it has folders of classes, be they empty.
  if not any(split.num_examples for split in builder.info.splits.values()):
    raise InputError(
        f'{folder} holds no pictures where they are looked for; the layout is '
        f'{FOLDER_LAYOUT} (png or jpeg).'
    )
  return builder


def _columns(builder, split: str, data) -> Columns:
  """Reads one split into memory."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  folder = data.name == 'image_folder'
  config = tfds.ReadConfig(add_tfds_id=not folder)
  shape = builder.info.features['image'].shape
  resize = None in shape[:2]
  size = tuple(data.image_size)

  def prepare(example):
    kept = {
        'id': example['image/filename' if folder else 'tfds_id'],
        'image': example['image'],
        'label': example['label'],
    }
    if 'mask' in example:
      kept['mask'] = example['mask']
    if resize:
      image = tf.image.resize(
          example['image'], size, method='bilinear', antialias=True
      )
      kept['image'] = tf.cast(
          tf.clip_by_value(tf.round(image), 0, 255), tf.uint8
      )
    return kept

  try:
    dataset = builder.as_dataset(
        split=split, shuffle_files=False, read_config=config
    )
    dataset = dataset.map(
        prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    rows = list(tfds.as_numpy(dataset.prefetch(tf.data.AUTOTUNE)))
  except tf.errors.OpError as error:
    if folder and (broken := _broken_picture(builder, split)):
      raise InputError(
          f'The picture {broken} cannot be read. Mend or remove it.'
      ) from error
    # TensorFlow puts the names of its graph before the reason.
    reason = error.message.splitlines()[0].rsplit(': ', 1)[-1]
    raise InputError(
        f'The split {split!r} of {data.name} cannot be read ({reason}). '
        f'Prepare the data set in {builder.data_path} again.'
    ) from error
  if not rows:
    raise InputError(f'The split {split!r} of {data.name} has no examples.')
  columns = {
      name: np.stack([row[name] for row in rows])
      for name in rows[0]
      if name != 'id'
  }
  columns['label'] = columns['label'].astype(np.int32)
  ids = [row['id'].decode() for row in rows]
  if folder:
    # Split, class and file name: an id that survives moving the folder.
    ids = ['/'.join([split, *epath.Path(name).parts[-2:]]) for name in ids]
  columns['id'] = np.array(ids)
  return columns


def _broken_picture(builder, split: str) -> str | None:
  """Returns the first picture of a folder's split that is damaged."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  encoded = builder.as_dataset(
      split=split, decoders={'image': tfds.decode.SkipDecoding()}
  )
  for example in encoded:
    try:
      builder.info.features['image'].decode_example(example['image'])
    except tf.errors.OpError:
      return example['image/filename'].numpy().decode()
  return None


def _rows(columns: Columns, chosen: np.ndarray) -> Columns:
  return {name: column[chosen] for name, column in columns.items()}
