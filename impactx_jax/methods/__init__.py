"""Training methods by name. A new one is one file and one line here."""

import dataclasses

from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import losses
from impactx_jax.methods import abn
from impactx_jax.methods import baseline
from impactx_jax.methods import impactx
from impactx_jax.methods import impactx_single_stage
from impactx_jax.methods import second_branch
from impactx_jax.methods import wae
from impactx_jax.methods.base import Entry
from impactx_jax.methods.base import Method
from impactx_jax.methods.base import Prediction as Prediction
from impactx_jax.methods.base import Task

BASELINE = 'baseline'  # Stage one, which makes A.
CONTROL = 'impactx_lambda0'  # Two-stage IMPACTX without the explanation.

TWO_STAGE = Entry(
    impactx.create,
    'true_class',
    control=CONTROL,
    about=(
        "IMPACTX's map is a prediction, learned from maps of the true class; "
        "where the predicted class is wrong it may be another class's."
    ),
)
SINGLE_STAGE = Entry(
    impactx_single_stage.create,
    from_scratch=True,
    control='impactx_single_stage_lambda0',
    about=TWO_STAGE.about,
    check=impactx_single_stage.check,
)


def _variant(entry: Entry, **changes) -> Entry:
  return dataclasses.replace(entry, changes=changes)


METHODS: dict[str, Entry] = {
    BASELINE: Entry(baseline.create, from_scratch=True),
    'impactx': TWO_STAGE,
    'impactx_single_stage': SINGLE_STAGE,
    'abn': Entry(
        abn.create,
        from_scratch=True,
        about='The map of ABN is what the network attends to.',
        check=abn.check,
    ),
    # Its encoder sees whole maps, and no pictures.
    'wae': Entry(
        wae.create,
        'weighted',
        changes={'map_cell': 1, 'map_channels': 0},
        pretrained=False,
        check=wae.check,
    ),
    # Controls: does the explanation help, or only the second branch?
    'baseline_matched': Entry(
        impactx.matched_baseline, from_scratch=True, pretrained=False
    ),
    CONTROL: _variant(TWO_STAGE, lambda_=0.0),
    'impactx_shuffled': _variant(TWO_STAGE, maps='shuffled'),
    'impactx_random': _variant(TWO_STAGE, maps='random'),
    'impactx_other_class': _variant(TWO_STAGE, maps='other_class'),
    'impactx_single_stage_lambda0': _variant(SINGLE_STAGE, lambda_=0.0),
}


def create(name: str, config, task: Task) -> Method:
  """Builds a method by its name; see `base.Method`."""
  return METHODS[name].create(config, task)


def config_of(name: str, config):
  """Returns the config with which a method is trained: a control changes it."""
  config = config.copy_and_resolve_references()
  if name != BASELINE:
    config.method.name = name
  config.method.update(METHODS[name].changes)
  return config


def maps_of(config) -> str:
  """Returns which maps `config.method` trains on, '' for none."""
  needed = METHODS[config.method.name].maps
  if needed == 'true_class' and config.method.maps == 'other_class':
    return 'other_class'
  return needed


def about_map(name: str, config) -> str:
  """Says what a trained method's own map is, for those who look at it."""
  entry, method = METHODS[name], config_of(name, config).method
  if entry.control and not (method.lambda_ and method.maps == 'true_class'):
    return (
        'This map is of a control, whose decoder has not learned the maps of '
        'the true class.'
    )
  return entry.about


def training_section(name: str) -> str:
  """Returns whose training a method follows: 'classifier' or 'method'."""
  return 'classifier' if METHODS[name].from_scratch else 'method'


def check(config) -> None:
  """Raises InputError for a `config.method` that cannot be built."""
  method = config.method
  choices = {
      'name': ('method', [name for name in METHODS if name != BASELINE]),
      'm_output': ("output of M", second_branch.M_OUTPUTS),
      'lep_init': ('initialisation of LEP', impactx.LEP_INITS),
      'map_scaling': ('map scaling', losses.MAP_SCALINGS),
      'maps': ('control of the maps', impactx.MAPS),
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
      ('classifier_hidden', 0), ('map_cell', 1), ('refresh_every', 1),
      ('refresh_evals', 3),
  ):
    if method[field] < least:
      raise InputError(
          f'config.method.{field} is {method[field]}; it must be {least} or '
          f'more. Change it with --config.method.{field}=N.'
      )
  if check_method := METHODS[method.name].check:
    check_method(config)
