"""Which masks guided training is given, and the controls of them."""

from attribution.errors import InputError
from impactx_jax import tasks
from impactx_jax.configs import common
from impactx_jax.data import boxes as box_lib
from impactx_jax.data import columns as column_lib
from impactx_jax.data import guidance
import jax
import numpy as np
import pytest

SIDES = (8, 16)
RNG = np.random.default_rng(0)
COUNT = 40


def boxes_at(lows, extent=(4, 4)):
  """Boxes of 4 x 4 pixels of an image of 8 x 16, by their upper left ones."""
  lows = np.asarray(lows)
  corners = np.concatenate([lows, lows + extent], axis=-1)
  return (corners / np.tile(SIDES, 2)).astype(np.float32)


def single():
  """One label and one object an image; of every eighth no box is known."""
  boxes = boxes_at(np.stack(
      [RNG.integers(0, 5, COUNT), RNG.integers(0, 13, COUNT)], axis=1
  ))
  boxes[::8] = 0
  return {
      'id': np.array([f'train_{i}' for i in range(COUNT)]),
      'image': RNG.integers(0, 256, (COUNT, *SIDES, 3), np.uint8),
      'label': (np.arange(COUNT) % 2).astype(np.int32),
      'box': boxes,
      'mask': box_lib.boxes_to_masks(boxes[:, None], SIDES).astype(np.uint8),
  }


def several():
  """Three classes, of which an image has some, the first with two boxes."""
  labels = (RNG.random((COUNT, 3)) < 0.6).astype(np.int32)
  boxes = np.zeros((COUNT, 3, 2, 4), np.float32)
  boxes[:, :, 0] = boxes_at(np.stack([
      RNG.integers(0, 5, (COUNT, 3)), RNG.integers(0, 13, (COUNT, 3))
  ], axis=-1))
  boxes[:, 0, 1] = boxes_at([4, 12])
  return {
      'id': np.array([f'train_{i}' for i in range(COUNT)]),
      'image': RNG.integers(0, 256, (COUNT, *SIDES, 3), np.uint8),
      'labels': labels,
      'boxes': boxes * labels[:, :, None, None].astype(np.float32),
  }


def annotate(columns, **changes):
  config = common.get_config()
  config.method.update(changes)
  task = 'classification' if 'label' in columns else 'multi_label'
  names = [f'class {k}' for k in range(2 if 'label' in columns else 3)]
  return guidance.annotate(columns, config, {
      'name': 'mine', 'task': task, 'class_names': names,
      'columns': [*columns],
  })


@pytest.mark.parametrize(('source', 'kept', 'left_out'), [
    ('boxes', 'box', 'mask'), ('masks', 'mask', 'box'),
])
def test_what_is_asked_for_is_kept_and_nothing_else(source, kept, left_out):
  columns = single()
  found = annotate(columns, mask_source=source)
  assert found.keys() == columns.keys() - {left_out} | {'annotated'}
  np.testing.assert_array_equal(found[kept], columns[kept])
  np.testing.assert_array_equal(found['annotated'], np.arange(COUNT) % 8 > 0)


def test_a_small_share_is_part_of_a_larger_one():
  columns, before = single(), None
  for fraction in (0.1, 0.5, 1.0):
    found = annotate(columns, mask_fraction=fraction)['annotated'] > 0
    assert 0 < found.sum() <= fraction * COUNT
    assert before is None or (before <= found).all()
    before = found


def test_a_share_that_leaves_no_mask_is_refused():
  with pytest.raises(InputError, match='0.01 of 40 .* leaves none'):
    annotate(single(), mask_fraction=0.01)


def test_images_with_a_mask_are_seen_more_often_where_it_is_asked():
  assert 'sampling_share' not in annotate(single(), mask_fraction=0.2)
  found = annotate(single(), mask_fraction=0.2, mask_oversampling=5.0)
  np.testing.assert_array_equal(
      found['sampling_share'], 1 + 4 * found['annotated']
  )


@pytest.mark.parametrize('columns', [single(), several()],
                         ids=['single', 'several'])
