"""A method's own map and explainers, measured on one model."""

import dataclasses

from attribution.maskers import Masker
from impactx_jax.data import sources
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import measure_maps
from impactx_jax.evaluation import randomisation
from impactx_jax.report import page
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
import jax
import numpy as np
import pytest
from tests.pipeline_fixtures import restored

@pytest.fixture(scope='module')
def network(finished_workdir):
  return restored(finished_workdir, 'impactx')


@pytest.fixture(scope='module')
def config(finished_workdir):
  config = configs.read(artefact.open_workdir(finished_workdir))
  with config.unlocked():
    config.evaluation.explainers = ('input_x_gradient', 'random')
  return config


@pytest.fixture(scope='module')
def dataset(config):
  return sources.load(config.data, config.seed)


@pytest.fixture(scope='module')
def measured(config, dataset, network):
  return measure_maps.measure(config, dataset, network)


def test_what_is_said_of_each_image_is_the_networks(measured, dataset, network):
  method, variables = network
  logits = method.predict(variables, {'image': measured.images}).logits
  np.testing.assert_array_equal(measured.predicted, logits.argmax(-1))
  np.testing.assert_allclose(
      measured.probabilities, jax.nn.softmax(logits), atol=1e-6
  )
  np.testing.assert_array_equal(
      measured.right, measured.predicted == measured.labels
  )
  # They are images of the test split with their labels.
  for image, label in zip(measured.images, measured.labels, strict=True):
    same = (dataset.test['image'] == np.round(255 * image)).all((1, 2, 3))
    assert label in dataset.test['label'][same]


def test_all_maps_are_there_the_reference_first(measured):
  names = ['partition', 'impactx', 'input_x_gradient', 'random', 'swapped']
  assert list(measured.maps) == list(measured.curves) == names
  assert {len(x) for x in measured.maps.values()} == {len(measured.images)}
  assert len(measured.images) == 8


def test_they_share_model_images_and_noise(measured):
  reference = measured.curves['partition']
  ends = [0, -1]  # The clean image, and all noise: no map matters there.
  for name, curve in measured.curves.items():
    there = ~np.isnan(curve).any(axis=1)  # No other image of the class.
    assert there.all() or name == 'swapped'
    np.testing.assert_allclose(
        curve[there][:, ends], reference[there][:, ends], atol=1e-6
    )
  np.testing.assert_allclose(
      reference[:, 0], measured.probabilities.max(-1), atol=1e-6
  )
  assert np.any(measured.curves['random'] != reference)


def test_shap_explains_the_network_and_the_class_it_predicts(
    measured, network
):
  method, variables = network

  def probability(images):
    logits = method.predict(variables, {'image': images}).logits
    scores = jax.nn.softmax(logits)
    return np.asarray(scores)[np.arange(8), measured.predicted]

  hidden = Masker('blur').background(measured.images)
  np.testing.assert_allclose(
      measured.maps['partition'].sum(axis=(1, 2, 3)),
      probability(measured.images) - probability(hidden),
      atol=1e-4,
  )
  assert measured.values['completeness_gap']['partition'].max() < 1e-4
  assert 'impactx' not in measured.values['completeness_gap']


def test_the_own_map_is_the_decoders(measured, network):
  method, variables = network
  expected = method.predict(
      variables, {'image': measured.images}
  ).attribution
  np.testing.assert_allclose(measured.maps['impactx'], expected, atol=1e-5)


def test_the_close_look(measured):
  values = measured.values
  assert {len(x) for x in values['stability'].values()} == {2}
  # The reference has the budget of the Owen values that it is compared with.
  np.testing.assert_allclose(values['rank_correlation']['partition'], 1)
  np.testing.assert_allclose(
      values['relative_l2']['partition'], 0, atol=1e-4
  )
  # Noise for each image and class: it does not know the network.
  np.testing.assert_allclose(values['randomisation']['random'], 1)
  # And no two images, nor one with a little noise: it is at chance, 0, where
  # the correlation of 1,024 pixels has a standard deviation of 0.03.
  assert np.abs(values['stability']['random']).max() < 0.15


