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

  features, scores = cut(network)

  layers = explainers.Layers(
      lambda variables, images: features(
          base.flax_variables(variables), images
      ),
      lambda variables, x: scores(base.flax_variables(variables), x).logits,
  )
  return base.Method(task, init, loss, predict, layers=layers)


def cut(
    network: models.Classifier,
) -> tuple[Callable[..., jax.Array], Callable[..., models.Scores]]:
  """Cuts a classifier between trunk and head: two functions for Grad-CAM.

  Args:
    network: A models.Classifier.

  Returns:
    (variables, images) -> features [B, h, w, F], and (variables, features) ->
    models.Scores, of variables as Flax takes them.
  """

  def features(variables, images):
    return network.apply(variables, images, method=lambda net, x: net.trunk(x))

  def scores(variables, features):
    return network.apply(variables, features, method=lambda net, x: net.head(x))

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