@pytest.mark.parametrize('source', ['boxes', 'masks'])
@pytest.mark.parametrize('name', ['other', 'centre', 'random', 'whole'])
def test_controls_know_nothing_of_the_image(columns, source, name):
  own = annotate(columns, mask_source=source)
  found = annotate(columns, mask_source=source, guidance_masks=name)
  column = next(n for n in ('boxes', 'box', 'mask') if n in own)
  masks = column_lib.kind_of(column) == column_lib.MASK
  before, after = own[column], found[column]
  assert before.shape == after.shape and before.dtype == after.dtype
  np.testing.assert_array_equal(own['annotated'], found['annotated'])

  def areas(x):
    if masks:
      return x.astype(bool).sum(axis=(1, 2))
    return ((x[..., 2:] - x[..., :2]) * SIDES).prod(axis=-1)

  if name == 'whole':
    there = areas(before) > 0
    np.testing.assert_array_equal(areas(after), 128 * there)
    return
  if name == 'other' and not masks:
    # The same boxes of each class, at other images.
    groups = columns.get('label', np.zeros(COUNT, int))
    for group in np.unique(groups):
      old, new = (
          np.sort(x[groups == group].reshape(sum(groups == group), -1), axis=0)
          for x in (before, after)
      )
      np.testing.assert_array_equal(old, new)
  np.testing.assert_allclose(np.sort(areas(after), axis=0),
                             np.sort(areas(before), axis=0), atol=1e-4)
  filled = areas(before) > 0
  moved = (before != after).reshape(*filled.shape, -1).any(axis=-1) if (
      not masks
  ) else (before != after).any(axis=(1, 2))
  assert moved[filled].mean() > 0.7 and not moved[~filled].any()
  if name == 'centre' and not masks:
    middle = (after[..., :2] + after[..., 2:]) / 2
    np.testing.assert_allclose(middle[filled], 0.5, atol=0.5 / 8)


def test_another_images_mask_is_one_of_the_class():
  columns = single()
  # The objects of the first class are above, those of the second below.
  filled, below = columns['box'].any(axis=1), columns['label'] > 0
  columns['box'][filled, 0] = np.where(below, 0.5, 0)[filled]
  columns['box'][filled, 2] = np.where(below, 1, 0.5)[filled]
  found = annotate(columns, guidance_masks='other')['box']
  np.testing.assert_array_equal((found[:, 0] > 0)[filled], below[filled])


def chosen(columns, rows, key=0, **changes):
  config = common.get_config()
  config.method.update(changes)
  task = tasks.TASKS['classification' if 'label' in columns else 'multi_label']
  columns = annotate(columns, **changes)
  batch = {
      name: column[rows] for name, column in columns.items() if name != 'id'
  }
  batch['position'] = np.asarray(rows)
  return guidance.choose(
      batch, jax.random.key(key), config.method, task=task,
      num_classes=2 if 'label' in columns else 3,
  )


def test_one_label_is_its_own_class_and_all_have_its_mask():
  columns, rows = single(), np.arange(8)
  one = chosen(columns, rows)
  np.testing.assert_array_equal(
      one['guidance_classes'][:, 0], columns['label'][rows]
  )
  np.testing.assert_array_equal(one['guidance_masks'], columns['mask'][rows])
  np.testing.assert_array_equal(one['guidance_weights'][:, 0], rows > 0)
  both = chosen(columns, rows, guidance_classes='all')
  np.testing.assert_array_equal(both['guidance_classes'], [[0, 1]] * 8)
  np.testing.assert_array_equal(
      both['guidance_masks'], np.repeat(columns['mask'][rows], 2, axis=-1)
  )
  np.testing.assert_array_equal(
      both['guidance_weights'], np.repeat(rows[:, None] > 0, 2, axis=1)
  )


