"""Everything about a config that can be refused before any work."""

from attribution import maskers
from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import evaluate
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import train
import numpy as np

OUTPUTS = ('probability', 'logit')


def check(config) -> None:
  """Raises InputError for a config that cannot be run, before any work."""
  models.check(config.model)
  methods.check(config.method)
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
  evaluate.explainer(
      lambda images: images,
      attribution,
      evaluate.masking(attribution, np.zeros((1, 1, 1, 1), np.uint8)),
  )
  evaluation = config.evaluation
  for path, value, least in (
      ('attribution.max_evals', attribution.max_evals, 3),
      ('attribution.batch_size', attribution.batch_size, 2),
      ('attribution.images_per_step', attribution.images_per_step, 0),
      ('attribution.num_examples', attribution.num_examples, 0),
      ('attribution.shard_size', attribution.shard_size, 1),
      ('method.map_channels', config.method.map_channels, 0),
      ('evaluation.batch_size', evaluation.batch_size, 1),
      ('evaluation.num_images', evaluation.num_images, 1),
      ('evaluation.num_panels', evaluation.num_panels, 1),
      ('evaluation.region', evaluation.region, 0),
      ('evaluation.draws', evaluation.draws, 1),
  ):
    if value < least:
      raise InputError(
          f'config.{path} is {value}; it must be {least} or more. Change it '
          f'with --config.{path}=N.'
      )
  if config.method.map_channels > 1:
    raise InputError(
        f'config.method.map_channels is {config.method.map_channels}; it must '
        'be 0 (as the explainer gives them) or 1 (their sum). Change it with '
        '--config.method.map_channels=N.'
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
  parallel.check_batch_size(training.batch_size, f'--{section}.batch_size')
  if training.schedule not in train.SCHEDULES:
    raise unknown_choice(
        'schedule', training.schedule, train.SCHEDULES, f'--{section}.schedule'
    )
  for field, least in (('epochs', 1), ('patience', 0), ('crop_padding', 0)):
    if training[field] < least:
      raise InputError(
          f'{section}.{field} is {training[field]}; it must be {least} or '
          f'more. Change it with --{section}.{field}=N.'
      )
  if not training.learning_rate > 0:
    raise InputError(
        f'{section}.learning_rate is {training.learning_rate}; it must be '
        f'above 0. Change it with --{section}.learning_rate=R.'
    )
