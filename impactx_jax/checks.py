"""Everything about a config that can be refused before any work."""

from attribution import explainers
from attribution import maskers
from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import teachers
from impactx_jax import train
from impactx_jax.configs import common
from impactx_jax.data import maps as map_data
from impactx_jax.methods import impactx
from impactx_jax.models.impactx import decoder_blocks
from ml_collections import ConfigDict
import numpy as np

OUTPUTS = ('probability', 'logit')


def check(config) -> None:
  """Raises InputError for a config that cannot be run, before any work."""
  check_fields(config)
  models.check(config.model)
  methods.check(config)
  for section in ('classifier', 'method'):
    check_training(config[section].training, f'config.{section}.training')
  attribution = config.attribution
  flag = '--config.attribution'
  if attribution.explained_output not in OUTPUTS:
    raise unknown_choice(
        'output to explain', attribution.explained_output, OUTPUTS,
        f'{flag}.explained_output',
    )
  maskers.check(attribution.masker, attribution.blur_kernel)
  # Building an explainer checks the options that it takes; nothing is run.
  teachers.explainer(
      lambda images: images,
      attribution,
      teachers.masking(attribution, np.zeros((1, 1, 1, 1), np.uint8)),
  )
  if not 0 <= attribution.mask_value <= 1:
    raise InputError(
        f'config.attribution.mask_value is {attribution.mask_value}; it must '
        'lie between 0 and 1. Change it with '
        '--config.attribution.mask_value=V.'
    )
  size = tuple(config.data.image_size)
  if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
    raise InputError(
        f'config.data.image_size is {size}; it must be (height, width) in '
        'pixels. Change it with --config.data.image_size="(H, W)".'
    )
  if config.data.train_split == config.data.test_split:
    raise InputError(
        f'config.data.train_split and test_split are both '
        f'{config.data.test_split!r}: what is tested would have been trained '
        'on. Change it with --config.data.test_split=NAME, or leave that out '
        'for data with one split, of which a share is held out.'
    )
  evaluation = config.evaluation
  for path, value, least in (
      ('seed', config.seed, 0),
      ('attribution.max_evals', attribution.max_evals, 3),
      ('attribution.batch_size', attribution.batch_size, 2),
      ('attribution.images_per_step', attribution.images_per_step, 0),
      ('attribution.num_examples', attribution.num_examples, 0),
      ('attribution.shard_size', attribution.shard_size, 1),
      ('method.map_channels', config.method.map_channels, 0),
      ('evaluation.batch_size', evaluation.batch_size, 1),
      ('evaluation.num_images', evaluation.num_images, 1),
      ('evaluation.close_images', evaluation.close_images, 1),
      ('evaluation.reference_evals', evaluation.reference_evals, 3),
      ('evaluation.num_panels', evaluation.num_panels, 1),
      ('evaluation.region', evaluation.region, 0),
      ('evaluation.draws', evaluation.draws, 1),
  ):
    if value < least:
      raise InputError(
          f'config.{path} is {value}; it must be {least} or more. Change it '
          f'with --config.{path}=N.'
      )
  if not evaluation.noise >= 0:
    raise InputError(
        f'config.evaluation.noise is {evaluation.noise}; it must be 0 or more. '
        'Change it with --config.evaluation.noise=S.'
    )
  for name in evaluation.explainers:
    if name not in explainers.EXPLAINERS:
      raise unknown_choice(
          'explainer', name, explainers.EXPLAINERS,
          '--config.evaluation.explainers',
      )
  if config.method.map_channels > 1:
    raise InputError(
        f'config.method.map_channels is {config.method.map_channels}; it must '
        'be 0 (as the explainer gives them) or 1 (their sum). Change it with '
        '--config.method.map_channels=N.'
    )
  if not 0 < config.data.label_fraction <= 1:
    raise InputError(
        f'config.data.label_fraction is {config.data.label_fraction}; it must '
        'be above 0 and at most 1. Change it with '
        '--config.data.label_fraction=F.'
    )
  for field in ('validation_fraction', 'test_fraction'):
    if not 0 < config.data[field] < 1:
      raise InputError(
          f'config.data.{field} is {config.data[field]}; it must lie between 0 '
          f'and 1. Change it with --config.data.{field}=F.'
      )


