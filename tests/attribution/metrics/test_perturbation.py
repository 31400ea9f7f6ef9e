"""Perturbation curves against values computed by hand."""

from attribution.metrics import perturbation
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def corner_score(variables, images):
  """Class 0: the mean of the upper left 2x2 pixels; class 1: the rest."""
  del variables
  corner = images[:, :2, :2].mean(axis=(1, 2, 3))
  return jnp.stack([corner, 1 - corner], axis=1)


def curves(maps, **options):
  images = np.full((len(maps), 4, 4, 1), 2.0, np.float32)
  curve_fn = perturbation.perturbation_curves(
      corner_score, **{'region': 2, 'draws': 400, **options}
  )
  return curve_fn(
      {}, images, maps, np.zeros(len(maps), int), jax.random.key(0)
  )


def make_map(values):
  """One value a 2x2 region, row by row, over a 4x4 image."""
  regions = np.array(values, np.float32).reshape(2, 2)
  return np.kron(regions, np.ones((2, 2)))[None, ..., None]


def test_morf_by_hand():
  # The scored corner goes third. The clean score is 2, outside the data
  # range so that noise, of mean 0.5, shows.
  curve = curves(make_map([2, 9, 5, 1]))
  np.testing.assert_allclose(curve, [[2, 2, 2, 0.5, 0.5]], atol=0.05)


def test_lerf_is_the_opposite_order():
  curve = curves(make_map([2, 9, 5, 1]), order='lerf')
  np.testing.assert_allclose(curve, [[2, 2, 0.5, 0.5, 0.5]], atol=0.05)


def test_relevance_is_summed_over_a_region_and_its_channels():
  maps = np.zeros((1, 4, 4, 2), np.float32)
  maps[0, 0, 0, 0] = 3  # Upper left: one strong pixel,
  maps[0, :2, 2:, :] = 1  # but upper right sums to 8.
  curve = curves(maps)
  np.testing.assert_allclose(curve[0, :3], [2, 2, 0.5], atol=0.05)


def test_the_class_given_is_the_one_recorded():
  images = np.full((1, 4, 4, 1), 2.0, np.float32)
  maps = make_map([9, 3, 2, 1])
  curve_fn = perturbation.perturbation_curves(
      corner_score, region=2, draws=400
  )
  curve = curve_fn({}, images, maps, np.array([1]), jax.random.key(0))
  np.testing.assert_allclose(curve[0, :2], [-1, 0.5], atol=0.05)


def test_deletion_and_insertion_by_hand():
  # The scored corner goes second, and comes second.
  images = np.full((1, 4, 4, 1), 0.75, np.float32)
  hidden = np.full((1, 4, 4, 1), 0.25, np.float32)
  maps, classes = make_map([5, 9, 2, 1]), np.array([0])
  curve_fn = perturbation.perturbation_curves(corner_score, region=2)
  key = jax.random.key(0)
  deletion = curve_fn({}, images, maps, classes, key, hidden)
  np.testing.assert_allclose(deletion, [[0.75, 0.75, 0.25, 0.25, 0.25]])
  insertion = curve_fn({}, hidden, maps, classes, key, images)
  np.testing.assert_allclose(insertion, [[0.25, 0.25, 0.75, 0.75, 0.75]])


def test_an_unknown_order_is_refused():
  with pytest.raises(ValueError, match='morf, lerf'):
    perturbation.perturbation_curves(corner_score, region=2, order='best')


def test_maps_compared_with_one_key_meet_the_same_noise():
  first = curves(make_map([4, 3, 2, 1]), draws=2)
  second = curves(make_map([4, 1, 2, 3]), draws=2)
  np.testing.assert_array_equal(first[:, [0, 1, -1]], second[:, [0, 1, -1]])


def test_an_image_does_not_depend_on_how_many_come_with_it():
  maps = np.concatenate([make_map([1, 2, 3, 4])] * 40)
  many = curves(maps, draws=2)
  np.testing.assert_allclose(many[:3], curves(maps[:3], draws=2), atol=1e-6)
  assert len(np.unique(many[:, -1])) == 40  # Each has noise of its own.


@pytest.mark.parametrize('batch_size', [1, 4, 6, 100])
def test_a_batch_is_no_larger_than_asked_and_changes_nothing(batch_size):
  seen = []

  def score(variables, images):
    seen.append(len(images))
    return corner_score(variables, images)

  maps = np.concatenate([make_map([1, 2, 3, 4])] * 5)
  call = perturbation.perturbation_curves(
      score, region=2, draws=2, batch_size=batch_size
  )
  images = np.full((5, 4, 4, 1), 2.0, np.float32)
  found = call({}, images, maps, np.zeros(5, int), jax.random.key(0))
  np.testing.assert_allclose(found, curves(maps, draws=2), atol=1e-6)
  # The draws of one image at least, and no more than there are images.
  assert set(seen) == {min(10, max(2, batch_size - batch_size % 2))}


def test_other_variables_give_other_scores_and_compile_nothing():
  traced = []

  def score(scale, images):
    traced.append(images.shape)
    return scale * corner_score(None, images)

  images, maps = np.full((1, 4, 4, 1), 2.0, np.float32), make_map([2, 9, 5, 1])
  found = []
  for scale in (1.0, 3.0):
    call = perturbation.perturbation_curves(score, region=2, draws=2)
    arguments = images, maps, np.zeros(1, int), jax.random.key(0)
    found.append(call(np.float32(scale), *arguments))
  np.testing.assert_allclose(found[1], 3 * found[0], rtol=1e-6)
  assert len(traced) == 1


def test_ties_are_broken_at_random():
  maps = np.zeros((200, 4, 4, 1), np.float32)
  hit_first = curves(maps, draws=1)[:, 1] != 2
  assert 0.15 < hit_first.mean() < 0.35


def test_regions_of_an_image_they_do_not_divide():
  index = perturbation.region_index(5, 4, 2)
  assert index.max() == 5
  assert np.bincount(index.ravel()).tolist() == [4, 4, 4, 4, 2, 2]


def test_area_and_aopc_by_hand():
  curve = np.array([[1.0, 0.5, 0.0]])
  # Trapezoids (0.75 + 0.25) / 2; drops (0 + 0.5 + 1) / 3.
  assert perturbation.area(curve) == pytest.approx(0.5)
  assert perturbation.aopc(curve) == pytest.approx(0.5)
  assert perturbation.area(np.array([[1.0, 1.0, 0.0]])) == pytest.approx(0.75)
  assert perturbation.aopc(np.array([[1.0, 1.0, 0.0]])) == pytest.approx(1 / 3)


def test_noise_is_of_the_range_that_is_given():
  maps = make_map([9, 3, 2, 1])
  curve = curves(maps, low=-3.0, high=1.0)
  np.testing.assert_allclose(curve[0, :2], [2, -1], atol=0.1)
