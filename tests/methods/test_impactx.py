"""IMPACTX's stage two: equation 1, and an M that stays as it is."""

from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import methods
from impactx_jax.methods import decoding
from impactx_jax.methods import impactx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import SHAPE
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
  return make_method()


@pytest.mark.parametrize(
    'name, weight, expected',
    [('impactx', 0.4, 0.4), ('impactx', 2.5, 2.5), ('impactx_lambda0', 0.4, 0)],
)
def test_loss_is_equation_1(name, weight, expected):
  config = make_config(name, lambda_=weight)
  method, classifier = make_method(name, config)
  variables, batch = init(method, classifier), make_batch()
  value, aux, _ = loss_of(
      method, variables, batch, methods.scalars(name, config)['lambda_']
  )
  prediction = predict(method, variables, batch)
  classification = losses.cross_entropy(prediction.logits, batch['label'])
  error = np.square(prediction.attribution - batch['map']).mean()
  np.testing.assert_allclose(
      value, classification.mean() + expected * error, rtol=1e-5
  )
  total, count = aux.metrics['map_mse']
  np.testing.assert_allclose(total / count, error, rtol=1e-5)
  np.testing.assert_allclose(
      aux.metrics['cross_entropy'][0], classification.sum(), rtol=1e-5
  )


def test_without_maps_the_loss_is_the_cross_entropy(made):
  method, classifier = made
  variables, batch = init(method, classifier), make_batch()
  del batch['map']
  value, aux, _ = loss_of(method, variables, batch)
  logits = predict(method, variables, batch).logits
  entropy = losses.cross_entropy(logits, batch['label']).mean()
  np.testing.assert_allclose(value, entropy, rtol=1e-5)
  assert 'map_mse' not in aux.metrics


def test_m_is_frozen_and_everything_else_moves(made):
  method, classifier = made
  trainer = Trainer(method, make_config(), 'impactx', classifier)
  before = trainer.variables
  for _ in range(3):
    trainer.step(make_batch())
  after = trainer.variables
  assert not unmoved(before['params'], after['params'])
  assert set(after['params']) == {'lep', 'decoder', 'classifier'}
  jax.tree.map(
      np.testing.assert_array_equal,
      after['collections']['classifier'],
      jax.device_get(classifier),
  )


def test_the_prediction_uses_m(made):
  method, classifier = made
  variables, batch = init(method, classifier), make_batch()
  logits = predict(method, variables, batch).logits
  doubled = init(method, jax.tree.map(lambda x: 2 * x, classifier))
  # The branch starts alike, whatever M is.
  assert len(unmoved(variables['params'], doubled['params'])) == len(
      jax.tree.leaves(variables['params'])
  )
  changed = predict(method, doubled, batch)
  assert np.abs(changed.logits - logits).max() > 1e-3


@pytest.mark.parametrize('m_output, size', [('logits', 4), ('features', 84)])
def test_c_sees_the_chosen_output_of_m(m_output, size):
  method, classifier = make_method(m_output=m_output)
  params = method.shapes(classifier)['params']
  assert params['classifier']['kernel'].shape == (size + 16, 4)


def test_c_may_have_one_hidden_layer():
  method, classifier = make_method(classifier_hidden=10)
  params = method.shapes(classifier)['params']
  assert params['classifier_hidden']['kernel'].shape == (4 + 16, 10)
  assert params['classifier']['kernel'].shape == (10, 4)


def test_lep_starts_from_the_classifier_only_when_asked():
  for lep_init, same in (('from_classifier', True), ('like_classifier', False)):
    method, classifier = make_method(lep_init=lep_init)
    params = init(method, classifier)['params']
    kernel = params['lep']['trunk']['conv1']['kernel']
    original = classifier['params']['trunk']['conv1']['kernel']
    assert bool(np.all(kernel == original)) == same


@pytest.mark.parametrize(('shape', 'changes', 'parts'), [
    ((32, 32, 3), {'map_cell': 5}, ('map_cell', '32x32', 'does not divide')),
    ((32, 30, 3), {'map_cell': 4}, ('map_cell', '32x30')),
    ((30, 30, 3), {}, ('decoder_start',)),
    ((32, 32, 3), {'decoder_start': 7}, ('decoder_start',)),
    ((32, 32, 3), {'decoder_start': 64}, ('decoder_start',)),
])
def test_maps_that_d_cannot_have_are_refused(shape, changes, parts):
  config = make_config(**changes)
  with pytest.raises(InputError) as error:
    decoding.check_data(config, {'image_shape': shape})
  for part in parts:
    assert part in str(error.value)


