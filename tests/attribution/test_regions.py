"""Regions of the user's: how they are numbered, and what they are worth."""

import itertools

import attribution
from attribution.errors import InputError
from attribution.explainers import regions
import numpy as np
import pytest
from tests.attribution.test_shapley import brute_force
from tests.attribution.test_shapley import curved
from tests.attribution.test_shapley import HIDDEN
from tests.attribution.test_shapley import IMAGES
from tests.attribution.test_shapley import LABELS

# Six regions in no order, of 3 to 14 pixels, one of them in two pieces.
UNEVEN = np.array([
    [3, 3, 3, 0, 0, 0],
    [3, 3, 3, 0, 0, 0],
    [3, 5, 5, 5, 0, 0],
    [1, 1, 1, 5, 5, 5],
    [1, 1, 1, 5, 5, 5],
    [4, 4, 1, 2, 2, 2],
    [4, 4, 4, 2, 2, 2],
    [2, 2, 2, 2, 2, 2],
])
# Another number of regions in each image.
EACH = np.stack([UNEVEN, UNEVEN // 2, np.zeros_like(UNEVEN)])


def explain(name='partition', images=IMAGES, labels=LABELS, given=UNEVEN,
            **options):
  return attribution.explain(
      curved, images, labels, given, explainer=name, masker='constant',
      mask_value=HIDDEN, **options,
  )


def values_of(maps, given):
  """Sums maps [N, H, W, C] over the regions, [N, d]."""
  given = np.broadcast_to(given, maps.shape[:3])
  return np.stack([
      np.bincount(g.ravel(), m.sum(axis=-1).ravel(), given.max() + 1)
      for m, g in zip(maps, given, strict=True)
  ])


@pytest.mark.parametrize('given', [UNEVEN, EACH])
@pytest.mark.parametrize('name', ['partition', 'kernel_shap'])
def test_few_regions_get_shapleys_values_by_brute_force(name, given):
  maps = explain(name, given=given, max_evals=64)
  several = np.broadcast_to(given, IMAGES.shape[:3])
  expected = np.zeros((3, 6))
  for i, one in enumerate(several):
    found = brute_force(curved, IMAGES[i], LABELS[i], one)
    expected[i, :len(found)] = found
  np.testing.assert_allclose(values_of(maps, given), expected, atol=1e-6)
  for i, one in enumerate(several):  # Alike in a region, in each channel.
    for region in np.unique(one):
      assert np.ptp(maps[i][one == region]) == 0


def owen(score_fn, image, label, placed):
  """The mean over all orders in which no half is begun before its twin ends."""
  count = placed.max() + 1

  def orders(low, high):
    if high - low == 1:
      return [[low]]
    middle = high - (high - low) // 2
    pairs = itertools.product(orders(low, middle), orders(middle, high))
    return [order for a, b in pairs for order in (a + b, b + a)]

  def worth(players):
    shown = np.isin(placed, players)[..., None]
    return float(score_fn(np.where(shown, image, HIDDEN)[None])[0, label])

  values = np.zeros(count)
  every = orders(0, count)
  for order in every:
    for i, player in enumerate(order):
      values[player] += worth(order[:i + 1]) - worth(order[:i])
  return values / len(every)


def test_a_tree_of_regions_gives_owen_values_by_brute_force():
  # 40 evaluations: not all 64 sets, but the whole tree.
  maps = explain(max_evals=40)
  placed = regions.checked(UNEVEN, IMAGES, None)
  for i in range(3):
    expected = owen(curved, IMAGES[i], LABELS[i], placed[i])
    found = values_of(maps[i:i + 1], placed[i])[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
  shapley = explain(max_evals=64)
  assert np.abs(maps - shapley).max() > 1e-4  # Another thing than these.


@pytest.mark.parametrize(('name', 'options'), [
    ('partition', {'max_evals': 10}), ('partition', {'max_evals': 64}),
    ('kernel_shap', {'max_evals': 30}), ('permutation_shap', {'max_evals': 30}),
])
def test_any_budget_is_complete_whatever_an_image_has(name, options):
  labels = np.stack([LABELS, LABELS[::-1]], axis=1)
  maps = explain(name, given=EACH, labels=labels, **options)
  change = curved(IMAGES) - curved(np.full_like(IMAGES, HIDDEN))
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), np.take_along_axis(change, labels, axis=1),
      rtol=1e-4, atol=1e-6,
  )


def test_the_cells_of_a_grid_given_as_regions_are_the_grid():
  cells = regions.cells(8, 6, 2)[0]
  for name in ('occlusion', 'kernel_shap', 'permutation_shap'):
    options = {'grid': 2, 'max_evals': 16}
    np.testing.assert_allclose(
        explain(name, given=cells, **options),
        explain(name, given=None, **options), atol=1e-6,
    )


def test_the_hierarchy_halves_neighbours():
  rng = np.random.default_rng(0)
  shuffled = rng.permutation(16)[regions.cells(8, 8, 4)[0]]
  images = np.zeros((2, 8, 8, 1))
  placed = regions.checked(shuffled, images, None)
  assert placed.shape == (2, 8, 8) and placed.dtype == np.int32
  one = placed[0]
  np.testing.assert_array_equal(placed[1], one)
  # The first halves are of rows, the next of columns, and so on.
  assert set(one[:4].ravel()) == set(range(8))
  assert set(one[:4, :4].ravel()) == set(range(4))
  assert set(one[:2, :4].ravel()) == {0, 1}
  assert sorted(np.unique(one)) == list(range(16))


def test_spare_places_leave_the_tree_as_it_is():
  alone = explain(max_evals=100)
  spare = explain(max_evals=2000, num_regions=13)  # Above 12: by the tree.
  by_tree = explain(max_evals=40)
  np.testing.assert_allclose(spare, by_tree, atol=1e-6)
  assert np.abs(alone - by_tree).max() > 1e-4


@pytest.mark.parametrize(('given', 'said'), [
    (UNEVEN + 1, r'6 numbers from 1 to 6; they must be 0 to 5, none skipped'),
    (np.where(UNEVEN == 2, 9, UNEVEN), 'none skipped. np.unique'),
    (np.where(UNEVEN == 5, -1, UNEVEN), 'leave out 9 pixels'),
    (UNEVEN[:7], r'shape \(7, 6\); for images of shape \(3, 8, 6, 2\)'),
    (EACH[:2], r'shape \(2, 8, 6\)'),
    (UNEVEN.astype(float), 'float64'),
])
def test_regions_that_do_not_fit_are_refused(given, said):
  with pytest.raises(InputError, match=said):
    explain(given=given)


@pytest.mark.parametrize(('options', 'given', 'said'), [
    ({'name': 'rise'}, UNEVEN, 'takes no regions; kernel_shap, occlusion'),
    ({'name': 'rise', 'num_regions': 4}, UNEVEN, 'takes no regions'),
    ({'num_regions': 4}, UNEVEN, 'has 6 regions, and num_regions is 4'),
    ({'num_regions': 4}, None, 'made for 4 regions: give them'),
    ({'num_regions': 0}, UNEVEN, 'num_regions is 0; it must be 1 or more'),
])
def test_options_that_do_not_go_with_regions_are_refused(options, given, said):
  with pytest.raises(InputError, match=said):
    explain(given=given, **options)


def test_spare_places_cost_no_evaluations():
  # 6 regions in 64 places: the whole tree, with the evaluations of 6.
  by_tree = explain(max_evals=40)
  spare = explain(max_evals=40, num_regions=64)
  np.testing.assert_allclose(spare, by_tree, atol=1e-6)


@pytest.mark.parametrize(('options', 'evaluations'), [
    ({'num_regions': 4}, 16), ({'num_regions': 13}, 2000),
    ({'num_regions': 11}, 2000), ({'num_regions': 1}, 2),
    ({'num_regions': 1, 'explainer': 'permutation_shap'}, 2),
    ({'num_regions': 5, 'explainer': 'occlusion'}, 6),
    ({'num_regions': 10, 'explainer': 'kernel_shap'}, 1024),
])
def test_it_says_what_regions_cost(options, evaluations):
  assert attribution.Explainer(curved, **options).evaluations == evaluations


def test_a_budget_may_be_for_regions_that_come_later():
  explainer = attribution.Explainer(
      curved, explainer='kernel_shap', max_evals=40
  )
  assert explainer(IMAGES, LABELS, UNEVEN).shape == IMAGES.shape
  with pytest.raises(InputError, match='for 64 regions'):
    explainer(IMAGES, LABELS)
  with pytest.raises(InputError, match='none skipped'):
    explain('kernel_shap', given=UNEVEN + 10**6)


def test_one_region_is_the_whole_image():
  maps = explain(given=np.zeros((8, 6), int), max_evals=2)
  change = curved(IMAGES) - curved(np.full_like(IMAGES, HIDDEN))
  np.testing.assert_allclose(
      maps, np.broadcast_to(
          (change[np.arange(3), LABELS] / 96)[:, None, None, None], maps.shape
      ), rtol=1e-5,
  )