def test_the_explanation_of_a_is_laid_beside_that_of_the_network(
    config, dataset, network, finished_workdir
):
  a = restored(finished_workdir, 'baseline')
  found = measure_maps.measure(config, dataset, network, classifier=a)
  expected = explaining.explainer(
      a[0], config.attribution, explaining.masker(
          config.attribution, dataset.train['image']
      ),
  )(a[1], found.images, found.predicted)
  np.testing.assert_allclose(found.maps['partition_of_a'], expected, atol=1e-5)
  assert 'partition_of_a' in found.values['insertion_area']
  # Of the same network it would be the same map.
  same = measure_maps.measure(config, dataset, network, classifier=network)
  assert 'partition_of_a' not in same.maps


def test_another_seed_is_compared(config, dataset, network):
  scrambled = network[0], randomisation.randomised(network[1], 0)
  for other, same in ((network, True), (scrambled, False)):
    values = measure_maps.measure(config, dataset, network, other).values
    found = values['seed_agreement']
    assert np.allclose(found['impactx'], 1, atol=1e-5) == same
    np.testing.assert_allclose(found['random'], 1)  # The same for all.


def test_a_measure_that_no_image_has_is_none_in_json(measured, config):
  nothing = np.array([np.nan, np.nan, np.nan])
  partly = np.array([np.nan, 1.0, 3.0])
  values = {
      'morf_area': measured.values['morf_area'],
      'epg': {'partition': nothing, 'impactx': partly},
  }
  found = dataclasses.replace(measured, values=values)
  epg = found.summary(config.evaluation, 0)['measures']['epg']
  assert epg['partition'] == {'mean': None, 'interval': None, 'images': 0}
  assert (epg['impactx']['mean'], epg['impactx']['images']) == (2, 2)


def test_the_summary_has_means_and_intervals(measured, config):
  summary = measured.summary(config.evaluation, 0)
  assert summary['images'] == 8 and summary['region'] == 4
  for measure, by_name in summary['measures'].items():
    for name, found in by_name.items():
      values = measured.values[measure][name]
      assert found['images'] == np.isfinite(values).sum()
      assert found['mean'] == pytest.approx(np.nanmean(values))
      if found['images'] < 2:  # Of a map without order there is no rank.
        assert found['interval'] is None
        continue
      low, high = found['interval']
      assert low <= found['mean'] <= high


@pytest.mark.parametrize('to', ['partition', 'impactx'])
def test_differences_are_of_each_image(measured, config, to):
  differences = measured.summary(config.evaluation, 0)['differences'][to]
  assert differences.keys() == measured.values.keys() - {
      # Of fewer maps, without this one.
      measure for measure, x in measured.values.items() if to not in x
  }
  for measure, by_name in differences.items():
    assert to not in by_name
    for name, found in by_name.items():
      of_map, of_other = (measured.values[measure][n] for n in (name, to))
      assert found['mean'] == pytest.approx(np.nanmean(of_map - of_other))


def test_the_page_knows_every_measure(measured, config):
  titles = page.titles(measured.summary(config.evaluation, 0))
  assert measured.values.keys() <= titles.keys()
  title, hint = titles['randomisation of M']
  accuracy = 100 * measured.randomised_accuracy['randomisation of M']
  assert title == 'likeness after randomising M'
  assert f'{accuracy:.0f} of {100 * measured.right.mean():.0f} %' in hint


def bright(columns):
  """The bright half of each image, bool [N, H, W]."""
  return columns['image'].mean(axis=-1) > 127