def check_training(training, section: str) -> None:
  """Raises InputError for a training section that cannot be run.

  Args:
    training: The config section.
    section: Its name, such as 'config.classifier.training'.
  """
  if training.schedule not in train.SCHEDULES:
    raise unknown_choice(
        'schedule', training.schedule, train.SCHEDULES, f'--{section}.schedule'
    )
  for field, least in (
      ('batch_size', 1), ('epochs', 1), ('patience', 0), ('crop_padding', 0)
  ):
    if training[field] < least:
      raise InputError(
          f'{section}.{field} is {training[field]}; it must be {least} or '
          f'more. Change it with --{section}.{field}=N.'
      )
  if not 0 <= training.warmup <= 1:
    raise InputError(
        f'{section}.warmup is {training.warmup}; it must lie between 0 and 1. '
        f'Change it with --{section}.warmup=F.'
    )
  if not training.learning_rate > 0:
    raise InputError(
        f'{section}.learning_rate is {training.learning_rate}; it must be '
        f'above 0. Change it with --{section}.learning_rate=R.'
    )


def check_fields(config, known=None, path: str = 'config') -> None:
  """Raises InputError unless a config has the fields of `common.get_config`.

  The command line cannot set another field, but a recipe can, by a slip of
  the pen, and the config of an old workdir can lack one.
  """
  known = common.get_config() if known is None else known
  if not isinstance(config, ConfigDict):
    raise InputError(
        f'{path} is {config!r}, and must be a ConfigDict, as '
        'configs/common.py makes it. Change the recipe given with --config.'
    )
  for name in config:
    if name not in known:
      raise unknown_choice(
          'config field', f'{path}.{name}', [f'{path}.{n}' for n in known],
          '--config=FILE or --config.FIELD',
      )
  for name, value in known.items():
    if name not in config:
      raise InputError(
          f'The config has no field {path}.{name}. Begin the recipe with '
          'config = common.get_config(), of impactx_jax.configs, which has '
          'them all, and give it with --config=FILE.'
      )
    if config[name] is None:
      raise InputError(
          f'{path}.{name} is None, which is no value of any field. Change it '
          'in the recipe given with --config=FILE.'
      )
    if isinstance(value, ConfigDict):
      check_fields(config[name], value, f'{path}.{name}')


def check_devices(config, sections) -> None:
  """Raises InputError for a batch that does not divide among the devices.

  Args:
    config: The whole config.
    sections: Whose training is to come: 'classifier', 'method'.
  """
  for section in sections:
    parallel.check_batch_size(
        config[section].training.batch_size,
        f'--config.{section}.training.batch_size',
    )


def check_sizes(config, data, todo) -> None:
  """Raises InputError for sizes that do not suit the data.

  Args:
    config: The whole config.
    data: The fingerprint of the data set.
    todo: Of each training to come, whose section it follows, 'classifier' or
      'method', and whether it is on the images that have maps alone.
  """
  name = config.method.name
  if name.startswith('impactx'):
    check_cells(config.method, data['image_shape'])
    check_decoder(config.method, data['image_shape'])
  images = data['examples']['train']
  mapped = map_data.share(
      config.attribution.num_examples,
      images,
      images + data['examples']['validation'],
  )
  for section, on_maps in todo:
    batch_size = config[section].training.batch_size
    count = mapped if on_maps else images
    if batch_size > count:
      raise InputError(
          f'A batch of {batch_size} examples is more than the {count} there '
          'are to train on. Lower it with '
          f'--config.{section}.training.batch_size=N'
          + (
              ', or make more maps with --config.attribution.num_examples=N.'
              if on_maps
              else '.'
          )
      )


def check_cells(options, image_shape) -> None:
  """Raises InputError for cells that do not divide the image."""
  height, width = image_shape[:2]
  cell = options.map_cell
  if height % cell or width % cell:
    raise InputError(
        f'config.method.map_cell is {cell}, which does not divide images of '
        f'{height}x{width} pixels. Change it with --config.method.map_cell=N.'
    )


def check_decoder(options, image_shape) -> None:
  """Raises InputError for a decoder that cannot reach the image's size."""
  cells = [side // options.map_cell for side in image_shape[:2]]
  decoder_blocks(*cells, impactx.decoder_start(options, image_shape[0]))
