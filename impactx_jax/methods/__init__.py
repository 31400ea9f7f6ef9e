"""Training methods by name. A new one is one file and one line here."""

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
CONTROL = 'impactx_lambda0'  # The same network without the explanation.


METHODS: dict[str, Entry] = {
    BASELINE: Entry(baseline.create, from_scratch=True),
    'impactx': Entry(impactx.create, 'true_class'),
    'impactx_single_stage': Entry(
        impactx_single_stage.create, from_scratch=True
    ),
    'abn': Entry(abn.create, from_scratch=True),
    # Its encoder sees maps, not pictures.
    'wae': Entry(wae.create, 'weighted', pretrained=False),
    # Controls: does the explanation help, or only the second branch?
    'baseline_matched': Entry(
        impactx.matched_baseline, from_scratch=True, pretrained=False
    ),
    CONTROL: Entry(impactx.create, 'true_class', changes={'lambda_': 0.0}),
    'impactx_shuffled': Entry(
        impactx.create, 'true_class', changes={'maps': 'shuffled'}
    ),
    'impactx_random': Entry(
        impactx.create, 'true_class', changes={'maps': 'random'}
    ),
    'impactx_other_class': Entry(
        impactx.create, 'other_class', changes={'maps': 'other_class'}
    ),
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
  method = config_of(name, config).method
  if name == 'abn':
    return 'The map of ABN is what the network attends to.'
  if method.lambda_ and method.maps == 'true_class':
    return (
        "IMPACTX's map is a prediction, learned from maps of the true class; "
        "where the predicted class is wrong it may be another class's."
    )
  return (
      'This map is of a control, whose decoder has not learned the maps of the '
      'true class.'
  )


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
  if method.name == 'abn':
    abn.check(config)
  if method.name == 'impactx_single_stage':
    impactx_single_stage.check(config)
