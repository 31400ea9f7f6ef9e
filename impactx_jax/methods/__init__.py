"""Training methods by name. A new one is one file and one line here."""

from collections.abc import Callable
import functools

from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import losses
from impactx_jax.methods import baseline
from impactx_jax.methods import impactx
from impactx_jax.methods.base import Method
from impactx_jax.methods.base import Prediction as Prediction
from impactx_jax.methods.base import Task

METHODS: dict[str, Callable[..., Method]] = {
    'baseline': baseline.create,
    'impactx': impactx.create,
    'impactx_lambda0': functools.partial(impactx.create, explanation=False),
}


def create(name: str, config, task: Task) -> Method:
  """Builds a method by its name; see `base.Method`."""
  return METHODS[name](config, task)


def check(method) -> None:
  """Raises InputError for a `config.method` that cannot be built."""
  choices = {
      'name': ('method', METHODS),
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
