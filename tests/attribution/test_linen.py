"""Grad-CAM of a layer of a Flax Linen model, named by its path."""

import attribution
from attribution.errors import InputError
from attribution.explainers.gradients import Layers
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attribution.test_gradients import IMAGES
from tests.attribution.test_gradients import LABELS
from tests.attribution.test_gradients import LAYERS
from tests.attribution.test_gradients import network
from tests.attribution.test_gradients import NETWORK


class Block(nn.Module):

  @nn.compact
  def __call__(self, x):
    return jnp.tanh(nn.Conv(5, (3, 3))(x))


class Net(nn.Module):
  """With a way around the last convolution."""

  @nn.compact
  def __call__(self, x):
    x = nn.relu(nn.Conv(5, (3, 3))(x))
    x += Block(name='block')(x)
    return nn.Dense(4)(nn.Dense(6)(nn.relu(x).mean(axis=(1, 2))))


@pytest.mark.parametrize('jitted', [False, True])
def test_grad_cam_of_a_flax_layer_is_that_of_the_model_cut_there(jitted):
  net = Net()
  variables = net.init(jax.random.key(0), IMAGES[:1])
  params = variables['params']

  def conv(name, x):
    return nn.Conv(5, (3, 3)).apply({'params': params[name]}, x)

  def features(variables, x):
    del variables
    return nn.relu(conv('Conv_0', x))

  def head(variables, x):
    del variables
    x += Block().apply({'params': params['block']}, x)
    x = nn.relu(x).mean(axis=(1, 2))
    for name in ('Dense_1', 'Dense_0'):  # The inner one is second.
      x = x @ params[name]['kernel'] + params[name]['bias']
    return x

  def before(variables, x):  # Of the convolution, without its relu.
    return conv('Conv_0', x)

  apply = jax.jit(net.apply) if jitted else net.apply
  if jitted:
    apply(variables, IMAGES)  # Traced before anyone looks inside.
  explainer = attribution.Explainer(
      apply, variables=variables, explainer='grad_cam', layer='Conv_0'
  )
  expected = attribution.explain(
      net.apply, IMAGES, LABELS, variables=variables, explainer='grad_cam',
      layers=Layers(before, lambda v, x: head(v, nn.relu(x))),
  )
  np.testing.assert_allclose(explainer(IMAGES, LABELS), expected, atol=1e-6)
  inside = attribution.explain(
      apply, IMAGES, LABELS, variables=variables, explainer='grad_cam',
      layer='block/Conv_0',
  )
  assert np.abs(inside - expected).max() > 1e-4
  np.testing.assert_array_equal(apply(variables, IMAGES), net.apply(
      variables, IMAGES
  ))  # Nothing stays behind.


class Hidden(nn.Module):
  """With a layer that a transformation hides."""

  @nn.compact
  def __call__(self, x):
    x = nn.remat(Block)(name='block')(x)
    return nn.Dense(4)(x.mean(axis=(1, 2)))


@pytest.mark.parametrize(('options', 'said'), [
    ({'layer': 'block/Conv_0'}, 'inside nn.remat, vmap or a scan'),
    ({'layer': 'block', 'layers': LAYERS}, 'give one'),
])
def test_what_cannot_be_seen_or_is_said_twice_is_refused(options, said):
  net = Hidden()
  with pytest.raises(InputError, match=said):
    attribution.explain(
        net.apply, IMAGES, LABELS, explainer='grad_cam',
        variables=net.init(jax.random.key(0), IMAGES[:1]), **options,
    )


@pytest.mark.parametrize(('score_fn', 'layer', 'said'), [
    (Net().apply, 'Conv_1', 'Unknown layer .* Did you mean .*Conv_0'),
    (Net().apply, 'Dense_0', r'features \[B, h, w, F\]; these are'),
    (network, 'Conv_0', 'calls no Flax Linen module.*layers=Layers'),
    (lambda v, x: Net().apply(v, x) + Net().apply(v, x), 'Conv_0', 'than once'),
])
def test_a_layer_that_cannot_be_looked_at_is_refused(score_fn, layer, said):
  variables = NETWORK
  if score_fn is not network:
    variables = Net().init(jax.random.key(0), IMAGES[:1])
  with pytest.raises(InputError, match=said):
    attribution.explain(
        score_fn, IMAGES, LABELS, variables=variables, explainer='grad_cam',
        layer=layer,
    )
