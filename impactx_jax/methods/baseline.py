"""A alone: the stage-one classifier, and the baseline of every comparison."""

from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import models
from impactx_jax.methods import base
import jax


def create(config, task: base.Task) -> base.Method:
  """Builds A, trained with cross-entropy (IMPACTX, section 3.3, stage one).

  Args:
    config: The whole config; `config.model` is read.
    task: The data's shapes.
  """
  network = models.create_classifier(config.model, task.num_classes)

  def init(rng):
    variables = dict(network.init(rng, base.zeros(task)))
    return variables.pop('params'), variables

  def loss(params, collections, batch, rng):
    scores, collections = network.apply(
        {'params': params, **collections},
        batch['image'],
        train=True,
        mutable=list(collections),
        rngs={'dropout': rng},
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

  def layers(variables):
    features, scores = cut(
        network, {'params': variables['params'], **variables['collections']}
    )
    return features, lambda x: scores(x).logits

  return base.Method(init, loss, predict, layers=layers)


def cut(network, variables):
  """Cuts a classifier between trunk and head: two functions for Grad-CAM.

  Args:
    network: A models.Classifier.
    variables: Its variables, as Flax takes them.

  Returns:
    Images -> features [B, h, w, F], and features -> models.Scores.
  """

  def features(images):
    return network.apply(variables, images, method=lambda net, x: net.trunk(x))

  def scores(features):
    return network.apply(variables, features, method=lambda net, x: net.head(x))

  return features, scores


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


def widened(config, task: base.Task, parameters: int):
  """Returns the config of an A with about so many parameters.

  Args:
    config: The whole config; its `model.width` is what changes.
    task: The data's shapes.
    parameters: To be met as closely as whole channels allow.

  Raises:
    InputError: if the backbone does not heed `model.width`.
  """
  def count(width):
    wide = config.copy_and_resolve_references()
    wide.model.width = width
    return num_parameters(create(wide, task))

  low, high = 0.01, 64.0
  if count(low) == count(high):
    raise InputError(
        f'The backbone {config.model.name!r} has the same size whatever '
        'config.model.width is, so it cannot be matched to the size of '
        'IMPACTX. Let its trunk and head read model.width, or leave '
        'baseline_matched out.'
    )
  for _ in range(20):
    middle = (low + high) / 2
    low, high = (middle, high) if count(middle) < parameters else (low, middle)
  wide = config.copy_and_resolve_references()
  wide.model.width = min(
      (low, high), key=lambda width: abs(count(width) - parameters)
  )
  return wide


def num_parameters(method: base.Method) -> int:
  """Counts what a method trains."""
  params, _ = jax.eval_shape(method.init, jax.random.key(0))
  return sum(leaf.size for leaf in jax.tree.leaves(params))
