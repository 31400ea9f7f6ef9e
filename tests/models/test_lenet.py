"""LeNet-5: the original's size, and two equal ways to compute it."""

from impactx_jax import models
from impactx_jax.configs import common
from impactx_jax.models import lenet
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def model_config(**changes):
  model = common.get_config().model
  model.update(changes)
  return model


def test_has_the_original_number_of_parameters():
  network = models.create_classifier(model_config(), num_classes=10)
  variables = network.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  sizes = {
      part: sum(x.size for x in jax.tree.leaves(variables['params'][part]))
      for part in ('trunk', 'head')
  }
  # conv 5x5x3x6 + 6, conv 5x5x6x16 + 16; dense 400-120-84-10 with biases.
  assert sizes == {'trunk': 456 + 2416, 'head': 48120 + 10164 + 850}
  assert sum(sizes.values()) == 62006


@pytest.mark.parametrize('activation', lenet.ACTIVATIONS)
@pytest.mark.parametrize('pooling', lenet.POOLINGS)
@pytest.mark.parametrize('shape', [(32, 32, 3), (28, 28, 1), (16, 24, 2)])
def test_fused_stage_equals_convolution_then_pooling(
    activation, pooling, shape
):
  stage = lenet.ConvPool(6, activation=activation, pooling=pooling)
  images = jax.random.uniform(jax.random.key(1), (4, *shape))
  params = stage.init(jax.random.key(2), images)
  # Fresh biases are 0, and would hide one that meets another filter.
  params['params']['bias'] = jax.random.normal(jax.random.key(3), (6,))
  fused = stage.apply(params, images)
  plain = stage.apply(params, images, fused=False)
  assert fused.shape == (4, shape[0] // 2 - 2, shape[1] // 2 - 2, 6)
  np.testing.assert_allclose(fused, plain, atol=1e-6)

  def loss(params, fused):
    return jnp.sum(jnp.sin(stage.apply(params, images, fused=fused)))

  gradients = [jax.grad(loss)(params, fused) for fused in (True, False)]
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      *gradients,
  )


def test_plain_stage_is_the_convolution_of_flax():
  from flax import linen as nn

  images = jax.random.uniform(jax.random.key(1), (2, 9, 11, 3))
  stage = lenet.ConvPool(4, activation='tanh', pooling='mean')
  params = stage.init(jax.random.key(2), images)
  reference = nn.Conv(4, (5, 5), padding='VALID').apply(params, images)
  np.testing.assert_allclose(
      stage.apply(params, images, pool=False), jnp.tanh(reference), atol=1e-5
  )
  pooled = nn.avg_pool(jnp.tanh(reference), (2, 2), (2, 2))
  # Odd sides cannot be fused; the last row and column are left out.
  np.testing.assert_allclose(stage.apply(params, images), pooled, atol=1e-5)


def test_trunk_and_head_make_the_classifier():
  config = model_config(pooling='mean', activation='tanh')
  network = models.create_classifier(config, num_classes=7)
  images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
  variables = network.init(jax.random.key(1), images)
  trunk = models.create_trunk(config)
  features = trunk.apply({'params': variables['params']['trunk']}, images)
  assert features.shape == (2, 5, 5, 16)
  head = lenet.LeNet5Head(7, activation='tanh')
  apart = head.apply({'params': variables['params']['head']}, features)
  whole = network.apply(variables, images)
  np.testing.assert_allclose(whole.logits, apart.logits, atol=1e-6)
  assert whole.logits.shape == (2, 7)
  assert whole.features.shape == (2, 84)


@pytest.mark.parametrize('pooling', lenet.POOLINGS)
def test_last_stage_of_the_stem_is_the_trunk(pooling):
  trunk = models.create_trunk(model_config(pooling=pooling, width=0.5))
  images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
  params = trunk.init(jax.random.key(1), images)
  stem = trunk.apply(params, images, method='stem')
  # Before the last pooling.
  assert stem.shape == (2, 10, 10, 8)
  np.testing.assert_allclose(
      trunk.apply(params, stem, method='last_stage'),
      trunk.apply(params, images),
      atol=1e-6,
  )


@pytest.mark.parametrize(('width', 'channels'), [
    (0.5, (3, 8, 60, 42, 16)), (2.0, (12, 32, 240, 168, 64)),
    (0.01, (1, 1, 1, 1, 1)),
])
def test_width_multiplies_the_channels_of_every_layer(width, channels):
  config = model_config(width=width)
  images = jnp.zeros((1, 32, 32, 3))
  params = models.create_classifier(config, 10).init(
      jax.random.key(0), images
  )['params']
  trunk, head = params['trunk'], params['head']
  found = [
      layer['kernel'].shape[-1]
      for layer in (
          trunk['conv1'], trunk['conv2'], head['dense1'], head['dense2']
      )
  ]
  stage = lenet.BACKBONE.attention_stage(config)
  stem = jnp.zeros((1, 10, 10, channels[1]))
  params = stage.init(jax.random.key(0), stem)['params']
  assert (*found, params['conv2']['kernel'].shape[-1]) == channels
  # The classes and the image stay as they are.
  assert head['dense3']['kernel'].shape == (channels[3], 10)
  assert trunk['conv1']['kernel'].shape == (5, 5, 3, channels[0])


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
  network = models.create_classifier(model_config(dtype='bfloat16'), 10)
  images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3))
  variables = network.init(jax.random.key(1), images)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype('float32')}
  exact = models.create_classifier(model_config(), 10).apply(variables, images)
  coarse = network.apply(variables, images)
  assert coarse.logits.dtype == jnp.float32
  difference = np.abs(coarse.logits - exact.logits).max()
  assert 0 < difference < 0.05
