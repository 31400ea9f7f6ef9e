"""Layer-wise relevance propagation, by hand and layer by layer in NumPy."""

import functools

from attribution import explainers
from attribution.errors import InputError
from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 8, 2), dtype=np.float32)
LABELS = np.array([0, 2, 1])
SIZES = {'kernel': (3, 3, 2, 4), 'conv_bias': (4,), 'scale': (4,),
         'shift': (4,), 'dense': (3 * 3 * 4, 5), 'dense_bias': (5,),
         'last': (5, 3), 'last_bias': (3,)}
WEIGHTS = {
    name: RNG.normal(size=size).astype(np.float32) / 2
    for name, size in SIZES.items()
}
RULES = 'lrp_epsilon', 'lrp_alpha1_beta0'


def convolve(x, kernel):
  return lax.conv_general_dilated(
      x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def network(w, images):
  """A convolution, its normalisation, mean pooling and two dense layers."""
  x = convolve(images, w['kernel']) + w['conv_bias']
  x = jax.nn.relu(x * w['scale'] + w['shift'])
  x = x.reshape(x.shape[0], 3, 2, 3, 2, 4).mean(axis=(2, 4))
  x = jax.nn.relu(x.reshape(x.shape[0], -1) @ w['dense'] + w['dense_bias'])
  return x @ w['last'] + w['last_bias']


def explain(name, score_fn=network, weights=WEIGHTS, **options):
  make = explainers.create(name, score_fn, **options)
  return make(weights, IMAGES, LABELS)


def matrix_of(function, shape):
  """The matrix of a linear function of [*shape]: [inputs, outputs]."""
  basis = np.eye(int(np.prod(shape)), dtype=np.float32).reshape(-1, *shape)
  return np.asarray(function(basis)).reshape(len(basis), -1).astype(float)


def by_hand(rule, epsilon, w):
  """The same network with its rules, as products of matrices."""

  def pool(x):
    return x.reshape(len(x), 3, 2, 3, 2, 4).mean(axis=(2, 4))

  per_place = np.tile(w['scale'], 36)
  first = matrix_of(lambda x: convolve(x, w['kernel']), IMAGES.shape[1:])
  first = first * per_place
  first_bias = np.tile(w['scale'] * w['conv_bias'] + w['shift'], 36)
  second = matrix_of(pool, (6, 6, 4)) @ w['dense']

  def stabilised(z):
    return z + epsilon * np.where(z < 0, -1, 1)

  maps = []
  for image, label in zip(IMAGES, LABELS, strict=True):
    x = image.ravel().astype(float)
    y = x @ first + first_bias
    a = np.maximum(y, 0)
    z = a @ second + w['dense_bias']
    b = np.maximum(z, 0)
    logit = (b @ w['last'] + w['last_bias'])[label]
    given = b * w['last'][:, label] / stabilised(logit) * logit
    given = a * (second @ (given / stabilised(z)))
    if rule == 'lrp_epsilon':
      given = x * (first @ (given / stabilised(y)))
    else:
      parts = np.maximum(x[:, None] * first, 0)
      total = parts.sum(axis=0)
      given = parts @ (given / np.where(total > 0, total, 1))
    maps.append(given.reshape(image.shape))
  return np.stack(maps)


@pytest.mark.parametrize('epsilon', [0.0, 1e-6, 0.3])
@pytest.mark.parametrize('rule', RULES)
def test_it_is_what_a_chain_of_matrices_gives(rule, epsilon):
  np.testing.assert_allclose(
      explain(rule, epsilon=epsilon), by_hand(rule, epsilon, WEIGHTS),
      rtol=2e-4, atol=1e-5,
  )


def test_two_units_by_hand():
  # z = (2·1 − 1·2 + 0.5, 3·1 + 1·2) = (0.5, 5); score 4·0.5 − 1·5 = −3.
  weights = {
      'first': np.float32([[2, 3], [-1, 1]]), 'bias': np.float32([0.5, 0]),
      'last': np.float32([[4], [-1]]),
  }

  def score(w, images):
    x = images.reshape(len(images), -1)
    return jax.nn.relu(x @ w['first'] + w['bias']) @ w['last']

  image, label = np.float32([1, 2]).reshape(1, 1, 2, 1), np.array([0])

  def of(epsilon):
    make = explainers.create('lrp_epsilon', score, epsilon=epsilon)
    return make(weights, image, label).ravel()

  # R of the units 2 and −5: 2·(2, −2)/0.5 − 5·(3, 2)/5.
  np.testing.assert_allclose(of(0.0), [8 - 3, -8 - 2], rtol=1e-5)
  # With ε = 1 they are 2·3/4 and −5·3/4, over 1.5 and 6.
  np.testing.assert_allclose(
      of(1.0), [1.5 * 2 / 1.5 - 3.75 * 3 / 6, -1.5 * 2 / 1.5 - 3.75 * 2 / 6],
      rtol=1e-5,
  )


def test_a_scale_belongs_to_the_convolution_that_it_follows():
  folded = dict(WEIGHTS)
  folded['kernel'] = WEIGHTS['kernel'] * WEIGHTS['scale']
  folded['conv_bias'] = (
      WEIGHTS['conv_bias'] * WEIGHTS['scale'] + WEIGHTS['shift']
  )
  folded['scale'], folded['shift'] = np.ones(4, np.float32), np.zeros(4)
  for rule in RULES:
    np.testing.assert_allclose(
        explain(rule), explain(rule, weights=folded), rtol=1e-3, atol=1e-5
    )


def test_other_activations_hand_back_what_they_are_given():
  # R passes an activation whole, however flat it is there.
  def score(w, images):
    return jnp.tanh(images.reshape(len(images), -1) @ w)

  weights = 5 * RNG.normal(size=(128, 3)).astype(np.float32)
  maps = explain('lrp_epsilon', score, weights, epsilon=0.0)
  scores = np.asarray(score(weights, IMAGES))[np.arange(3), LABELS]
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), scores, rtol=1e-4)


