"""B-cos layers: their values by hand, and the linear map that they are."""

import functools
import math

from attribution import explainers
from flax import linen as nn
from impactx_jax import models
from impactx_jax.methods import baseline
from impactx_jax.models import b_cos
from impactx_jax.models import lenet
from impactx_jax.models.b_cos import BCos
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from tests.models import variants_fixtures
from tests.models.variants_fixtures import CLASSES
from tests.models.variants_fixtures import make
from tests.models.variants_fixtures import make_images

one_block = variants_fixtures.one_block
pytestmark = pytest.mark.usefixtures('one_block')
RNG = np.random.default_rng(0)


def by_hand(x, kernel, exponent, stride=1, pad=0):
  """A layer as matrices: its output, and the rows of its linear map.

  Args:
    x: [H, W, C].
    kernel: [k, k, C, 2 F].
    exponent: B.
    stride: Down and across.
    pad: Zeros on each side.

  Returns:
    [h, w, F], and [h w F, H W C].
  """
  side, _, channels, twice = kernel.shape
  height, width = x.shape[:2]
  kernel = kernel / np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
  places = np.pad(
      np.arange(x.size).reshape(x.shape), ((pad, pad), (pad, pad), (0, 0)),
      constant_values=-1,
  )
  filters, rows = twice // 2, []
  shape = [(n + 2 * pad - side) // stride + 1 for n in (height, width)]
  for i, j in np.ndindex(*shape):
    i, j = stride * i, stride * j
    seen = places[i : i + side, j : j + side].ravel()
    patch = np.where(seen < 0, 0, x.ravel()[seen])
    norm = math.sqrt((patch**2).sum() + 1e-6)
    for f in range(filters):
      weight = max(
          (kernel[..., g].ravel() for g in (f, f + filters)),
          key=lambda w, patch=patch: w @ patch,
      )
      cosine = abs(weight @ patch) / norm
      if exponent != 2:
        cosine += 1e-6
      row = np.zeros(x.size)
      row[seen[seen >= 0]] = weight[seen >= 0]
      rows.append(
          row * cosine ** (exponent - 1) * 100 / (side * math.sqrt(channels))
      )
  matrix = np.array(rows)
  return (matrix @ x.ravel()).reshape(*shape, filters), matrix


@pytest.mark.parametrize('exponent', [1.5, 2.0, 3.0])
@pytest.mark.parametrize(('side', 'stride', 'pad'), [
    (1, 1, 0), (3, 1, 0), (3, 1, 1), (3, 2, 1), (5, 1, 0),
])
def test_a_layer_is_what_it_is_by_hand(side, stride, pad, exponent):
  x = RNG.normal(size=(7, 8, 3))
  layer = b_cos.BCosConv(
      4, BCos(exponent), side, stride, ((pad, pad), (pad, pad))
  )
  variables = layer.init(jax.random.key(0), x[None])
  kernel = np.asarray(variables['params']['kernel'], np.float64)
  assert kernel.shape == (side, side, 3, 8)
  expected, _ = by_hand(x, kernel, exponent, stride, pad)
  np.testing.assert_allclose(
      layer.apply(variables, x[None])[0], expected, rtol=1e-3, atol=1e-4
  )


class Two(nn.Module):
  """Two layers on [x, 1 - x], the mean over all places."""

  b_cos: BCos
  dtype: str = 'float32'

  def setup(self):
    pad = ((1, 1), (1, 1))
    self.first = b_cos.BCosConv(3, self.b_cos, 3, 1, pad, self.dtype)
    self.second = b_cos.BCosConv(2, self.b_cos, 3, 2, dtype=self.dtype)

  def __call__(self, encoded):
    return self.second(self.first(encoded)).mean(axis=(1, 2))


def encode(variables, images):
  del variables
  return b_cos.encode(images)


def two(exponent, explain):
  """Variables; and the network cut before its first layer."""
  net = Two(BCos(exponent, explain))
  variables = net.init(jax.random.key(1), jnp.zeros((1, 6, 5, 4)))
  return variables, explainers.Layers(encode, net.apply)


@pytest.mark.parametrize('exponent', [1.5, 2.0])
def test_the_map_is_the_product_of_the_layers_matrices(exponent):
  images = RNG.random((2, 6, 5, 2), np.float32)
  variables, layers = two(exponent, explain=True)
  kernels = [
      np.asarray(variables['params'][name]['kernel'], np.float64)
      for name in ('first', 'second')
  ]

  def score(variables, images):
    return layers.scores(variables, encode(variables, images))

  explain = explainers.create('b_cos', score, layers=layers)
  maps = explain(variables, images, np.array([[0, 1], [1, 0]]))
  assert maps.shape == (*images.shape, 2)
  plain = explainers.create(
      'b_cos', score, layers=two(exponent, explain=False)[1]
  )(variables, images, np.array([0, 1]))
  for image, found, other, label in zip(
      images, maps[..., 0], plain, (0, 1), strict=True
  ):
    six = np.concatenate([image, 1 - image], axis=-1, dtype=np.float64)
    hidden, first = by_hand(six, kernels[0], exponent, pad=1)
    out, second = by_hand(hidden, kernels[1], exponent, stride=2)
    whole = (second @ first).reshape(*out.shape[:2], 2, *six.shape)
    row = whole.mean(axis=(0, 1))[label]
    added = row * six
    expected = added[..., :2] + added[..., 2:]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    total = out.mean(axis=(0, 1))[label]
    assert found.sum() == pytest.approx(total, rel=1e-3)
    # Of what has degree 1 the plain gradient sums to the same, with the 1e-6
    # beneath the root left aside, and yet it is another map.
    assert other.sum() == pytest.approx(total, rel=1e-2)
    assert np.linalg.norm(other - expected) > 0.3 * np.linalg.norm(expected)


@pytest.mark.parametrize('name', ['lenet5', 'resnet20'])
def test_a_map_sums_to_the_logit_without_what_is_added(name):
  network, variables = make(name, 'b_cos')
  variables = dict(variables)
  as_method = {'params': variables.pop('params'), 'collections': variables}
  images, labels = np.asarray(make_images(5)), np.arange(5) % CLASSES
  linear = baseline.linear(network)

  def score(variables, images):
    return linear.scores(variables, linear.features(variables, images))

  maps = explainers.create('b_cos', score, layers=linear)(
      as_method, images, labels
  )
  logits = np.asarray(score(as_method, images))
  np.testing.assert_allclose(
      logits, network.apply(as_method, images).logits, rtol=1e-6
  )
  added = logits[np.arange(5), labels] - b_cos.prior(CLASSES)
  assert np.abs(added).min() > 1e-5
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), added, rtol=2e-3)


