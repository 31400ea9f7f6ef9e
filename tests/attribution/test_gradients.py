"""Gradient explainers, and what only looks like an explanation."""

import functools

import attribution
from attribution import explainers
from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import gradients
from attribution.explainers.gradients import Layers
from attribution.maskers import Masker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

SHAPE = (6, 8, 3)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(*SHAPE, 4)).astype(np.float32)
KERNEL = RNG.normal(size=(3, 3, 3, 5)).astype(np.float32)
DENSE = RNG.normal(size=(5, 4)).astype(np.float32)
NETWORK = {'kernel': KERNEL, 'dense': DENSE}
IMAGES = RNG.random((5, *SHAPE), dtype=np.float32)
LABELS = np.array([0, 3, 1, 2, 0])


def linear(weights, images):
  return jnp.tensordot(images, weights, axes=3)


def features(weights, images):
  return jnp.tanh(jax.lax.conv_general_dilated(
      images, weights['kernel'], (2, 2), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  ))


def head(weights, features):
  return features.mean(axis=(1, 2)) @ weights['dense']


def network(weights, images):
  return head(weights, features(weights, images))


LAYERS = Layers(features, head)


def make(name, score_fn=network, weights=NETWORK, **options):
  """Makes an explainer of (images, labels), of a network and its weights."""
  explain = explainers.create(name, score_fn, layers=LAYERS, **options)
  return functools.partial(explain, weights)


def test_input_x_gradient_of_a_linear_model_is_its_terms():
  maps = make('input_x_gradient', linear, WEIGHTS)(IMAGES, LABELS)
  expected = IMAGES * np.moveaxis(WEIGHTS[..., LABELS], -1, 0)
  np.testing.assert_allclose(maps, expected, rtol=1e-5)


@pytest.mark.parametrize('name', ['blur', 'constant'])
def test_integrated_gradients_of_a_linear_model_are_exact(name):
  masker = Masker(name, mask_value=0.3)
  options = dict(masker=masker, integration_steps=2)
  explain = make('integrated_gradients', linear, WEIGHTS, **options)
  maps, hidden = explain(IMAGES, LABELS), masker.background(IMAGES)
  expected = (IMAGES - hidden) * np.moveaxis(WEIGHTS[..., LABELS], -1, 0)
  np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def baselines_of(images):
  return explainers.Baselines(images.shape, images.tobytes())


def test_expected_gradients_of_a_linear_model_are_exact():
  # Each of three baselines twice, wherever on the way.
  maps = make(
      'expected_gradients', linear, WEIGHTS, baselines=baselines_of(IMAGES[:3]),
      integration_steps=6,
  )(IMAGES, LABELS)
  moved = IMAGES - IMAGES[:3].mean(axis=0)
  expected = moved * np.moveaxis(WEIGHTS[..., LABELS], -1, 0)
  np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_expected_gradients_are_the_mean_of_integrated_ones():
  expected = np.mean([
      make(
          'integrated_gradients', integration_steps=200,
          masker=Masker('constant', mask_value=colour),
      )(IMAGES, LABELS) for colour in (0.0, 1.0)
  ], axis=0)
  black_and_white = np.stack([np.zeros(SHAPE), np.ones(SHAPE)])
  few, many = (
      make(
          'expected_gradients', integration_steps=n,
          baselines=baselines_of(black_and_white.astype(np.float32)),
      )(IMAGES, LABELS) for n in (20, 4000)
  )
  scale = np.abs(expected).mean()
  assert np.abs(many - expected).mean() < 0.01 * scale
  assert np.abs(few - expected).mean() > np.abs(many - expected).mean()


@pytest.mark.parametrize(('count', 'steps'), [(100, 32), (20, 32), (3, 64)])
def test_expected_gradients_go_all_the_way_whatever_the_baselines(count, steps):
  def steep(weights, images):  # Changes in one part of the way.
    mean = images.mean(axis=(1, 2, 3))[:, None]
    return jax.nn.sigmoid(40 * (mean - 0.5)) * weights

  white, black = np.ones((1, *SHAPE), np.float32), np.zeros((count, *SHAPE))
  for seed in range(4):
    maps = make(
        'expected_gradients', steep, jnp.ones(4), seed=seed,
        baselines=baselines_of(black.astype(np.float32)),
        integration_steps=steps,
    )(white, LABELS[:1])
    assert maps.sum() == pytest.approx(1, abs=0.15)


