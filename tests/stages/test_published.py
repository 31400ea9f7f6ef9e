"""What starts from published weights, and files that are refused."""

import json
import os
import pathlib

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax import stages
from impactx_jax.models.weights import files
from impactx_jax.models.weights import pretrained
from impactx_jax.stages import training_run
from impactx_jax.training import loop
from impactx_jax.training import train_step
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors
from tests import keras_fixtures
from tests.benchmarks import common as benchmarks
from tests.conftest import make_tiny_config
from tests.keras_fixtures import CLASSES
from tests.keras_fixtures import KERAS
from tests.keras_fixtures import assert_trees_equal
from tests.keras_fixtures import make_config
from tests.keras_fixtures import make_keras
from tests.keras_fixtures import make_method
from tests.keras_fixtures import start_of
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import forbid
from tests.pipeline_fixtures import read_summary

small_mobilenet = keras_fixtures.small_mobilenet
CIFAR10 = pathlib.Path(os.environ.get('TFDS_DATA_DIR', '')) / 'cifar10'


@pytest.mark.parametrize('name', ['explainer', 'baseline_continued', 'wae'])
def test_what_starts_from_a_or_from_nothing_takes_no_file(name):
  assert methods.find(name).published(make_config('mobilenet').method) is None


def test_the_second_of_a_pair_starts_from_weights_and_m_stays(small_mobilenet):
  expected, _ = start_of('baseline', small_mobilenet)
  variables, _ = start_of('baseline_pair', small_mobilenet)
  assert_trees_equal(
      variables['params']['trunk'], expected['params']['trunk']
  )
  collections = variables['collections']
  assert_trees_equal(
      collections['batch_stats'], expected['collections']['batch_stats']
  )
  for leaf in jax.tree.leaves(collections['classifier']):
    assert (leaf == 9).all()


def test_lep_starts_from_keras_weights_and_the_frozen_branch_stays(
    small_mobilenet
):
  expected, _ = start_of('baseline', small_mobilenet)
  variables, report = start_of('impactx', small_mobilenet)
  assert_trees_equal(
      variables['params']['lep']['trunk'], expected['params']['trunk']
  )
  collections = variables['collections']
  assert_trees_equal(
      collections['batch_stats']['lep']['trunk'],
      expected['collections']['batch_stats']['trunk'],
  )
  for leaf in jax.tree.leaves(collections['classifier']):
    assert (leaf == 9).all()
  assert {*report.fresh} == {'decoder', 'lep/code', 'classifier'}
  untouched, report = start_of('impactx', small_mobilenet, leave=['lep'])
  assert report.loaded == 0
  assert all((leaf == 9).all() for leaf in jax.tree.leaves(untouched))


def test_lep_can_start_from_as_trunk_with_its_statistics():
  config = make_config('mobilenet', 'random')
  config.model.width = 0.25
  config.method.lep_init = 'from_classifier'
  generator = np.random.default_rng(0)
  classifier = jax.tree.map(
      lambda x: generator.random(x.shape, np.float32),
      make_method(config, 32).shapes(),
  )
  problem = methods.Problem(CLASSES, (32, 32, 3))
  method = methods.create('impactx', config, problem)
  params, collections = jax.jit(method.init)(jax.random.key(0), classifier)
  assert_trees_equal(
      params['lep']['trunk'], classifier['params']['trunk']
  )
  assert_trees_equal(
      collections['batch_stats']['lep']['trunk'],
      classifier['collections']['batch_stats']['trunk'],
  )


def test_abn_starts_both_its_last_stages_from_keras_weights(small_mobilenet):
  variables, _ = start_of('abn', small_mobilenet)
  params = variables['params']
  for ours, trunks in (('block12', 'blocks_11'), ('block13', 'blocks_12')):
    assert_trees_equal(
        params['attention_stage'][ours], params['trunk'][trunks]
    )


def test_head_of_keras_is_left_unless_it_is_asked_for(small_mobilenet):
  config = small_mobilenet.copy_and_resolve_references()
  config.model.pretrained_head = False
  variables, report = start_of('baseline', config)
  head = variables['params']['head']
  assert all((leaf == 9).all() for leaf in jax.tree.leaves(head))
  assert report.left == ('predictions',)
  assert report.fresh == ('head',)
  whole, _ = start_of('baseline', small_mobilenet)
  assert_trees_equal(
      variables['params']['trunk'], whole['params']['trunk']
  )
  assert 'predictions' in str(report)
  many = make_method(config, 32, classes=12)  # Whatever their number.
  pretrained.start(config.model, many.shapes())


