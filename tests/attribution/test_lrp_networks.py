"""Layer-wise relevance propagation of what our backbones are made of."""

import functools

from attribution import explainers
from flax import linen as nn
from impactx_jax import models
from impactx_jax.configs import common
from impactx_jax.models import mobilenet
from impactx_jax.models import resnet
import jax
import numpy as np
import pytest

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 8, 2), dtype=np.float32)
RULES = 'lrp_epsilon', 'lrp_alpha1_beta0'


def backbone(name, variant='plain', width=0.25, **model):
  """Returns a backbone's scores with fresh variables, none of them 0."""
  config = common.get_config()
  config.model.update({'name': name, 'variant': variant, 'width': width})
  config.model.update(model)
  net = models.create_classifier(config.model, 3)
  images = RNG.random((2, 32, 32, 3), dtype=np.float32)
  variables = net.init(jax.random.key(0), images)
  return lambda v, x: net.apply(v, x).logits, _moved(variables), images


def _moved(variables):
  """Statistics as of a trained network: fresh ones hide mistakes."""
  return jax.tree.map(
      lambda x: x + 0.05 * np.abs(RNG.normal(size=x.shape)).astype(x.dtype),
      variables,
  )


class Residual(nn.Module):
  """A stage of ResNet-20, and a head."""

  @nn.compact
  def __call__(self, images):
    x = resnet.Stage(4, 2)(images)
    return nn.Dense(3)(x.mean(axis=(1, 2)))


class Separable(nn.Module):
  """A block of MobileNet, and a head."""

  @nn.compact
  def __call__(self, images):
    x = mobilenet.Block(6, 2)(images)
    return nn.Dense(3)(x.mean(axis=(1, 2)))


class Gated(nn.Module):
  """Swish, and channels that are weighed by what is in all of them."""

  @nn.compact
  def __call__(self, images):
    x = nn.swish(nn.Conv(6, (3, 3))(images))
    gates = nn.sigmoid(nn.Dense(6)(x.mean(axis=(1, 2), keepdims=True)))
    return nn.Dense(3)((x * gates).mean(axis=(1, 2)))


def small(net):
  return net.apply, _moved(net.init(jax.random.key(0), IMAGES)), IMAGES


@pytest.mark.parametrize('made', [
    lambda: backbone('lenet5'), lambda: backbone('lenet5', pooling='mean'),
    lambda: small(Residual()),
])
def test_without_epsilon_it_is_input_x_gradient_of_relu_networks(made):
  score_fn, variables, images = made()
  labels = np.array([0, 2, 1])[: len(images)]
  found, plain = (
      explainers.create(rule, score_fn, **more)(variables, images, labels)
      for rule, more in (
          ('lrp_epsilon', {'epsilon': 0.0}), ('input_x_gradient', {})
      )
  )
  size = np.abs(plain).max()
  np.testing.assert_allclose(found / size, plain / size, atol=1e-4)


@pytest.mark.parametrize('rule', RULES)
def test_relevance_is_kept_where_there_are_no_biases(rule):
  score_fn, variables, images = backbone('lenet5', 'x_dnn', 1.0)
  maps = explainers.create(rule, score_fn)(variables, images, np.array([0, 2]))
  scores = np.asarray(score_fn(variables, images))[[0, 1], [0, 2]]
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), scores, rtol=1e-3)


@pytest.mark.parametrize('made', [
    functools.partial(small, net) for net in (Residual(), Separable(), Gated())
])
def test_the_positive_rule_of_what_backbones_are_made_of(made):
  score_fn, variables, images = made()
  labels = RNG.integers(0, 3, (len(images), 2))
  maps = explainers.create('lrp_alpha1_beta0', score_fn)(
      variables, images, labels
  )
  assert maps.shape == (*images.shape, 2) and np.isfinite(maps).all()
  assert (np.abs(maps).sum(axis=(1, 2, 3)) > 0).all()