def test_expected_gradients_begin_at_the_masker_where_there_are_no_baselines():
  masker = Masker('constant', mask_value=0.3)
  options = dict(masker=masker, integration_steps=2)
  found, other = (
      make('expected_gradients', linear, WEIGHTS, seed=s, **options)(
          IMAGES, LABELS
      ) for s in (0, 1)
  )
  expected = make('integrated_gradients', linear, WEIGHTS, **options)(
      IMAGES, LABELS
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  bent = [
      make('expected_gradients', seed=s)(IMAGES, LABELS) for s in (0, 1)
  ]
  assert np.abs(bent[0] - bent[1]).max() > 1e-5
  np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(('options', 'said'), [
    ({'baselines': np.zeros((2, 4, 4, 3))}, r'baselines are \(4, 4, 3\)'),
    ({'baselines': np.zeros((0, *SHAPE))}, 'one image or more'),
    ({'baselines': np.zeros(SHAPE)}, r'\[M, H, W, C\]'),
    ({'baselines': np.zeros((2, *SHAPE), np.uint8)}, 'finite floats.*uint8'),
    ({'baselines': np.full((2, *SHAPE), np.nan)}, 'finite floats'),
    ({'integration_steps': 0}, '1 or more'),
])
def test_baselines_that_do_not_fit_are_refused(options, said):
  with pytest.raises(InputError, match=said):
    attribution.explain(
        network, IMAGES, LABELS, variables=NETWORK,
        explainer='expected_gradients', **options,
    )


def test_integrated_gradients_become_complete_with_more_steps():
  rows = np.arange(5)
  hidden = maskers.BLUR.background(IMAGES)
  change = network(NETWORK, IMAGES) - network(NETWORK, hidden)
  change = np.asarray(change)[rows, LABELS]
  gaps = [
      np.abs(
          make('integrated_gradients', integration_steps=steps)(IMAGES, LABELS)
          .sum(axis=(1, 2, 3)) - change
      ).max()
      for steps in (1, 64)
  ]
  assert gaps[1] < 1e-4 < gaps[0]


@pytest.mark.parametrize('steps', [1, 5, 8])
def test_steps_that_are_written_out_are_those_of_the_loop(monkeypatch, steps):
  found = []
  for most in (0, gradients.MOST_UNROLLED):
    monkeypatch.setattr(gradients, 'MOST_UNROLLED', most)
    jax.clear_caches()
    explain = make('integrated_gradients', integration_steps=steps)
    found.append(explain(IMAGES, LABELS))
  np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


def test_smooth_grad_of_a_linear_model_is_its_weights():
  explain = explainers.create('smooth_grad', linear, integration_steps=3)
  maps = explain(WEIGHTS, IMAGES, LABELS)
  expected = WEIGHTS.transpose(3, 0, 1, 2)[LABELS]
  np.testing.assert_allclose(maps, expected, rtol=1e-5)


def test_smooth_grad_of_a_square_is_smoothed_by_the_mean_of_the_noise():
  """The gradient of x^2 is 2x, under noise 2x + 2 noise, of which 0 is left."""

  def square(weights, images):
    del weights
    return (images**2).sum(axis=(1, 2, 3))[:, None]

  def error(steps, noise):
    explain = explainers.create(
        'smooth_grad', square, integration_steps=steps, noise=noise
    )
    maps = explain(None, IMAGES, 0 * LABELS)
    # The same noise for every image, whatever is explained beside it.
    errors = maps - 2 * IMAGES
    np.testing.assert_allclose(errors, errors[:1].repeat(5, 0), atol=1e-5)
    return errors.std()

  assert error(1, 0.0) < 1e-6
  assert error(1, 0.5) == pytest.approx(1.0, rel=0.2)
  assert error(100, 0.5) == pytest.approx(0.1, rel=0.2)
  with pytest.raises(InputError, match='noise is -1'):
    explainers.create('smooth_grad', square, noise=-1)


def test_grad_cam_by_hand():
  maps = make('grad_cam')(IMAGES, LABELS)
  stack = np.asarray(features(NETWORK, IMAGES))
  # The head is linear: each weight is the class's, over the number of cells.
  weights = DENSE[:, LABELS].T / (stack.shape[1] * stack.shape[2])
  cam = np.maximum((stack * weights[:, None, None]).sum(-1), 0)
  expected = jax.image.resize(cam, (5, *SHAPE[:2]), 'bilinear')
  np.testing.assert_allclose(maps.sum(-1), expected, rtol=1e-4, atol=1e-7)
  assert maps.shape == IMAGES.shape
  np.testing.assert_array_equal(maps[..., 0], maps[..., 2])


def test_grad_cam_needs_to_know_where_to_cut():
  with pytest.raises(InputError, match="layer='Conv_1'; .* layers=Layers"):
    explainers.create('grad_cam', network)


ENCODED = RNG.normal(size=(SHAPE[0], SHAPE[1], 6, 4)).astype(np.float32)


def encode(weights, images):
  del weights
  return jnp.concatenate([images, 1 - images], axis=-1)


def of_encoded(weights, images):
  return linear(weights, encode(weights, images))


def test_b_cos_sums_what_is_encoded_of_a_colour():
  maps = explainers.create(
      'b_cos', of_encoded, layers=Layers(encode, linear)
  )(ENCODED, IMAGES, LABELS)
  rows = np.moveaxis(ENCODED[..., LABELS], -1, 0)
  expected = IMAGES * rows[..., :3] + (1 - IMAGES) * rows[..., 3:]
  np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)


