"""Training methods by name. A new one is one file and one line here."""

from collections.abc import Callable
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import losses
from impactx_jax.methods import baseline
from impactx_jax.methods import impactx
from impactx_jax.methods.base import Method
from impactx_jax.methods.base import Prediction as Prediction
from impactx_jax.methods.base import Task

BASELINE = 'baseline'  # Stage one, which makes A.
CONTROL = 'impactx_lambda0'  # The same network without the explanation.
METHODS: dict[str, Callable[[Any, Task], Method]] = {
    BASELINE: baseline.create,
    'impactx': impactx.create,
    CONTROL: impactx.create,
}


def create(name: str, config, task: Task) -> Method:
  """Builds a method by its name; see `base.Method`."""
  return METHODS[name](config, task)


def config_of(name: str, config):
  """Returns the config with which a method of stage two is trained."""
  config = config.copy_and_resolve_references()
  config.method.name = name
  if name == CONTROL:
    config.method.lambda_ = 0.0
  return config


def check(method) -> None:
  """Raises InputError for a `config.method` that cannot be built."""
  choices = {
      'name': ('method', [name for name in METHODS if name != BASELINE]),
      'm_output': ("output of M", impactx.M_OUTPUTS),
      'lep_init': ('initialisation of LEP', impactx.LEP_INITS),
      'map_scaling': ('map scaling', losses.MAP_SCALINGS),
  }
  for field, (what, allowed) in choices.items():
    if method[field] not in allowed:
      raise unknown_choice(
          what, method[field], allowed, f'--config.method.{field}'
      )
  if not method.lambda_ >= 0:  # A NaN too.
    raise InputError(
        f'The weight of the explanation is {method.lambda_}; it must be 0 or '
        'more. Change it with --config.method.lambda_=W.'
    )
  for field, least in (
      ('lep_units', 1), ('decoder_start', 1), ('decoder_filters', 1),
      ('classifier_hidden', 0),
  ):
    if method[field] < least:
      raise InputError(
          f'config.method.{field} is {method[field]}; it must be {least} or '
          f'more. Change it with --config.method.{field}=N.'
      )
