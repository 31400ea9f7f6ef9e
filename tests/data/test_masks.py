"""The masks of objects, where a data set has them."""

from attribution.errors import InputError
from impactx_jax.data import masks
from impactx_jax.data import sources
import numpy as np
import pytest

MASKS = np.random.default_rng(0).random((2, 4, 5, 3)) < 0.4


@pytest.mark.parametrize(('columns', 'expected'), [
    ({'group': np.zeros(2)}, None),
    ({'mask': MASKS[..., :1]}, MASKS[..., 0]),
    ({'object_mask': 255 * np.uint8(MASKS[..., :2])}, MASKS[..., :2].any(-1)),
    ({'masks': MASKS}, np.stack([MASKS[0, ..., 2], MASKS[1, ..., 0]])),
])
def test_the_masks_are_of_the_explained_class_or_of_the_object(
    columns, expected
):
  found = masks.masks_of(columns, np.array([2, 0]), num_classes=3)
  np.testing.assert_array_equal(found, expected)


IMAGE = {'image': np.zeros((2, 4, 4, 3), np.uint8)}
TOP, LEFT, NONE = (0, 0, 0.5, 1), (0, 0, 1, 0.25), (0, 0, 0, 0)
BOXES = np.float32([[TOP, NONE], [LEFT, TOP]])
SEVERAL = np.float32([[[TOP, LEFT], [NONE, NONE]], [[LEFT, NONE], [TOP, LEFT]]])


def filled(*boxes):
  """The pixels of named boxes, joined, bool [4, 4]."""
  found = np.zeros((4, 4), bool)
  for box in boxes:
    found[: int(4 * box[2]), : int(4 * box[3])] = True
  return found


@pytest.mark.parametrize(('boxes', 'expected'), [
    (BOXES, [filled(TOP), filled(TOP)]),
    (SEVERAL, [filled(TOP, LEFT), filled(TOP, LEFT)]),
])
def test_of_data_with_boxes_alone_the_masks_are_theirs(boxes, expected):
  found = masks.masks_of(IMAGE | {'boxes': boxes}, np.array([0, 1]), 2)
  np.testing.assert_array_equal(found, expected)


PIXELS = np.random.default_rng(1).random((2, 4, 4, 2)) < 0.5


@pytest.mark.parametrize(('columns', 'by', 'expected'), [
    ({'masks': PIXELS, 'boxes': BOXES}, 'masks', PIXELS),
    ({'masks': PIXELS}, 'boxes', PIXELS),
    ({'mask': 255 * np.uint8(PIXELS[..., :1])}, 'boxes', PIXELS[..., :1]),
    ({'masks': PIXELS, 'boxes': BOXES}, 'boxes', np.stack([
        np.stack([filled(TOP), filled()], -1),
        np.stack([filled(LEFT), filled(TOP)], -1),
    ])),
    ({'boxes': SEVERAL}, 'masks', np.stack([
        np.stack([filled(TOP, LEFT), filled()], -1),
        np.stack([filled(LEFT), filled(TOP, LEFT)], -1),
    ])),
    ({'box': BOXES[:, 0]}, 'boxes', np.stack([
        filled(TOP), filled(LEFT)
    ])[..., None]),
])
def test_where_to_look_is_boxes_or_masks(columns, by, expected):
  found = masks.of_batch(IMAGE | columns, by)
  np.testing.assert_array_equal(found, expected)


def test_dilated_boxes_reach_further():
  found = masks.of_batch(IMAGE | {'boxes': SEVERAL}, 'boxes', dilation=0.5)
  np.testing.assert_array_equal(found[1, ..., 0], filled(LEFT))  # int(0.5).
  np.testing.assert_array_equal(found[1, ..., 1], filled((0, 0, 0.75, 1), LEFT))


LABELS = {'labels': np.array([[1, 0], [1, 1]])}


@pytest.mark.parametrize('columns', [
    {'masks': np.ones((2, 4, 4, 2))}, {'mask': PIXELS[..., :1]},
    {'boxes': BOXES} | LABELS, {'boxes': SEVERAL} | LABELS,
    {'box': BOXES[:, 0]},
])
def test_what_can_guide_is_not_refused(columns):
  masks.check_masks(IMAGE | columns, 'boxes', ('cat', 'dog'), 'toy')


def with_box(*box):
  boxes = BOXES.copy()
  boxes[1, 1] = box
  return {'boxes': boxes}


@pytest.mark.parametrize(('columns', 'parts'), [
    ({'group': np.zeros(2)}, ('neither masks nor boxes', 'group, image',
                              '--config.data.name=')),
    ({'masks': np.ones((2, 8, 4, 2))}, ('8x4x2', '4x4x2', 'each class')),
    ({'masks': np.ones((2, 4, 4, 5))}, ('4x4x5', '4x4x2')),
    ({'mask': np.ones((2, 4, 4, 2))}, ('4x4x2', '4x4x1', 'the object')),
    ({'boxes': BOXES[:, :1]}, ('1x4', '2x4', 'ymin, xmin')),
    ({'box': BOXES}, ('2x4 an image', 'must be 4')),
    (with_box(0, 0, 1.5, 1), ('image 1', '[0.0, 0.0, 1.5, 1.0]', '0 to 1')),
    (with_box(0.5, 0, 0.25, 1), ('[0.5, 0.0, 0.25, 1.0]', 'ymin < ymax')),
    (with_box(0.5, 0.5, 0.5, 0.5), ('[0.5, 0.5, 0.5, 0.5]', 'or zeros')),
    (with_box(0, 0, np.nan, 1), ('nan', '0 to 1')),
    ({'boxes': BOXES, 'labels': np.array([[1, 0], [1, 0]])}, ('class dog',)),
    (with_box(0, 0, 0, 0) | LABELS, ('boxes of the class dog',)),
    ({'mask': np.zeros((2, 4, 4, 1))}, ('are empty', 'At least one')),
])
def test_what_cannot_guide_is_refused_in_one_paragraph(columns, parts):
  with pytest.raises(InputError) as error:
    masks.check_masks(IMAGE | columns, 'boxes', ('cat', 'dog'), 'toy')
  message = str(error.value)
  assert '\n' not in message
  for part in ('toy', *parts):
    assert part in message, message


@pytest.mark.parametrize('has_masks', [True, False])
def test_the_mean_mask_is_that_of_the_training_objects(has_masks):
  def columns(found):
    given = {'label': np.array([2, 0]), 'id': np.array(['a', 'b'])}
    return given | ({'masks': found} if has_masks else {})

  dataset = sources.Dataset(
      'toy', ('a', 'b', 'c'), columns(MASKS), columns(~MASKS), columns(~MASKS)
  )
  found = masks.mean_mask(dataset, seed=0)
  if not has_masks:
    assert found is None
    return
  expected = (1.0 * MASKS[0, ..., 2:] + MASKS[1, ..., :1]) / 2
  np.testing.assert_allclose(found, expected)
