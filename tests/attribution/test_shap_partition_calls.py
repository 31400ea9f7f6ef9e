"""Tests for what a call of the reference explainer takes, gives and costs."""

from attribution.errors import InputError
from attribution.explainers import EXPLAINERS
from attribution.explainers import shap_partition
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attribution import shap_fixtures
from tests.attribution.shap_fixtures import SHAPE
from tests.attribution.shap_fixtures import make_background
from tests.attribution.shap_fixtures import make_explainer
from tests.attribution.shap_fixtures import make_images
from tests.attribution.shap_fixtures import network_score
from tests.attribution.shap_fixtures import numpy_score
from tests.attribution.shap_fixtures import shap_maps
from tests.attribution.shap_fixtures import tied_score

recorder = shap_fixtures.recorder


@pytest.mark.parametrize('classes', [[[2, 0], [1, 2]], [[0, 1, 2], [1, 2, 0]]])
def test_several_classes_give_a_map_each(classes):
  images = make_images(2)
  classes = np.array(classes)
  maps = make_explainer('blur')(images, classes)
  assert maps.shape == (*images.shape, classes.shape[1])
  assert maps.dtype == np.float32
  hidden = make_background(images, 'blur')
  change = numpy_score(images) - numpy_score(hidden)
  for i in range(2):
    np.testing.assert_allclose(
        maps[i], shap_maps(hidden[i], images[i], classes[i]), atol=1e-6
    )
    np.testing.assert_allclose(
        maps[i].sum(axis=(0, 1, 2)), change[i, classes[i]], atol=1e-4
    )


@pytest.mark.parametrize(('labels', 'message'), [
    ([0], '2 images and 1 labels'),
    ([0.0, 1.0], 'float'),
    ([0, 3], 'from 0 to 3'),
    ([-1, 0], 'from -1 to 0'),
])
def test_impossible_labels_are_refused(labels, message):
  with pytest.raises(InputError, match=message):
    make_explainer('blur')(make_images(2), np.array(labels))


def test_one_class_an_image_may_be_a_column():
  images = make_images(2)
  labels = np.array([2, 1])
  explain = make_explainer('blur')
  column = explain(images, labels[:, None])
  assert column.shape == (*images.shape, 1)
  np.testing.assert_array_equal(column[..., 0], explain(images, labels))


@pytest.mark.parametrize('masker', ['blur', 'inpaint_telea'])
def test_a_map_does_not_depend_on_neighbours_or_order(masker):
  images = make_images(4)
  labels = np.array([0, 1, 2, 0])
  explain = make_explainer(masker)
  maps = explain(images, labels)
  order = np.array([2, 0, 3, 1])
  np.testing.assert_array_equal(
      explain(images[order], labels[order]), maps[order]
  )
  fresh = make_explainer(masker)
  np.testing.assert_array_equal(
      fresh(images[3:], labels[3:]), maps[3:]
  )


def test_ties_do_not_depend_on_neighbours_or_the_global_random_state():
  images = np.ones((3, *SHAPE), np.float32)
  images[1] *= 0.5
  images[2] *= 0.25
  labels = np.array([0, 1, 0])
  explain = make_explainer('constant', tied_score, mask_value=0.0, max_evals=14)
  maps = explain(images, labels)
  for seed in range(4):
    np.random.seed(seed)
    for i in range(3):
      np.testing.assert_array_equal(
          explain(images[i : i + 1], labels[i : i + 1])[0], maps[i]
      )


def test_images_of_several_shapes_take_turns():
  def score(weights, images):
    del weights
    return jnp.stack([images.sum(axis=(1, 2, 3))] * 2, axis=1) ** 2

  explain = make_explainer('blur', score)
  for shape in [(8, 8, 3), (6, 10, 1), (8, 8, 3)]:
    images = make_images(2, shape)
    maps = explain(images, np.array([0, 1]))
    assert maps.shape == images.shape
    hidden = make_background(images, 'blur')
    change = score(None, images) - score(None, hidden)
    np.testing.assert_allclose(
        maps.sum(axis=(1, 2, 3)), change[:, 0], rtol=1e-3, atol=1e-2
    )


def test_jax_arrays_are_as_good_as_numpy_arrays():
  images = make_images(2)
  labels = np.array([2, 1])
  explain = make_explainer('blur')
  maps = explain(jnp.asarray(images), jnp.asarray(labels))
  assert isinstance(maps, np.ndarray)
  np.testing.assert_array_equal(maps, explain(images, labels))


def test_the_images_are_not_changed():
  images = make_images(2)
  copy = images.copy()
  for masker in ('blur', 'inpaint_telea'):
    make_explainer(masker)(images, np.array([0, 1]))
  np.testing.assert_array_equal(images, copy)


def _state() -> list:
  return [np.asarray(part).tolist() for part in np.random.get_state()]


def test_the_global_random_state_is_restored():
  np.random.seed(3)
  before = _state()
  make_explainer('blur')(make_images(2), np.array([0, 1]))
  assert _state() == before


def test_the_global_random_state_is_restored_after_an_error(recorder):
  def failing(weights, images):
    if len(recorder.calls) > 3:
      raise OSError('the device is gone')
    return network_score(weights, images)

  np.random.seed(3)
  before = _state()
  with pytest.raises(OSError, match='the device is gone'):
    make_explainer('blur', failing)(make_images(1), np.array([0]))
  assert _state() == before


# shap evaluates two halves at a time, so that an odd budget is one too small.
@pytest.mark.parametrize('masker', ['blur', 'inpaint_ns'])
@pytest.mark.parametrize(
    ('max_evals', 'evaluations'), [(2, 2), (3, 4), (20, 20), (31, 32), (60, 60)]
)
def test_max_evals_bounds_the_evaluations(
    recorder, masker, max_evals, evaluations
):
  explain = make_explainer(masker, max_evals=max_evals)
  explain(make_images(1), np.array([0]))
  assert len(recorder.images) == evaluations
  explain(make_images(1, seed=1), np.array([0]))  # And of each image.
  assert len(recorder.images) == 2 * evaluations


def test_batch_size_bounds_what_is_asked_at_once(recorder):
  explain = make_explainer('blur', batch_size=6, max_evals=60)
  explain(make_images(1), np.array([0]))
  assert max(len(call) for call in recorder.calls) == 6


def test_bad_options_are_refused_when_it_is_built():
  def untouched(weights, images):
    raise AssertionError('compiled before the check')

  for name in ('max_evals', 'batch_size'):
    with pytest.raises(InputError, match=f'{name} is 0') as error:
      shap_partition(untouched, **{name: 0})
    assert error.value.argument == name


def test_it_is_registered():
  assert EXPLAINERS['shap_partition'].create is shap_partition
