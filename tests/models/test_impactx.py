"""LEP, decoder and final classifier: shapes, sizes, and what is refused."""

from attribution.errors import InputError
from impactx_jax.models import impactx
from impactx_jax.models import lenet
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(
    'shape, start, blocks',
    [
        ((32, 32, 3), 8, 2),
        ((96, 96, 3), 12, 3),
        ((28, 28, 1), 7, 2),
        ((16, 24, 2), 8, 1),
        ((8, 8, 3), 8, 0),
    ],
)
def test_decoder_reaches_its_shape(shape, start, blocks):
  assert impactx.decoder_blocks(*shape[:2], start) == blocks
  decoder = impactx.Decoder(shape, start=start, filters=16)
  code = jnp.zeros((2, 5))
  params = decoder.init(jax.random.key(0), code)['params']
  assert decoder.apply({'params': params}, code).shape == (2, *shape)
  assert sum('_conv1' in name for name in params) == blocks


def test_decoder_has_the_layers_of_the_paper_at_32_pixels():
  params = impactx.Decoder((32, 32, 3)).init(
      jax.random.key(0), jnp.zeros((1, 512))
  )['params']
  kernels = {name: part['kernel'].shape for name, part in params.items()}
  assert kernels == {
      'expand': (512, 8 * 8 * 64),
      'block1_conv1': (3, 3, 64, 64),
      'block1_conv2': (3, 3, 64, 64),
      'block2_conv1': (3, 3, 64, 32),
      'block2_conv2': (3, 3, 32, 32),
      'map': (3, 3, 32, 3),
  }


@pytest.mark.parametrize(
    'size, start', [((30, 30), 8), ((32, 32), 7), ((32, 30), 8), ((4, 4), 8)]
)
def test_a_map_that_doubling_cannot_reach_is_refused(size, start):
  with pytest.raises(InputError, match='decoder_start|image_size'):
    impactx.decoder_blocks(*size, start)


def test_decoder_map_is_unbounded_and_code_is_a_sigmoid():
  network = impactx.ImpactX(
      lep=impactx.LatentExplanationPredictor(lenet.LeNet5Trunk(), units=12),
      decoder=impactx.Decoder((32, 32, 1), filters=8),
      num_classes=4,
  )
  images = jax.random.uniform(jax.random.key(0), (3, 32, 32, 3))
  m = jax.random.normal(jax.random.key(1), (3, 4))
  variables = network.init(jax.random.key(2), images, m)
  logits, maps = network.apply(variables, images, m)
  assert logits.shape == (3, 4) and maps.shape == (3, 32, 32, 1)
  assert maps.min() < 0 < maps.max()
  lep = impactx.LatentExplanationPredictor(lenet.LeNet5Trunk(), units=12)
  code = lep.apply({'params': variables['params']['lep']}, images)
  assert code.shape == (3, 12)
  assert code.min() > 0 and code.max() < 1
  # C is one dense layer on the concatenation [m; z].
  weights = variables['params']['classifier']
  joint = np.concatenate([m, code], axis=1)
  np.testing.assert_allclose(
      logits, joint @ weights['kernel'] + weights['bias'], atol=1e-5
  )
