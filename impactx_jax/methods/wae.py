"""WAE: weighted averages of SHAP maps as a second input.

What is known of the method for certain is that an encoder adds to the
classifier's features what it sees in weighted averages of Shapley-value maps.
This is our reading of it: the average of the maps of all classes, weighted by
the probabilities that the explained classifier, A, gives them, and scaled as
IMPACTX's maps are. It needs SHAP for every test image.
"""

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax import losses
from impactx_jax import models
from impactx_jax.methods import base
from impactx_jax.methods import second_branch
from impactx_jax.models import impactx as networks
import jax
import jax.numpy as jnp


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


def create(config, task: base.Task) -> base.Method:
  """Builds the encoder and C around the frozen M.

  Args:
    config: The whole config; `config.model` and `config.method` are read.
    task: The data's shapes, and the stage-one classifier.
  """
  options = config.method
  network = ExplanationClassifier(
      networks.LatentExplanationPredictor(
          models.create_trunk(config.model),
          options.lep_units,
          models.find(config.model.name).pool,
      ),
      task.num_classes,
  )

  init_branch, apply = second_branch.create(config, task, network)

  def init(rng):
    shape = base.map_shape(options, task.image_shape)
    return init_branch(rng, jnp.zeros((1, *shape)))

  def loss(params, collections, batch, rng):
    logits, collections = apply(
        params, collections, batch['image'], batch['map'], rng
    )
    values = losses.cross_entropy(logits, batch['label'])
    metrics = base.mean_metrics(
        loss=values, accuracy=logits.argmax(-1) == batch['label']
    )
    return values.mean(), base.Aux(collections, metrics)

  def predict(variables, images, maps):
    logits, _ = apply(
        variables['params'], variables['collections'], images, maps
    )
    return base.Prediction(logits)

  return base.Method(init, loss, predict, predicts_from_maps=True)


def check(config) -> None:
  """Raises InputError for a control of maps, which WAE classifies with."""
  if config.method.maps != 'true_class':
    raise InputError(
        f'config.method.maps is {config.method.maps!r}, but wae is trained on '
        'the maps of all classes, and classifies test images with them. Leave '
        "it at 'true_class', with --config.method.maps=true_class, or train "
        'impactx with it.'
    )
