"""What is explained: the teacher that the attribution service is given."""

from impactx_jax import methods
from impactx_jax.evaluation import explaining
from impactx_jax.configs import common
from impactx_jax.methods.base import Prediction
import jax.numpy as jnp
import numpy as np
import pytest


def make_method():
  """Logits [3 mean(x), 0, -mean(x)] of an image x."""

  def predict(variables, images):
    mean = images.mean(axis=(1, 2, 3))
    factors = jnp.array([3.0, 0.0, -1.0])
    return Prediction(variables['scale'] * mean[:, None] * factors)

  return methods.Method(None, None, predict)


def make_teacher(**changes):
  weighted = changes.pop('weighted', False)
  attribution = common.get_config().attribution
  attribution.update({'max_evals': 10, 'batch_size': 4, **changes})
  return explaining.create(
      make_method(), {'scale': 2.0}, attribution, dtype='float32',
      training_images=np.zeros((2, 8, 8, 1), np.uint8), weighted=weighted,
  )


def make_images():
  rng = np.random.default_rng(0)
  return rng.random((3, 8, 8, 1), dtype=np.float32)


def softmax(logits):
  return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize(('masker', 'explainer', 'expected'), [
    ('blur', 'partition', 'partition'),
    ('blur', 'edges', 'partition'),
    ('blur', 'partition_grid', 'partition'),
    ('inpaint_telea', 'shap_partition', 'shap_partition'),
])
def test_maps_are_compared_with_owen_values_whatever_is_configured(
    monkeypatch, masker, explainer, expected
):
  config = common.get_config()
  config.attribution.update({'masker': masker, 'explainer': explainer})
  asked = []
  monkeypatch.setattr(
      teachers, 'explainer',
      lambda _, attribution, *__, **___: asked.append(
          (attribution.explainer, attribution.max_evals)
      ),
  )
  network = make_method(), {'scale': 2.0}
  explaining.owen_values(config.attribution, network, {}, 9)
  assert asked == [(expected, 9)]
  assert config.attribution.explainer == explainer


def test_all_maps_can_be_compared_with_an_inpainting_masker():
  config = common.get_config()
  config.attribution.update(
      {'masker': 'inpaint_telea', 'explainer': 'shap_partition'}
  )
  network = make_method(), {'scale': 2.0}
  images = make_images()
  masking = explaining.masking(config.attribution, np.uint8(255 * images))
  makers = explaining.map_makers(config, network, masking)
  assert 'integrated_gradients' in makers
  maps = makers['integrated_gradients'](images, np.zeros(3, np.int32))
  # Hidden, an image is its own mean colour, and has the same score here.
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), 0, atol=1e-3)


def test_scores_are_probabilities_or_logits():
  images = make_images()
  logits = 2 * images.mean(axis=(1, 2, 3))[:, None] * [3, 0, -1]
  for output, wanted in (('logit', logits), ('probability', softmax(logits))):
    teacher = make_teacher(explained_output=output)
    np.testing.assert_allclose(teacher.score(images), wanted, rtol=1e-5)


@pytest.mark.parametrize('output', ['logit', 'probability'])
def test_weights_are_probabilities_whatever_is_explained(output):
  teacher = make_teacher(explained_output=output, weighted=True)
  images = make_images()
  weights = teacher.weigh(teacher.score(images))
  logits = 2 * images.mean(axis=(1, 2, 3))[:, None] * [3, 0, -1]
  np.testing.assert_allclose(weights, softmax(logits), rtol=1e-5)


def test_without_weights_maps_are_kept_one_by_one():
  assert make_teacher().weigh is None


def test_the_explainer_takes_several_classes_and_completes_each():
  teacher = make_teacher(masker='constant', explained_output='logit')
  images, classes = make_images(), np.array([[0, 1], [2, 0], [1, 2]])
  maps = teacher.explain(images, classes)
  assert maps.shape == (3, 8, 8, 1, 2)
  change = teacher.score(images) - teacher.score(
      np.asarray(teacher.background(images))
  )
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), np.take_along_axis(change, classes, axis=1),
      atol=1e-5,
  )
