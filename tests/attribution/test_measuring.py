"""`attribution.measure`, against its pieces by hand."""

import dataclasses
import functools

import attribution
from attribution.errors import InputError
from attribution.maskers import Masker
from attribution.metrics import agreement
from attribution.metrics import faithfulness
from attribution.metrics import localisation
from attribution.metrics import randomisation
from attribution.metrics import sensitivity
import jax
import jax.numpy as jnp
import numpy as np
import pytest

COUNT, SIDE = 6, 8
RNG = np.random.default_rng(0)
IMAGES = RNG.random((COUNT, SIDE, SIDE, 1), np.float32)
WEIGHTS = {'params': RNG.normal(size=(SIDE**2, 3)).astype(np.float32) / 4}
LABELS = np.array([0, 1, 0, 1, 0, 2])
MAPS = RNG.normal(size=IMAGES.shape).astype(np.float32)
MASKS = np.zeros((COUNT, SIDE, SIDE), bool)
MASKS[1:, 2:5, 3:6] = True  # The first image has no object.
ALWAYS = [
    'morf_area', 'morf_aopc', 'lerf_area', 'deletion_area', 'insertion_area',
    'swap_difference', 'completeness_gap',
]


def score(weights, images):
  flat = images.reshape(len(images), -1)
  return jax.nn.softmax(flat @ weights['params'])


def explainer(**options):
  return attribution.Explainer(score, **{
      'variables': WEIGHTS, 'explainer': 'integrated_gradients',
      'integration_steps': 4, **options,
  })


def measure(maps=MAPS, labels=LABELS, **options):
  return attribution.measure(
      score, options.pop('images', IMAGES), maps, labels,
      **{'variables': WEIGHTS, 'draws': 2, **options},
  )


@pytest.fixture(scope='module')
def measured():
  """Two methods, of one of which there is an explainer, and masks."""
  return measure(
      {'noise': MAPS, 'gradients': explainer()(IMAGES, LABELS)},
      masks=MASKS, explainers={'gradients': explainer()}, seed=3,
  )


def test_a_map_alone_has_what_needs_nothing_else():
  found = measure()
  assert list(found.values) == ALWAYS and found.names == ('maps',)
  for by_name in found.values.values():
    assert {name: x.shape for name, x in by_name.items()} == {'maps': (COUNT,)}
  # An eighth of the side.
  assert found.region == 1 and found.labels.tolist() == LABELS.tolist()


def test_the_curves_are_those_of_the_pieces(measured):
  hidden = np.asarray(Masker('blur').background(IMAGES))
  _, expected = faithfulness.perturb(
      score, WEIGHTS, IMAGES, {'noise': MAPS}, LABELS, hidden=hidden,
      key=jax.random.key(3), region=1, draws=2,
  )
  for kind, by_name in expected.items():
    np.testing.assert_allclose(
        measured.values[kind]['noise'], by_name['noise'], rtol=1e-4, atol=1e-6
    )
  rows = np.arange(COUNT)
  change = np.asarray(score(WEIGHTS, IMAGES) - score(WEIGHTS, hidden))
  np.testing.assert_allclose(
      measured.values['completeness_gap']['noise'],
      abs(MAPS.sum((1, 2, 3)) - change[rows, LABELS]), rtol=1e-4,
  )


def test_masks_are_met_by_a_threshold_of_other_images(measured):
  for name, values in measured.values['epg'].items():
    np.testing.assert_array_equal(np.isnan(values), [True] + [False] * 5), name
  rows = slice(1, None)
  np.testing.assert_allclose(
      measured.values['epg']['noise'][rows],
      localisation.epg(MAPS[rows], MASKS[rows]),
  )
  np.testing.assert_allclose(
      measured.values['iou']['noise'][rows],
      localisation.held_out_iou(MAPS[rows], MASKS[rows]),
  )


@pytest.mark.parametrize('change', [
    lambda masks: masks[..., None], lambda masks: masks.astype(np.uint8),
    lambda masks: masks.astype(float),
])
def test_masks_may_be_written_otherwise(measured, change):
  found = measure(masks=change(MASKS), seed=3)
  for kind in ('epg', 'iou'):
    np.testing.assert_array_equal(
        found.values[kind]['maps'], measured.values[kind]['noise']
    )


