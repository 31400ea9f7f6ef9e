"""WAE: weighted averages of SHAP maps as a second input.

What is known of the method for certain is that an encoder adds to the
classifier's features what it sees in weighted averages of Shapley-value maps.
This is our reading of it: the average of the maps of all classes, weighted by
the probabilities that the explained classifier, A, gives them, and scaled as
IMPACTX's maps are. It needs SHAP for every test image.
"""

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax import bounds
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.methods import base
from impactx_jax.methods import second_branch
from impactx_jax.models import impactx as networks
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


class ExplanationClassifier(nn.Module):
  """An encoder of maps, shaped as LEP, and one dense layer on [m; e].

  Attributes:
    encoder: Maps [B, H, W, C'] -> codes [B, units].
    num_classes: K.
  """

  encoder: nn.Module
  num_classes: int

  @nn.compact
  def __call__(
      self, maps: jax.Array, m: jax.Array, train: bool = False
  ) -> jax.Array:
    """Maps [B, H, W, C'] and M's output [B, F] -> logits [B, K]."""
    joint = jnp.concatenate([m, self.encoder(maps, train)], axis=-1)
    return nn.Dense(self.num_classes, name='classifier')(joint)


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds the encoder and C around the frozen M.

  Args:
    config: `config.model` and `config.method` are read.
    problem: What is known of the data.
  """
  options, task = config.method, tasks.TASKS[problem.task]
  network = ExplanationClassifier(
      networks.LatentExplanationPredictor(
          models.create_trunk(config.model),
          options.lep_units,
          models.find(config.model.name).pool,
      ),
      problem.num_classes,
  )
  init_branch, apply = second_branch.create(config, problem, network)

  def init(key, classifier):
    shape = base.map_shape(options, problem.image_shape)
    return init_branch(key, classifier, jnp.zeros((1, *shape)))

  def loss(params, collections, batch, key):
    logits, collections = apply(
        params, collections, batch['image'], batch['map'], key
    )
    values = task.loss(logits, batch)
    metrics = base.task_metrics(task, logits, batch)
    metrics |= base.mean_metrics(loss=values)
    return values.mean(), base.Aux(collections, metrics)

  def predict(variables, batch):
    logits, _ = apply(
        variables['params'], variables['collections'], batch['image'],
        batch['map'],
    )
    return base.Prediction(logits)

  return base.Method(task, init, loss, predict, inputs=('image', 'map'))


def check(config: ConfigDict) -> None:
  """Raises InputError for a control of maps, which WAE classifies with."""
  bounds.check(config.method, second_branch.BOUNDS, 'config.method')
  second_branch.check_classes(config)
  if config.method.maps != 'true_class':
    raise InputError(
        f'config.method.maps is {config.method.maps!r}, but wae is trained on '
        'the maps of all classes, and classifies test images with them. Leave '
        "it at 'true_class', with --config.method.maps=true_class, or train "
        'impactx with it.'
    )


METHOD = base.Spec(
    create,
    'WAE',
    options=second_branch.OPTIONS,
    check=check,
    maps=lambda options: 'weighted',
    # Its encoder sees whole maps, and no pictures.
    changes={'map_cell': 1, 'map_channels': 0},
    published=lambda options: None,
)
