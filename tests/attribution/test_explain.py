"""`attribution.explain`, the function for any JAX model."""

import attribution
from attribution import explainers
from attribution.errors import InputError
import jax
import jax.numpy as jnp
import numpy as np
import pytest

IMAGES = np.random.default_rng(0).random((3, 8, 8, 1), np.float32)
LABELS = np.array([0, 1, 0])


def means(images):
  """Scores [mean, -mean] of the upper half of an image."""
  mean = images[:, :4].mean(axis=(1, 2, 3))
  return jnp.stack([mean, -mean], axis=1)


def weighted_means(weights, images):
  return means(images) * weights


def test_variables_are_given_to_the_scoring_function():
  def explain(**arguments):
    return attribution.explain(
        weighted_means, IMAGES, LABELS, masker='constant', max_evals=60,
        **arguments,
    )

  once, thrice = (
      explain(variables=np.float32([w, 1])) for w in (1, 3)
  )
  np.testing.assert_allclose(thrice[[0, 2]], 3 * once[[0, 2]], rtol=1e-5)
  np.testing.assert_allclose(thrice[1], once[1], rtol=1e-5)
  with pytest.raises(InputError, match='variables='):
    explain()


# The scores are linear, black is what is hidden: all explainers agree.
@pytest.mark.parametrize(('explainer', 'options'), [
    ('partition', {'max_evals': 10**4}),
    ('partition_grid', {'grid': 8}),
    ('shap_partition', {'max_evals': 10**4}),
    ('integrated_gradients', {'integration_steps': 1}),
    ('input_x_gradient', {}),
])
def test_every_explainer_can_be_chosen(explainer, options):
  maps = attribution.explain(
      means, IMAGES, LABELS, masker='constant', explainer=explainer, **options
  )
  expected = IMAGES / 32
  expected[:, 4:] = 0
  expected[1] *= -1
  np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_grad_cam_takes_the_model_cut_in_two():
  layers = attribution.Layers(lambda x: x[:, ::2, ::2], means_of_half)
  maps = attribution.explain(
      lambda x: layers.scores(layers.features(x)), IMAGES, [0, 0, 0],
      explainer='grad_cam', layers=layers,
  )
  cam = IMAGES[:, ::2, ::2] / 16
  expected = jax.image.resize(cam, IMAGES.shape, 'bilinear')
  np.testing.assert_allclose(maps, expected, rtol=1e-5)


def means_of_half(features):
  mean = features.mean(axis=(1, 2, 3))
  return jnp.stack([mean, -mean], axis=1)


@pytest.mark.parametrize(('options', 'argument'), [
    ({'explainer': 'shap'}, 'explainer'),
    ({'explainer': 'grad_cam'}, 'explainer'),
    ({'masker': 'blurr'}, 'masker'),
    ({'masker': 'inpaint_ns'}, 'masker'),
    ({'blur_kernel': -1}, 'blur_kernel'),
    ({'masker': 'mean', 'mask_value': [0.1, 0.2]}, 'mask_value'),
    ({'masker': 'constant', 'mask_value': 'grey'}, 'mask_value'),
    ({'explainer': 'occlusion', 'grid': 9}, 'grid'),
    ({'max_evals': 1}, 'max_evals'),
    ({'batch_size': 0}, 'batch_size'),
    ({'images_per_step': 0}, 'images_per_step'),
    ({'explainer': 'partition_grid', 'grid': 3}, 'grid'),
    (
        {'explainer': 'integrated_gradients', 'integration_steps': 0},
        'integration_steps',
    ),
])
def test_errors_name_the_argument(options, argument):
  with pytest.raises(InputError) as error:
    attribution.explain(means, IMAGES, LABELS, **options)
  assert error.value.argument == argument
  assert f'Change it with {argument}=' in str(error.value)
  assert '--' not in str(error.value)


@pytest.mark.parametrize('explainer', ['partition', 'random', 'edges'])
def test_no_images_give_no_maps(explainer):
  for labels in (np.zeros(0, int), np.zeros((0, 2), int)):
    maps = attribution.explain(
        means, IMAGES[:0], labels, explainer=explainer
    )
    assert maps.shape == (0, 8, 8, 1, *labels.shape[1:])


def test_an_explainer_that_asks_for_what_there_is_not_is_refused():

  def of_ones_own(score_fn, *, foo, batch_size, bar=1):
    del score_fn, foo, batch_size, bar

  with pytest.raises(ValueError, match='of_ones_own must be given foo, which'):
    explainers.create(of_ones_own, means, batch_size=3)


def test_what_an_explainer_spends_is_counted():

  def of_ones_own(score_fn, *, max_evals):
    del score_fn, max_evals

  def of_one_pass(score_fn):
    del score_fn

  options = {'max_evals': 300, 'grid': 4, 'integration_steps': 9}
  for explainer, count in (
      ('partition', 300), ('partition_grid', 172), ('grad_cam', 1),
      ('integrated_gradients', 9), ('edges', 0),
      (of_ones_own, 300), (of_one_pass, 1),
  ):
    assert explainers.evaluations(explainer, **options) == count, explainer


def test_maps_sum_to_what_the_image_adds():
  maps = attribution.explain(
      means, IMAGES, LABELS, masker='constant', max_evals=60
  )
  assert maps.shape == IMAGES.shape
  sign = np.where(LABELS == 0, 1, -1)
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), sign * IMAGES[:, :4].mean(axis=(1, 2, 3)),
      rtol=1e-4,
  )
  np.testing.assert_allclose(maps[:, 4:], 0, atol=1e-6)


@pytest.mark.parametrize(('images', 'said'), [
    (np.uint8(255 * IMAGES), 'these are uint8.'),
    (IMAGES * np.nan, 'float32 with NaN or infinity.'),
    (np.where(IMAGES > 0.9, np.inf, IMAGES), 'with NaN or infinity.'),
])
def test_images_that_are_no_finite_floats_are_refused(images, said):
  with pytest.raises(InputError) as error:
    attribution.explain(means, images, LABELS)
  assert said in str(error.value)


def test_one_hot_labels_are_not_taken_for_several_classes():
  with pytest.raises(InputError, match=r'labels\.argmax\(axis=1\)'):
    attribution.explain(means, IMAGES, np.eye(3, dtype=int)[LABELS])


def test_scores_in_a_dict_are_refused():
  with pytest.raises(InputError, match=r"one array; .* {'logits': \(2, 2\)}"):
    attribution.explain(lambda x: {'logits': means(x)}, IMAGES, LABELS)


def test_scores_that_are_not_finite_are_refused():
  with pytest.raises(InputError, match='gives NaN or infinity'):
    attribution.explain(lambda x: means(x) / 0, IMAGES * 0, LABELS)