def test_what_is_made_anew_is_of_the_explainers_alone(measured):
  again = {'stability', 'max_sensitivity', 'randomisation'}
  for kind, by_name in measured.values.items():
    assert (by_name.keys() == {'gradients'}) == (kind in again)
  maps = explainer()(IMAGES, LABELS)
  expected = sensitivity.sensitivity(explainer(), IMAGES, maps, LABELS, seed=3)
  shuffled = randomisation.shuffled(WEIGHTS, np.random.default_rng([3, 1]))
  others = dataclasses.replace(explainer(), variables=shuffled)
  expected['randomisation'] = agreement.rank_correlation(
      maps, others(IMAGES, LABELS)
  )
  for kind, values in expected.items():
    np.testing.assert_allclose(
        measured.values[kind]['gradients'], values, rtol=1e-5
    )


def test_without_variables_nothing_is_shuffled_and_a_map_is_made():
  alone = functools.partial(score, WEIGHTS)
  maker = attribution.Explainer(alone, explainer='input_x_gradient')
  found = attribution.measure(
      alone, IMAGES, explainers={'own': maker}, draws=1, noise_draws=1
  )
  assert found.names == ('own',)
  assert {'stability', 'max_sensitivity'} <= found.values.keys()
  assert 'randomisation' not in found.values
  # Of the predicted classes.
  assert found.labels.tolist() == np.argmax(alone(IMAGES), axis=1).tolist()
  given = attribution.measure(
      alone, IMAGES, maker(IMAGES, found.labels), draws=1
  )
  np.testing.assert_array_equal(
      given.values['morf_area']['maps'], found.values['morf_area']['own']
  )


def test_of_a_linear_score_the_exact_map_beats_every_other():
  def linear(weights, images):
    total = (images * weights).sum(axis=(1, 2, 3))
    return jnp.stack([total, -total], axis=1)

  weights = np.random.default_rng(1).normal(size=(SIDE, SIDE, 1))
  exact = (weights * IMAGES).astype(np.float32)
  found = attribution.measure(
      linear, IMAGES, {'exact': exact, 'opposite': -exact, 'other': MAPS},
      np.zeros(COUNT, int), variables=weights.astype(np.float32),
      masker=Masker('constant', mask_value=0.0), region=1,
  ).values
  for other in ('opposite', 'other'):
    for kind, sign in (
        ('deletion_area', -1), ('insertion_area', 1), ('morf_area', -1),
        ('morf_aopc', 1), ('lerf_area', 1),
    ):
      better = sign * (found[kind]['exact'] - found[kind][other])
      assert better.mean() > 0
      # Without noise it holds of each image.
      assert kind.endswith(('aopc', 'rf_area')) or better.min() > 0
  np.testing.assert_allclose(found['completeness_gap']['exact'], 0, atol=1e-5)
  assert found['swap_difference']['exact'].min() > 0


def test_images_of_another_range_meet_noise_of_that_range():
  """With what is scored shifted as well, all is as in [0, 1] but the range."""
  def shifted(weights, images):
    return score(weights, (images + 2) / 4)

  wide = np.concatenate([4 * IMAGES - 2])
  wide[0, 0, 0], wide[0, 0, 1] = -2, 2
  narrow = ((wide + 2) / 4).astype(np.float32)
  found = [
      attribution.measure(fn, x, MAPS, LABELS, variables=WEIGHTS, draws=2)
      for fn, x in ((shifted, wide), (score, narrow))
  ]
  for kind in ('morf_area', 'lerf_area', 'deletion_area'):
    np.testing.assert_allclose(
        *(x.values[kind]['maps'] for x in found), rtol=1e-4
    )


def test_a_learned_explainer_is_measured_with_what_it_learned_kept():
  learned = attribution.learn(
      score, WEIGHTS, IMAGES, maps=MAPS, epochs=1, batch_size=2, cell=2,
      filters=4, held_out=0.0,
  )
  found = measure(None, explainers={'learned': learned}, noise_draws=1)
  assert set(found.values['randomisation']) == {'learned'}
  assert np.isfinite(found.values['stability']['learned']).all()


def not_finite(weights, images):
  return score(weights, images) / (images[:, :1, 0, 0] > IMAGES[2, 0, 0, 0])


