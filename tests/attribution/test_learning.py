"""Learned explainers: of any JAX model, with and without maps to learn from."""

import attribution
from attribution.errors import InputError
import jax
import jax.numpy as jnp
import numpy as np
import pytest

SHAPE = (8, 8, 2)
WEIGHTS = {'w': np.random.default_rng(0).normal(
    size=(128, 3)
).astype(np.float32) / 8}
IMAGES = np.random.default_rng(1).random((160, *SHAPE), np.float32)
OPTIONS = dict(
    masker='constant', cell=2, filters=8, batch_size=16, learning_rate=0.01
)


def linear(variables, images):
  return images.reshape(len(images), -1) @ variables['w']


def values(images, labels):
  """Of a linear model with black in place of what is hidden, by hand."""
  weights = WEIGHTS['w'].T[labels].reshape(-1, *SHAPE)
  found = (images * weights).sum(axis=-1)
  return found.reshape(-1, 4, 2, 4, 2).sum(axis=(2, 4))


@pytest.fixture(scope='module', params=['maps', 'fastshap'])
def learned(request):
  return attribution.learn(
      linear, WEIGHTS, IMAGES, objective=request.param, max_evals=200,
      epochs=40, **OPTIONS,
  ), request.param


def test_it_learns_what_is_known_of_a_linear_model(learned):
  explain, objective = learned
  images = np.random.default_rng(2).random((40, *SHAPE), np.float32)
  labels = np.arange(40) % 3
  maps = explain(images, labels)
  assert maps.shape == (40, 8, 8, 1) and maps.dtype == np.float32
  cells = maps.reshape(40, 4, 2, 4, 2).sum(axis=(2, 4))
  np.testing.assert_array_equal(maps[:, ::2, ::2], maps[:, 1::2, 1::2])
  expected = values(images, labels)
  correlation = np.corrcoef(cells.ravel(), expected.ravel())[0, 1]
  assert correlation > 0.9
  assert explain.loss[-1] < explain.loss[0] / 2
  if objective == 'fastshap':
    assert explain.r2 is None
    # Complete, whatever is learned.
    np.testing.assert_allclose(
        cells.sum(axis=(1, 2)), expected.sum(axis=(1, 2)), atol=1e-4
    )
    assert explain.evaluations == 40 * 160 * 10
  else:
    assert explain.r2 > 0.5  # Of 16 images.
    assert explain.evaluations == 160 * 200


def test_labels(learned):
  explain, _ = learned
  top = linear(WEIGHTS, IMAGES[:5]).argmax(-1)
  np.testing.assert_allclose(explain(IMAGES[:5]), explain(IMAGES[:5], top))
  several = explain(IMAGES[:5], np.array([[0, 2]] * 5))
  assert several.shape == (5, 8, 8, 1, 2)
  np.testing.assert_allclose(
      several[..., 1], explain(IMAGES[:5], np.full(5, 2)), atol=1e-5
  )


def test_r2_is_of_images_that_it_has_not_seen():
  """Noise can be learned by heart, and is not to be known of others."""
  noise = np.random.default_rng(5).normal(size=(32, *SHAPE[:2], 1))
  found = attribution.learn(
      linear, WEIGHTS, IMAGES[:32], np.zeros(32, int), maps=noise, epochs=60,
      held_out=0.5, **OPTIONS,
  )
  assert found.loss[-1] < 0.2 * found.loss[0]
  assert found.r2 < 0.1


def test_the_same_again():
  found = [
      attribution.learn(
          linear, WEIGHTS, IMAGES, max_evals=50, epochs=2, seed=seed, **OPTIONS
      ) for seed in (0, 0, 1)
  ]
  maps = [explain(IMAGES[:3]) for explain in found]
  np.testing.assert_array_equal(maps[0], maps[1])
  assert np.abs(maps[0] - maps[2]).max() > 1e-4


def test_given_maps_cost_nothing():
  labels = linear(WEIGHTS, IMAGES).argmax(-1)
  maps = values(IMAGES, labels).repeat(2, axis=1).repeat(2, axis=2)[..., None]
  found = attribution.learn(
      linear, WEIGHTS, IMAGES, labels, maps=maps, epochs=1, **OPTIONS
  )
  assert found.evaluations == 0


def test_the_model_is_learned_of_and_stays():
  before = jax.tree.map(np.copy, WEIGHTS)
  found = attribution.learn(
      linear, WEIGHTS, IMAGES, max_evals=50, epochs=1, **OPTIONS
  )
  np.testing.assert_array_equal(found.variables['model']['w'], before['w'])


@pytest.mark.parametrize(('changes', 'parts'), [
    ({'objective': 'shap'}, ("'shap'", 'fastshap, maps')),
    ({'masker': 'inpaint_telea'}, ('inpaint_telea', 'blur')),
    ({'objective': 'fastshap', 'masker': 'inpaint_ns'}, ('inpaint_ns',)),
    ({'cell': 3}, ('3', '8x8')),
    ({'images': IMAGES[:0]}, ('give some',)),
    ({'labels': np.zeros((160, 2), int)}, ('one label',)),
    ({'labels': np.full(160, 3)}, ('0 to 2',)),
    ({'labels': np.zeros(9, int)}, ('160', '9')),
    ({'maps': np.zeros((160, 4, 4, 1))}, ('(160, 4, 4, 1)',)),
    ({'batch_size': 145}, ('145', '144')),
    ({'batch_size': 0}, ('batch_size',)),
    ({'epochs': 0}, ('epochs',)),
    ({'cell': -2}, ('cell',)),
    ({'objective': 'fastshap', 'samples': 7}, ('even', 'samples')),
    ({'objective': 'fastshap', 'cell': 8}, ('smaller cells', 'cell')),
    (
        {'objective': 'fastshap', 'maps': np.zeros((160, 8, 8, 1))},
        ('does not learn from',),
    ),
    ({'held_out': 1.0}, ('held_out',)),
    ({'learning_rate': float('nan')}, ('learning',)),
])
def test_what_does_not_fit_is_answered(changes, parts):
  arguments = {'images': IMAGES, 'max_evals': 10, 'epochs': 1} | OPTIONS
  arguments |= changes
  with pytest.raises(InputError) as error:
    attribution.learn(linear, WEIGHTS, **arguments)
  for part in parts:
    assert part in str(error.value)


def test_a_function_that_cannot_be_traced_is_answered():
  with pytest.raises(InputError, match='cannot trace'):
    attribution.learn(
        lambda variables, x: jnp.asarray(np.asarray(x)), {}, IMAGES, **OPTIONS
    )


@pytest.mark.parametrize('images', [
    IMAGES[:2, :4], IMAGES[:0], IMAGES[0], IMAGES[:2, ..., :1]
])
def test_images_of_another_shape_are_answered(learned, images):
  explain, _ = learned
  with pytest.raises(InputError, match=r'\[N, 8, 8, 2\]'):
    explain(images)
