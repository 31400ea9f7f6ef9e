"""EPG and IoU by hand, by chance, and at their ends."""

from attribution.errors import InputError
from attribution.metrics import localisation
import numpy as np
import pytest

MASK = np.zeros((1, 4, 4), bool)
MASK[0, :2, :2] = True


def make_map(inside, outside, channels=1):
  values = np.where(MASK, inside, outside)[..., None]
  return np.repeat(values, channels, axis=-1).astype(np.float32)


@pytest.mark.parametrize('channels', [1, 3])
def test_epg_is_the_share_inside_of_what_is_positive(channels):
  # 4 pixels of 3 inside, 12 of 1 outside.
  assert localisation.epg(make_map(3, 1, channels), MASK) == pytest.approx(0.5)


def test_epg_leaves_out_what_is_negative():
  assert localisation.epg(make_map(2, -5), MASK) == pytest.approx(1)
  assert localisation.epg(make_map(-2, 5), MASK) == pytest.approx(0)


def test_epg_sums_the_channels_before_it_looks_at_the_sign():
  maps = np.concatenate([make_map(2, 4), make_map(0, -3)], axis=-1)
  assert localisation.epg(maps, MASK) == pytest.approx(8 / 20)


def test_epg_of_a_map_without_anything_positive_is_not_defined():
  assert np.isnan(localisation.epg(make_map(-1, -1), MASK))[0]


def test_epg_of_noise_is_the_area_of_the_mask():
  maps = np.random.default_rng(0).random((400, 4, 4, 3))
  masks = np.repeat(MASK, 400, axis=0)
  assert localisation.epg(maps, masks).mean() == pytest.approx(0.25, abs=0.01)


def test_the_mask_itself_scores_1():
  maps = MASK[..., None].astype(np.float32)
  assert localisation.epg(maps, MASK) == pytest.approx(1)
  assert localisation.iou(maps, MASK, 0.5) == pytest.approx(1)


def test_iou_by_hand():
  maps = np.zeros((1, 4, 4, 1), np.float32)
  maps[0, 0, :4, 0] = [1.0, 0.6, 0.4, -2.0]
  # Two of the mask's four pixels, and no other, reach half of the largest.
  assert localisation.iou(maps, MASK, 0.5) == pytest.approx(2 / 4)
  # A third one, outside, reaches 0.3.
  assert localisation.iou(maps, MASK, 0.3) == pytest.approx(2 / 5)


def test_a_map_of_zeros_has_found_nothing():
  assert localisation.iou(np.zeros((1, 4, 4, 3)), MASK, 0.5) == 0


def test_the_best_threshold_is_that_of_the_highest_mean():
  # Inside 1, outside 0.42: only thresholds above 0.42 part them.
  assert localisation.best_threshold(make_map(1, 0.42), MASK) > 0.42
  assert localisation.best_threshold(make_map(1, 0.42), MASK, (0.1, 0.4)) == 0.1


def test_masks_of_another_size_are_refused():
  with pytest.raises(InputError, match=r'masks \(1, 8, 8\).* \[N, H, W\]'):
    localisation.epg(make_map(1, 0), np.zeros((1, 8, 8), bool))


def test_no_image_chooses_its_own_threshold():
  """Even places want a threshold above 0.42, odd ones one above 0.72."""
  maps = np.concatenate([make_map(1, 0.42), make_map(1, 0.72)] * 2)
  masks = np.repeat(MASK, 4, axis=0)
  # What parts 0.72 parts 0.42 as well, and not the other way round.
  found = localisation.held_out_iou(maps, masks)
  np.testing.assert_allclose(found, [1, 4 / 16, 1, 4 / 16])


def test_a_single_image_has_no_others():
  assert np.isnan(localisation.held_out_iou(make_map(1, 0), MASK))[0]
