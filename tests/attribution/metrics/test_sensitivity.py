"""Maps under a little noise, of explainers whose answer is known."""

from attribution.metrics import agreement
from attribution.metrics import sensitivity
import numpy as np

IMAGES = np.random.default_rng(0).random((3, 6, 6, 1), np.float32)
LABELS = np.array([0, 1, 0])


def measure(explain, **options):
  return sensitivity.sensitivity(
      explain, IMAGES, explain(IMAGES, LABELS), LABELS, **options
  )


def test_a_map_that_ignores_the_image_does_not_change():
  fixed = np.random.default_rng(1).normal(size=IMAGES.shape)
  found = measure(lambda images, labels: fixed)
  np.testing.assert_allclose(found['stability'], 1)
  np.testing.assert_array_equal(found['max_sensitivity'], 0)


def test_the_image_as_its_map_changes_as_the_noise():
  """A pixel changes by at most the noise, and stays in the range."""
  seen = []

  def explain(images, labels):
    assert labels is LABELS
    seen.append(images)
    return images

  found = measure(explain, noise=0.1, draws=3)
  _, *noisy = seen
  assert len(noisy) == 3
  for images in noisy:
    assert images.dtype == np.float32
    assert 0 < abs(images - IMAGES).max() <= 0.1 + 1e-6
    assert images.min() >= 0 and images.max() <= 1
  np.testing.assert_allclose(
      found['stability'],
      np.mean([agreement.rank_correlation(IMAGES, x) for x in noisy], axis=0),
  )
  changes = [agreement.relative_change(x, IMAGES) for x in noisy]
  np.testing.assert_allclose(found['max_sensitivity'], np.max(changes, axis=0))


def test_noise_is_a_share_of_the_range():
  seen = []
  sensitivity.sensitivity(
      lambda images, labels: seen.append(images) or images,
      4 * IMAGES - 2, IMAGES, LABELS, low=-2.0, high=2.0, noise=0.1, draws=1,
  )
  change = abs(seen[0] - (4 * IMAGES - 2)).max()
  assert 0.2 < change <= 0.4 + 1e-6
