"""The stages in order; each can be run alone, and what is complete is kept."""

import functools

from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import methods
from impactx_jax import models
from impactx_jax.models.weights import files as weight_files
from impactx_jax.models.weights import pretrained
from impactx_jax.stages import checks
from impactx_jax.stages import configs
from impactx_jax.stages import evaluate
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
from impactx_jax.stages.classifier import train_classifier
from impactx_jax.stages.maps import make_maps
from impactx_jax.stages.method import train_method
from impactx_jax.stages.method import train_methods
from impactx_jax.stages.runs import Run
from ml_collections import ConfigDict

STAGES = ('all', 'classifier', 'maps', 'impactx', 'evaluate')


def run(
    config: ConfigDict | None, workdir: epath.PathLike, stage: str = 'all'
) -> None:
  """Runs one stage, or all of them in order.

  Args:
    config: A config like `configs/common.py`'s; None for that of the workdir.
    workdir: Where everything goes.
    stage: One of STAGES; 'impactx' trains `config.method.name`.

  Raises:
    InputError: for anything that the user gave and can mend.
  """
  if stage not in STAGES:
    raise unknown_choice('stage', stage, STAGES, '--stage')
  resolved = run_lib.resolve(config, workdir)
  check(resolved, stage)
  stages = {
      'classifier': train_classifier,
      'maps': make_maps,
      'impactx': train_methods,
      'evaluate': functools.partial(evaluate.evaluate, again=stage != 'all'),
  }
  for name, run_stage in stages.items():
    if stage in ('all', name):
      run_stage(resolved)


def train(resolved: Run, name: str) -> None:
  """Trains one method, and before it what it needs, unless it is there.

  Args:
    resolved: The run.
    name: Of the method; the baseline for the classifier alone.
  """
  train_classifier(resolved)
  if name != methods.BASELINE:
    make_maps(resolved)
    train_method(resolved, name)


def check(resolved: Run, stage: str) -> None:
  """Refuses, before any work, what a training to come cannot handle.

  Args:
    resolved: The run.
    stage: One of STAGES.

  Raises:
    InputError: for sizes or a file of weights that do not fit.
  """
  config, todo = resolved.config, []
  trains = resolved.trains_classifier and not resolved.classifier.load()
  if trains and stage in ('all', 'classifier'):
    todo.append(methods.BASELINE)
  name = config.method.name
  if stage in ('all', 'impactx') and not resolved.trained(name).load():
    todo.append(name)
  checks.check_trainings(config, None, todo)
  if todo and not (resolved.workdir / configs.CONFIG).exists():
    _check_pretrained(resolved)
  summary = resolved.classifier.load()
  if summary or methods.BASELINE in todo:
    data = summary['data'] if summary else _fingerprint(resolved)
    methods.find(name).check_data(config, data)
    checks.check_trainings(config, data, todo)


def _check_pretrained(resolved: Run) -> None:
  """Refuses a file of weights that is not of the backbone."""
  config = resolved.config
  if config.model.pretrained in models.AT_RANDOM:
    return
  weight_files.read(config.model.pretrained)  # Before the data are.
  problem = trained.problem_of(_fingerprint(resolved))
  classifier = methods.create(methods.BASELINE, config, problem)
  pretrained.start(config.model, classifier.shapes())


def _fingerprint(resolved: Run):
  return run_lib.dataset(resolved).fingerprint()
