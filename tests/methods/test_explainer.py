"""The learned explainer: A as it is, and a decoder that sees A."""

from attribution.errors import InputError
from attribution.maskers import BLUR
from impactx_jax import losses
from impactx_jax import methods
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import PROBLEM
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import loss_of
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_classifier
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import predict

BATCH = make_batch()
CLASSES = jnp.arange(8) % NUM_CLASSES


def make(**changes):
  config = make_config('explainer', **({'map_cell': 4} | changes))
  method = methods.create('explainer', config, PROBLEM)
  a = make_classifier(config)
  return method, init(method, a), a, config


def map_of(method, variables, batch, classes):
  """Compiled as a whole, as `predict` is."""
  return jax.device_get(jax.jit(method.map_of)(variables, batch, classes))


@pytest.fixture(scope='module')
def made():
  return make()


def test_the_class_is_as(made):
  method, variables, a, config = made
  baseline = methods.create('baseline', config, PROBLEM)
  np.testing.assert_allclose(  # Cut in two, it may be rounded otherwise.
      predict(method, variables, BATCH).logits,
      predict(baseline, a, BATCH).logits,
      atol=1e-6,
  )
  # Nothing of A is among what is trained.
  assert 'trunk' not in variables['params'] and 'head' not in (
      variables['params']
  )
  gradients = jax.jit(jax.grad(
      lambda c: method.loss(variables['params'], c, BATCH, None)[0],
      allow_int=True,
  ))(variables['collections'])
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_the_map_is_that_of_the_predicted_class(made):
  method, variables, _, _ = made
  prediction = predict(method, variables, BATCH)
  top = method.task.top(prediction.logits)
  np.testing.assert_allclose(
      prediction.attribution, map_of(method, variables, BATCH, top), atol=1e-6
  )
  other = map_of(method, variables, BATCH, (top + 1) % NUM_CLASSES)
  assert np.abs(other - prediction.attribution).max() > 1e-3


def test_the_loss_is_the_error_of_the_map_of_the_explained_class(made):
  method, variables, _, _ = made
  batch = BATCH | {'explained': CLASSES[::-1]}
  loss, aux = jax.jit(method.loss)(
      variables['params'], variables['collections'], batch, None
  )
  cells = losses.pool(map_of(method, variables, batch, CLASSES[::-1]), 4)
  target = losses.pool(batch['map'], 4)
  assert loss == pytest.approx(float(jnp.mean((cells - target) ** 2)), rel=1e-5)
  total, count = aux.metrics['map_mse']
  assert total / count == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(('sees', 'classes'), [
    ('features', 'one'), ('features', 'all'), ('gradient', 'one'),
])
def test_what_the_decoder_sees_decides_what_its_map_is_of(sees, classes):
  method, variables, a, _ = make(
      decoder_sees=sees, decoder_classes=classes
  )
  first = predict(method, variables, BATCH).attribution
  # Features alone, and one map: there is none of another class.
  assert (method.map_of is None) == ((sees, classes) == ('features', 'one'))
  if method.map_of:
    maps = [
        map_of(method, variables, BATCH, (CLASSES + k) % NUM_CLASSES)
        for k in (0, 1)
    ]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
  # Of another network, by the same decoder, another map.
  other = jax.tree.map(lambda x: x[..., ::-1], a)
  collections = variables['collections'] | {'classifier': other}
  found = predict(
      method, variables | {'collections': collections}, BATCH
  ).attribution
  assert np.abs(found - first).max() > 1e-3


def test_there_is_no_code_to_see():
  config = make_config('explainer', decoder_sees='code')
  with pytest.raises(InputError, match="no LEP.*--config.method.decoder_sees"):
    methods.find('explainer').check(config)


def make_of_sets(**changes):
  return make(
      explainer_objective='fastshap', map_channels=1, map_cell=8, **changes
  )


def test_without_maps_it_learns_what_sets_of_cells_are_worth():
  method, _, a, config = make_of_sets()
  assert methods.find('explainer').maps(config.method) == ''
  batch = {k: v for k, v in BATCH.items() if k not in ('map', 'explained')}
  trainer = Trainer(method, config, 'explainer', a)
  losses_ = [trainer.step(batch)['loss'] for _ in range(40)]
  assert np.mean(losses_[-5:]) < 0.9 * np.mean(losses_[:5])
  # Complete, of whatever class.
  found = map_of(method, trainer.variables, batch, CLASSES)
  assert found.shape == (8, 32, 32, 1)
  baseline = methods.create('baseline', config, PROBLEM)
  change = [
      jax.nn.softmax(baseline.predict(a, {'image': x}).logits)[
          np.arange(8), CLASSES
      ] for x in (BATCH['image'], BLUR.background(BATCH['image']))
  ]
  np.testing.assert_allclose(
      found.sum(axis=(1, 2, 3)), change[0] - change[1], atol=1e-5
  )


