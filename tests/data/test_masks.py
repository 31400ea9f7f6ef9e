"""The masks of objects, where a data set has them."""

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
