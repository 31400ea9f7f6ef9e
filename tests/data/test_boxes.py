"""Boxes, masks, and what is between them, by hand."""

from impactx_jax.data import augment
from impactx_jax.data import boxes
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(('box', 'rows', 'columns'), [
    ((0.25, 0, 0.75, 0.5), range(1, 3), range(2)),  # On the pixels' edges.
    ((0, 0, 1, 1), range(4), range(4)),
    ((0.2, 0.1, 0.6, 0.9), range(1, 2), range(4)),  # Centres: 1/8, 3/8, …
    ((0.30, 0.30, 0.32, 0.32), [1], [1]),  # Holds no centre.
    ((0.30, 0, 0.32, 1), [1], range(4)),
    ((0, 0, 0, 0), [], []),
    ((0.5, 0.2, 0.5, 0.9), [], []),  # Of no height.
    ((1 - 1e-7, 0, 1, 1), [], []),  # What rounding leaves at the rim.
])
@pytest.mark.parametrize('kind', [np.float32, jnp.float32])
def test_boxes_to_masks_by_hand(box, rows, columns, kind):
  expected = np.zeros((4, 4, 2), bool)
  expected[np.ix_(list(rows), list(columns), [1])] = True
  given = kind([[0, 0, 0, 0], box])
  found = boxes.boxes_to_masks(given, (4, 4))
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(('share', 'expected'), [
    (0, (10, 20, 20, 50)),
    (0.1, (9, 17, 21, 53)),
    (0.25, (8, 13, 22, 57)),  # int(2.5) and int(7.5).
    (0.5, (5, 5, 25, 65)),
    (2, (0, 0, 40, 96)),  # As far as the image goes.
])
@pytest.mark.parametrize('kind', [np.float32, jnp.float32])
def test_dilation_is_in_whole_pixels_of_the_boxs_own_sides(
    share, expected, kind
):
  pixels = np.array([50, 96, 50, 96], np.float32)
  given = kind([np.array([10, 20, 20, 50]) / pixels, np.zeros(4)])
  found = boxes.dilate(given, share, (50, 96))
  np.testing.assert_allclose(found[0] * pixels, expected, atol=1e-3)
  assert not found[1].any()


def test_boxes_of_masks_by_hand():
  masks = np.zeros((2, 4, 8, 3), np.uint8)
  masks[0, 1, 2, 0] = masks[0, 3, 4, 0] = 255
  masks[1, :, :, 2] = 1
  expected = np.zeros((2, 3, 4), np.float32)
  expected[0, 0] = 1 / 4, 2 / 8, 4 / 4, 5 / 8
  expected[1, 2] = 0, 0, 1, 1
  found = boxes.boxes_of(masks)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, expected)


def test_boxes_of_masks_and_back_is_the_box_around_them():
  masks = np.random.default_rng(0).random((50, 9, 7, 4)) < 0.03
  filled = boxes.boxes_to_masks(boxes.boxes_of(masks), (9, 7))
  assert filled[masks].all()
  np.testing.assert_array_equal(boxes.boxes_of(filled), boxes.boxes_of(masks))


def test_boxes_that_are_moved_give_the_masks_that_are_moved():
  generator = np.random.default_rng(1)
  given = np.zeros((100, 3, 4), np.float32)
  for axis, side in ((0, 12), (1, 20)):
    ends = np.sort(generator.integers(0, side + 1, (100, 3, 2)))
    given[..., axis], given[..., axis + 2] = np.moveaxis(ends / side, -1, 0)
  masks = boxes.boxes_to_masks(given, (12, 20))
  moved = augment.augment(
      {
          'image': jnp.zeros((100, 12, 20, 3)), 'boxes': jnp.asarray(given),
          'masks': jnp.float32(masks), 'position': jnp.arange(100),
      },
      jax.random.key(0), flip=True, crop_padding=5,
  )
  assert (moved['masks'] != masks).any()
  np.testing.assert_array_equal(
      boxes.boxes_to_masks(moved['boxes'], (12, 20)), moved['masks'] > 0
  )
