"""Explainers as the config describes them, of networks with their variables."""

from attribution.errors import InputError
from attribution.maskers import Masker
from impactx_jax import methods
from impactx_jax import tasks
from impactx_jax.configs import common
from impactx_jax.evaluation import explaining
from attribution.explainers import Layers
from impactx_jax.methods.base import Prediction
import jax.numpy as jnp
import numpy as np
import pytest

BLUR = Masker('blur')
VARIABLES = {'scale': 2.0}


def make_method(task='classification', **changes):
  """Logits [3 mean(x), 0, -mean(x)] of an image x, scaled."""

  def predict(variables, batch):
    mean = batch['image'].mean(axis=(1, 2, 3))
    factors = jnp.array([3.0, 0.0, -1.0])
    return Prediction(variables['scale'] * mean[:, None] * factors)

  return methods.Method(tasks.TASKS[task], None, None, predict, **changes)


def make_config(**changes):
  config = common.get_config()
  config.attribution.update({'max_evals': 10, 'batch_size': 4, **changes})
  return config


def make_maker(weighted=False, task='classification', **changes):
  attribution = make_config(**changes).attribution
  masker = explaining.masker(attribution, np.zeros((2, 8, 8, 1), np.uint8))
  return explaining.map_maker(
      (make_method(task), VARIABLES), attribution, masker, dtype='float32',
      weighted=weighted,
  )


def make_images():
  rng = np.random.default_rng(0)
  return rng.random((3, 8, 8, 1), dtype=np.float32)


def logits_of(images, scale=2.0):
  return scale * images.mean(axis=(1, 2, 3))[:, None] * [3, 0, -1]


def softmax(logits):
  return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def sigmoid(logits):
  return 1 / (1 + np.exp(-logits))


# --- What is explained --------------------------------------------------------


@pytest.mark.parametrize(('task', 'output', 'wanted'), [
    ('classification', 'logit', lambda logits: logits),
    ('classification', 'probability', softmax),
    ('multi_label', 'logit', lambda logits: logits),
    ('multi_label', 'probability', sigmoid),
])
def test_scores_are_logits_or_the_tasks_probabilities(task, output, wanted):
  images = make_images()
  maker = make_maker(task=task, explained_output=output)
  np.testing.assert_allclose(
      maker.score(images), wanted(logits_of(images)), rtol=1e-5
  )


def test_a_method_has_one_scoring_function_whatever_its_variables():
  method = make_method()
  found = explaining.scores(method, 'logit')
  assert explaining.scores(method, 'logit') is found
  assert explaining.scores(method, 'probability') is not found
  images = make_images()
  for scale in (1.0, -2.0):
    np.testing.assert_allclose(
        found({'scale': scale}, images), logits_of(images, scale), rtol=1e-5
    )


def test_an_explainer_is_made_once_and_explains_any_variables():
  method, config = make_method(), make_config(
      explained_output='logit', masker='constant'
  )
  masker = explaining.masker(config.attribution, np.zeros((1, 8, 8, 1)))
  explain = explaining.explainer(method, config.attribution, masker)
  assert explaining.explainer(method, config.attribution, masker) is explain
  images, classes = make_images(), np.array([0, 2, 0])
  for scale in (1.0, -2.0):
    maps = explain({'scale': scale}, images, classes)
    np.testing.assert_allclose(
        maps.sum(axis=(1, 2, 3)), logits_of(images, scale)[range(3), classes],
        atol=1e-5,
    )


def test_an_explainer_has_the_changes_that_are_asked_for():
  method, config = make_method(), make_config()
  plain = explaining.explainer(method, config.attribution, BLUR)
  other = explaining.explainer(
      method, config.attribution, BLUR, explainer='edges'
  )
  images = make_images()
  assert config.attribution.explainer == 'partition' and other is not plain
  np.testing.assert_array_equal(
      other(VARIABLES, images, np.zeros(3, int)),
      explaining.explainer(
          method, make_config(explainer='edges').attribution, BLUR
      )(VARIABLES, images, np.zeros(3, int)),
  )


def test_layers_are_those_of_the_method_with_the_scores_on_top():
  assert explaining.layers(make_method(), 'logit') is None
  method = make_method(layers=Layers(
      lambda variables, images: images + variables['scale'],
      lambda variables, features: features.mean(axis=(1, 2)),
  ))
  images = np.ones((1, 2, 2, 2), np.float32) * [0, 1]
  for output, wanted in (
      ('logit', [2, 3]), ('probability', softmax(np.array([[2, 3]]))[0])
  ):
    found = explaining.layers(method, output)
    assert explaining.layers(method, output) is found
    features = found.features(VARIABLES, images)
    np.testing.assert_allclose(features[0, 0, 0], [2, 3])
    np.testing.assert_allclose(
        found.scores(VARIABLES, features)[0], wanted, rtol=1e-6
    )


