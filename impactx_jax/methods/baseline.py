"""A alone: the stage-one classifier, and the baseline of every comparison."""

from impactx_jax import losses
from impactx_jax import models
from impactx_jax.methods import base
import jax
import jax.numpy as jnp


def create(config, task: base.Task) -> base.Method:
  """Builds A, trained with cross-entropy (IMPACTX, section 3.3, stage one).

  Args:
    config: The whole config; `config.model` is read.
    task: The data's shapes.
  """
  network = models.create_classifier(config.model, task.num_classes)

  def init(rng):
    images = jnp.zeros((1, *task.image_shape), jnp.float32)
    variables = dict(network.init(rng, images))
    return variables.pop('params'), variables

  def loss(params, collections, batch, rng):
    del rng
    scores, collections = network.apply(
        {'params': params, **collections},
        batch['image'],
        train=True,
        mutable=list(collections),
    )
    values = losses.cross_entropy(scores.logits, batch['label'])
    accuracy = scores.logits.argmax(-1) == batch['label']
    metrics = base.mean_metrics(loss=values, accuracy=accuracy)
    return values.mean(), base.Aux(collections, metrics)

  def predict(variables, images):
    scores = network.apply(
        {'params': variables['params'], **variables['collections']}, images
    )
    return base.Prediction(scores.logits)

  return base.Method(init, loss, predict)


def from_variables(config, num_classes: int):
  """Returns M as a function (variables, images) -> models.Scores.

  M is in inference mode and gets no gradient: neither its parameters nor its
  statistics move (IMPACTX, section 3.3, stage two).
  """
  network = models.create_classifier(config.model, num_classes)

  def scores(variables, images):
    variables = jax.lax.stop_gradient(variables)
    return network.apply(
        {'params': variables['params'], **variables['collections']}, images
    )

  return scores
