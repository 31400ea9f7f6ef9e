"""WAE: a frozen M, an encoder of maps, and no map of its own."""

from attribution.errors import InputError
from impactx_jax.models import impactx as networks
from impactx_jax.models import lenet
from impactx_jax.stages import checks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import loss_of
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import predict
from tests.methods.methods_fixtures import unmoved


@pytest.fixture(scope='module')
def made():
  return make_method('wae')


@pytest.fixture(scope='module')
def method(made):
  return made[0]


@pytest.fixture(scope='module')
def variables(made):
  return init(*made)


def by_hand(variables, images, maps):
  """C([m; e]), with m the logits of A and e the code of the maps."""
  classifier = variables['collections']['classifier']['params']
  features = lenet.LeNet5Trunk().apply(
      {'params': classifier['trunk']}, images
  )
  m = lenet.LeNet5Head(NUM_CLASSES).apply(
      {'params': classifier['head']}, features
  ).logits
  encoder = networks.LatentExplanationPredictor(lenet.LeNet5Trunk(), 16)
  code = encoder.apply({'params': variables['params']['encoder']}, maps)
  weights = variables['params']['classifier']
  joint = jnp.concatenate([m, code], axis=1)
  return joint @ weights['kernel'] + weights['bias']


def test_c_classifies_from_m_and_the_code_of_the_map(method, variables):
  batch = make_batch()
  found = predict(method, variables, batch)
  wanted = by_hand(variables, batch['image'], batch['map'])
  np.testing.assert_allclose(found.logits, wanted, atol=1e-5)


def test_the_prediction_depends_on_the_map_and_on_the_image(
    method, variables
):
  batch, other = make_batch(), make_batch(seed=8)
  found = predict(method, variables, batch).logits
  for name in ('image', 'map'):
    changed = predict(method, variables, batch | {name: other[name]}).logits
    assert (np.abs(changed - found).max(axis=1) > 1e-4).all()


def test_it_predicts_no_map_and_asks_for_one(method, variables):
  assert method.inputs == ('image', 'map')
  batch = make_batch()
  needed = {name: batch[name] for name in method.inputs}
  assert predict(method, variables, needed).attribution is None


def test_loss_is_cross_entropy_alone(method, variables):
  batch = make_batch()
  value, aux, _ = loss_of(method, variables, batch)
  logits = by_hand(variables, batch['image'], batch['map'])
  probability = np.asarray(jax.nn.softmax(logits))
  expected = -np.log(probability[np.arange(8), batch['label']]).mean()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert aux.metrics.keys() == {'loss', 'cross_entropy', 'accuracy'}
  np.testing.assert_array_equal(
      aux.metrics['loss'], aux.metrics['cross_entropy']
  )


def test_m_is_frozen_and_everything_else_moves(made):
  method, classifier = made
  trainer = Trainer(method, make_config('wae'), 'wae', classifier)
  before = trainer.variables
  for _ in range(3):
    trainer.step(make_batch())
  after = trainer.variables
  assert not unmoved(before['params'], after['params'])
  assert set(after['params']) == {'encoder', 'classifier'}
  jax.tree.map(
      np.testing.assert_array_equal,
      after['collections']['classifier'],
      jax.device_get(classifier),
  )


def test_it_sees_whole_maps_whatever_a_decoder_would_learn():
  method, classifier = make_method('wae', map_channels=1, map_cell=4)
  params = method.shapes(classifier)['params']
  kernel = params['encoder']['trunk']['conv1']['kernel']
  assert kernel.shape == (5, 5, 3, 6)


@pytest.mark.parametrize('maps', ['shuffled', 'random', 'other_class'])
def test_controls_of_maps_are_refused(maps):
  with pytest.raises(InputError) as error:
    checks.check(make_config('wae', maps=maps))
  for part in (repr(maps), 'wae', '--config.method.maps=true_class'):
    assert part in str(error.value)


@pytest.mark.parametrize('m_output, size', [('logits', 4), ('features', 84)])
def test_c_sees_the_chosen_output_of_m(m_output, size):
  method, classifier = make_method('wae', m_output=m_output)
  params = method.shapes(classifier)['params']
  assert params['classifier']['kernel'].shape == (size + 16, NUM_CLASSES)