NAN = np.full_like(MAPS, np.nan)
WRONG = {
    'these are uint8. Of uint8, give': {
        'images': (255 * IMAGES).astype(np.uint8)
    },
    'these are float32': {'images': np.full_like(IMAGES, np.inf)},
    r'shape \(8, 8, 1\): give some': {'images': IMAGES[0]},
    r'shape \(0, 8, 8, 1\): give some': {'images': IMAGES[:0]},
    r'maps SHAP \(6, 4, 8, 1\)': {'maps': {'SHAP': MAPS[:, :4]}},
    r'maps \(5, 8, 8, 1\)': {'maps': MAPS[:5]},
    r'\(6, 8, 8, 1, 1\). Give images \[N, H, W, C\] and maps \[': {
        'maps': MAPS[..., None]
    },
    'NaN or infinity in the maps a:': {'maps': {'a': NAN}},
    'There are no maps': {'maps': None},
    'Labels from 0 to 3, but there are 3': {'labels': LABELS + (LABELS == 2)},
    'Labels from -1': {'labels': LABELS - 1},
    r'Labels of shape \(6, 1\)': {'labels': LABELS[:, None]},
    '6 images and 5 labels': {'labels': LABELS[:5]},
    'labels of type float64': {'labels': LABELS / 2},
    r'masks \(5, 8, 8\)': {'masks': MASKS[:5]},
    r'masks \(6, 4, 8\)': {'masks': MASKS[:, :4]},
    'int64 from 0 to 2': {'masks': 2 * MASKS.astype(np.int64)},
    'not all empty': {'masks': 0 * MASKS},
    "Unknown masker 'blurr'": {'masker': 'blurr'},
    'region is 0': {'region': 0},
    'Regions of 9 pixels are larger': {'region': 9},
    'draws is 1.5': {'draws': 1.5},
    'noise_draws is 0': {'noise_draws': 0},
    'noise is 0': {'noise': 0},
    "explainer 'a' is of the type str": {'explainers': {'a': 'partition'}},
    "explainer 'maps' hides by .*'mean'.* measured by .*'blur'": {
        'explainers': attribution.Explainer(
            score, variables=WEIGHTS, masker='mean'
        ),
    },
    "explainer 'maps' has channels_first=True, and what is measured .*=False": {
        'explainers': attribution.Explainer(
            score, variables=WEIGHTS, channels_first=True
        ),
    },
    'regions are for explainers of regions, and none': {
        'regions': np.zeros((SIDE, SIDE), int), 'explainers': explainer(),
    },
    "explainer 'maps' has no variables": {
        'explainers': attribution.Explainer(
            functools.partial(score, WEIGHTS), explainer='random'
        ),
    },
}


@pytest.mark.parametrize('said', WRONG)
def test_what_cannot_be_measured_is_said(said):
  with pytest.raises(InputError, match=said):
    measure(**WRONG[said])


def test_channels_first_changes_no_value():
  def turned(weights, images):
    return score(weights, jnp.moveaxis(images, 1, 3))

  def kernel_shap(score_fn, **options):
    return attribution.Explainer(
        score_fn, variables=WEIGHTS, explainer='kernel_shap', max_evals=100,
        **options,
    )

  regions = np.arange(SIDE**2).reshape(SIDE, SIDE) // 16
  options = dict(masks=MASKS, noise_draws=1, draws=2, regions=regions)
  last = measure(
      {'noise': MAPS}, explainers={'kernel': kernel_shap(score)}, **options
  )
  first = attribution.measure(
      turned, np.moveaxis(IMAGES, 3, 1), {'noise': np.moveaxis(MAPS, 3, 1)},
      LABELS, variables=WEIGHTS, channels_first=True, **options,
      explainers={'kernel': kernel_shap(turned, channels_first=True)},
  )
  assert first.values.keys() == last.values.keys()
  for kind, methods in last.values.items():
    for name, values in methods.items():
      np.testing.assert_allclose(
          first.values[kind][name], values, rtol=1e-4, atol=1e-5,
          err_msg=f'{kind} {name}',
      )
  # Four regions: all sets of them, so that its maps sum to the change.
  assert last.values['completeness_gap']['kernel'].max() < 1e-5


def test_scores_that_are_not_finite_are_said():
  with pytest.raises(InputError, match='NaN or infinity for some images'):
    attribution.measure(not_finite, IMAGES, MAPS, variables=WEIGHTS)


def test_what_is_no_scoring_function_is_said():
  with pytest.raises(InputError, match='cannot trace the scoring function'):
    attribution.measure(
        lambda x: np.asarray(x).mean(axis=(1, 2)), IMAGES, MAPS
    )
