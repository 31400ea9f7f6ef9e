"""Networks without biases, of B-cos layers, and cut at their layers."""

import functools

from attribution import explainers
from attribution.errors import InputError
from attribution.maskers import Masker
from flax import linen as nn
from impactx_jax import models
from impactx_jax.methods import baseline
from impactx_jax.models import base
from impactx_jax.models import lenet
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tests.models import variants_fixtures
from tests.models.variants_fixtures import NETWORKS
from tests.models.variants_fixtures import make
from tests.models.variants_fixtures import make_images
from tests.models.variants_fixtures import model_config

one_block = variants_fixtures.one_block
pytestmark = pytest.mark.usefixtures('one_block')


def moved(variables):
  """Variables none of which is 0: fresh biases would hide what they do."""
  noise = np.random.default_rng(3)

  def move(path, x):
    found = 0.2 * noise.normal(size=x.shape)
    return x + (abs(found) if 'batch_stats' in path[0].key else found)

  return jax.tree_util.tree_map_with_path(move, variables)


def test_both_backbones_have_every_variant():
  assert sorted(NETWORKS) == sorted(
      (name, variant) for name in ('lenet5', 'resnet20')
      for variant in base.VARIANTS
  )


@pytest.mark.parametrize(('name', 'variant'), NETWORKS)
def test_f_of_a_times_x_is_a_times_f_of_x_without_biases_alone(name, variant):
  network, variables = make(name, variant)
  variables, images = moved(variables), make_images()
  whole = network.apply(variables, images).logits
  half = network.apply(variables, images / 2).logits
  same = np.allclose(whole, 2 * half, rtol=1e-4)
  assert same == (variant == 'x_dnn')
  assert np.abs(whole).max() > 1e-3


@pytest.mark.parametrize(('name', 'variant', 'pooling'), [
    ('lenet5', 'plain', 'max'), ('lenet5', 'x_dnn', 'max'),
    ('lenet5', 'x_dnn', 'mean'), ('resnet20', 'x_dnn', 'max'),
])
def test_one_pass_is_integrated_gradients_without_biases_alone(
    name, variant, pooling
):
  network, variables = make(
      name, variant, side=16, width=0.125, pooling=pooling
  )
  variables = moved(variables)
  images = np.asarray(make_images(2, side=16))

  def score(variables, images):
    return network.apply(variables, images).logits

  one, many = (
      explainers.create(
          explainer, score, masker=Masker('constant', mask_value=0.0),
          integration_steps=200,
      )(variables, images, np.array([0, 2]))
      for explainer in ('input_x_gradient', 'integrated_gradients')
  )
  error = np.linalg.norm(one - many) / np.linalg.norm(many)
  assert error < 1e-4 if variant == 'x_dnn' else error > 1e-2
  if variant == 'x_dnn':
    np.testing.assert_allclose(
        one.sum(axis=(1, 2, 3)),
        score(variables, images)[np.arange(2), [0, 2]], rtol=1e-4,
    )


@pytest.mark.parametrize(('name', 'variant'), NETWORKS)
def test_there_are_biases_and_statistics_in_the_plain_network_alone(
    name, variant
):
  _, variables = make(name, variant)
  names = {
      jax.tree_util.keystr(path).split("'")[-2]
      for path, _ in jax.tree_util.tree_leaves_with_path(variables)
  }
  assert (names == {'kernel'}) == (variant != 'plain')


SIZES = {
    'lenet5': {'input': 32, 'mid': 14, 'final': 10},
    'resnet20': {'input': 32, 'mid1': 32, 'mid2': 16, 'final': 8},
}


@pytest.mark.parametrize(('name', 'variant'), NETWORKS)
def test_cut_at_any_layer_both_parts_are_the_whole(name, variant):
  network, variables = make(name, variant)
  variables, images = moved(variables), make_images()
  whole = network.apply(variables, images)
  assert models.find(name).layers == tuple(SIZES[name])
  for layer, side in (SIZES[name] | {'trunk': None}).items():
    features, scores = baseline.cut(network, layer)
    found = features(variables, images)
    assert side is None or found.shape[1:3] == (side, side)
    after = scores(variables, found)
    jax.tree.map(functools.partial(
        np.testing.assert_allclose, rtol=1e-4, atol=1e-5
    ), after, whole)
  channels = 6 if variant == 'b_cos' else 3
  features, _ = baseline.cut(network, 'input')
  assert features(variables, images).shape == (3, 32, 32, channels)
  with pytest.raises(ValueError):
    baseline.cut(network, 'middle')[0](variables, images)


