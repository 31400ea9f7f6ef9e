"""Trained networks, restored from what their training left."""

from typing import Any

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.evaluation.explaining import Network
from impactx_jax.stages.artefact import Artefact
from impactx_jax.training import checkpoints



def restore(trained: Artefact, step: int | None = None) -> Network:
  """Restores a trained network.

  Args:
    trained: Of A, or of a method.
    step: Of its front; None for the best checkpoint.

  Returns:
    The method, and the variables.

  Raises:
    InputError: if its training is not finished.
  """
  summary = trained.load()
  if summary is None:
    raise InputError(f'{trained.directory} holds no finished training.')
  config = configs.read(trained.directory)
  name = config.method.name
  if trained.directory.name == artefact.CLASSIFIER:
    name = methods.BASELINE
  problem = problem_of(summary['data'])
  classifier = None
  if not methods.find(name).from_scratch:
    baseline = methods.create(methods.BASELINE, config, problem)
    classifier = baseline.shapes()
  method = methods.create(name, config, problem)
  if step is None:
    step = summary['best_step']
  variables = checkpoints.restore_variables(
      trained.directory, step, method.shapes(classifier)
  )
  return method, variables


def problem_of(data: dict[str, Any], **training: Any) -> methods.Problem:
  """Returns what a method must know of the data.

  Args:
    data: The fingerprint of the data set.
    **training: What only training needs, `examples` and `masker`.
  """
  return methods.Problem(
      num_classes=len(data['class_names']),
      image_shape=tuple(data['image_shape']),
      task=data['task'],
      **training,
  )