def test_its_evaluations_are_counted():
  _, _, _, config = make_of_sets(fastshap_samples=4)
  config.method.training.batch_size = 10
  summary = {'examples': {'train': 45}, 'history': [{}] * 3}
  spec = methods.find('explainer')
  assert spec.cost(config, summary, 0) == 4 * 10 * 3 * (4 + 2)
  config.method.explainer_objective = 'maps'
  assert spec.cost(config, summary, 7) == 7 * config.attribution.max_evals


def test_without_maps_any_class_is_explained_whatever_the_label_is():
  method, variables, _, _ = make_of_sets()
  first, other = (
      loss_of(method, variables, BATCH | {'label': labels})[0]
      for labels in (jnp.zeros(8, jnp.int32), jnp.full(8, 3))
  )
  assert first == other


@pytest.mark.parametrize(('changes', 'masker', 'parts'), [
    ({}, 'mean', ("'mean'", '--config.attribution.masker=blur')),
    ({}, 'inpaint_ns', ('inpaint_ns', 'explainer_objective=maps')),
    ({'fastshap_samples': 3}, 'blur', ('even', 'fastshap_samples=N')),
    ({'map_channels': 0}, 'blur', ('--config.method.map_channels=1',)),
    ({'maps': 'shuffled'}, 'blur', ('--config.method.maps=true_class',)),
    ({'map_cell': 1}, 'blur', ('--config.method.map_cell=N',)),
    (
        {'decoder_sees': 'features', 'decoder_classes': 'one'}, 'blur',
        ('--config.method.decoder_classes=all',),
    ),
    ({'explainer_objective': 'shap'}, 'blur', ('fastshap, maps',)),
])
def test_what_its_objective_cannot_have_is_refused(changes, masker, parts):
  options = dict(
      explainer_objective='fastshap', map_channels=1, map_cell=8
  ) | changes
  config = make_config('explainer', **options)
  config.attribution.masker = masker
  with pytest.raises(InputError) as error:
    methods.find('explainer').check(config)
  for part in parts:
    assert part in str(error.value)


def test_another_classifier_is_not_explained():
  config = make_config('explainer')
  config.attribution.classifier = 'DIR'
  with pytest.raises(InputError, match='--config.classifier.workdir=DIR'):
    methods.find('explainer').check(config)


def test_its_controls_are_called_so():
  spec = methods.find('explainer')
  assert 'prediction' in spec.about(make_config('explainer').method)
  for maps in ('shuffled', 'random', 'other_class', 'mask'):
    options = make_config('explainer', maps=maps).method
    assert 'control' in spec.about(options)
    assert spec.maps(options) == (
        'other_class' if maps == 'other_class' else 'true_class'
    )


# --- Maps of several classes an image -----------------------------------------


@pytest.mark.parametrize(('changes', 'explainer', 'refused'), [
    ({}, 'partition', ''), ({}, 'shap_partition', ''),
    ({'decoder_classes': 'one'}, 'partition_grid', ''),  # It sees a gradient.
    ({'decoder_sees': 'features'}, 'partition', ''),
    (
        {'decoder_sees': 'features', 'decoder_classes': 'one'}, 'partition',
        'one map.*decoder_classes=all',
    ),
    ({}, 'integrated_gradients', 'by itself.*partition_grid'),
    ({'maps': 'shuffled'}, 'partition', 'maps=true_class'),
    (
        {'explainer_objective': 'fastshap', 'map_channels': 1}, 'partition',
        'explainer_objective=maps',
    ),
])
def test_maps_of_several_classes(changes, explainer, refused):
  config = make_config('explainer', **({'map_cell': 4} | changes))
  config.attribution.update(classes_per_image=2, explainer=explainer)
  if not refused:
    methods.find('explainer').check(config)
    return
  with pytest.raises(InputError, match=f'is 2, .*{refused}.*image=1'):
    methods.find('explainer').check(config)


@pytest.mark.parametrize(('name', 'refused'), [
    ('impactx', True), ('impactx_other_class', True), ('wae', True),
    ('baseline_matched', False), ('impactx_single_stage', False),
    ('abn', False), ('baseline_pair', False),
])
def test_they_are_not_for_who_learns_the_class_from_the_same_rows(
    name, refused
):
  config = make_config(name)
  config.attribution.classes_per_image = 2
  if not refused:
    methods.find(name).check(config)
    return
  with pytest.raises(InputError, match=f'{name} learns.*name=explainer'):
    methods.find(name).check(config)


def test_no_more_classes_are_explained_than_there_are():
  config = make_config('explainer')
  data = {'name': 'toy', 'class_names': 'abc', 'image_shape': (32, 32, 3)}
  for count in (1, 3):
    config.attribution.classes_per_image = count
    methods.find('explainer').check_data(config, data)
  config.attribution.classes_per_image = 4
  with pytest.raises(InputError, match='is 4, and toy has 3 classes'):
    methods.find('explainer').check_data(config, data)
