"""Trained networks, restored from a workdir."""

from typing import Any

from attribution.errors import InputError
from etils import epath
from impactx_jax import checkpoints
from impactx_jax import methods
from impactx_jax import rng
from impactx_jax import workdirs
from impactx_jax.methods import base
from impactx_jax.methods.base import Task
import jax


def network(
    workdir: epath.Path, name: str
) -> tuple[methods.Method, dict[str, Any]]:
  """Restores a trained network: 'classifier', or a method's name.

  Args:
    workdir: Of the run.
    name: The stage's folder.

  Returns:
    The method, and the variables of its best checkpoint.

  Raises:
    InputError: if it was not trained there.
  """
  directory = workdir / name
  config = workdirs.read_config(directory)
  summary = workdirs.read_summary(directory)
  if summary is None:
    raise InputError(f'{directory} holds no finished training.')
  if name == 'classifier':
    name = methods.BASELINE
  classifier = None
  if not methods.METHODS[name].from_scratch:
    home = config.classifier.workdir
    _, classifier = network(
        workdirs.open_workdir(home) if home else workdir, 'classifier'
    )
  task = Task(
      num_classes=len(summary['data']['class_names']),
      image_shape=tuple(summary['data']['image_shape']),
      classifier=classifier,
      examples=summary['examples']['train'],
  )
  method = methods.create(name, config, task)
  variables = checkpoints.restore_variables(
      directory, summary['best_step'], shapes(method)
  )
  return method, variables


def shapes(method: methods.Method) -> dict[str, Any]:
  """Returns the shapes of a method's variables, without computing them."""
  params, collections = jax.eval_shape(method.init, rng.stream(0, 'init'))
  return {'params': params, 'collections': base.without_scratch(collections)}
