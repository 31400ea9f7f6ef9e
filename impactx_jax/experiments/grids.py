"""Grids of trials: read from a file, drawn from, applied to a config."""

import importlib.util
import pathlib
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from ml_collections import ConfigDict
import numpy as np
from sklearn import model_selection

STAGES = ('classifier', 'impactx')


def installed() -> dict[str, pathlib.Path]:
  """Returns the files of the installed sweeps by name."""
  from impactx_jax.configs import sweeps

  return {
      path.stem: path
      for folder in sweeps.__path__
      for path in sorted(pathlib.Path(folder).glob('*.py'))
      if path.stem != '__init__'
  }


def load(name: str) -> tuple[str, list[dict[str, Any]]]:
  """Reads a sweep.

  Args:
    name: Of a file, or of an installed sweep.

  Returns:
    The stage that is trained, and the trials: {field: value}, in the order of
    the grid.

  Raises:
    InputError: for a sweep that cannot be read.
  """
  if not pathlib.Path(name).is_file():
    if name not in installed():
      error = unknown_choice('sweep', name, installed(), '--sweep')
      raise InputError(f'{error} A path to a file of your own works as well.')
    name = str(installed()[name])
  try:
    spec = importlib.util.spec_from_file_location('sweep', name)
    if spec is None:
      raise ValueError('it is no .py file')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sweep = module.get_sweep()
    stage = sweep['stage']
    trials = list(model_selection.ParameterGrid(sweep['grid']))
    if not trials:
      raise ValueError('the grid is empty')
  except Exception as error:  # Whatever the user's file raises.
    raise InputError(
        f'The sweep in {name} cannot be read: {type(error).__name__}: {error}. '
        "It must define get_sweep() that returns {'stage': 'classifier' or "
        "'impactx', 'grid': {'section.field': [values]}}."
    ) from error
  if stage not in STAGES:
    raise unknown_choice("stage of a sweep", stage, STAGES, '--sweep')
  return stage, [_plain(trial) for trial in trials]


def _plain(trial: dict[str, Any]) -> dict[str, Any]:
  """NumPy's numbers as Python's, which configs and JSON take."""
  return {
      field: value.item() if isinstance(value, np.generic) else value
      for field, value in trial.items()
  }


def choose(count: int, wanted: int, seed: int) -> list[int]:
  """Returns which trials of the grid are run; more of them include fewer."""
  if wanted < 0:
    raise InputError(
        f'--trials={wanted}: give a number of trials, or 0 for all.'
    )
  order = np.random.default_rng(seed).permutation(count)
  return sorted(order[: wanted or count].tolist())


def config_of(config: ConfigDict, fields: dict[str, Any]) -> ConfigDict:
  """Returns the config with the fields of a trial.

  Raises:
    InputError: for a field that no config has, or a value of another type.
  """
  config = config.copy_and_resolve_references()
  for path, value in fields.items():
    section = config
    *sections, name = path.split('.')
    for part in sections:
      known = isinstance(section, ConfigDict) and part in section
      section = section[part] if known else None
    if not isinstance(section, ConfigDict) or name not in section:
      raise InputError(
          f'The grid has the field {path!r}, which no config has. Mend the '
          'file given with --sweep; configs/common.py has all fields.'
      )
    try:
      if value is None:
        raise TypeError('None is no value of any field')
      section[name] = value
    except TypeError as error:
      raise InputError(
          f'The grid gives {path} the value {value!r}: {error}. Mend the file '
          'given with --sweep.'
      ) from error
  return config
