"""What a column is by its name, and what becomes of it on a device."""

from impactx_jax.data import columns
import numpy as np
import pytest


@pytest.mark.parametrize(('name', 'kind'), [
    ('image', columns.PIXELS),
    ('left_image', columns.PIXELS),
    ('map', columns.MAP),
    ('mask', columns.MASK),
    ('masks', columns.MASK),
    ('object_mask', columns.MASK),
    ('box', columns.BOX),
    ('head_boxes', columns.BOX),
    ('label', columns.LABEL),
    ('coarse_label', columns.LABEL),
    ('labels', columns.LABEL),
    ('id', columns.TEXT),
    ('split', columns.TEXT),
    ('file_digest', columns.TEXT),
    ('group', columns.SCALAR),
    ('map_age', columns.SCALAR),  # The last word decides,
    ('label_count', columns.SCALAR),
    ('unmask', columns.SCALAR),  # and a word is a whole one.
    ('', columns.SCALAR),
])
def test_the_last_word_of_a_name_is_its_kind(name, kind):
  assert columns.kind_of(name) == kind


@pytest.mark.parametrize(('name', 'values', 'expected'), [
    ('image', np.uint8([0, 51, 255]), np.float32([0, 0.2, 1])),
    ('image', np.float32([0, 0.2, 1]), np.float32([0, 0.2, 1])),
    ('mask', np.uint8([0, 1, 255]), np.float32([0, 1, 1])),
    ('masks', np.array([False, True]), np.float32([0, 1])),
    ('object_mask', np.float32([0, 0.5]), np.float32([0, 1])),
    ('box', np.float32([0, 0.5]), np.float32([0, 0.5])),
    ('label', np.int32([0, 7]), np.int32([0, 7])),
    ('group', np.uint8([0, 255]), np.uint8([0, 255])),
    ('map', np.float32([-3, 3]), np.float32([-3, 3])),
])
def test_what_a_step_takes(name, values, expected):
  found = columns.for_device(name, values)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert found.dtype == expected.dtype


def test_rows_are_chosen_of_every_column():
  split = {'id': np.array(['a', 'b', 'c']), 'image': np.arange(3)[:, None]}
  for chosen in (np.array([2, 0]), np.array([True, False, True])):
    found = columns.rows(split, chosen)
    assert columns.count(found) == 2
    assert set(found['id']) == {'a', 'c'} and set(found['image'].flat) == {0, 2}
