"""A alone: the stage-one classifier, and the baseline of every comparison."""

from collections.abc import Callable
from typing import Any

from attribution import explainers
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.methods import base
import jax
from ml_collections import ConfigDict


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds A, trained with the task's loss (IMPACTX, section 3.3, stage one).

  Args:
    config: `config.model` is read.
    problem: What is known of the data.
  """
  task = tasks.TASKS[problem.task]
  network = models.create_classifier(config.model, problem.num_classes)

  def init(key, classifier=None):
    del classifier
    variables = dict(network.init(key, base.zeros(problem)))
    return variables.pop('params'), variables

  def loss(params, collections, batch, key):
    scores, collections = network.apply(
        {'params': params, **collections},
        batch['image'],
        train=True,
        mutable=list(collections),
        rngs={'dropout': key},
    )
    values = task.loss(scores.logits, batch)
    metrics = base.task_metrics(task, scores.logits, batch)
    metrics |= base.mean_metrics(loss=values)
    return values.mean(), base.Aux(collections, metrics)

  def predict(variables, batch):
    scores = network.apply(base.flax_variables(variables), batch['image'])
    return base.Prediction(scores.logits)

  return base.Method(
      task, init, loss, predict, layers=layers(network),
      linear=linear(network),
  )


def layers(
    network: models.Classifier, layer: str = 'trunk'
) -> explainers.Layers:
  """Cuts a classifier: images -> features at a layer, and these -> logits.

  Args:
    network: In inference mode; of variables {'params', 'collections'}.
    layer: As `cut` takes it.
  """
  features, scores = cut(network, layer)
  return explainers.Layers(
      lambda variables, images: features(
          base.flax_variables(variables), images
      ),
      lambda variables, x: scores(base.flax_variables(variables), x).logits,
  )


def linear(network: models.Classifier) -> explainers.Layers | None:
  """Returns what the explainer b_cos needs; None of no B-cos network."""
  explained = models.dynamic_linear(network)
  return explained and layers(explained, 'input')


def cut(
    network: models.Classifier, layer: str = 'trunk'
) -> tuple[Callable[..., jax.Array], Callable[..., models.Scores]]:
  """Cuts a classifier in two functions, in inference mode.

  Args:
    network: A models.Classifier.
    layer: One of its backbone's `layers`; by default between trunk and head.

  Returns:
    (variables, images) -> features [B, h, w, F], and (variables, features) ->
    models.Scores, of variables as Flax takes them.
  """

  def features(variables, images):
    return network.apply(variables, images, layer, method='until')

  def scores(variables, features):
    return network.apply(variables, features, layer, method='after')

  return features, scores


def from_variables(
    config: ConfigDict, num_classes: int
) -> Callable[[Any, jax.Array], models.Scores]:
  """Returns M as a function (variables, images) -> models.Scores.

  M is in inference mode and gets no gradient: neither its parameters nor its
  statistics move (IMPACTX, section 3.3, stage two).
  """
  network = models.create_classifier(config.model, num_classes)

  def scores(variables, images):
    variables = jax.lax.stop_gradient(variables)
    return network.apply(base.flax_variables(variables), images)

  return scores


METHOD = base.Spec(create, 'A', from_scratch=True)