@pytest.mark.parametrize('of_classes', [False, True])
def test_masks_give_epg_and_iou(config, dataset, network, of_classes):
  def with_masks(columns):
    if not of_classes:
      box = np.tile(np.float32([0, 0, 1, 1]), (len(columns['image']), 1))
      return {**columns, 'mask': bright(columns)[..., None], 'box': box}
    # Of each class another one: the object of the explained class is bright.
    masks = np.repeat(~bright(columns)[..., None], 10, axis=-1)
    batch = {'image': columns['image'] / np.float32(255)}
    method, variables = network
    predicted = method.predict(variables, batch).logits.argmax(-1)
    masks[np.arange(len(masks)), ..., predicted] = bright(columns)
    return {**columns, 'masks': np.uint8(masks)}

  masked = dataclasses.replace(
      dataset,
      test=with_masks(dataset.test),
      validation=with_masks(dataset.validation),
      train=with_masks(dataset.train),
  )
  found = measure_maps.measure(config, masked, network)
  values, names = found.values, {
      'partition', 'impactx', 'input_x_gradient', 'random', 'mean_mask',
  }
  for name in ('epg', 'iou', 'iou_half'):
    assert values[name].keys() == names | {'swapped'}
  for name in ('epg_true', 'iou_true'):
    assert values[name].keys() == names
  assert 0.05 < found.mask_share < 0.5
  right = found.predicted == found.labels
  for name in names:
    np.testing.assert_array_equal(
        values['epg_true'][name][right], values['epg'][name][right]
    )
  if of_classes:  # Dark, where that is another class than the explained one.
    random = values['epg_true']['random']
    assert random[~right].mean() > 0.5 > random[right].mean()
    assert 'object_in_box' not in values
  else:  # The box is all of the image.
    for name in names:
      np.testing.assert_array_equal(
          values['object_in_box'][name], values['epg'][name]
      )
  titles = page.titles(found.summary(config.evaluation, 0))
  assert f'chance: {found.mask_share:.3f}' in titles['epg'][1]
  assert values.keys() <= titles.keys()
  # Black pixels get nothing of it: all its energy is where there is light.
  assert values['epg']['input_x_gradient'].mean() > (
      values['epg']['random'].mean()
  )


def test_grad_cam_is_left_out_where_the_network_is_not_cut(config, network):
  method, _ = network
  names = {}
  for layers in (None, method.layers):
    cut = dataclasses.replace(method, layers=layers)
    config = config.copy_and_resolve_references()
    config.evaluation.explainers = ('grad_cam',)
    makers = explaining.compared(config, cut, Masker('blur'))
    names[layers is None] = set(makers)
  assert names[False] - names[True] == {'grad_cam'}


def test_training_maps_give_their_means_as_controls(config, dataset, network):
  count = len(dataset.train['id'])
  maps = np.random.default_rng(0).random((count, 32, 32, 3, 1), np.float32)
  training = {
      'map': maps, 'split': np.full(count, 'train'),
      'classes': dataset.train['label'][:, None],
  }
  measured = measure_maps.measure(config, dataset, network, training=training)
  assert {'class_mean', 'mean', 'swapped'} <= measured.maps.keys()
  for i, k in enumerate(measured.predicted):
    of_class = maps[dataset.train['label'] == k, ..., 0].mean(axis=0)
    np.testing.assert_allclose(
        measured.maps['class_mean'][i], of_class, rtol=1e-4
    )
  swap = measured.values['swap_difference']
  alone = np.isnan(swap['impactx'])
  assert (~alone).sum() > 0
  counts = np.bincount(measured.predicted)[measured.predicted]
  np.testing.assert_array_equal(alone, counts == 1)
  # What is the same for all images of a class cannot be about one.
  for name in ('class_mean', 'mean'):
    np.testing.assert_array_equal(swap[name][~alone], 0)
  area = measured.values['insertion_area']
  np.testing.assert_allclose(
      swap['impactx'], area['impactx'] - area['swapped'], atol=1e-5
  )
  np.testing.assert_array_equal(np.isnan(area['swapped']), alone)
  np.testing.assert_allclose(measured.values['between_images']['mean'], 1)
