"""Data sets as tensorflow-datasets has them: found and prepared."""

import contextlib
import io
import sys
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import tasks
from impactx_jax import user_files
from ml_collections import ConfigDict
import numpy as np

DATA_SETS = (
    'digits, shapes, image_folder, and any image-classification data set of '
    'tensorflow-datasets, such as cifar10; ground and mosaic, made of one'
)
FLAG = '--config.data.name'
FOLDER_LAYOUT = 'FOLDER/train/CLASS/PICTURE.png and FOLDER/test/CLASS/…'


def find(data: ConfigDict) -> Any:
  """Returns the prepared TFDS builder of `config.data`.

  Raises:
    InputError: if it is unknown, not prepared, or not of images with a class.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  if data.name == 'image_folder':
    return _folder_builder(data)
  own = _own_builders()
  try:
    builder = _make(data)
  except tfds.core.DatasetNotFoundError as error:
    raise _unknown(data.name, own, tfds) from error
  # TFDS raises an AssertionError for an unknown version, and an ImportError
  # for a data set that needs a package of its own.
  except (ValueError, KeyError, AssertionError, ImportError) as error:
    if isinstance(error, InputError):
      raise
    raise _unusable(data.name, error, tfds) from error
  if user_files.is_file(data.name):
    own = (*own, builder.name)
  task_of(builder, data)
  features = builder.info.features
  kind = np.dtype(features['image'].np_dtype)
  if kind != np.uint8:
    raise InputError(
        f'The images of {data.name} are {kind}, and images of uint8 are what '
        'is read here. Choose another with --config.data.name=NAME, or give '
        'them as pictures with --config.data.name=image_folder.'
    )
  if builder.name in own and not builder.data_path.exists():
    _find_source(builder, data)
  if builder.name in own or data.download:
    if builder.name in own:  # It takes a second.
      tfds.disable_progress_bar()
    quiet = io.StringIO() if builder.name in own else sys.stdout
    try:
      with contextlib.redirect_stdout(quiet):
        builder.download_and_prepare()
    except OSError as error:
      if builder.data_path.exists():  # Another process was faster.
        return _make(data)
      raise InputError(
          f'The data set {data.name} cannot be prepared in '
          f'{builder.data_path}: {error}. Give a folder that can be written '
          'to with --config.data.data_dir=DIR.'
      ) from error
  elif not builder.data_path.exists():
    raise InputError(
        f'The data set {data.name} is not prepared in {_root(builder)}. Let '
        'this command download and prepare it there with '
        '--config.data.download=True; if it is elsewhere, say where with '
        '--config.data.data_dir=DIR.'
    )
  return builder


def _make(data):
  """Returns the builder that `config.data` names, prepared or not."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  options = {'data_dir': data.data_dir} if data.data_dir else {}
  family, _, source = data.name.partition('/')
  if family == 'mosaic' and source:  # Whatever it is, where others have a list.
    return _mosaic_of(source, options)
  if not user_files.is_file(data.name):
    return tfds.builder(data.name, **options)
  with user_files.blamed(data.name, 'builder', FLAG):
    found = builder_class(data.name)
    # TFDS takes what was prepared under the same name and version for the
    # same: another content of the file has a folder of its own.
    own = f'{user_files.stem(data.name)}-{user_files.digest(data.name)[:12]}'
    return found(data_dir=str(_root(found(**options)) / own))


def _mosaic_of(source: str, options: dict[str, str]) -> Any:
  from impactx_jax.data import mosaic  # pylint: disable=g-import-not-at-top

  config = mosaic.config_of(source)
  if config.name in mosaic.Mosaic.builder_configs:
    config = config.name
  return mosaic.Mosaic(config=config, **options)


def _find_source(builder: Any, data: ConfigDict) -> None:
  """Finds the data set that another one is made of, where it is made of one."""
  source = getattr(builder.builder_config, 'source', '')
  if not source:
    return
  wanted = ConfigDict({**data.to_dict(), 'name': source, 'task': ''})
  try:
    builder.found = find(wanted)
  except InputError as error:
    raise InputError(f'{data.name} is made of {source}. {error}') from error


def _root(builder) -> epath.Path:
  """Returns DIR, of DIR/name/version or DIR/name/config/version."""
  return builder.data_path.parents[2 if builder.builder_config else 1]


def builder_class(path: str) -> type:
  """Returns the TFDS builder that a file of the user's own defines."""
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  with tfds.core.registered.skip_registration():
    found = user_files.load(path, 'BUILDER', type, FLAG)
  if not issubclass(found, tfds.core.DatasetBuilder):
    raise InputError(
        f'The BUILDER in {path} is {found.__name__}, which is no builder of '
        'tensorflow-datasets: derive it from tfds.core.GeneratorBasedBuilder, '
        f'or name another file with {FLAG}=FILE.py.'
    )
  return found


def task_of(builder: Any, data: ConfigDict) -> str:
  """Returns the task that a data set has the columns for.

  Args:
    builder: Of TFDS.
    data: `config.data`; its `task` is checked, or '' for what there is.

  Raises:
    InputError: for a data set whose columns do not fit the task.
  """
  features = builder.info.features
  fitting = [
      name
      for name, task in tasks.TASKS.items()
      if 'image' in features
      and classes_of(labels_feature(features, task.labels))
  ]
  if not fitting or (data.task and data.task not in fitting):
    wanted: dict[str, list[str]] = {}
    for name in [data.task] if data.task else tasks.TASKS:
      wanted.setdefault(tasks.TASKS[name].labels, []).append(name)
    needed = ' or '.join(
        f'{labels} (of the task {" or ".join(names)})'
        for labels, names in wanted.items()
    )
    raise InputError(
        f'{data.name} does not fit: it has the features '
        f'{", ".join(features)}, and needs image and {needed}, with the names '
        'of the classes. Choose another with --config.data.name=NAME'
        + (', or another task with --config.data.task=NAME.' if fitting
           else '.')
    )
  return data.task or fitting[0]


def objects_of(features: Any) -> Any:
  """Returns the feature `objects`, of a box and a class each; None without.

  As voc and coco have it.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  found = {**features}.get('objects')
  if not isinstance(found, tfds.features.Sequence):
    return None
  inside = found.feature
  if not isinstance(inside, tfds.features.FeaturesDict):
    return None
  return found if {'label', 'bbox'} <= {*inside} else None


def labels_feature(features: Any, name: str) -> Any:
  """Returns the feature of `label` or `labels`; None where there is none.

  The labels of a data set with `objects` and without `labels` are theirs.
  """
  if name in features:
    return features[name]
  objects = objects_of(features)
  return objects.feature['label'] if objects and name == 'labels' else None


def classes_of(feature: Any) -> tuple[str, ...]:
  """Returns the names of the classes of a feature with one label, or several.

  Args:
    feature: Of TFDS.

  Returns:
    [K]; () where it is none of class labels.
  """
  import tensorflow_datasets as tfds  # pylint: disable=g-import-not-at-top

  while isinstance(feature, tfds.features.Sequence):
    feature = feature.feature
  if isinstance(feature, tfds.features.ClassLabel):
    return tuple(feature.names)
  return ()


def _own_builders() -> tuple[str, ...]:
  """Registers this project's builders with TFDS, and returns their names."""
  # pylint: disable=g-import-not-at-top
  from impactx_jax.data import digits
  from impactx_jax.data import ground
  from impactx_jax.data import mosaic
  from impactx_jax.data import shapes

  return (
      digits.Digits.name, shapes.Shapes.name, ground.Ground.name,
      mosaic.Mosaic.name,
  )


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