def test_what_is_added_to_a_logit_is_that_of_one_in_k():
  for count in (10, 1000):
    assert b_cos.prior(count) == pytest.approx(
        math.log(1 / count / (1 - 1 / count))
    )
  assert b_cos.prior(2) == b_cos.prior(1) == 0


def guided_loss(params, images, net):
  """How much of a map lies in the left half, as a guided loss has it."""

  def score(encoded):
    return net.apply({'params': params}, encoded)[:, 0].sum()

  encoded = b_cos.encode(images)
  found = (encoded * jax.grad(score)(encoded)).sum(axis=-1)
  left = jnp.maximum(found[:, :, :2], 0).sum()
  return left / jnp.maximum(found, 0).sum()


def test_parameters_get_the_gradient_of_a_loss_of_the_map():
  """Against central differences along random directions, in float64."""
  with jax.enable_x64(True):
    net = Two(BCos(explain=True), 'float64')
    images = jnp.asarray(RNG.random((3, 6, 5, 2)))
    params = net.init(jax.random.key(1), b_cos.encode(images))['params']
    params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
    loss = functools.partial(guided_loss, images=images, net=net)
    flat, unflat = jax.flatten_util.ravel_pytree(params)
    gradient = jax.grad(lambda flat: loss(unflat(flat)))(flat)
    for way in RNG.normal(size=(4, flat.size)):
      ends = [loss(unflat(flat + end * way)) for end in (1e-6, -1e-6)]
      expected = (ends[0] - ends[1]) / 2e-6
      assert abs(expected) > 1e-3
      np.testing.assert_allclose(gradient @ way, expected, rtol=1e-5)


@pytest.mark.parametrize('shape', [(32, 32, 6), (14, 14, 4), (9, 12, 2)])
def test_convolution_and_pooling_in_one_are_those_one_after_the_other(shape):
  stage = lenet.BCosConvPool(6, BCos())
  images = jax.random.normal(jax.random.key(1), (4, *shape))
  params = stage.init(jax.random.key(2), images)
  plain = stage.apply(params, images, fused=False)
  assert plain.shape == (4, (shape[0] - 4) // 2, (shape[1] - 4) // 2, 6)
  np.testing.assert_allclose(
      stage.apply(params, images), plain, rtol=1e-4, atol=1e-5
  )
  layer = b_cos.BCosConv(6, BCos(), 5)
  np.testing.assert_allclose(
      nn.avg_pool(layer.apply(params, images), (2, 2), (2, 2)), plain,
      rtol=1e-4, atol=1e-5,
  )


@pytest.mark.parametrize('name', ['lenet5', 'resnet20'])
@pytest.mark.parametrize('variant', ['plain', 'x_dnn'])
def test_only_a_b_cos_network_has_a_linear_map(name, variant):
  assert models.dynamic_linear(make(name, variant)[0]) is None
  assert baseline.linear(make(name, variant)[0]) is None