def same(x, kernel):
  return lax.conv_general_dilated(
      x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


SQUARE = RNG.normal(size=(3, 3, 2, 2)).astype(np.float32)
SHIFT = RNG.random(2).astype(np.float32)


ROW_ABOVE = (0, 0), (1, 0), (0, 0), (0, 0)


def negated(x):
  return -same(x, SQUARE)


@pytest.mark.parametrize(('layer', 'terms'), [
    (lambda x: SHIFT - same(x, SQUARE), [negated]),
    (lambda x: same(x, SQUARE) / -2 + SHIFT, [lambda x: negated(x) / 2]),
    (lambda x: -same(x, SQUARE), [negated]),
    # Those of a shortcut are its own.
    (lambda x: x + same(x, SQUARE), [lambda x: x, lambda x: same(x, SQUARE)]),
    (lambda x: x - same(x, SQUARE) * SHIFT,
     [lambda x: x, lambda x: negated(x) * SHIFT]),
    (lambda x: jnp.concatenate([same(x, SQUARE), negated(x)], 1)[:, 3:11],
     [lambda x: np.concatenate([-negated(x), negated(x)], 1)[:, 3:11]]),
    (lambda x: jnp.pad(same(x, SQUARE), ROW_ABOVE)[:, :8],
     [lambda x: np.pad(-negated(x), ROW_ABOVE)[:, :8]]),
])
def test_what_follows_a_convolution_belongs_to_its_terms(layer, terms):
  head = np.abs(RNG.normal(size=(128, 3))).astype(np.float32)

  def score(w, images):
    x = jax.nn.relu(layer(images))
    return x.reshape(len(x), -1) @ w

  maps = explain('lrp_alpha1_beta0', score, head, epsilon=0.0)
  matrices = [matrix_of(term, IMAGES.shape[1:]) for term in terms]
  after = np.maximum(np.asarray(layer(IMAGES)).reshape(3, -1), 0)
  for image, label, y, found in zip(IMAGES, LABELS, after, maps, strict=True):
    x = image.ravel().astype(float)[:, None]
    parts = sum(np.maximum(x * matrix, 0) for matrix in matrices)
    total = parts.sum(axis=0)
    expected = parts @ (
        y * head[:, label] / np.where(total > 0, total, 1)
    )
    np.testing.assert_allclose(found.ravel(), expected, rtol=2e-3, atol=1e-4)


def test_an_image_is_what_the_network_takes():
  # Normalised first: a dark pixel is a large negative number, and relevant.
  head = np.abs(RNG.normal(size=(36, 3))).astype(np.float32)

  def score(w, images):
    x = jax.nn.relu(convolve((images - 0.5) / 0.25, WEIGHTS['kernel']))
    return x.sum(axis=3).reshape(len(x), -1) @ w

  images = (IMAGES > 0.5).astype(np.float32)
  make = explainers.create('lrp_alpha1_beta0', score, epsilon=0.0)
  maps = make(head, images, LABELS)
  assert (maps >= 0).all() and (maps[images == 0] > 0).any()
  scores = np.asarray(score(head, images))[np.arange(3), LABELS]
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), scores, rtol=1e-4)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
@pytest.mark.parametrize('epsilon', [0.0, 1e-6])
@pytest.mark.parametrize('rule', RULES)
def test_of_networks_of_few_bits(rule, epsilon, dtype):
  def score(w, images):
    w = jax.tree.map(lambda x: x.astype(dtype), w)
    return network(w, images.astype(dtype)).astype(jnp.float32)

  images = IMAGES.copy()
  images[:, :4] = 0  # Where sums are of nothing.
  maps, precise = (
      explainers.create(rule, f, epsilon=epsilon)(WEIGHTS, images, LABELS)
      for f in (score, network)
  )
  size = np.abs(precise).max()
  np.testing.assert_allclose(maps / size, precise / size, atol=0.1)


