"""Whole runs of methods other than IMPACTX, on a tiny part of digits."""

import json

from attribution import records
from attribution import service
from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import stages
from impactx_jax.data import maps as map_data
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import evaluate
from impactx_jax.stages import method as method_stage
from impactx_jax.stages import runs as run_lib
import numpy as np
import pytest
from tests.conftest import make_tiny_config
from tests.pipeline_fixtures import restored


def make_config(data_dir, finished_workdir, name):
  """Seconds, with the classifier of the finished run."""
  config = make_tiny_config(data_dir)
  config.method.name = name
  config.classifier.workdir = str(finished_workdir)
  config.classifier.training.epochs = 1
  config.method.training.epochs = 1
  config.method.refresh_evals = 10
  config.attribution.max_evals = 10
  config.attribution.shard_size = 256
  config.evaluation.num_images = 2
  config.evaluation.close_images = 1
  config.evaluation.draws = 1
  config.evaluation.explainers = ()
  return config


def read(folder, name):
  return json.loads((folder / name).read_text())


def test_the_maps_of_several_classes_of_an_image_are_learned(
    data_dir, finished_workdir, tmp_path
):
  config = make_config(data_dir, finished_workdir, 'explainer')
  config.attribution.classes_per_image = 3
  for stage in ('maps', 'impactx'):
    stages.run(config, tmp_path, stage)
  columns, manifest = records.read(tmp_path / 'maps')
  assert manifest['classes_per_image'] == 3
  assert columns['map'].shape == (48, 32, 32, 3, 3)
  assert service.completeness_gap(columns).max() < 1e-4
  assert (columns['classes'][:, 0] == columns['label']).all()
  summary = read(tmp_path / 'explainer', 'summary.json')
  assert summary['examples'] == {'train': 3 * 43, 'validation': 5}
  # Nor are they taken from elsewhere by who wants one class, or two.
  config.attribution.workdir = str(tmp_path)
  for count in (1, 2):
    config.attribution.classes_per_image = count
    with pytest.raises(InputError, match='classes_per_image'):
      stages.run(config, tmp_path / 'other', 'impactx')


@pytest.fixture(scope='module')
def wae_run(data_dir, finished_workdir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('wae')
  config = make_config(data_dir, finished_workdir, 'wae')
  config.method.map_cell, config.method.map_channels = 4, 1  # Not for WAE.
  stages.run(config, workdir)
  return workdir


def test_wae_has_weighted_maps_of_all_test_images(wae_run, data_dir):
  assert {path.name for path in wae_run.iterdir()} == {
      'config.json', 'maps_weighted', 'wae', 'report'
  }
  columns, manifest = records.read(wae_run / 'maps_weighted')
  assert manifest['kind'] == 'weighted'
  assert manifest['examples'] == {'train': 43, 'validation': 5, 'test': 360}
  assert (columns['classes'] == records.WEIGHTED).all()
  assert columns['map'].shape == (408, 32, 32, 3, 1)
  assert service.completeness_gap(columns).max() < 1e-4
  # The mean of a probability, weighted by the probabilities.
  assert (columns['full_value'] > 0.1 - 1e-6).all()
  assert (columns['full_value'] < 1 + 1e-6).all()


def test_weights_are_the_classifiers_probabilities(wae_run, finished_workdir):
  import jax

  columns, _ = records.read(wae_run / 'maps_weighted')
  method, variables = restored(finished_workdir, 'baseline')
  images = columns['image'].astype(np.float32) / 255
  probability = jax.nn.softmax(
      method.predict(variables, {'image': images}).logits
  )
  np.testing.assert_allclose(
      columns['full_value'][:, 0], np.square(probability).sum(-1), rtol=1e-4
  )


def test_wae_is_tested_with_the_maps_of_the_test_images(wae_run):
  result = read(wae_run / 'wae', 'test.json')
  workdir = artefact.open_workdir(wae_run)
  method, variables = restored(workdir, 'wae')
  columns, _ = records.read(wae_run / 'maps_weighted')
  options = configs.read(workdir / 'wae').method
  test = map_data.targets(columns, options, 0)['test']
  images = test['image'].astype(np.float32) / 255
  batch = {'image': images, 'map': test['map']}
  logits = method.predict(variables, batch).logits
  assert result['predicted'] == np.argmax(logits, -1).tolist()
  # In the order of the test split, as the baseline's are.
  run = run_lib.resolve(None, wae_run)
  assert result['label'] == run_lib.dataset(run).test['label'].tolist()
  baseline = evaluate.test(run, methods.BASELINE)
  assert result['label'] == baseline['label']
  metrics = read(wae_run / 'report', 'metrics.json')
  assert metrics['accuracy'] == {
      'baseline': baseline['accuracy'], 'wae': result['accuracy']
  }


def test_wae_has_no_map_to_be_measured(wae_run):
  assert 'maps' not in read(wae_run / 'report', 'metrics.json')
  assert not (wae_run / 'report' / 'panels.png').exists()
  assert read(wae_run / 'wae', 'summary.json')['map_r2'] is None


@pytest.mark.parametrize('name', ['abn', 'impactx_single_stage'])
def test_a_method_from_scratch_trains_on_all_images_and_needs_no_maps(
    data_dir, finished_workdir, tmp_path, monkeypatch, name
):
  if name != 'abn':  # Once is enough: it takes longer than the training.
    monkeypatch.setattr(evaluate, 'has_maps', lambda *_: False)
  config = make_config(data_dir, finished_workdir, name)
  stages.run(config, tmp_path)
  assert {path.name for path in tmp_path.iterdir()} == {
      'config.json', name, 'report'
  }
  summary = read(tmp_path / name, 'summary.json')
  classifier = read(finished_workdir / 'classifier', 'summary.json')
  assert summary['examples'] == classifier['examples']
  # As many epochs as `config.classifier.training` says, in its batches of 64.
  assert [epoch['step'] for epoch in summary['history']] == [1292 // 64]
  result = read(tmp_path / name, 'test.json')
  metrics = read(tmp_path / 'report', 'metrics.json')
  assert metrics['accuracy'][name] == result['accuracy']
  if name == 'abn':
    measured = metrics['maps']['measures']['morf_area']
    assert measured.keys() == {'partition', 'abn', 'swapped'}


def test_few_maps_of_another_class_get_a_fair_control_too(
    data_dir, finished_workdir, tmp_path, monkeypatch
):
  config = make_config(data_dir, finished_workdir, 'impactx')
  config.method.maps = 'other_class'
  stages.run(config, tmp_path, 'maps')
  trained = []
  monkeypatch.setattr(
      method_stage, 'train_method', lambda _, name: trained.append(name)
  )
  stages.run(config, tmp_path, 'impactx')
  assert trained == ['impactx', methods.CONTROL]


def test_the_control_of_another_class_makes_its_own_maps(
    data_dir, finished_workdir, tmp_path
):
  config = make_config(data_dir, finished_workdir, 'impactx_other_class')
  for stage in ('maps', 'impactx'):
    stages.run(config, tmp_path, stage)
  assert {path.name for path in tmp_path.iterdir()} == {
      'config.json', 'maps_other_class', 'impactx_other_class'
  }
  columns, manifest = records.read(tmp_path / 'maps_other_class')
  assert manifest['kind'] == 'other_class'
  assert len(columns['label']) == 48
  assert (columns['classes'][:, 0] != columns['label']).all()
  recorded = configs.read(
      artefact.open_workdir(tmp_path) / 'impactx_other_class'
  )
  assert recorded.method.maps == 'other_class'
