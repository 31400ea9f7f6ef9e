"""Data sets as tensorflow-datasets has them: found, prepared, and read."""

from concurrent import futures
import contextlib
import hashlib
import io
import sys
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import pictures
import numpy as np

Columns = dict[str, np.ndarray]
DATA_SETS = (
    'digits, shapes, image_folder, and any image-classification data set of '
    'tensorflow-datasets, such as cifar10'
)
FOLDER_LAYOUT = 'FOLDER/train/CLASS/PICTURE.png and FOLDER/test/CLASS/…'


def find(data):
  """Returns the prepared TFDS builder of `config.data`.

  Raises:
    InputError: if it is unknown, not prepared, or not of images with a class.
  """
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
  kind = np.dtype(features['image'].np_dtype)
  if kind != np.uint8:
    raise InputError(
        f'The images of {data.name} are {kind}, and images of uint8 are what '
        'is read here. Choose another with --config.data.name=NAME, or give '
        'them as pictures with --config.data.name=image_folder.'
    )
  if builder.name in own or data.download:
    if builder.name in own:  # It takes a second.
      tfds.disable_progress_bar()
    quiet = io.StringIO() if builder.name in own else sys.stdout
    try:
      with contextlib.redirect_stdout(quiet):
        builder.download_and_prepare()
    except OSError as error:
      if builder.data_path.exists():  # Another process was faster.
        return tfds.builder(data.name, **options)
      raise InputError(
          f'The data set {data.name} cannot be prepared in '
          f'{builder.data_path}: {error}. Give a folder that can be written '
          'to with --config.data.data_dir=DIR.'
      ) from error
  elif not builder.data_path.exists():
    # DIR/name/version, or DIR/name/config/version.
    where = builder.data_path.parents[2 if builder.builder_config else 1]
    raise InputError(
        f'The data set {data.name} is not prepared in {where}. Let this '
        'command download and prepare it there with '
        '--config.data.download=True; if it is elsewhere, say where with '
        '--config.data.data_dir=DIR.'
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


def read(builder, split: str, data) -> Columns:
  """Reads one split into memory.

  Args:
    builder: From `find`.
    split: Its name.
    data: `config.data`.

  Returns:
    `id` str [N], `image` uint8 [N, H, W, C], `label` int32 [N], and where the
    data set has them `mask`, and `file_digest` str [N].

  Raises:
    InputError: if it is empty, or an example cannot be read.
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


def _examples(builder, split: str, data) -> list[dict[str, Any]]:
  """Returns the examples of a prepared data set, resized if sizes vary."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  resize = None in builder.info.features['image'].shape[:2]
  size = tuple(data.image_size)

  def prepare(example):
    kept = {
        'id': example['tfds_id'],
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
