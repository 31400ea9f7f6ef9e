"""Backbones by name, and how to build them from a config.

A new backbone is one file with a trunk and a head, and one line here.
"""

from attribution.errors import InputError
from attribution.errors import unknown_choice
from flax import linen as nn
from impactx_jax.models import lenet
from impactx_jax.models.base import Backbone
from impactx_jax.models.base import Classifier
import jax.numpy as jnp

BACKBONES: dict[str, Backbone] = {
    'lenet5': Backbone(lenet.LeNet5Trunk, lenet.LeNet5Head, min_size=16),
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def check(model, image_shape: tuple[int, int, int] | None = None) -> None:
  """Raises InputError for a `config.model` that cannot be built.

  Args:
    model: The config's section.
    image_shape: (H, W, C) of the images, when it is known.
  """
  choices = {
      'name': ('backbone', BACKBONES),
      'activation': ('activation', lenet.ACTIVATIONS),
      'pooling': ('pooling', lenet.POOLINGS),
      'dtype': ('dtype', DTYPES),
  }
  for field, (what, allowed) in choices.items():
    if model[field] not in allowed:
      raise unknown_choice(
          what, model[field], allowed, f'--config.model.{field}'
      )
  smallest = BACKBONES[model.name].min_size
  if image_shape is not None and min(image_shape[:2]) < smallest:
    raise InputError(
        f'{model.name} needs images of at least {smallest}x{smallest} pixels, '
        f'but these have {image_shape[0]}x{image_shape[1]}. Choose another '
        'backbone with --config.model.name=NAME, or for your own pictures a '
        'larger --config.data.image_size.'
    )


def create_trunk(model) -> nn.Module:
  """Returns the trunk that `config.model` describes."""
  return BACKBONES[model.name].trunk(
      activation=model.activation,
      pooling=model.pooling,
      dtype=DTYPES[model.dtype],
  )


def create_classifier(model, num_classes: int) -> Classifier:
  """Returns the classifier that `config.model` describes."""
  head = BACKBONES[model.name].head(
      num_classes=num_classes,
      activation=model.activation,
      dtype=DTYPES[model.dtype],
  )
  return Classifier(trunk=create_trunk(model), head=head)
