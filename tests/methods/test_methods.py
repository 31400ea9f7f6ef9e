"""Every method of METHODS: its config, one step, and a prediction."""

from impactx_jax import methods
from impactx_jax.data import maps as map_data
import jax
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import PROBLEM
from tests.methods.methods_fixtures import SHAPE
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import loss_of
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import predict
from tests.methods.methods_fixtures import unmoved

# What each control changes of `config.method`, beside its name.
CONTROLS = {
    'impactx_lambda0': {'lambda_': 0.0},
    'impactx_shuffled': {'maps': 'shuffled'},
    'impactx_random': {'maps': 'random'},
    'impactx_other_class': {'maps': 'other_class'},
    'impactx_edges': {'maps': 'edges'},
    'impactx_mask': {'maps': 'mask'},
    'impactx_masked': {'maps': 'masked'},
    'impactx_distilled': {'lambda_': 0.0, 'distillation': 1.0},
    'impactx_single_stage_lambda0': {'lambda_': 0.0},
    'baseline_matched_flops': {'matched': 'flops'},
    'baseline_cropped': {'surroundings': 'mean'},
    'guided_lambda0': {'guidance_lambda': 0.0},
    'guided_other_masks': {'guidance_masks': 'other'},
    'guided_centre': {'guidance_masks': 'centre'},
    'guided_random_box': {'guidance_masks': 'random'},
    'guided_whole': {'guidance_masks': 'whole'},
    'wae': {'map_cell': 1, 'map_channels': 0},  # It sees maps as they are.
}


@pytest.mark.parametrize('name', CONTROLS)
def test_settings_of_its_own_are_all_that_a_method_changes(name):
  config = make_config('impactx', map_cell=4, map_channels=1)
  before = config.to_dict()
  found = methods.config_of(name, config).to_dict()
  assert config.to_dict() == before
  wanted = {**before, 'method': before['method'] | {'name': name}}
  wanted['method'] |= CONTROLS[name]
  assert found == wanted


@pytest.mark.parametrize('name', sorted(methods.METHODS.keys() - CONTROLS))
def test_other_methods_keep_all_settings(name):
  config = make_config('impactx')
  found = methods.config_of(name, config).to_dict()
  wanted = config.to_dict()
  # The baseline is a part of every run, whatever else that trains.
  wanted['method']['name'] = 'impactx' if name == 'baseline' else name
  assert found == wanted


@pytest.mark.parametrize(('name', 'maps', 'kind'), [
    ('impactx', 'true_class', 'true_class'),
    ('impactx', 'other_class', 'other_class'),
    ('impactx_lambda0', 'other_class', 'other_class'),
    ('impactx_shuffled', 'other_class', 'true_class'),
    ('impactx_random', 'other_class', 'true_class'),
    ('impactx_other_class', 'true_class', 'other_class'),
    ('wae', 'other_class', 'weighted'),
    ('abn', 'other_class', ''),
    ('impactx_single_stage', 'true_class', ''),
])
def test_a_field_and_the_method_say_which_maps_it_trains_on(name, maps, kind):
  config = methods.config_of(name, make_config('impactx', maps=maps))
  assert methods.find(name).maps(config.method) == kind


@pytest.mark.parametrize('name', methods.METHODS)
def test_what_trains_its_own_classifier_needs_none_and_no_maps(name):
  spec, config = methods.find(name), make_config(name)
  method = methods.create(name, config, PROBLEM)
  kind = spec.maps(config.method)
  if spec.from_scratch:
    assert method.shapes()['params'] and not kind
    assert spec.section == 'classifier'
  else:
    with pytest.raises(TypeError):
      method.shapes()
    assert spec.section == 'method'
    on_images = name.startswith(('guided', 'baseline_')) and (
        'matched' not in name
    )
    assert not kind if on_images else kind in map_data.KINDS


def small(name):
  config = make_config(name)
  config.attribution.explainer = 'partition_grid'  # It compiles faster.
  config.attribution.grid = 1
  return config