@pytest.mark.parametrize('name', KERAS)
def test_every_leaf_of_keras_networks_is_trained_and_they_learn(name):
  config = make_config(name, 'random')
  config.model.width = 0.25
  data = benchmarks.load_images(npz='', data_dir='')
  batch = {
      'image': data['train_images'][:32],
      'label': data['train_labels'][:32].astype(np.int32),
      'position': np.arange(32, dtype=np.int32),
  }
  method = make_method(config, 32, classes=10)
  state = train_step.initial_state(method, seed=0)
  first = jax.device_get(train_step.variables_of(state))
  step = train_step.compiled_step(method, flip=False, crop_padding=0)
  inputs = train_step.Inputs(
      keys={name: rng.stream(0, name) for name in train_step.STREAMS},
      learning_rate=np.float32(0.001),
      scalars={},
  )
  state = parallel.replicate(state)
  for _ in range(25):
    state, metrics = step(state, parallel.shard(batch), inputs)
  assert metrics['accuracy'][0] / metrics['accuracy'][1] > 0.9
  still = [
      jax.tree_util.keystr(path)
      for (path, before), after in zip(
          jax.tree_util.tree_leaves_with_path(first),
          jax.tree.leaves(train_step.variables_of(state)), strict=True,
      )
      if np.array_equal(before, after)
  ]
  assert not still


@pytest.mark.skipif(
    not CIFAR10.exists(), reason='TFDS_DATA_DIR says where CIFAR-10 is.'
)
@pytest.mark.parametrize('name', KERAS)
def test_network_saved_by_keras_learns_a_few_hundred_cifar10_images(
    name, tmp_path
):
  path = tmp_path / 'weights.h5'
  make_keras(name, 32, fresh=True).save(path)
  config = make_config(name, path)
  config.model.pretrained_head = False
  config.data.update(
      name='cifar10', data_dir=str(CIFAR10.parent), label_fraction=0.008
  )
  config.classifier.training.update(batch_size=32, epochs=40, patience=0)
  stages.run(config, tmp_path / 'run', 'classifier')
  summary = read_summary(tmp_path / 'run' / 'classifier')
  assert 300 < summary['examples']['train'] < 400
  assert summary['history'][-1]['train/accuracy'] > 0.9


def run_config(small_mobilenet, data_dir):
  """Digits have ten classes, so the head starts at random."""
  config = make_tiny_config(data_dir)
  config.model.update(small_mobilenet.model)
  config.model.pretrained_head = False
  return config


@pytest.fixture
def given(monkeypatch):
  """What the training loop is given, which then trains nothing."""
  found = {}

  def train(method, columns, **options):
    del method, columns
    found.update(options)
    raise Reached('train')

  monkeypatch.setattr(loop, 'train', train)
  return found


def test_stage_one_starts_from_keras_weights_and_says_so(
    small_mobilenet, data_dir, tmp_path, given, capsys
):
  config = run_config(small_mobilenet, data_dir)
  with pytest.raises(Reached):
    stages.run(config, tmp_path, 'classifier')
  fresh = make_method(config, 32, classes=10).shapes()
  fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), fresh)
  started = given['start_from'](fresh)
  expected, _ = start_of('baseline', small_mobilenet)
  assert_trees_equal(
      started['params']['trunk'], expected['params']['trunk']
  )
  report = json.loads(
      (tmp_path / 'classifier' / 'pretrained.json').read_text()
  )
  assert report['path'] == config.model.pretrained
  assert report['loaded'] == 135 and report['fresh'] == ['head']
  assert 'starts at random  head' in capsys.readouterr().out


def test_other_keras_weights_than_a_started_from_are_refused(
    small_mobilenet, data_dir, tmp_path, given
):
  config = run_config(small_mobilenet, data_dir)
  with pytest.raises(Reached):
    stages.run(config, tmp_path, 'classifier')
  fresh = make_method(config, 32, classes=10).shapes()
  given['start_from'](fresh)
  given['start_from'](fresh)  # The same ones again are no others.
  path = tmp_path / 'classifier' / 'pretrained.json'
  report = json.loads(path.read_text())
  path.write_text(json.dumps(report | {'digest': report['digest'][::-1]}))
  with pytest.raises(InputError, match='is not the file that the classifier'):
    given['start_from'](fresh)


