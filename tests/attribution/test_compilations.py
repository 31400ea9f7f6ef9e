"""Tests that weights are arguments: one compilation for all of them."""

import dataclasses
import functools

import attribution
from attribution import explainers
from attribution import maskers
from attribution import model_fn
from attribution.errors import InputError
from attribution.explainers import Layers
from attribution.maskers import Masker
import jax
import jax.numpy as jnp
import numpy as np
import pytest

SHAPE = (8, 8, 3)
RNG = np.random.default_rng(0)
IMAGES = RNG.random((5, *SHAPE), np.float32)
LABELS = np.array([0, 1, 2, 1, 0])
OPTIONS = dict(
    masker=Masker('mean', mask_value=(0.2, 0.5, 0.9)), max_evals=40, grid=2,
    integration_steps=3,
)
COMPILED = '/jax/core/compile/backend_compile_duration'


def make_weights(seed):
  """Of a LeNet-like network."""
  rng = np.random.default_rng(seed)

  def normal(*shape):
    scale = np.sqrt(np.prod(shape[:-1]))
    return (rng.normal(size=shape) / scale).astype(np.float32)

  return {'conv': normal(3, 3, 3, 4), 'dense': [normal(64, 8), normal(8, 3)]}


def features(weights, images):
  images = jax.lax.conv_general_dilated(
      images, weights['conv'], (1, 1), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jax.lax.reduce_window(
      jax.nn.relu(images), -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1),
      'VALID',
  )


def head(weights, features):
  hidden = features.reshape(len(features), -1)
  for layer in weights['dense']:
    hidden = jnp.tanh(hidden @ layer)
  return hidden


def score(weights, images):
  return head(weights, features(weights, images))


def encode(weights, images):
  del weights
  return jnp.concatenate([images, 1 - images], axis=-1)


def of_encoded(weights, encoded):
  return score(weights, encoded[..., :3]) * encoded.mean(axis=(1, 2, 3))[0]


def layers_of(name):
  """The model cut as an explainer needs it."""
  return Layers(encode, of_encoded) if name == 'b_cos' else (
      Layers(features, head)
  )


def fresh(fn):
  """A function of its own, of which nothing is compiled yet."""
  return lambda weights, images: fn(weights, images)


@pytest.fixture
def compiled(monkeypatch):
  """The number of compilations until now, whatever JAX kept from others."""
  jax.clear_caches()
  events = []

  def listen(event, seconds, **unused):
    del seconds, unused
    if event == COMPILED:
      events.append(event)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield lambda: len(events)
  jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize('name', explainers.programs())
def test_three_networks_of_one_architecture_compile_once(compiled, name):
  score_fn = fresh(score)
  seen = []
  for seed in range(3):
    explain = explainers.create(
        name, score_fn, layers=layers_of(name), **OPTIONS
    )
    seen.append(explain(make_weights(seed), IMAGES, LABELS))
    assert compiled() == 1
  assert np.abs(seen[0] - seen[1]).max() > 1e-3
  # As weights of the device, too.
  again = explain(jax.device_put(make_weights(0)), IMAGES, LABELS)
  assert compiled() == 1
  np.testing.assert_array_equal(again, seen[0])
  # And they are the maps of a network that has its weights as constants.
  bound = functools.partial(score, make_weights(1))
  layers = Layers(*(
      lambda _, x, fn=fn: fn(make_weights(1), x) for fn in layers_of(name)
  ))
  constant = explainers.create(
      name, lambda _, images: bound(images), layers=layers, **OPTIONS
  )
  np.testing.assert_allclose(
      constant(None, IMAGES, LABELS), seen[1], rtol=1e-4, atol=1e-6
  )


def test_other_regions_and_other_weights_compile_nothing(compiled):
  regions = np.random.default_rng(0).integers(0, 3, (2, 5, *SHAPE[:2]))
  regions[..., 0, :3] = range(3)
  explainer = attribution.Explainer(
      fresh(score), variables=make_weights(0), max_evals=40, num_regions=4
  )
  first = explainer(IMAGES, LABELS, regions[0])
  built = compiled()
  second = explainer(IMAGES, LABELS, regions[1])
  other = dataclasses.replace(explainer, variables=make_weights(1))
  third = other(IMAGES, LABELS, regions[0])
  assert compiled() == built
  assert min(np.abs(first - x).max() for x in (second, third)) > 1e-3


def test_the_reference_explainer_compiles_its_model_once(compiled):
  score_fn = fresh(score)
  seen = []
  for seed in range(3):
    explain = explainers.create('shap_partition', score_fn, max_evals=20)
    seen.append(explain(make_weights(seed), IMAGES[:1], LABELS[:1]))
    if not seed:
      first = compiled()
  assert compiled() == first
  assert np.abs(seen[0] - seen[1]).max() > 1e-3


