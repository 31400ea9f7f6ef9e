"""A learned explainer of a network that stays as it is: D alone, no C.

Its class is A's own, so its accuracy is A's to the last image; what it learns
is to predict, in one pass, the maps that `config.attribution` makes of A.
"""

from attribution import explainers
from attribution.errors import InputError
from attribution.maskers import BLUR
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import impactx
from impactx_jax.methods import second_branch
from impactx_jax.models import decoders
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

SEES = ('features', 'gradient')
CLASSES = ('one', 'all')
OPTIONS = {
    # What D sees of A: its 'features', or one backward pass as well, the
    # 'gradient' of the explained output times what a blurred image lacks.
    'explainer_sees': 'gradient',
    # 'all': D has a map for each class, learned at the explained one and read
    # at the predicted one or any other; 'one' has one map.
    'explainer_classes': 'all',
} | {
    name: impactx.OPTIONS[name]
    for name in (
        'maps', 'map_scaling', 'map_channels', 'map_cell', 'decoder_start',
        'decoder_filters',
    )
}
BOUNDS: bounds.Bounds = {
    'explainer_sees': bounds.Choice('view of the decoder', SEES),
    'explainer_classes': bounds.Choice('classes of the decoder', CLASSES),
} | {name: impactx.BOUNDS[name] for name in OPTIONS if name in impactx.BOUNDS}


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds D beside a frozen A.

  Args:
    config: `model`, `method` and `attribution` are read.
    problem: What is known of the data.
  """
  options, task = config.method, tasks.TASKS[problem.task]
  classifier = models.create_classifier(config.model, problem.num_classes)
  height, width, channels = base.map_shape(options, problem.image_shape)
  cell = options.map_cell
  count = problem.num_classes if options.explainer_classes == 'all' else 1
  network = decoders.FeatureDecoder(
      (height // cell, width // cell, channels * count),
      impactx.decoder_start(options, height),
      options.decoder_filters,
  )

  def scores(a, images):
    logits = classifier.apply(a, images).logits
    if config.attribution.explained_output == 'probability':
      return task.probabilities(logits)
    return logits

  def views(a, images, classes=None):
    a = jax.lax.stop_gradient(base.flax_variables(a))
    stem = classifier.apply(a, images, method=lambda net, x: net.trunk.stem(x))
    features = classifier.apply(
        a, stem, method=lambda net, x: net.trunk.last_stage(x)
    )
    found = classifier.apply(a, features, method=lambda net, x: net.head(x))
    if classes is None:
      classes = task.top(found.logits)
    gradient = None
    if options.explainer_sees == 'gradient':
      slope = jax.grad(
          lambda x: _at(scores(a, x), classes).sum()
      )(images)
      gradient = slope * (images - BLUR.background(images))
      gradient = losses.pool(gradient.sum(axis=-1, keepdims=True), cell)
      gradient = losses.scale_maps(gradient, 'max_abs')
    seen = jnp.concatenate(
        [found.features, task.probabilities(found.logits)], axis=-1
    )
    return decoders.Views(stem, features, seen, gradient), found, classes

  def cells_of(params, a, images, classes=None):
    seen, found, classes = views(a, images, classes)
    cells = network.apply({'params': params}, seen)
    if count > 1:
      cells = cells.reshape(*cells.shape[:3], channels, count)
      cells = jnp.take_along_axis(
          cells, classes[:, None, None, None, None], axis=-1
      )[..., 0]
    return cells, found.logits

  def init(key, a):
    a = jax.tree.map(jnp.asarray, a)
    seen, _, _ = views(a, base.zeros(problem))
    return network.init(key, seen)['params'], {second_branch.FROZEN: a}

  def loss(params, collections, batch, key):
    del key
    cells, logits = cells_of(
        params, collections[second_branch.FROZEN], batch['image'],
        batch['explained'],
    )
    mse = losses.map_mse(cells, losses.pool(batch['map'], cell))
    metrics = base.task_metrics(task, logits, batch)
    metrics |= base.mean_metrics(loss=mse, map_mse=mse)
    return mse.mean(), base.Aux(collections, metrics)

  def predict(variables, batch):
    cells, logits = cells_of(
        variables['params'], variables['collections'][second_branch.FROZEN],
        batch['image'],
    )
    return base.Prediction(logits, losses.spread(cells, cell))

  def map_of(variables, batch, classes):
    cells, _ = cells_of(
        variables['params'], variables['collections'][second_branch.FROZEN],
        batch['image'], classes,
    )
    return losses.spread(cells, cell)

  def of_a(variables):
    a = variables['collections'][second_branch.FROZEN]
    return base.flax_variables(a)

  a_features, a_scores = baseline.cut(classifier)
  layers = explainers.Layers(
      lambda variables, images: a_features(of_a(variables), images),
      lambda variables, x: a_scores(of_a(variables), x).logits,
  )
  return base.Method(
      task, init, loss, predict, map_of=map_of, layers=layers
  )


def _at(values: jax.Array, classes: jax.Array) -> jax.Array:
  return jnp.take_along_axis(values, classes[:, None], axis=-1)[:, 0]


def check(config: ConfigDict) -> None:
  """Raises InputError for a `config.method` of which it cannot be made."""
  bounds.check(config.method, BOUNDS, 'config.method')
  if models.find(config.model.name).attention_stage is None:
    raise InputError(
        f'The backbone {config.model.name} has no stem, whose features the '
        'decoder of the method explainer is to see. Give its trunk the methods '
        'stem and last_stage, and its BACKBONE an attention_stage, or choose '
        'another with --config.model.name=NAME.'
    )


def about(options: ConfigDict) -> str:
  """Says what a trained network's own map is."""
  del options
  return (
      "This map is a prediction of the explainer's; the class is that of the "
      'network that is explained, which is as it was.'
  )


METHOD = base.Spec(
    create,
    'A, learned explainer',
    options=OPTIONS,
    check=check,
    check_data=impactx.check_data,
    maps=lambda options: 'true_class',
    about=about,
    published=lambda options: None,
)