def test_wrong_file_for_keras_networks_is_refused_before_any_work(
    small_mobilenet, data_dir, tmp_path, monkeypatch
):
  forbid(monkeypatch, (training_run, 'train'))
  config = run_config(small_mobilenet, data_dir)
  config.model.width = 0.5
  with pytest.raises(InputError, match='not of mobilenet'):
    stages.run(config, tmp_path / 'run')
  # And before data that are not there.
  config.data.name = 'cifar10'
  config.data.data_dir = str(tmp_path)
  config.model.pretrained = str(tmp_path / 'nowhere.h5')
  with pytest.raises(InputError, match='There is no file'):
    stages.run(config, tmp_path / 'run')
  assert not list(tmp_path.iterdir())


# --- Files that are wrong -----------------------------------------------------


def refused(config, size=32, classes=CLASSES) -> str:
  with pytest.raises(InputError) as error:
    models.check(config.model, (size, size, 3))
    pretrained.start(config.model, make_method(config, size, classes).shapes())
  assert '--config.' in str(error.value)
  return str(error.value)


def test_other_number_of_classes_than_keras_saved_is_refused(small_mobilenet):
  message = refused(small_mobilenet, classes=10)
  for part in ('number of classes', '256, 7', '256, 10', 'pretrained_head'):
    assert part in message


def test_head_that_keras_did_not_save_is_refused_where_it_is_asked_for(
    small_mobilenet, tmp_path
):
  path = tmp_path / 'no_top.h5'
  make_keras(
      'mobilenet', 32, alpha=0.25, include_top=False, classes=1000
  ).save(path)
  config = small_mobilenet.copy_and_resolve_references()
  config.model.pretrained = str(path)
  message = refused(config)
  assert 'missing' in message and 'pretrained_head=False' in message
  config.model.pretrained_head = False
  _, report = start_of('baseline', config)
  assert report.left == () and report.loaded == 135


@pytest.mark.parametrize('share', [0.1, 0.9])
def test_truncated_file_of_keras_is_refused(small_mobilenet, tmp_path, share):
  with open(small_mobilenet.model.pretrained, 'rb') as file:
    content = file.read()
  path = tmp_path / 'half.h5'
  path.write_bytes(content[: int(len(content) * share)])
  message = refused(make_config('mobilenet', path))
  assert str(path) in message and 'truncated or damaged' in message


def test_keras_file_of_another_width_is_refused(small_mobilenet):
  config = small_mobilenet.copy_and_resolve_references()
  config.model.width = 1.0
  message = refused(config)
  for part in ('not of mobilenet', 'in the file', 'width=1.0'):
    assert part in message


def test_keras_file_of_another_network_is_refused(small_mobilenet):
  path = small_mobilenet.model.pretrained
  message = refused(make_config('efficientnet_b2', path))
  for part in (path, 'not of efficientnet_b2', 'it lacks block', 'conv1'):
    assert part in message


def test_safetensors_of_another_network_than_keras_has_are_refused(tmp_path):
  path = tmp_path / 'vit.safetensors'
  safetensors.save_file({'cls_token': np.zeros(3, np.float32)}, path)
  message = refused(make_config('efficientnet_b2', path))
  assert str(path) in message and 'The file has nothing' in message
  path.write_bytes(path.read_bytes()[:-4])
  assert 'truncated' in refused(make_config('efficientnet_b2', path))


def test_file_of_no_known_format_is_refused_with_those_of_keras(tmp_path):
  path = tmp_path / 'weights.pth'
  path.write_bytes(b'PK\x03\x04 and so on')
  message = refused(make_config('mobilenet', path))
  assert str(path) in message and 'safetensors' in message
  with pytest.raises(InputError, match='There is no file'):
    files.read(str(tmp_path / 'nowhere.h5'))


def test_without_a_file_of_keras_the_recipe_says_where_there_is_one():
  assert 'mobilenet_1_0_224_tf.h5' in refused(make_config('mobilenet'))
  assert 'ns_jft_in1k' in refused(make_config('efficientnet_b2'))
  models.check(make_config('mobilenet', 'random').model, (32, 32, 3))


def test_size_below_the_stride_of_keras_networks_is_refused():
  for name in KERAS:
    assert '31x31' in refused(make_config(name, 'random'), size=31)
    config = make_config(name, 'random')
    config.model.input_size = 16
    assert 'input_size' in refused(config)


def test_lenet_takes_no_weights_of_keras(tmp_path):
  message = refused(make_config('lenet5', tmp_path / 'lenet.h5'))
  assert 'No weights are published for lenet5' in message