def test_a_scoring_function_is_traced_once_for_all_explainers():
  traces = []

  def score_fn(weights, images):
    traces.append(len(images))
    return score(weights, images)

  for seed in range(2):
    model_fn.inspect(score_fn, make_weights(seed), SHAPE)
  assert traces == [1, 2]
  model_fn.inspect(score_fn, make_weights(0), (8, 8, 3))
  assert traces == [1, 2]


@pytest.mark.parametrize('create', [
    explainers.create, explainers.create_program,
])
def test_the_same_arguments_give_the_same_explainer(create):
  score_fn = fresh(score)

  def one(**changes):
    options = {'max_evals': 40, 'masker': maskers.BLUR, **changes}
    return create('partition', score_fn, **options)

  assert one() is one() is one(masker=Masker('blur')) is one(grid=4)
  colour = np.array([0.1, 0.2, 0.3])
  assert one(masker=Masker('mean', 0, colour)) is one(
      masker=Masker('mean', 0, tuple(colour))
  )
  others = [
      one(), one(max_evals=41), one(masker=Masker('mean')),
      create('partition', fresh(score), max_evals=40, masker=maskers.BLUR),
  ]
  assert len(set(map(id, others))) == len(others)


def test_functions_are_not_kept_without_end():
  # A cache without a bound would keep each, with all that it has closed over.
  for cached in (
      explainers._create_once, model_fn._compiled, model_fn._inspect
  ):
    assert cached.cache_info().maxsize == model_fn.KEPT < 100


@pytest.mark.parametrize('name', sorted(explainers.EXPLAINERS))
@pytest.mark.parametrize('with_variables', [True, False])
def test_another_call_of_explain_compiles_nothing(
    compiled, name, with_variables
):
  weights = make_weights(0)
  if with_variables:
    score_fn, arguments = fresh(score), {'variables': weights}
    layers = layers_of(name)
  else:
    score_fn = functools.partial(score, weights)
    layers = Layers(*(
        functools.partial(fn, weights) for fn in layers_of(name)
    ))
    arguments = {}

  def explain(**changes):
    return attribution.explain(
        score_fn, IMAGES, LABELS, explainer=name, layers=layers, masker='mean',
        mask_value=np.array([0.2, 0.5, 0.9]), max_evals=20, grid=2,
        integration_steps=2, **arguments | changes,
    )

  maps = explain()
  assert maps.shape == IMAGES.shape
  first = compiled()
  np.testing.assert_array_equal(explain(), maps)
  if with_variables:
    other = explain(variables=make_weights(1))
    blind = name in ('random', 'edges', 'disc')
    assert blind or np.abs(other - maps).max() > 1e-4
  assert compiled() == first


class Unhashable:
  """As an Equinox module, whose hash would be that of its arrays."""

  __hash__ = None

  def __init__(self, seed):
    self.weights = make_weights(seed)

  def __eq__(self, other):
    raise AssertionError('arrays have no one answer')

  def __call__(self, images):
    return score(self.weights, images)


def test_a_callable_that_cannot_be_hashed_works_and_compiles_once(compiled):
  model, other = Unhashable(0), Unhashable(1)

  def explain(model):
    return attribution.explain(model, IMAGES, LABELS, max_evals=20)

  maps = explain(model)
  first = compiled()
  np.testing.assert_array_equal(explain(model), maps)
  assert compiled() == first
  assert np.abs(explain(other) - maps).max() > 1e-3


def test_bound_methods_are_the_same_function(compiled):
  class Model:

    def scores(self, images):
      return score(make_weights(0), images)

  model = Model()
  attribution.explain(model.scores, IMAGES, LABELS, max_evals=20)
  first = compiled()
  attribution.explain(model.scores, IMAGES, LABELS, max_evals=20)
  assert compiled() == first


class TraceContextError(Exception):
  """What Flax NNX raises for a model in training."""


def needs_numpy(images):
  return np.asarray(images).mean(axis=(1, 2))


def branches(images):
  return images.mean((1, 2)) if images.sum() > 0 else images.max((1, 2))


def mutates(images):
  raise TraceContextError('Cannot mutate BatchStat\nfrom another level.')


@pytest.mark.parametrize(('score_fn', 'said', 'cure'), [
    (needs_numpy, 'TracerArrayConversionError', 'jax.pure_callback'),
    (branches, 'TracerBoolConversionError', 'jnp.where'),
    (mutates, 'TraceContextError: Cannot mutate BatchStat', 'model.eval()'),
    (score, 'missing 1 required positional argument', 'variables='),
    (lambda x: x @ x, 'TypeError', 'must be a pure function'),
])
@pytest.mark.parametrize('name', ['partition', 'shap_partition'])
def test_a_function_that_cannot_be_traced_is_explained(
    name, score_fn, said, cure
):
  with pytest.raises(InputError) as error:
    attribution.explain(score_fn, IMAGES, LABELS, explainer=name)
  message = str(error.value)
  assert said in message and '\n' not in message
  assert cure in message
  assert error.value.__cause__ is not None
