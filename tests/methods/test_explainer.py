"""The learned explainer: A as it is, and a decoder that sees A."""

from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import methods
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import PROBLEM
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_classifier
from tests.methods.methods_fixtures import make_config

BATCH = make_batch()
CLASSES = jnp.arange(8) % NUM_CLASSES


def make(**changes):
  config = make_config('explainer', map_cell=4, **changes)
  method = methods.create('explainer', config, PROBLEM)
  a = make_classifier(config)
  return method, init(method, a), a, config


@pytest.fixture(scope='module')
def made():
  return make()


def test_the_class_is_as(made):
  method, variables, a, config = made
  baseline = methods.create('baseline', config, PROBLEM)
  np.testing.assert_allclose(  # Cut in two, it may be rounded otherwise.
      method.predict(variables, BATCH).logits,
      baseline.predict(a, BATCH).logits,
      atol=1e-6,
  )
  # Nothing of A is among what is trained.
  assert 'trunk' not in variables['params'] and 'head' not in (
      variables['params']
  )
  gradients = jax.grad(
      lambda c: method.loss(variables['params'], c, BATCH, None)[0],
      allow_int=True,
  )(variables['collections'])
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_the_map_is_that_of_the_predicted_class(made):
  method, variables, _, _ = made
  prediction = method.predict(variables, BATCH)
  top = method.task.top(prediction.logits)
  np.testing.assert_allclose(
      prediction.attribution, method.map_of(variables, BATCH, top), atol=1e-6
  )
  other = method.map_of(variables, BATCH, (top + 1) % NUM_CLASSES)
  assert np.abs(other - prediction.attribution).max() > 1e-3


def test_the_loss_is_the_error_of_the_map_of_the_explained_class(made):
  method, variables, _, _ = made
  batch = BATCH | {'explained': CLASSES[::-1]}
  loss, aux = method.loss(
      variables['params'], variables['collections'], batch, None
  )
  cells = losses.pool(method.map_of(variables, batch, CLASSES[::-1]), 4)
  target = losses.pool(batch['map'], 4)
  assert loss == pytest.approx(float(jnp.mean((cells - target) ** 2)), rel=1e-5)
  total, count = aux.metrics['map_mse']
  assert total / count == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(('sees', 'classes'), [
    ('features', 'one'), ('features', 'all'), ('gradient', 'one'),
])
def test_what_the_decoder_sees_decides_what_its_map_is_of(sees, classes):
  method, variables, a, _ = make(
      decoder_sees=sees, decoder_classes=classes
  )
  first, second = (
      method.map_of(variables, BATCH, CLASSES + k) for k in (0, 1)
  )
  # Features alone, and one map: the same for every class.
  same = (sees, classes) == ('features', 'one')
  assert (np.abs(first - second).max() == 0) == same
  # Of another network, by the same decoder, another map.
  other = jax.tree.map(lambda x: x[..., ::-1], a)
  collections = variables['collections'] | {'classifier': other}
  found = method.map_of(
      variables | {'collections': collections}, BATCH, CLASSES
  )
  assert np.abs(found - first).max() > 1e-3


def test_there_is_no_code_to_see():
  config = make_config('explainer', decoder_sees='code')
  with pytest.raises(InputError, match="no LEP.*--config.method.decoder_sees"):
    methods.find('explainer').check(config)
