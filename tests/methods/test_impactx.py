"""IMPACTX's stage two: equation 1, and an M that stays as it is."""

from impactx_jax import losses
from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.methods.base import Task
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

TASK = Task(num_classes=4, image_shape=(32, 32, 3))


def make_config(**changes):
  config = common.get_config()
  config.method.decoder_filters = 8
  config.method.lep_units = 16
  config.method.update(changes)
  return methods.config_of(changes.get('name', 'impactx'), config)


def make_classifier(config, seed=0):
  method = methods.create('baseline', config, TASK)
  params, collections = method.init(jax.random.key(seed))
  return {'params': params, 'collections': collections}


def make_method(name='impactx', **changes):
  config = make_config(name=name, **changes)
  task = Task(4, (32, 32, 3), make_classifier(config))
  return methods.create(name, config, task), task.classifier


def make_batch(count=8):
  key = jax.random.key(7)
  return {
      'image': jax.random.uniform(key, (count, 32, 32, 3)),
      'label': jnp.arange(count) % 4,
      'map': jax.random.normal(key, (count, 32, 32, 3)),
  }


@pytest.mark.parametrize(
    'name, weight, expected',
    [('impactx', 0.4, 0.4), ('impactx_lambda0', 0.4, 0)],
)
def test_loss_is_equation_1(name, weight, expected):
  method, _ = make_method(name, lambda_=weight)
  params, collections = method.init(jax.random.key(1))
  batch = make_batch()
  value, aux = method.loss(params, collections, batch, jax.random.key(2))
  prediction = method.predict(
      {'params': params, 'collections': collections}, batch['image']
  )
  classification = losses.cross_entropy(prediction.logits, batch['label'])
  error = np.square(prediction.attribution - batch['map']).mean()
  np.testing.assert_allclose(
      value, classification.mean() + expected * error, rtol=1e-5
  )
  total, count = aux.metrics['map_mse']
  np.testing.assert_allclose(total / count, error, rtol=1e-5)


def test_m_is_frozen_and_everything_else_moves():
  method, classifier = make_method()
  params, collections = method.init(jax.random.key(1))
  before = jax.device_get(params)
  optimizer = optax.adam(0.01)
  opt_state = optimizer.init(params)

  @jax.jit
  def step(params, collections, opt_state, key):
    gradients, aux = jax.grad(method.loss, has_aux=True)(
        params, collections, make_batch(), key
    )
    updates, opt_state = optimizer.update(gradients, opt_state)
    return optax.apply_updates(params, updates), aux.collections, opt_state

  for i in range(3):
    params, collections, opt_state = step(
        params, collections, opt_state, jax.random.key(i)
    )
  jax.tree.map(
      np.testing.assert_array_equal, collections['classifier'], classifier
  )
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, params)
  assert all(jax.tree.leaves(moved))
  assert set(params) == {'lep', 'decoder', 'classifier'}


def test_the_prediction_uses_m():
  method, classifier = make_method()
  params, collections = method.init(jax.random.key(1))
  images = make_batch()['image']
  logits = method.predict(
      {'params': params, 'collections': collections}, images
  ).logits
  other = {
      **collections,
      'classifier': jax.tree.map(lambda x: 2 * x, classifier),
  }
  changed = method.predict({'params': params, 'collections': other}, images)
  assert np.abs(changed.logits - logits).max() > 1e-3


@pytest.mark.parametrize('m_output, size', [('logits', 4), ('features', 84)])
def test_c_sees_the_chosen_output_of_m(m_output, size):
  method, _ = make_method(m_output=m_output)
  params, _ = method.init(jax.random.key(1))
  assert params['classifier']['kernel'].shape == (size + 16, 4)


def test_c_may_have_one_hidden_layer():
  method, _ = make_method(classifier_hidden=10)
  params, _ = method.init(jax.random.key(1))
  assert params['classifier_hidden']['kernel'].shape == (4 + 16, 10)
  assert params['classifier']['kernel'].shape == (10, 4)


def test_lep_starts_from_the_classifier_only_when_asked():
  for lep_init, same in (('from_classifier', True), ('like_classifier', False)):
    method, classifier = make_method(lep_init=lep_init)
    params, _ = method.init(jax.random.key(1))
    kernel = params['lep']['trunk']['conv1']['kernel']
    original = classifier['params']['trunk']['conv1']['kernel']
    assert bool(np.all(kernel == original)) == same
