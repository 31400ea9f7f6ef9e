"""Networks of Keras with random weights, saved as published files are.

No published file is needed: Keras's networks get random weights and random
statistics; fresh ones would hide mistakes.
"""

from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.models import efficientnet
from impactx_jax.models.weights import pretrained
import jax
import numpy as np
import pytest

CLASSES = 7
KERAS = {'mobilenet': 'MobileNet', 'efficientnet_b2': 'EfficientNetB2'}


def make_config(name, path=''):
  config = common.get_config()
  config.model.name = name
  config.model.pretrained = str(path)
  config.model.pretrained_head = True
  return config


def make_method(config, size, classes=CLASSES):
  return methods.create(
      methods.BASELINE, config, methods.Problem(classes, (size, size, 3))
  )


def make_keras(name, size, fresh=False, **options):
  """Keras's network, giving logits; unless fresh, no weight is at 0 or 1."""
  import keras

  network = getattr(keras.applications, KERAS[name])(
      weights=None,
      **{
          'input_shape': (size, size, 3), 'classes': CLASSES,
          'classifier_activation': None, **options,
      },
  )
  if fresh:
    return network
  generator = np.random.default_rng(0)
  for layer in network.layers:
    if isinstance(layer, keras.layers.Normalization):
      mean, std = map(np.array, (efficientnet.MEAN, efficientnet.STD))
      layer.set_weights([mean, std**2, layer.get_weights()[2]])
      layer.finalize_state()
    elif isinstance(layer, keras.layers.BatchNormalization):
      size = len(layer.get_weights()[0])
      layer.set_weights([
          generator.uniform(0.7, 1.3, size), generator.normal(0, 0.2, size),
          generator.normal(0, 0.2, size), generator.uniform(0.5, 1.5, size),
      ])
  return network


def assert_trees_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope='module')
def small_mobilenet(tmp_path_factory):
  """A MobileNet of a quarter of the width, saved; and the config for it."""
  path = tmp_path_factory.mktemp('weights') / 'small.h5'
  make_keras('mobilenet', 32, alpha=0.25).save(path)
  config = make_config('mobilenet', path)
  config.model.width = 0.25
  return config


def start_of(name, config, leave=()):
  problem = methods.Problem(CLASSES, (32, 32, 3), examples=4)
  shapes = methods.create(name, config, problem).shapes(
      make_method(config, 32).shapes()
  )
  fresh = jax.tree.map(lambda x: np.full(x.shape, 9, x.dtype), shapes)
  own = methods.find(name).published(config.method)
  return pretrained.start(config.model, fresh, leave=(*own, *leave))