def test_b_cos_explains_the_linear_map_that_a_method_gives():
  """f(x) = s [mean(x), mean(1 - x)], which is linear in [x, 1 - x]."""

  def encode(variables, images):
    del variables
    return jnp.concatenate([images, 1 - images], axis=-1)

  def logits(variables, encoded):
    return variables['scale'] * encoded.mean(axis=(1, 2))

  def predict(variables, batch):
    return Prediction(logits(variables, encode(variables, batch['image'])))

  method = methods.Method(
      tasks.TASKS['classification'], None, None, predict,
      linear=Layers(encode, logits),
  )
  config = make_config(explainer='b_cos', explained_output='logit')
  config.evaluation.explainers = ('b_cos', 'random')
  assert list(explaining.compared(config, method, BLUR)) == [
      'b_cos', 'impactx', 'random'
  ]
  images = make_images()
  explain = explaining.explainer(method, config.attribution, BLUR)
  maps = explain(VARIABLES, images, np.array([0, 1, 0]))
  expected = 2 * images / 64
  expected[1] = 2 * (1 - images[1]) / 64
  np.testing.assert_allclose(maps, expected, rtol=1e-5)


@pytest.mark.parametrize(('masker', 'expected'), [
    ('blur', 'partition'), ('inpaint_ns', 'shap_partition'),
])
def test_what_b_cos_cannot_explain_is_compared_with_owen_values(
    masker, expected
):
  config = make_config(explainer='b_cos', masker=masker)
  config.evaluation.explainers = ('b_cos', 'random')
  found = explaining.compared(config, make_method(), Masker(masker))
  assert list(found) == [expected, 'impactx', 'random']
  assert explaining.reference(config.attribution, make_method()) == expected
  with pytest.raises(InputError, match='for B-cos networks alone'):
    explaining.explainer(make_method(), config.attribution, BLUR)


# --- Maskers ------------------------------------------------------------------


@pytest.mark.parametrize(('changes', 'expected'), [
    ({}, BLUR),
    ({'masker': 'blur', 'blur_kernel': 5}, Masker('blur', 5)),
    ({'masker': 'constant', 'mask_value': 0.25}, Masker('constant', 0, 0.25)),
    ({'masker': 'mean', 'mask_value': 0.25}, Masker('mean', 0, (0.2, 0.6))),
])
def test_a_masker_is_the_configs_and_the_mean_that_of_the_images(
    changes, expected
):
  images = np.zeros((2, 4, 4, 2), np.uint8)
  images[..., 0], images[0, ..., 1], images[1, ..., 1] = 51, 255, 51
  found = explaining.masker(make_config(**changes).attribution, images)
  assert (found.name, found.blur_kernel) == (
      expected.name, expected.blur_kernel
  )
  assert found.mask_value == pytest.approx(expected.mask_value)


@pytest.mark.parametrize(('changes', 'parts'), [
    ({'explainer': 'shap'}, ("'shap'", '--config.attribution.explainer=')),
    ({'masker': 'blurr'}, ("'blur'", '--config.attribution.masker=')),
    ({'blur_kernel': -1}, ('-1', '--config.attribution.blur_kernel=')),
    ({'explainer': 'partition_grid', 'grid': 3},
     ('3', '--config.attribution.grid=')),
    ({'masker': 'inpaint_ns'}, ('inpaint_ns', '--config.attribution.')),
    ({'explainer': '/nowhere/mine.py'},
     ('/nowhere/mine.py', '--config.attribution.explainer=')),
])
def test_what_cannot_be_had_is_refused_by_its_flag(changes, parts):
  with pytest.raises(InputError) as error:
    explaining.check(make_config(**changes).attribution)
  for part in parts:
    assert part in str(error.value)


# --- Maps for the service -----------------------------------------------------


@pytest.mark.parametrize('output', ['logit', 'probability'])
@pytest.mark.parametrize(
    ('task', 'wanted'), [('classification', softmax), ('multi_label', sigmoid)]
)
def test_weights_are_probabilities_whatever_is_explained(output, task, wanted):
  maker = make_maker(weighted=True, task=task, explained_output=output)
  images = make_images()
  weights = maker.weigh(maker.score(images))
  np.testing.assert_allclose(weights, wanted(logits_of(images)), rtol=1e-5)