def test_b_cos_as_a_part_of_a_jitted_function():
  layers = Layers(encode, linear)
  program = explainers.create_program('b_cos', of_encoded, layers=layers)
  classes = np.stack([LABELS, (LABELS + 1) % 4], axis=1)
  maps = jax.jit(program)(ENCODED, IMAGES, classes)
  assert maps.shape == (*IMAGES.shape, 2)
  explain = explainers.create('b_cos', of_encoded, layers=layers)
  for k in range(2):
    np.testing.assert_allclose(
        maps[..., k], explain(ENCODED, IMAGES, classes[:, k]), rtol=1e-5
    )


@pytest.mark.parametrize(('layers', 'said'), [
    (None, 'for B-cos networks alone'),
    (LAYERS, r'an encoding of images \(6, 8, 3\).*this is \(3, 4, 5\)'),
    (Layers(lambda _, x: x[..., :2], linear), 'multiple of their channels'),
])
def test_b_cos_needs_an_encoding_of_the_image(layers, said):
  with pytest.raises(InputError, match=said):
    attribution.explain(
        network, IMAGES, LABELS, variables=NETWORK, explainer='b_cos',
        layers=layers,
    )


@pytest.mark.parametrize(
    'name',
    ['input_x_gradient', 'integrated_gradients', 'grad_cam', 'random', 'edges'],
)
def test_several_classes_are_each_explained(name):
  classes = np.stack([LABELS, (LABELS + 1) % 4], axis=1)
  both = make(name)(IMAGES, classes)
  assert both.shape == (*IMAGES.shape, 2)
  for k in range(2):
    np.testing.assert_allclose(
        both[..., k], make(name)(IMAGES, classes[:, k]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    'name', ['input_x_gradient', 'integrated_gradients', 'grad_cam']
)
def test_as_a_part_of_a_jitted_function(name):
  program = explainers.create_program(name, network, layers=LAYERS)
  maps = jax.jit(program)(NETWORK, IMAGES, LABELS[:, None])[..., 0]
  np.testing.assert_allclose(
      maps, make(name)(IMAGES, LABELS), rtol=1e-5, atol=1e-6
  )


def test_random_maps_are_those_of_the_image_and_class():
  maps = make('random')(IMAGES, LABELS)
  np.testing.assert_array_equal(maps[2:3], make('random')(IMAGES[2:3], [1]))
  assert len(np.unique(maps[:, 0, 0, 0])) == 5
  assert np.any(make('random')(IMAGES[:1], [1]) != maps[:1])
  assert maps.min() >= 0 and maps.max() < 1


def test_a_disc_is_in_the_middle_of_every_image():
  image = np.zeros((1, 32, 48, 3), np.float32)
  found = make('disc')(image, [0])[0]
  y, x = np.nonzero(found[..., 0])
  assert (y.min(), y.max(), x.min(), x.max()) == (7, 24, 15, 32)
  assert found.max() == 1 and (found == found[::-1, ::-1]).all()
  assert abs(found[..., 0].sum() / (np.pi * 9**2) - 1) < 0.02


def test_edges_are_sobels():
  maps = make('edges')(IMAGES, LABELS)
  image = IMAGES[1, ..., 2]
  expected = np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1))
  np.testing.assert_allclose(maps[1, ..., 2], expected, rtol=1e-5)
  flat = np.full((1, *SHAPE), 0.4, np.float32)
  assert not make('edges')(flat, [0]).any()
