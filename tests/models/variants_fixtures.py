"""Networks of every backbone and variant, small and with their variables."""

from impactx_jax import models
from impactx_jax.configs import common
from impactx_jax.models import resnet
import jax
import pytest

NETWORKS = [
    (name, variant)
    for name, backbone in models.BACKBONES.items()
    for variant in backbone.variants
    if len(backbone.variants) > 1
]
CLASSES = 4


@pytest.fixture
def one_block(monkeypatch):
  """Leaves one block a stage of ResNet-20, which compiles three times faster.

  For what holds of any depth.
  """
  monkeypatch.setattr(resnet, 'BLOCKS', 1)


def model_config(name, variant, **changes):
  model = common.get_config().model
  model.update({'name': name, 'variant': variant, **changes})
  if variant == 'b_cos':
    model.pooling = 'mean'
  return model


def make(name, variant, side=32, **changes):
  """Returns a network of quarter width, and its fresh variables."""
  model = model_config(name, variant, **{'width': 0.25, **changes})
  network = models.create_classifier(model, CLASSES)
  return network, network.init(jax.random.key(0), make_images(1, side))


def make_images(count=3, side=32):
  return jax.random.uniform(jax.random.key(7), (count, side, side, 3))
