"""Every method of METHODS: its config, one step, and a prediction."""

from attribution.errors import InputError
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
    'impactx_mask': {'maps': 'mask'},
    'impactx_distilled': {'lambda_': 0.0, 'distillation': 1.0},
    'impactx_single_stage_lambda0': {'lambda_': 0.0},
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
    assert spec.section == 'method' and kind in map_data.KINDS


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
  if classifier is not None:
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
  if name.startswith('impactx'):
    control = methods.METHODS[entry.control]
    assert control.changes == {'lambda_': 0.0}
    assert control.create is entry.create
  else:
    assert not entry.control


def test_lambda0_gives_the_decoder_no_gradient():
  made = make_method('impactx_lambda0')
  _, _, gradients = loss_of(made[0], init(*made), make_batch(), lambda_=0.0)
  decoder = gradients.pop('decoder')
  assert not any(leaf.any() for leaf in jax.tree.leaves(decoder))
  assert all(leaf.any() for leaf in jax.tree.leaves(gradients))


# --- The matched baseline -----------------------------------------------------


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(name, num_classes, config):
  """The shapes of what a method trains, without computing them."""
  problem = methods.Problem(num_classes, SHAPE)
  classifier = None
  if not methods.METHODS[name].from_scratch:
    classifier = methods.create('baseline', config, problem).shapes()
  return methods.create(name, config, problem).shapes(classifier)['params']


@pytest.mark.parametrize('changes', [
    {}, {'lep_units': 512}, {'m_output': 'features', 'classifier_hidden': 64},
])
@pytest.mark.parametrize('num_classes', [4, 100])
def test_matched_baseline_is_as_large_as_m_lep_and_c(num_classes, changes):
  config = make_config('baseline_matched', **changes)
  baseline = count(shapes('baseline', num_classes, config))
  branch = shapes('impactx', num_classes, config)
  wanted = baseline + count(branch['lep']) + count(branch['classifier'])
  wanted += count(branch.get('classifier_hidden', {}))
  found = count(shapes('baseline_matched', num_classes, config))
  assert found == pytest.approx(wanted, rel=0.02)
  assert found > 1.02 * baseline


def test_matched_baseline_needs_no_decoder():
  config = make_config('baseline_matched', decoder_start=7)  # 32 is no 7 * 2^n.
  wide = shapes('baseline_matched', 10, config)
  config.method.decoder_start = 8
  assert wide == shapes('baseline_matched', 10, config)


def test_matched_baseline_is_the_backbone_with_wider_layers():
  config = make_config('baseline_matched', lep_units=512)
  wide = shapes('baseline_matched', 10, config)
  plain = shapes('baseline', 10, config)
  assert jax.tree.structure(wide) == jax.tree.structure(plain)
  for ours, theirs in zip(
      jax.tree.leaves(wide['trunk']), jax.tree.leaves(plain['trunk']),
      strict=True,
  ):
    assert ours.shape[-1] > theirs.shape[-1]
  # The config's own width is what it starts from, and stays.
  assert config.model.width == 1.0


FIXED = """
from flax import linen as nn
from impactx_jax.models import Backbone
from impactx_jax.models import Scores

class Trunk(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    return nn.Conv(4, (3, 3))(images).mean(axis=(1, 2))

class Head(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, features, train=False):
    return Scores(nn.Dense(self.num_classes)(features), features)

BACKBONE = Backbone(
    trunk=lambda model: Trunk(), head=lambda model, classes: Head(classes)
)
"""


def test_a_backbone_that_cannot_grow_cannot_be_matched(tmp_path):
  (tmp_path / 'fixed.py').write_text(FIXED)
  config = make_config('baseline_matched')
  config.model.name = str(tmp_path / 'fixed.py')
  with pytest.raises(InputError) as error:
    methods.create('baseline_matched', config, PROBLEM)
  for part in ('fixed.py', 'model.width', 'baseline_matched'):
    assert part in str(error.value)
