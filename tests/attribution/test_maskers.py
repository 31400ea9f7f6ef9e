"""Tests for the maskers: what an image looks like with everything hidden."""

from attribution import maskers
from attribution.errors import InputError
from attribution.maskers import BLUR
from attribution.maskers import Masker
import cv2
import numpy as np
import pytest


def _images(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize('side', [1, 2, 3, 5, 6])
@pytest.mark.parametrize(
    'shape', [(3, 8, 8, 3), (2, 8, 8, 1), (2, 6, 10, 3), (2, 10, 6, 1)]
)
def test_blur_is_cv2_blur_of_each_image(shape, side):
  images = _images(*shape)
  hidden = Masker('blur', side).background(images)
  assert hidden.shape == shape
  assert hidden.dtype == np.float32
  for image, blurred in zip(images, hidden, strict=True):
    np.testing.assert_allclose(
        blurred, cv2.blur(image, (side, side)).reshape(image.shape), rtol=1e-5
    )


def test_blur_is_the_mean_of_the_square_around_a_pixel():
  images = _images(2, 6, 10, 3)
  blurred = Masker('blur', 3).background(images)
  np.testing.assert_allclose(
      blurred[:, 2, 4], images[:, 1:4, 3:6].mean(axis=(1, 2)), rtol=1e-5
  )


@pytest.mark.parametrize(
    ('shape', 'side'),
    [
        ((8, 8, 3), 4),
        ((6, 10, 3), 3),
        ((10, 6, 1), 3),
        ((32, 32, 3), 16),
        ((96, 96, 3), 48),
        ((1, 5, 3), 1),
    ],
)
def test_blur_is_half_the_shorter_side_by_default(shape, side):
  images = _images(2, *shape)
  np.testing.assert_array_equal(
      BLUR.background(images),
      Masker('blur', side).background(images),
  )


def test_blur_kernel_changes_the_background():
  images = _images(1, 8, 8, 3)
  three = Masker('blur', 3).background(images)
  four = Masker('blur', 4).background(images)
  assert np.abs(three - four).max() > 0.01


@pytest.mark.parametrize('masker', ['mean', 'constant'])
@pytest.mark.parametrize(
    'value', [0.25, np.float32(0.25), np.asarray([0.25])]
)
def test_one_value_colours_every_channel(masker, value):
  hidden = Masker(masker, mask_value=value).background(_images(2, 4, 6, 3))
  assert hidden.dtype == np.float32
  np.testing.assert_array_equal(
      hidden, np.full((2, 4, 6, 3), 0.25, np.float32)
  )


@pytest.mark.parametrize('masker', ['mean', 'constant'])
@pytest.mark.parametrize('kind', [list, tuple, np.asarray])
def test_one_value_a_channel(masker, kind):
  # As many channels as columns, so that a mixed-up axis shows.
  value = kind([0.0, 0.5, 1.0])
  hidden = Masker(masker, mask_value=value).background(_images(2, 3, 3, 3))
  assert hidden.shape == (2, 3, 3, 3)
  for channel, value in enumerate([0.0, 0.5, 1.0]):
    assert (hidden[..., channel] == value).all()


def test_constant_is_black_by_default():
  assert not Masker('constant').background(_images(1, 4, 4, 1)).any()


@pytest.mark.parametrize('masker', maskers.INPAINT_MASKERS)
@pytest.mark.parametrize('shape', [(3, 4, 6, 3), (3, 6, 4, 1)])
def test_inpainting_leaves_the_mean_colour_of_the_image(masker, shape):
  images = _images(*shape)
  hidden = Masker(masker).background(images)
  assert hidden.shape == shape
  assert hidden.dtype == np.float32
  for image, background in zip(images, hidden, strict=True):
    for channel in range(shape[-1]):
      np.testing.assert_allclose(
          background[..., channel], image[..., channel].mean(), rtol=1e-5
      )


@pytest.mark.parametrize('masker', maskers.MASKERS)
def test_the_images_are_not_changed(masker):
  images = _images(2, 4, 4, 3)
  copy = images.copy()
  hidden = Masker(masker, mask_value=0.5).background(images)
  hidden += 1  # Nor afterwards, through a shared buffer.
  np.testing.assert_array_equal(images, copy)


@pytest.mark.parametrize('masker', maskers.MASKERS)
@pytest.mark.parametrize('kernel', [0, 1, 7])
def test_every_masker_passes_the_check(masker, kernel):
  assert Masker(masker, kernel).name == masker
  assert Masker(masker, kernel).inpaints == masker.startswith('inpaint')


@pytest.mark.parametrize('value', [
    (0.2, 0.5), [0.2, 0.5], np.array([0.2, 0.5]), np.float32([0.2, 0.5]),
])
def test_equal_maskers_are_one_key(value):
  masker = Masker('mean', 3, value)
  assert {masker: 1}[Masker('mean', 3, (0.2, 0.5))] == 1
  assert isinstance(masker.mask_value, tuple)
  assert masker != Masker('constant', 3, value)
  assert masker != Masker('mean', 3, 0.2)
  assert Masker('mean', 0, np.float64(0.2)) == Masker('mean', mask_value=0.2)


@pytest.mark.parametrize(
    ('given', 'nearest'),
    [
        ('blurr', 'blur'),
        ('means', 'mean'),
        ('inpaint_tela', 'inpaint_telea'),
        ('inpaint', 'inpaint_ns'),
    ],
)
def test_an_unknown_masker_suggests_the_nearest(given, nearest):
  with pytest.raises(InputError) as error:
    Masker(given)
  message = str(error.value)
  assert repr(given) in message
  assert f'Did you mean {nearest!r}?' in message
  assert message.endswith('Change it with masker=NAME.')
  for masker in maskers.MASKERS:
    assert masker in message


def test_a_masker_like_no_other_gets_no_suggestion():
  with pytest.raises(InputError, match='Unknown masker') as error:
    Masker('xyz')
  assert 'Did you mean' not in str(error.value)


def test_a_negative_blur_kernel_is_refused():
  with pytest.raises(InputError, match='-3 pixels') as error:
    Masker('blur', -3)
  assert str(error.value).endswith('Change it with blur_kernel=N.')


@pytest.mark.parametrize(
    ('value', 'said'),
    [((0.1, 0.2), 'has 2 numbers'), (np.ones((2, 3)), 'the shape (2, 3)')],
)
def test_a_mask_value_of_another_shape_is_refused(value, said):
  with pytest.raises(InputError) as error:
    Masker('constant', mask_value=value).background(_images(1, 4, 4, 3))
  assert said in str(error.value)
  assert error.value.argument == 'mask_value'
