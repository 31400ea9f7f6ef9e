"""Four curves a map, the control by another image's map, and the sum."""

from attribution.metrics import faithfulness
from attribution.metrics import perturbation
import jax
import jax.numpy as jnp
import numpy as np
import pytest

WEIGHTS = np.float32([8, 4, 2, 1])
# Two images, each with the greatest share in another corner.
IMAGES = np.float32([[[1, 0], [0, 0]], [[0, 0], [0, 1]]])[..., None]
MAPS = {'good': IMAGES, 'bad': -IMAGES}


def score(weights, images):
  """Class 0: the weighted sum of four pixels; class 1: its negative."""
  total = images.reshape(len(images), -1) @ weights
  return jnp.stack([total, -total], axis=1)


def perturb(classes, **options):
  return faithfulness.perturb(
      score, WEIGHTS, IMAGES, MAPS, np.array(classes),
      hidden=np.zeros_like(IMAGES), key=jax.random.key(0), region=1, draws=2,
      **options,
  )


def test_deletion_and_insertion_by_hand():
  curves, values = perturb([0, 0])
  np.testing.assert_allclose(
      curves['deletion']['good'], [[8, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
  )
  np.testing.assert_allclose(
      curves['insertion']['bad'], [[0, 0, 0, 0, 8], [0, 0, 0, 0, 1]]
  )
  # Trapezoids over four steps.
  np.testing.assert_allclose(values['deletion_area']['good'], [1, 1 / 8])
  np.testing.assert_allclose(values['insertion_area']['good'], [7, 7 / 8])


def test_every_measure_is_of_every_map():
  curves, values = perturb([0, 0], unswapped=('bad',))
  assert list(curves) == ['morf', 'lerf', 'deletion', 'insertion']
  for measure in ('morf_area', 'lerf_area', 'morf_aopc', 'insertion_area'):
    assert values[measure].keys() == MAPS.keys()
  assert values['swap_difference'].keys() == {'good'}
  for kind in ('morf', 'lerf'):
    key = jax.random.key(0)
    alone = perturbation.perturbation_curves(
        score, region=1, draws=2, order=kind
    )(WEIGHTS, IMAGES, MAPS['good'], np.array([0, 0]), key)
    np.testing.assert_array_equal(curves[kind]['good'], alone)


def test_the_swap_is_what_the_map_of_the_other_image_is_worse_by():
  insert = perturbation.perturbation_curves(score, region=1, draws=2)
  _, values = perturb([0, 0])
  swapped = perturbation.area(insert(
      WEIGHTS, np.zeros_like(IMAGES), IMAGES[::-1], np.array([0, 0]),
      jax.random.key(0), IMAGES,
  ))
  np.testing.assert_allclose(
      values['swap_difference']['good'],
      values['insertion_area']['good'] - swapped,
  )
  assert values['swap_difference']['good'].min() > 0


def test_without_another_image_of_the_class_there_is_no_swap():
  _, values = perturb([0, 1])
  assert np.isnan(values['swap_difference']['good']).all()


@pytest.mark.parametrize(('classes', 'expected'), [
    ([0, 0, 1, 0, 2, 1], [1, 3, 5, 0, -1, 2]),
    ([4], [-1]),
    ([], []),
])
def test_a_partner_is_another_image_of_the_same_class(classes, expected):
  found = faithfulness.partners(np.array(classes, int))
  assert found.tolist() == expected


def test_the_gap_is_what_the_sum_misses():
  maps = np.ones((2, 2, 2, 3), np.float32)
  found = faithfulness.completeness_gap(maps, np.array([12.0, 13.5]))
  assert found.tolist() == [0, 1.5]
