"""Tests that the reference explainer is shap's own, less its three traps."""

from attribution import maskers
import cv2
import numpy as np
import pytest
import shap
from tests.attribution import shap_fixtures
from tests.attribution.shap_fixtures import MAX_EVALS
from tests.attribution.shap_fixtures import SHAPE
from tests.attribution.shap_fixtures import make_background
from tests.attribution.shap_fixtures import make_explainer
from tests.attribution.shap_fixtures import make_images
from tests.attribution.shap_fixtures import network_score
from tests.attribution.shap_fixtures import numpy_score
from tests.attribution.shap_fixtures import shap_maps
from tests.attribution.shap_fixtures import tied_score

recorder = shap_fixtures.recorder


@pytest.mark.parametrize('masker', maskers.BACKGROUND_MASKERS)
def test_maps_are_those_of_shap(masker):
  images = make_images(3)
  labels = np.array([2, 0, 1])
  maps = make_explainer(masker)(images, labels)
  assert maps.shape == images.shape
  assert maps.dtype == np.float32
  hidden = make_background(images, masker)
  for i, label in enumerate(labels):
    expected = shap_maps(hidden[i], images[i], [label])[..., 0]
    np.testing.assert_allclose(maps[i], expected, atol=1e-6)


def test_maps_are_those_of_shap_with_one_mask_value():
  images = make_images(1)
  maps = make_explainer('constant', mask_value=0.25)(images, np.array([1]))
  expected = shap_maps(np.full(SHAPE, 0.25), images[0], [1])[..., 0]
  np.testing.assert_allclose(maps[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ('max_evals', 'batch_size'), [(100, 2), (100, 60), (31, 10), (3, 10)]
)
def test_maps_are_those_of_shap_at_any_budget(max_evals, batch_size):
  images = make_images(1, seed=1)
  budget = {'max_evals': max_evals, 'batch_size': batch_size}
  maps = make_explainer('blur', **budget)(images, np.array([0]))
  hidden = make_background(images, 'blur')
  expected = shap_maps(hidden[0], images[0], [0], **budget)[..., 0]
  np.testing.assert_allclose(maps[0], expected, atol=1e-6)


@pytest.mark.parametrize('seed', [0, 7])
def test_ties_are_broken_as_shap_breaks_them(seed):
  images = np.ones((1, *SHAPE), np.float32)
  budget = {'max_evals': 14, 'seed': seed}
  explain = make_explainer('constant', tied_score, mask_value=0.0, **budget)
  expected = shap_maps(
      np.zeros(SHAPE, np.float32), images[0], [1],
      score=lambda x: np.asarray(tied_score(None, x)), **budget,
  )[..., 0]
  np.testing.assert_allclose(
      explain(images, np.array([1]))[0], expected, atol=1e-6
  )


def test_the_seed_decides_ties_and_only_ties():
  tied = np.ones((1, *SHAPE), np.float32)
  label = np.array([1])

  def maps(score_fn, images, seed):
    explain = make_explainer(
        'constant', score_fn, mask_value=0.0, max_evals=14, seed=seed
    )
    return explain(images, label)

  several = {maps(tied_score, tied, seed).tobytes() for seed in range(6)}
  assert len(several) > 1
  other = make_images(1)
  np.testing.assert_array_equal(
      maps(network_score, other, 0), maps(network_score, other, 1)
  )


def test_every_image_is_masked_with_its_own_blur(recorder):
  images = make_images(20)
  explain = make_explainer('blur')
  explain(images, np.arange(20) % 3)
  hidden = np.stack([cv2.blur(image, (3, 3)) for image in images])
  seen = recorder.images
  assert len(seen) >= 20 * (MAX_EVALS - 1)
  # Whether each pixel asked about is the image's own, or its own blur's.
  own = [
      ((seen == image) | np.isclose(seen, blur)).all(axis=(1, 2, 3))
      for image, blur in zip(images, hidden, strict=True)
  ]
  # Nothing is a mixture of two images, and each image has its share.
  assert np.sum(own, axis=0).min() == 1
  assert np.sum(own, axis=1).min() >= MAX_EVALS - 1
  for i in range(20):
    assert np.isclose(seen, hidden[i]).all(axis=(1, 2, 3)).any()


def test_the_blur_of_shap_itself_is_that_of_another_image():
  # The trap that the test above is about. It may go in a later shap, and then
  # the explainer may use shap's own blur.
  images = make_images(20)
  masker = shap.maskers.Image('blur(3,3)', SHAPE)
  nothing = np.zeros(images[0].size, bool)
  image = np.empty(images[0].size, np.float32)
  wrong = 0
  for given in images:
    image[:] = given.ravel()  # The same object, as temporary ones can be.
    masked = masker(nothing, image)[0].reshape(SHAPE)
    wrong += not np.allclose(masked, cv2.blur(given, (3, 3)))
  assert wrong == 19


@pytest.mark.parametrize('masker', maskers.MASKERS)
def test_a_map_sums_to_what_hiding_everything_changes(masker):
  # Of several images in one call, so that neither the background nor the
  # base value of one may serve for the next.
  images = make_images(4)
  images[1] = np.rint(images[1] * 51) / 255  # A dark one among them.
  labels = np.array([0, 1, 2, 1])
  maps = make_explainer(masker)(images, labels)
  rows = np.arange(4)
  full = numpy_score(images)[rows, labels]
  base = numpy_score(make_background(images, masker))[rows, labels]
  assert np.abs(full - base).min() > 1e-2
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), full - base, atol=1e-4
  )


