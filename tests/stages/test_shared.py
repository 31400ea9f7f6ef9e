"""Runs that take their classifier, or their maps, from another workdir."""

import json
import pathlib
import shutil

from attribution import service
from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import stages
from impactx_jax.data import sources
from impactx_jax.evaluation import accuracy
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import evaluate
from impactx_jax.stages import runs as run_lib
from impactx_jax.training import checkpoints
from impactx_jax.training import loop
import jax
import numpy as np
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import edit_json
from tests.pipeline_fixtures import keep_classifier
from tests.pipeline_fixtures import read_summary
from tests.pipeline_fixtures import restored

no_work = pipeline_fixtures.no_work
finished = pipeline_fixtures.finished
config = pipeline_fixtures.sharing


@pytest.fixture
def trainings(monkeypatch):
  """Keeps what each training is given, in place of training."""
  calls = []

  def train(method, columns, **options):
    calls.append((method, columns, options))
    raise Reached('train')

  monkeypatch.setattr(loop, 'train', train)
  return calls


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  return {
      str(path.relative_to(folder)): path.read_bytes()
      for path in folder.rglob('*') if path.is_file()
  }


def ids(columns) -> tuple[list[str], ...]:
  return tuple(
      sorted(columns[split]['id']) for split in ('train', 'validation')
  )


@pytest.mark.parametrize('name', ['abn', 'impactx'])
def test_another_seed_trains_on_the_split_of_the_classifiers(
    config, tmp_path, trainings, name
):
  config.method.name = name
  with pytest.raises(Reached):
    stages.run(config, tmp_path)
  ((_, columns, options),) = trainings
  assert options['seed'] == 1
  ours, theirs = (sources.load(config.data, seed) for seed in (1, 0))
  found = ids(columns)
  for part, wanted, other in zip(
      found, ids(theirs.columns()), ids(ours.columns()), strict=True
  ):
    assert sorted(part) == sorted(wanted)  # Of 48 maps; those first.
    assert not set(part) <= set(other)
    assert name == 'impactx' or part == wanted


def test_m_is_the_classifier_of_the_other_workdir(
    config, tmp_path, trainings, finished_workdir
):
  with pytest.raises(Reached):
    stages.run(config, tmp_path, 'impactx')
  ((_, _, options),) = trainings
  _, wanted = restored(finished_workdir, 'baseline')
  jax.tree.map(np.testing.assert_array_equal, options['classifier'], wanted)


def test_maps_are_those_of_the_other_workdir(
    config, tmp_path, trainings, finished_workdir
):
  shutil.copytree(finished_workdir, tmp_path / 'home')
  config.attribution.workdir = str(tmp_path / 'home')
  with pytest.raises(Reached):
    stages.run(config, tmp_path / 'run')
  ((_, shared, _),) = trainings
  assert begun(tmp_path / 'run') == {'config.json', 'impactx'}
  # The same as in the run that made them.
  shutil.rmtree(tmp_path / 'home' / 'impactx')
  own = configs.read(tmp_path / 'home')
  with pytest.raises(Reached):
    stages.run(own, tmp_path / 'home', 'impactx')
  (_, (_, columns, _)) = trainings
  for split, part in columns.items():
    for field, column in part.items():
      np.testing.assert_array_equal(shared[split][field], column)


def test_without_a_workdir_of_maps_they_are_made_of_the_shared_classifier(
    config, tmp_path, finished_workdir, monkeypatch
):
  config.attribution.workdir = ''
  calls = []

  def write_maps(directory, examples, maker, *, settings, **_):
    calls.append((directory, examples, settings))
    raise Reached('write_maps')

  monkeypatch.setattr(service, 'write_maps', write_maps)
  with pytest.raises(Reached):
    stages.run(config, tmp_path)
  ((directory, examples, settings),) = calls
  assert str(directory) == str(tmp_path / 'maps')
  summary = json.loads(
      (finished_workdir / 'classifier' / 'summary.json').read_text()
  )
  assert settings['classifier_digest'] == summary['digest']
  # Which images are explained goes with the split, not with the method's seed.
  assert settings['seed'] == 0
  theirs = sources.load(config.data, 0)
  held_out = set(theirs.validation['id'])
  for name, split in zip(examples['id'], examples['split'], strict=True):
    assert (name in held_out) == (split == 'validation')