def test_a_score_of_no_image_is_told_by_no_pixel():
  maps = explain('lrp_epsilon', lambda w, x: jnp.ones((len(x), 3)) * w[0], (
      np.ones(1, np.float32)
  ))
  assert not maps.any()


def test_one_array_of_scores_is_asked_for():
  program = explainers.create_program('lrp_epsilon', _twice)
  with pytest.raises(InputError, match='returns 2 arrays'):
    program(WEIGHTS, IMAGES, LABELS[:, None])


def _twice(weights, images):
  return (network(weights, images),) * 2


def test_a_gate_gets_nothing():
  def score(w, images):
    x = images.reshape(len(images), -1)[:, :3]
    return x * nn.sigmoid(x @ w)

  weights = RNG.normal(size=(3, 3)).astype(np.float32)
  maps = explain('lrp_epsilon', score, weights, epsilon=0.0)
  maps = maps.reshape(3, -1)[:, :3]
  scores = np.asarray(score(weights, IMAGES))
  # All of a score is of the one pixel that is its signal.
  np.testing.assert_allclose(
      maps, scores * np.eye(3)[LABELS], rtol=1e-5, atol=1e-6
  )


def test_it_runs_inside_a_jitted_function():
  program = explainers.create_program('lrp_alpha1_beta0', network)
  found = jax.jit(program)(WEIGHTS, IMAGES, LABELS[:, None])[..., 0]
  np.testing.assert_allclose(
      found, explain('lrp_alpha1_beta0'), rtol=1e-4, atol=1e-6
  )


@pytest.mark.parametrize(('last', 'part'), [
    (jax.nn.softmax, "'exp'"),
    (lambda x: x * x[:, ::-1], "'mul' of two values that depend"),
    (lambda x: jnp.sin(x), "'sin'"), (jnp.fft.fft, "'fft'"),
    (lambda x: lax.fori_loop(0, 3, lambda i, y: y * 2, x), 'no rule for'),
])
@pytest.mark.parametrize('rule', RULES)
def test_what_has_no_rule_is_refused(rule, last, part):
  with pytest.raises(InputError, match='no rule') as error:
    explain(rule, functools.partial(_ending, last))
  assert part in str(error.value)


def _ending(last, weights, images):
  return last(network(weights, images))


@pytest.mark.parametrize('epsilon', [-1.0, float('nan'), '1'])
def test_an_epsilon_that_cannot_be_is_refused(epsilon):
  with pytest.raises(InputError, match='epsilon is'):
    explainers.create('lrp_epsilon', network, epsilon=epsilon)
