"""`attribution.explain`, the function for any JAX model."""

import attribution
from attribution.errors import InputError
import jax.numpy as jnp
import numpy as np
import pytest

IMAGES = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
LABELS = np.array([0, 1, 0])


def means(images):
  """Scores [mean, -mean] of the upper half of an image."""
  mean = images[:, :4].mean(axis=(1, 2, 3))
  return jnp.stack([mean, -mean], axis=1)


def test_maps_sum_to_what_the_image_adds():
  maps = attribution.explain(
      means, IMAGES, LABELS, masker='constant', max_evals=60
  )
  assert maps.shape == IMAGES.shape
  sign = np.where(LABELS == 0, 1, -1)
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), sign * IMAGES[:, :4].mean(axis=(1, 2, 3)),
      rtol=1e-4,
  )
  np.testing.assert_allclose(maps[:, 4:], 0, atol=1e-6)


@pytest.mark.parametrize(('images', 'said'), [
    (np.uint8(255 * IMAGES), 'these are uint8.'),
    (IMAGES * np.nan, 'float32 with NaN or infinity.'),
    (np.where(IMAGES > 0.9, np.inf, IMAGES), 'with NaN or infinity.'),
])
def test_images_that_are_no_finite_floats_are_refused(images, said):
  with pytest.raises(InputError) as error:
    attribution.explain(means, images, LABELS)
  assert said in str(error.value)


def test_scores_that_are_not_finite_are_refused():
  with pytest.raises(InputError, match='gives NaN or infinity'):
    attribution.explain(lambda x: means(x) / 0, IMAGES * 0, LABELS)