@pytest.fixture(scope='module')
def shared_run(data_dir, finished_workdir, tmp_path_factory):
  """A run of another seed with the finished one's classifier and maps."""
  from tests.conftest import make_tiny_config

  before = contents(pathlib.Path(finished_workdir))
  config = make_tiny_config(data_dir)
  config.seed = 1
  config.method.training.epochs = 1
  config.classifier.workdir = str(finished_workdir)
  config.attribution.workdir = str(finished_workdir)
  workdir = tmp_path_factory.mktemp('shared')
  with pytest.MonkeyPatch.context() as patch:
    # To measure maps takes longer than all else, and is not the question.
    patch.setattr(evaluate, 'has_maps', lambda *_: False)
    stages.run(config, workdir)
  return workdir, before


def test_a_whole_run_writes_nothing_in_the_other_workdir(
    shared_run, finished_workdir
):
  workdir, before = shared_run
  assert contents(pathlib.Path(finished_workdir)) == before
  assert begun(workdir) == {
      'config.json', 'impactx', 'impactx_lambda0', 'report'
  }


def test_the_baseline_of_a_shared_run_is_the_shared_classifier(
    shared_run, finished_workdir
):
  ours, theirs = (
      json.loads((folder / 'report' / 'metrics.json').read_text())
      for folder in (shared_run[0], finished_workdir)
  )
  assert ours['accuracy']['baseline'] == theirs['accuracy']['baseline']
  assert ours['inputs']['digests']['baseline'] == (
      theirs['inputs']['digests']['baseline']
  )
  assert ours['inputs']['digests']['impactx'] != (
      theirs['inputs']['digests']['impactx']
  )


def test_a_network_that_shares_its_classifier_is_restored(shared_run):
  workdir = artefact.open_workdir(shared_run[0])
  method, variables = restored(workdir, 'impactx')
  summary = read_summary(workdir / 'impactx')
  assert checkpoints.digest(variables) == summary['digest']
  # Which holds M, so it is enough to predict with.
  images = np.zeros((1, 32, 32, 3), np.float32)
  prediction = method.predict(variables, {'image': images})
  assert prediction.logits.shape == (1, 10)


def test_a_shared_run_goes_on_without_its_config(shared_run, monkeypatch):
  pipeline_fixtures.forbid(
      monkeypatch, (loop, 'train'), (evaluate, 'measure')
  )
  stages.run(None, shared_run[0])


def test_a_home_that_was_never_evaluated_learns_its_accuracy_alone(
    finished, config, tmp_path
):
  keep_classifier(finished)
  (finished / 'classifier' / 'test.json').unlink()
  before = contents(finished)
  config.classifier.workdir = str(finished)
  run = run_lib.resolve(config, tmp_path / 'run')
  result = evaluate.test(run, methods.BASELINE)
  after = contents(finished)
  kept = json.loads(after.pop('classifier/test.json'))
  assert kept | {'map_r2': None, 'probe_r2': None} == result
  assert after == before
  assert not begun(tmp_path / 'run')


def test_another_home_is_another_config(shared_run, config):
  config.method.training.epochs = 1
  run_lib.resolve(config, shared_run[0])
  config.classifier.workdir = config.attribution.workdir = ''
  with pytest.raises(InputError, match=r'classifier\.workdir \(there'):
    run_lib.resolve(config, shared_run[0])


# --- What a network says of the test split ------------------------------------


def test_what_is_known_of_the_test_split_is_not_measured_again(
    finished, tiny_config, monkeypatch
):
  run = run_lib.resolve(tiny_config, finished)
  path = finished / 'impactx' / 'test.json'
  measured = evaluate.test(run, 'impactx')
  # The fit to the maps is the training's to say, whatever stands here.
  summary = run.trained('impactx').load()
  fit = {name: summary[name] for name in ('map_r2', 'probe_r2')}
  assert fit['map_r2'] is not None
  kept = json.loads(path.read_text())
  assert measured == kept | fit
  path.write_text(json.dumps(kept | {'map_r2': 0.5}))  # As it once was.
  edit_json(path, accuracy=0.125)
  with monkeypatch.context() as patch:
    pipeline_fixtures.forbid(patch, (accuracy, 'test'))
    assert evaluate.test(run, 'impactx') == measured | {'accuracy': 0.125}
  # Of another training it says nothing.
  edit_json(path, digest=measured['digest'][::-1])
  assert evaluate.test(run, 'impactx') == measured
  assert json.loads(path.read_text()) | fit == measured


def test_test_results_are_those_of_each_network(finished_workdir, tiny_config):
  run = run_lib.resolve(tiny_config, finished_workdir)
  labels = run_lib.dataset(run).test['label'].tolist()
  for name in (methods.BASELINE, 'impactx', methods.CONTROL):
    result = evaluate.test(run, name)
    assert result['digest'] == run.trained(name).load()['digest']
    assert result['label'] == labels
    correct = np.array(result['predicted']) == labels
    assert result['accuracy'] == pytest.approx(correct.mean())