def test_without_weights_maps_are_kept_one_by_one():
  assert make_maker().weigh is None


def test_the_explainer_takes_several_classes_and_completes_each():
  maker = make_maker(masker='constant', explained_output='logit')
  images, classes = make_images(), np.array([[0, 1], [2, 0], [1, 2]])
  maps = maker.explain(images, classes)
  assert maps.shape == (3, 8, 8, 1, 2)
  change = maker.score(images) - maker.score(
      np.asarray(maker.background(images))
  )
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), np.take_along_axis(change, classes, axis=1),
      atol=1e-5,
  )


@pytest.mark.parametrize(('explainer', 'complete', 'evaluations'), [
    ('partition', True, 10), ('partition_grid', True, 2 * (8**4 - 1) // 3 + 2),
    ('integrated_gradients', False, 32), ('edges', False, 0),
])
def test_the_service_is_told_what_a_map_costs_and_must_sum_to(
    explainer, complete, evaluations
):
  maker = make_maker(explainer=explainer)
  assert (maker.complete, maker.evaluations) == (complete, evaluations)


# --- Maps that are compared ---------------------------------------------------


@pytest.mark.parametrize(('masker', 'explainer', 'expected'), [
    ('blur', 'partition', 'partition'),
    ('blur', 'edges', 'partition'),
    ('blur', 'partition_grid', 'partition'),
    ('inpaint_telea', 'shap_partition', 'shap_partition'),
])
def test_maps_are_compared_with_owen_values_whatever_is_configured(
    monkeypatch, masker, explainer, expected
):
  attribution = make_config(masker=masker, explainer=explainer).attribution
  asked = []
  monkeypatch.setattr(
      explaining, 'explainer', lambda *_, **changes: asked.append(changes)
  )
  explaining.owen_values(make_method(), attribution, Masker(masker), 9)
  assert asked == [{'explainer': expected, 'max_evals': 9}]


def test_all_maps_can_be_compared_with_an_inpainting_masker():
  config = make_config(masker='inpaint_telea', explainer='shap_partition')
  images = make_images()
  masker = explaining.masker(config.attribution, np.uint8(255 * images))
  makers = explaining.compared(config, make_method(), masker)
  maps = makers['integrated_gradients'](
      VARIABLES, images, np.zeros(3, np.int32)
  )
  # Hidden, an image is its own mean colour, and has the same score here.
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), 0, atol=1e-3)


def test_the_reference_comes_first_and_the_methods_own_map_second():
  config = make_config()
  config.evaluation.explainers = ('random', 'partition', 'grad_cam')
  method = make_method()
  found = explaining.compared(config, method, BLUR)
  assert list(found) == ['partition', 'impactx', 'random']


def test_the_own_map_is_what_the_method_predicts():
  def predict(variables, batch):
    images = batch['image']
    return Prediction(images.mean(axis=(1, 2)), variables['scale'] * images)

  method = methods.Method(tasks.TASKS['classification'], None, None, predict)
  own = explaining.compared(make_config(), method, BLUR)['impactx']
  images = make_images()
  np.testing.assert_allclose(
      own(VARIABLES, images, np.zeros(3, int)), 2 * images, rtol=1e-6
  )


# --- Settings -----------------------------------------------------------------


@pytest.mark.parametrize(('explainer', 'taken', 'left'), [
    ('partition', {'max_evals', 'batch_size', 'masker', 'blur_kernel'},
     {'grid', 'integration_steps', 'images_per_step'}),
    ('partition_grid', {'grid', 'masker'}, {'max_evals', 'integration_steps'}),
    ('edges', set(), {'max_evals', 'masker', 'mask_value', 'grid'}),
])
def test_settings_are_those_that_decide_the_explainers_maps(
    explainer, taken, left
):
  found = explaining.settings(make_config(explainer=explainer).attribution)
  assert found['explainer'] == explainer
  assert {'explained_output', *taken} <= found.keys()
  assert not left & found.keys()


def test_settings_of_a_file_are_its_name_and_what_is_in_it(tmp_path):
  content = 'from attribution.explainers import edges as EXPLAINER\n'
  found = []
  for folder, text in (('a', ''), ('b', ''), ('c', '# Edited.\n')):
    path = tmp_path / folder / 'mine.py'
    path.parent.mkdir()
    path.write_text(content + text)
    attribution = make_config(explainer=str(path)).attribution
    found.append(explaining.settings(attribution))
  assert found[0]['explainer'] == 'mine'
  assert found[0] == found[1] != found[2]
