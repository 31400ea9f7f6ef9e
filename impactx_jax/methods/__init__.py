"""Training methods by name. A new one is one file and one line here.

Or a file of the user's own that defines METHOD, a `base.Spec`, given as
`config.method.name`.
"""

import dataclasses
import functools
import json
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import user_files
from impactx_jax.data import maps as map_data
from impactx_jax.methods import abn
from impactx_jax.methods import baseline
from impactx_jax.methods import baseline_augmented
from impactx_jax.methods import baseline_balanced
from impactx_jax.methods import baseline_continued
from impactx_jax.methods import baseline_matched
from impactx_jax.methods import baseline_pair
from impactx_jax.methods import explainer
from impactx_jax.methods import guided
from impactx_jax.methods import impactx
from impactx_jax.methods import impactx_single_stage
from impactx_jax.methods import wae
from impactx_jax.methods.base import Method as Method
from impactx_jax.methods.base import Prediction as Prediction
from impactx_jax.methods.base import Problem as Problem
from impactx_jax.methods.base import Spec as Spec
from ml_collections import ConfigDict

BASELINE = 'baseline'  # Stage one, which makes A.
CONTROL = 'impactx_lambda0'  # Two-stage IMPACTX without the explanation.
METHODS: dict[str, Spec] = {
    BASELINE: baseline.METHOD,
    'impactx': impactx.METHOD,
    'impactx_single_stage': impactx_single_stage.METHOD,
    'abn': abn.METHOD,
    'wae': wae.METHOD,
    'explainer': explainer.METHOD,
    'baseline_matched': baseline_matched.METHOD,
    **baseline_matched.CONTROLS,
    'baseline_continued': baseline_continued.METHOD,
    'baseline_pair': baseline_pair.METHOD,
    'baseline_augmented': baseline_augmented.METHOD,
    **baseline_augmented.CONTROLS,
    'baseline_balanced': baseline_balanced.METHOD,
    'guided': guided.METHOD,
    'guided_from_scratch': guided.FROM_SCRATCH,
    **guided.CONTROLS,
    **impactx.CONTROLS,
    **impactx_single_stage.CONTROLS,
}
FLAG = '--config.method.name'
# Fields that say nothing of what a method computes.
_NOT_COMPILED = {
    'method': ('name', 'training'),
    'attribution': (
        'classifier', 'workdir', 'num_examples', 'classes_per_image',
        'shard_size', 'images_per_step',
    ),
}


def find(name: str, flag: str = FLAG) -> Spec:
  """Returns a method by its name, or from a file that defines METHOD.

  Raises:
    InputError: for an unknown name, or a file that cannot be used.
  """
  if name in METHODS:
    return METHODS[name]
  if not user_files.is_file(name):
    raise unknown(name, flag)
  spec = user_files.load(name, 'METHOD', Spec, flag)
  if not callable(spec.create):
    raise InputError(
        f'The METHOD in {name} has no function create: give it '
        'create(config, problem), which returns an impactx_jax.methods.Method, '
        f'or name another file with {flag}=FILE.py.'
    )
  return spec


def unknown(name: str, flag: str = FLAG) -> InputError:
  """Returns the error for a name that is no method for stage two."""
  known = [other for other in METHODS if other != BASELINE]
  error = unknown_choice('method', name, known, flag)
  return InputError(f'{error} A file FILE.py that defines METHOD works too.')


def options() -> dict[str, Any]:
  """Returns the options of all methods, with their defaults."""
  found: dict[str, Any] = {}
  for spec in METHODS.values():
    found |= spec.options
  return found


def options_of(name: str) -> dict[str, Any]:
  """Returns the options that a method declares, with their defaults.

  Raises:
    InputError: if it declares one that `config.method` has for another
      purpose.
  """
  declared, known = find(name).options, options()
  for option, default in declared.items():
    if option in ('name', 'training') or known.get(option, default) != default:
      raise InputError(
          f'{name} declares the option {option!r}, which config.method has '
          'already, with another default. Call it otherwise in the file given '
          f'with {FLAG}, or leave it out and use the one that is there.'
      )
  return declared


def create(name: str, config: ConfigDict, problem: Problem) -> Method:
  """Builds a method by its name; the same object for equal arguments.

  What is compiled for a method is kept by it, so whatever need not be compiled
  is left out: seed, training, and the values of its scalars.

  Args:
    name: Of a method, or a file.
    config: With the sections `model`, `method` and `attribution`.
    problem: What is known of the data.
  """
  spec = find(name)
  known = {
      section: json.loads(config[section].to_json())
      for section in ('model', 'method', 'attribution')
  }
  for section, fields in _NOT_COMPILED.items():
    for field in fields:
      known[section].pop(field, None)
  for field in spec.scalars:
    known['method'][field] = float(bool(known['method'][field]))
  if not spec.explains:
    problem = dataclasses.replace(problem, examples=0, masker=Problem.masker)
  own = user_files.text(config.model.name)
  return _create(spec, json.dumps(known, sort_keys=True), own, problem)


@functools.lru_cache(maxsize=32)
def _create(spec: Spec, config: str, own: str, problem: Problem) -> Method:
  del own  # What is in a backbone of the user's: another one, another method.
  method = spec.create(ConfigDict(json.loads(config)), problem)
  if not isinstance(method, Method):
    raise InputError(
        f'create of the method {spec.title!r} returned {type(method).__name__}'
        ', and must return an impactx_jax.methods.Method.'
    )
  return method


def scalars(name: str, config: ConfigDict) -> dict[str, float]:
  """Returns the values that a method's loss is handed with each batch."""
  return {field: config.method[field] for field in find(name).scalars}


def config_of(name: str, config: ConfigDict) -> ConfigDict:
  """Returns the config with which a method is trained: a control changes it."""
  config = config.copy_and_resolve_references()
  if name != BASELINE:
    config.method.name = name
  config.method.update(find(name).changes)
  return config


def learns_maps(name: str, config: ConfigDict) -> bool:
  """Whether its decoder learns what maps look like, be they shuffled or noise.

  Not with λ = 0, which leaves it as it was, and not from edges and masks.

  Args:
    name: Of a method.
    config: As `config_of` gives it.
  """
  return scalars(name, config).get('lambda_', 1) != 0 and (
      config.method.maps not in map_data.OF_PICTURES
  )


def title(name: str) -> str:
  """Returns how tables and pictures call a method; itself if it is unknown."""
  return METHODS[name].title if name in METHODS else name
