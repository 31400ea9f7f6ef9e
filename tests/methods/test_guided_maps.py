"""How the guided maps point, against hand values and `attribution.metrics`."""

from attribution.metrics import localisation
from impactx_jax.methods import guided_maps
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import make_config

TOP = [[1.0, 1.0], [0.0, 0.0]]
OPTIONS = make_config('guided').method


def point(maps, truth, **columns):
  """Measures the given maps [B, h, w, K] of images of 2 x 2."""
  maps, truth = jnp.asarray(maps), np.array(truth, np.int32)
  batch = {'image': np.zeros((len(maps), 2, 2, 3), np.float32)}
  labels = 'label' if truth.ndim == 1 else 'labels'
  batch |= {labels: truth} | {n: np.array(x) for n, x in columns.items()}

  def found(images, classes):
    del images
    return jnp.take_along_axis(maps, classes[:, None, None], axis=3)

  return guided_maps.pointing(found, batch, OPTIONS, labels, maps.shape[-1])


@pytest.mark.parametrize(('values', 'epg', 'iou'), [
    ([[4.0, 2.0], [-2.0, 1.0]], 6 / 7, 1 / 2),
    ([[4.0, 3.0], [-9.0, 1.0]], 7 / 8, 1.0),
    ([[-4.0, -3.0], [-1.0, -1.0]], 0.0, 0.0),  # Nothing speaks for the class.
    ([[0.0, 0.0], [5.0, 5.0]], 0.0, 0.0),
    ([[2.0, 2.0], [2.0, 2.0]], 1 / 2, 0.0),  # Nothing is above the middle.
])
def test_one_label_by_hand(values, epg, iou):
  maps = np.array(values)[None, :, :, None] * [0.0, 1.0]
  found = point(maps, [1], mask=np.array(TOP)[None, :, :, None])
  assert {name: float(x[0][0]) for name, x in found.items()} == (
      pytest.approx({'guided_epg': epg, 'guided_iou': iou})
  )
  assert all(float(x[1][0]) == 1 for x in found.values())


def test_several_labels_are_those_that_are_there_and_have_a_mask():
  maps = np.random.default_rng(0).normal(size=(3, 2, 2, 3))
  masks = np.zeros((3, 2, 2, 3))
  masks[0, 0, :, 0] = masks[0, :, 1, 2] = masks[1, 0, 0, 1] = 1
  truth = [[1, 0, 1], [0, 1, 1], [1, 1, 1]]
  found = point(maps, truth, masks=masks)
  np.testing.assert_array_equal(found['guided_epg'][1], [2, 1, 0])
  pairs = [(0, 0), (0, 2), (1, 1)]
  expected = np.nan_to_num(localisation.epg(
      np.stack([maps[i, :, :, k, None] for i, k in pairs]),
      np.stack([masks[i, :, :, k] > 0 for i, k in pairs]),
  ))
  np.testing.assert_allclose(
      found['guided_epg'][0], [expected[0] + expected[1], expected[2], 0],
      rtol=1e-5,
  )


def test_without_masks_nothing_is_measured():
  assert point(np.ones((1, 2, 2, 2)), [0]) == {}