def test_the_base_value_is_not_that_of_the_image_before():
  # Two images with backgrounds of very different scores.
  images = np.stack([np.full(SHAPE, 0.0), np.full(SHAPE, 1.0)])
  images[:, 0, 0, 0] = 0.5
  images = images.astype(np.float32)
  labels = np.array([0, 0])
  hidden = make_background(images, 'blur')
  full, base = numpy_score(images)[:, 0], numpy_score(hidden)[:, 0]
  assert abs(base[0] - base[1]) > 0.5
  sums = make_explainer('blur')(images, labels).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(sums, full - base, atol=1e-4)


@pytest.mark.parametrize('masker', maskers.INPAINT_MASKERS)
def test_inpainting_is_that_of_shap_on_the_image_in_bytes(masker):
  images = make_images(2)
  labels = np.array([0, 2])
  maps = make_explainer(masker)(images, labels)
  for i, label in enumerate(labels):
    in_bytes = np.rint(images[i] * 255)
    expected = shap_maps(
        masker, in_bytes, [label], score=lambda x: numpy_score(x / 255)
    )[..., 0]
    np.testing.assert_allclose(maps[i], expected, atol=1e-6)


def test_inpainting_an_image_below_1_is_what_shap_breaks():
  image = np.minimum(make_images(1)[0], np.float32(254 / 255))
  label = np.array([1])
  ours = make_explainer('inpaint_telea')(image[None], label)[0]
  broken = shap_maps('inpaint_telea', image, [1])[..., 0]
  full, black, base = numpy_score(
      np.stack([
          image,
          np.zeros_like(image),
          make_background(image[None], 'inpaint_telea')[0],
      ])
  )[:, 1]
  # Cast to integers, every pixel below 1 is black, visible or not.
  assert abs(full - black) > 0.1
  assert ours.sum() == pytest.approx(float(full - base), abs=1e-4)
  assert broken.sum() == pytest.approx(float(black - base), abs=1e-4)
  assert np.linalg.norm(ours - broken) > 0.5 * np.linalg.norm(ours)


@pytest.mark.parametrize('rest', [-0.3, 0.3])
def test_inpainting_rounds_to_the_nearest_byte(rest):
  # Where a cast alone would make 99.7 into 99.
  image = np.clip(make_images(1), 0.1, 0.9)
  image = np.rint(image * 255) / np.float32(255)
  explain = make_explainer('inpaint_telea')
  np.testing.assert_array_equal(
      explain(image + np.float32(rest / 255), np.array([0])),
      explain(image, np.array([0])),
  )


def test_the_model_sees_inpainted_images_between_0_and_1(recorder):
  image = make_images(1)
  make_explainer('inpaint_telea')(image, np.array([0]))
  seen = recorder.images
  assert seen.min() >= 0
  assert 0.5 < seen.max() <= 1
  # Nothing hidden: the image itself, neither scaled nor rounded off.
  np.testing.assert_allclose(seen[1], image[0], atol=1e-6)