@pytest.mark.parametrize('name', methods.METHODS)
def test_every_method_trains_a_step_and_predicts(name):
  config = small('impactx' if name == 'baseline' else name)
  method, classifier = make_method(name, config)
  trainer = Trainer(method, config, name, classifier)
  before = trainer.variables
  batch = make_batch()
  metrics = trainer.step(batch)
  after = trainer.variables
  assert trainer.state.step == 1
  assert all(np.isfinite(list(metrics.values())))
  assert {'loss', 'accuracy', 'cross_entropy'} <= metrics.keys()
  assert sum(
      'head' in path for path in unmoved(before['params'], after['params'])
  ) == 0
  needed = {column: batch[column] for column in method.inputs}
  prediction = predict(method, after, needed)
  assert prediction.logits.shape == (8, NUM_CLASSES)
  assert np.isfinite(prediction.logits).all()
  if prediction.attribution is not None:
    assert prediction.attribution.shape[:3] == (8, *SHAPE[:2])
    assert np.isfinite(prediction.attribution).all()
  if 'classifier' in after['collections']:
    jax.tree.map(
        np.testing.assert_array_equal,
        after['collections']['classifier'], jax.device_get(classifier),
    )


@pytest.mark.parametrize(('name', 'changes', 'said'), [
    ('impactx', {}, 'a prediction, learned from maps of the true class'),
    ('impactx_single_stage', {}, 'a prediction'),
    ('abn', {}, 'attends to'),
    ('impactx', {'lambda_': 0.0}, 'of a control'),
    (methods.CONTROL, {}, 'of a control'),
    ('impactx_shuffled', {}, 'of a control'),
    ('impactx', {'maps': 'random'}, 'of a control'),
])
def test_it_is_said_what_a_methods_own_map_is(name, changes, said):
  config = methods.config_of(name, make_config('impactx', **changes))
  assert said in methods.find(name).about(config.method)


@pytest.mark.parametrize('name', methods.METHODS)
def test_a_control_is_its_method_without_the_explanation(name):
  entry = methods.METHODS[name]
  if name == 'guided_from_scratch':
    assert entry.control == methods.BASELINE  # Which it is with λ = 0.
  elif name.startswith(('impactx', 'guided')):
    control = methods.METHODS[entry.control]
    (field,) = control.changes
    assert field in control.scalars and control.changes[field] == 0.0
    assert control.create is entry.create
  else:
    assert not entry.control


@pytest.mark.parametrize(('name', 'lambda_', 'learns'), [
    ('impactx', 1.0, True), ('impactx', 0.0, False),
    (methods.CONTROL, 1.0, False), ('impactx_shuffled', 0.5, True),
    ('impactx_single_stage', 0.0, False), ('explainer', 0.0, True),
    ('abn', 0.0, True), ('impactx_edges', 1.0, False),
    ('impactx_mask', 1.0, False), ('impactx_random', 1.0, True),
])
def test_whether_the_decoder_learns_maps(name, lambda_, learns):
  config = make_config(name)
  if not methods.find(name).changes:
    config.method.lambda_ = lambda_
  assert methods.learns_maps(name, config) == learns


@pytest.mark.parametrize('name', ['impactx', 'impactx_single_stage'])
def test_the_code_is_what_the_decoder_starts_from(name):
  method, classifier = make_method(name)
  variables, batch = init(method, classifier), make_batch()
  code = method.code(variables, batch)
  assert code.shape == (8, 16)
  branch = variables['params']
  branch = branch.get('branch', branch)
  weights = branch['classifier']
  # C is a dense layer on [m; z]: without m's part, what z says.
  of_code = code @ weights['kernel'][-16:]
  a = classifier or {
      'params': variables['params'].get('m'),
      'collections': variables['collections'].get('m'),
  }
  baseline = methods.create('baseline', make_config(name), PROBLEM)
  m = predict(baseline, a, batch).logits
  logits = m @ weights['kernel'][:-16] + of_code + weights['bias']
  np.testing.assert_allclose(
      logits, predict(method, variables, batch).logits, atol=1e-5
  )


def test_lambda0_gives_the_decoder_no_gradient():
  made = make_method('impactx_lambda0')
  _, _, gradients = loss_of(made[0], init(*made), make_batch(), lambda_=0.0)
  decoder = gradients.pop('decoder')
  assert not any(leaf.any() for leaf in jax.tree.leaves(decoder))
  assert all(leaf.any() for leaf in jax.tree.leaves(gradients))
