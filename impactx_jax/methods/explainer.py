"""A learned explainer of a network that stays as it is: D alone, no C.

Its class is A's own, so its accuracy is A's to the last image; what it learns
is to predict, in one pass, the maps that `config.attribution` makes of A.
"""

from attribution import explainers
from attribution.errors import InputError
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import decoding
from impactx_jax.methods import impactx
from impactx_jax.methods import second_branch
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

OPTIONS = decoding.OPTIONS | {
    name: second_branch.OPTIONS[name]
    for name in ('maps', 'map_scaling', 'map_channels', 'map_cell')
}
BOUNDS: bounds.Bounds = {
    name: second_branch.BOUNDS[name]
    for name in OPTIONS if name in second_branch.BOUNDS
}
SEES, CLASSES = 'gradient', 'all'  # Where the config does not say.


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds D beside a frozen A.

  Args:
    config: `model`, `method` and `attribution` are read.
    problem: What is known of the data.
  """
  options, task = config.method, tasks.TASKS[problem.task]
  decoder = decoding.create(config, problem, sees=SEES, classes=CLASSES)
  scores = baseline.from_variables(config, problem.num_classes)

  def forward(params, a, images, classes=None):
    logits = scores(a, images).logits
    classes = task.top(logits) if classes is None else classes
    cells = decoder.module.apply(
        {'params': params}, decoder.see(a, images, classes)
    )
    return logits, decoder.read(cells, a, images, classes)

  def init(key, a):
    a = jax.tree.map(jnp.asarray, a)
    seen = decoder.see(a, base.zeros(problem), jnp.zeros(1, jnp.int32))
    return decoder.module.init(key, seen)['params'], {second_branch.FROZEN: a}

  def loss(params, collections, batch, key):
    del key
    logits, cells = forward(
        params, collections[second_branch.FROZEN], batch['image'],
        batch['explained'],
    )
    mse = losses.map_mse(cells, losses.pool(batch['map'], options.map_cell))
    metrics = base.task_metrics(task, logits, batch)
    metrics |= base.mean_metrics(loss=mse, map_mse=mse)
    return mse.mean(), base.Aux(collections, metrics)

  def predict(variables, batch):
    logits, cells = forward(
        variables['params'], variables['collections'][second_branch.FROZEN],
        batch['image'],
    )
    return base.Prediction(logits, losses.spread(cells, options.map_cell))

  def map_of(variables, batch, classes):
    _, cells = forward(
        variables['params'], variables['collections'][second_branch.FROZEN],
        batch['image'], classes,
    )
    return losses.spread(cells, options.map_cell)

  def of_a(variables):
    a = variables['collections'][second_branch.FROZEN]
    return base.flax_variables(a)

  a_features, a_scores = baseline.cut(
      models.create_classifier(config.model, problem.num_classes)
  )
  layers = explainers.Layers(
      lambda variables, images: a_features(of_a(variables), images),
      lambda variables, x: a_scores(of_a(variables), x).logits,
  )
  return base.Method(
      task, init, loss, predict, map_of=map_of, layers=layers,
      parts={'M': impactx.PARTS['M'], 'D': (('params',),)},
  )


def check(config: ConfigDict) -> None:
  """Raises InputError for a `config.method` of which it cannot be made."""
  bounds.check(config.method, BOUNDS, 'config.method')
  decoding.check(config, SEES)
  if config.method.decoder_sees == 'code':
    raise InputError(
        "config.method.decoder_sees is 'code', and explainer has no LEP whose "
        'code its decoder could see. Take features or gradient with '
        '--config.method.decoder_sees=NAME, or train impactx.'
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
    check_data=decoding.check_data,
    maps=lambda options: 'true_class',
    about=about,
    published=lambda options: None,
)