class Plain(nn.Module):
  """A trunk that says not where it can be cut."""

  @nn.compact
  def __call__(self, images, train=False):
    return nn.relu(nn.Conv(4, (3, 3), 4)(images))


def test_a_backbone_without_layers_is_cut_at_the_input_and_after_the_trunk():
  network = models.Classifier(Plain(), lenet.LeNet5Head(5))
  images = make_images()
  variables = network.init(jax.random.key(0), images)
  whole = network.apply(variables, images).logits
  assert models.find('mobilenet').layers == ('input',)
  for layer, shape in (('input', (3, 32, 32, 3)), ('trunk', (3, 8, 8, 4))):
    features, scores = baseline.cut(network, layer)
    found = features(variables, images)
    assert found.shape == shape
    np.testing.assert_allclose(
        scores(variables, found).logits, whole, rtol=1e-5
    )


@pytest.mark.parametrize(('name', 'variant'), NETWORKS)
def test_the_loss_of_a_small_problem_falls(name, variant):
  """Which of four quarters is the lightest."""
  network, variables = make(name, variant, side=16, width=0.5)
  labels = jnp.arange(16) % 4
  images = 0.5 * make_images(16, side=16)
  quarter = jnp.arange(16) // 8
  place = 2 * quarter[:, None] + quarter[None]
  images += 0.4 * (place[None] == labels[:, None, None])[..., None]
  state = dict(variables)
  params = state.pop('params')
  optimiser = optax.adam(0.003)
  slots = optimiser.init(params)

  def loss(params, state):
    scores, state = network.apply(
        {'params': params, **state}, images, mutable=list(state)
    )
    values = optax.softmax_cross_entropy_with_integer_labels(
        scores.logits, labels
    )
    return values.mean(), state

  @jax.jit
  def step(params, state, slots):
    (value, state), slopes = jax.value_and_grad(loss, has_aux=True)(
        params, state
    )
    changes, slots = optimiser.update(slopes, slots)
    return optax.apply_updates(params, changes), state, slots, value

  values = []
  for _ in range(40):
    params, state, slots, value = step(params, state, slots)
    values.append(float(value))
  assert values[-1] < 0.5 * values[0], values


def refused(name, variant, *parts, **changes):
  with pytest.raises(InputError) as error:
    model = model_config(name, variant)
    model.update(changes)
    models.check(model)
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


@pytest.mark.parametrize(('name', 'variant', 'changes', 'parts'), [
    ('lenet5', 'xdnn', {}, ("'xdnn'", "Did you mean 'x_dnn'?",
                            '--config.model.variant=')),
    ('mobilenet', 'x_dnn', {'pretrained': 'random'},
     ('mobilenet', "'x_dnn'", 'lenet5 and resnet20',
      '--config.model.variant=plain')),
    ('efficientnet_b2', 'b_cos', {'pretrained': 'random'},
     ("'b_cos'", '--config.model.name=NAME')),
    ('lenet5', 'x_dnn', {'activation': 'tanh'},
     ("'tanh'", '--config.model.activation=relu')),
    ('lenet5', 'b_cos', {'activation': 'sigmoid'},
     ("'sigmoid'", '--config.model.activation=relu')),
    ('lenet5', 'b_cos', {'pooling': 'max'},
     ("'max'", '--config.model.pooling=mean')),
    ('lenet5', 'b_cos', {'b_cos_exponent': 0.5},
     ('0.5', '--config.model.b_cos_exponent=')),
])
def test_options_that_make_no_sense_are_refused(name, variant, changes, parts):
  refused(name, variant, *parts, **changes)


def test_what_makes_sense_is_taken():
  for name, variant in NETWORKS:
    models.check(model_config(name, variant))
  models.check(model_config('lenet5', 'plain', activation='tanh'))
  models.check(model_config('lenet5', 'x_dnn', pooling='mean'))
