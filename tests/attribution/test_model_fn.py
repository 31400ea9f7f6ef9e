"""Tests for the NumPy callable that explainers drive."""

from attribution.model_fn import numpy_callable
import jax
import jax.numpy as jnp
import numpy as np
import pytest

_BATCH = 4
_WEIGHTS = np.random.default_rng(1).normal(size=(48, 2)).astype(np.float32)


def _score(weights: jax.Array, images: jax.Array) -> jax.Array:
  flat = images.reshape(images.shape[0], -1)
  return jnp.tanh(flat @ weights)


def _images(count: int) -> np.ndarray:
  return np.random.default_rng(0).random((count, 4, 4, 3), np.float32)


# Less than, exactly, and more than one batch and two.
@pytest.mark.parametrize('count', [1, 3, 4, 5, 8, 9])
def test_any_number_of_images_scores_as_a_direct_call(count):
  images = _images(count)
  scores = numpy_callable(_score, _BATCH)(_WEIGHTS, images)
  assert isinstance(scores, np.ndarray)
  assert scores.dtype == np.float32
  assert scores.shape == (count, 2)
  np.testing.assert_allclose(scores, _score(_WEIGHTS, images), atol=1e-6)


@pytest.mark.parametrize('dtype', [np.float64, np.float16, jnp.bfloat16])
def test_any_float_type_goes_in_and_float32_comes_out(dtype):
  images = _images(3).astype(dtype)
  scores = numpy_callable(_score, _BATCH)(_WEIGHTS, images)
  assert scores.dtype == np.float32
  expected = _score(_WEIGHTS, images.astype(np.float32))
  np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_low_precision_scores_come_out_as_float32():
  call = numpy_callable(lambda w, x: _score(w, x).astype(jnp.bfloat16), _BATCH)
  assert call(_WEIGHTS, _images(2)).dtype == np.float32


def test_it_is_compiled_once_whatever_the_number_of_images():
  shapes = []

  def score(weights, images):
    shapes.append(images.shape)  # Runs only when JAX traces the function.
    return _score(weights, images)

  call = numpy_callable(score, _BATCH)
  for count in (9, 1, 4, 2, 5, 3, 8):
    call(_WEIGHTS, _images(count))
  for dtype in (np.float64, np.float16):
    call(_WEIGHTS, _images(3).astype(dtype))
  # Nor for other weights, or another wrapper of the function.
  other = numpy_callable(score, _BATCH)(-_WEIGHTS, _images(3))
  np.testing.assert_allclose(other, -call(_WEIGHTS, _images(3)), atol=1e-6)
  assert shapes == [(_BATCH, 4, 4, 3)]


def test_the_device_sees_full_batches_of_given_images_only():
  seen = []

  def score(weights, images):
    jax.debug.callback(lambda x: seen.append(np.array(x)), images, ordered=True)
    return _score(weights, images)

  images = _images(6)
  numpy_callable(score, _BATCH)(_WEIGHTS, images)
  jax.effects_barrier()
  # An image nobody gave, such as zeros, may score infinite or NaN.
  np.testing.assert_array_equal(seen[0], images[:4])
  np.testing.assert_array_equal(seen[1], images[[4, 5, 5, 5]])
  assert len(seen) == 2


def test_what_the_padding_scored_is_dropped():
  images = _images(6)
  images[5] = np.nan  # The last of all, which fills up the last batch.
  scores = numpy_callable(_score, _BATCH)(_WEIGHTS, images)
  assert scores.shape == (6, 2)
  np.testing.assert_array_equal(
      np.isnan(scores).all(axis=1), [False] * 5 + [True]
  )


def test_a_score_does_not_depend_on_the_other_images():
  images = _images(7)
  call = numpy_callable(_score, _BATCH)
  together = call(_WEIGHTS, images)
  alone = np.concatenate([call(_WEIGHTS, image[None]) for image in images])
  np.testing.assert_allclose(together, alone, atol=1e-6)