def test_of_several_labels_one_that_is_there_is_drawn_anew_each_step():
  columns, rows = several(), np.arange(COUNT)
  counts = np.zeros((COUNT, 3))
  for key in range(60):
    found = chosen(columns, rows, key)
    classes = np.asarray(found['guidance_classes'])[:, 0]
    weights = np.asarray(found['guidance_weights'])[:, 0]
    there = columns['labels'].any(axis=1)
    np.testing.assert_array_equal(weights, there)
    assert (columns['labels'][rows, classes] == 1)[there].all()
    counts[rows, classes] += weights
  share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  wanted = columns['labels'] / np.maximum(
      columns['labels'].sum(axis=1, keepdims=True), 1
  )
  assert abs(share - wanted).max() < 0.3
  assert abs(share.mean(axis=0) - wanted.mean(axis=0)).max() < 0.05
  # The union of both boxes of the first class.
  first = chosen(columns, rows, guidance_classes='all')['guidance_masks']
  areas = np.asarray(first).sum(axis=(1, 2))
  has = columns['labels'] > 0
  assert (areas[:, 1:][has[:, 1:]] == 16).all()
  assert ((areas[:, 0][has[:, 0]] > 16) & (areas[:, 0][has[:, 0]] <= 32)).any()


def test_one_mask_of_several_labels_is_of_those_that_are_there():
  columns, rows = several(), np.arange(COUNT)
  columns['mask'] = np.ones((COUNT, *SIDES, 1), np.uint8)
  del columns['boxes']
  for classes in ('one', 'all'):
    found = chosen(columns, rows, guidance_classes=classes)
    there = np.take_along_axis(
        columns['labels'], np.asarray(found['guidance_classes']), axis=1
    )
    weights = np.asarray(found['guidance_weights'])
    np.testing.assert_array_equal(weights, there)
    assert weights.any()


def test_a_control_of_a_share_knows_no_other_boxes():
  columns = single()
  own = annotate(columns, mask_fraction=0.25)
  known = own['box'][own['annotated'] > 0]
  found = annotate(columns, mask_fraction=0.25, guidance_masks='other')
  given = found['box'][found['annotated'] > 0]
  np.testing.assert_array_equal(
      np.unique(given, axis=0), np.unique(known, axis=0)
  )
  assert not found['box'][found['annotated'] == 0].any()


def test_the_class_depends_on_the_place_in_the_global_batch_alone():
  columns = several()
  whole = chosen(columns, np.arange(8))['guidance_classes']
  half = chosen(columns, np.arange(4, 8))['guidance_classes']
  np.testing.assert_array_equal(whole[4:], half)


def test_dilated_boxes_are_larger_and_masks_are_not():
  columns, rows = single(), np.arange(1, 8)
  areas = {
      (source, share): np.asarray(chosen(
          columns, rows, mask_source=source, mask_dilation=share
      )['guidance_masks']).sum(axis=(1, 2, 3))
      for source in ('boxes', 'masks') for share in (0.0, 0.25)
  }
  # A box of 4 x 4 has one pixel more on each side, but at the rim.
  assert (areas['boxes', 0.25] > areas['boxes', 0.0]).all()
  assert (areas['boxes', 0.25] <= 36).all()
  np.testing.assert_array_equal(areas['masks', 0.25], areas['masks', 0.0])


def test_data_without_masks_and_boxes_are_refused():
  with pytest.raises(InputError, match='digits has neither masks nor boxes'):
    guidance.check_data(common.get_config(), {
        'name': 'digits', 'columns': ['image', 'label']
    })


@pytest.mark.parametrize(('source', 'there', 'refused'), [
    ('masks', ['mask', 'box'], True), ('boxes', ['mask'], True),
    ('boxes', ['mask', 'box'], False), ('masks', ['boxes'], False),
])
def test_masks_that_are_asked_to_be_larger_are_refused(source, there, refused):
  config = common.get_config()
  common.set_method(config, 'guided')
  config.method.mask_source, config.method.mask_dilation = source, 0.25
  data = {'name': 'mine', 'columns': ['image', 'label', *there]}
  if not refused:
    guidance.check_data(config, data)
    return
  with pytest.raises(InputError, match='mask_dilation is 0.25, which'):
    guidance.check_data(config, data)