@pytest.mark.parametrize(('name', 'value'), [
    ('lambda_', -0.1), ('lambda_', float('nan')), ('lep_units', 0),
    ('map_cell', 0), ('map_channels', 2), ('classifier_hidden', -1),
    ('decoder_start', 0), ('decoder_filters', 0), ('lep_init', 'copied'),
    ('m_output', 'logit'), ('maps', 'true'), ('map_scaling', 'std'),
])
def test_options_out_of_range_are_refused(name, value):
  with pytest.raises(InputError) as error:
    impactx.check(make_config(**{name: value}))
  message = str(error.value)
  assert f'--config.method.{name}=' in message and str(value) in message


# --- Cells --------------------------------------------------------------------


@pytest.fixture(scope='module', params=[0, 1])
def cells(request):
  """A method that predicts 8x8 cells, its variables and a batch."""
  made = make_method('impactx', map_cell=4, map_channels=request.param)
  return made[0], init(*made), make_batch(channels=request.param or 3)


def test_prediction_is_constant_on_cells(cells):
  method, variables, batch = cells
  maps = predict(method, variables, batch).attribution
  assert maps.shape == batch['map'].shape
  by_cell = maps.reshape(8, 8, 4, 8, 4, -1)
  assert (by_cell == by_cell[:, :, :1, :, :1]).all()
  # Neighbouring cells have values of their own.
  assert (by_cell[:, 1:, 0, :, 0] != by_cell[:, :-1, 0, :, 0]).any()


def test_loss_compares_cells_with_the_means_of_the_maps_cells(cells):
  method, variables, batch = cells
  value, aux, _ = loss_of(method, variables, batch)
  prediction = predict(method, variables, batch)
  pooled = np.zeros((8, 8, 8, batch['map'].shape[-1]))
  for i in range(8):
    for j in range(8):
      rows, columns = slice(4 * i, 4 * i + 4), slice(4 * j, 4 * j + 4)
      pooled[:, i, j] = batch['map'][:, rows, columns].mean(axis=(1, 2))
  error = np.square(prediction.attribution[:, ::4, ::4] - pooled).mean()
  probability = np.asarray(jax.nn.softmax(prediction.logits))
  entropy = -np.log(probability[np.arange(8), batch['label']]).mean()
  np.testing.assert_allclose(value, entropy + error, rtol=1e-5)
  total, number = aux.metrics['map_mse']
  np.testing.assert_allclose(total / number, error, rtol=1e-5)


def test_the_decoder_ends_at_the_cells():
  method, classifier = make_method(map_cell=8)  # 4x4 cells, less than 8.
  params = method.shapes(classifier)['params']
  assert params['decoder']['expand']['kernel'].shape == (16, 4 * 4 * 8)
  assert set(params['decoder']) == {'expand', 'map'}


# --- Several labels an image --------------------------------------------------


def test_of_several_labels_the_first_term_is_their_cross_entropy():
  config = make_config(lambda_=0.5)
  problem = methods.Problem(NUM_CLASSES, SHAPE, task='multi_label')
  a = methods.create('baseline', config, problem)
  method = methods.create('impactx', config, problem)
  variables, batch = init(method, init(a)), make_batch()
  del batch['label']
  labels = np.random.default_rng(0).integers(0, 2, (8, NUM_CLASSES))
  value, aux, _ = loss_of(method, variables, batch | {'labels': labels}, 0.5)
  found = predict(method, variables, batch)
  probability = 1 / (1 + np.exp(-found.logits.astype(np.float64)))
  chosen = np.where(labels, probability, 1 - probability)
  error = np.square(found.attribution - batch['map']).mean()
  np.testing.assert_allclose(
      value, -np.log(chosen).mean() + 0.5 * error, rtol=1e-5
  )
  assert aux.metrics.keys() == {
      'loss', 'accuracy', 'cross_entropy', 'f1', 'map_mse'
  }


def test_a_teachers_probabilities_may_be_learned():
  method, classifier = make_method(distillation=1.0, map_cell=4)
  variables, batch = init(method, classifier), make_batch()
  logits = np.asarray(predict(method, variables, batch).logits)
  teacher = np.random.default_rng(0).dirichlet(np.ones(4), 8)
  batch = batch | {'teacher': jnp.asarray(teacher, jnp.float32)}
  without, _, _ = loss_of(
      method, variables, batch | {'distillation': jnp.float32(0)}
  )
  found, aux, _ = loss_of(
      method, variables, batch | {'distillation': jnp.float32(0.5)}
  )
  log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  expected = -(teacher * log).sum(-1)
  assert found - without == pytest.approx(0.5 * expected.mean(), rel=1e-4)
  assert aux.metrics['distillation'][0] == pytest.approx(
      expected.sum(), rel=1e-4
  )


@pytest.mark.parametrize('maps', ['mask', 'masked'])
def test_masks_are_refused_where_there_are_none(maps):
  config = make_config(maps=maps)
  data = {'image_shape': (32, 32, 3), 'columns': ['image', 'label']}
  with pytest.raises(InputError, match='neither masks nor.*=true_class'):
    decoding.check_data(config, data)
  for column in ('mask', 'boxes'):
    decoding.check_data(config, data | {'columns': ['image', column]})
