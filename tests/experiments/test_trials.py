"""Grids: how they are read, and tiny sweeps from the beginning to the end."""

import json
import pathlib
import shutil
import sys

from absl import flags
from attribution import service
from impactx_jax.configs import common
from impactx_jax.data import builders
from impactx_jax.evaluation import accuracy as accuracy_lib
from impactx_jax.experiments import grids
from impactx_jax.experiments import trials
from impactx_jax.report import figures
from impactx_jax.stages import checks
from impactx_jax.stages import evaluate
from impactx_jax.training import loop
from joblib.externals import loky
from matplotlib import image as image_lib
from ml_collections import config_flags
import pytest
from tests import table_fixtures
from tests.pipeline_fixtures import forbid
from tests.table_fixtures import count_trainings
from tests.table_fixtures import read_json
from tests.table_fixtures import refused
from tests.table_fixtures import without_seconds
from tests.table_fixtures import write_sweep

# Numbers 0 and 1 of it cannot be right: not finite, and too slow.
GRID = [
    {'method.training.learning_rate': [1e30, 1e-6]},
    {'method.lambda_': [0.0, 1.0]},
]


# --- A sweep of stage two -----------------------------------------------------


@pytest.fixture(scope='module')
def config(data_dir):
  return table_fixtures.digits_config(data_dir)


@pytest.fixture(scope='module')
def no_test():
  """Fails where the test split would be looked at."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    forbid(monkeypatch, (accuracy_lib, 'test'), (evaluate, 'test'))
    yield


@pytest.fixture(scope='module')
def finished(config, no_test, tmp_path_factory):
  """A finished sweep, of which the first trial fails."""
  folder = tmp_path_factory.mktemp('finished_sweep')
  with pytest.MonkeyPatch.context() as monkeypatch:
    begun = count_trainings(monkeypatch)
    trials.run(config, folder / 'sweep', write_sweep(folder, GRID))
  assert begun[0] == 'shared/classifier'
  assert begun[1:] == [f'{trial:05d}/impactx' for trial in range(4)]
  return folder / 'sweep'


def read_lines(workdir: pathlib.Path) -> list[dict]:
  lines = (workdir / 'trials.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def names_in(folder: pathlib.Path) -> set[str]:
  return {path.name for path in folder.iterdir()}


def shared_with(config, finished):
  """The config with the classifier and the maps of a finished sweep."""
  config = config.copy_and_resolve_references()
  config.classifier.workdir = str(finished / 'shared')
  config.attribution.workdir = str(finished / 'shared')
  return config


def test_the_trials_share_one_classifier_and_its_maps(finished):
  assert names_in(finished) == {
      'shared', 'trials', 'trials.jsonl', 'trials.png', 'best.json'
  }
  assert names_in(finished / 'shared') == {'config.json', 'classifier', 'maps'}
  assert names_in(finished / 'trials') == {'00000', '00001', '00002', '00003'}
  for trial in (finished / 'trials').iterdir():
    assert names_in(trial) == {'config.json', 'impactx'}


def test_each_trial_has_a_line_with_its_fields(finished):
  lines = read_lines(finished)
  assert [line['trial'] for line in lines] == [0, 1, 2, 3]
  _, trials = grids.load(str(finished.parent / 'mine.py'))
  assert [line['fields'] for line in lines] == trials
  for line in lines[1:]:
    assert (line['epochs'], line['best_epoch']) == (1, 1)
    learned = line['fields'].get('method.lambda_', 1.0) > 0
    assert line['evaluations'] == learned * 160 * 20
    assert sum(line['examples'].values()) == 287  # Also of those without maps.


def test_a_line_says_what_the_trials_summary_says(finished):
  for line in read_lines(finished)[1:]:
    folder = finished / 'trials' / f'{line["trial"]:05d}' / 'impactx'
    summary = read_json(folder / 'summary.json')
    assert line['validation_accuracy'] == summary['best_validation_accuracy']
    assert line['map_r2'] == summary['map_r2']
    learned = line['fields'].get('method.lambda_', 1.0) > 0
    assert (line['map_r2'] is not None) == learned
    recorded = read_json(folder / 'config.json')
    for field, value in line['fields'].items():
      *sections, name = field.split('.')
      section = recorded
      for part in sections:
        section = section[part]
      assert section[name] == value


def test_a_trial_whose_loss_is_not_finite_stops_no_other(finished):
  failed, *others = read_lines(finished)
  assert failed.keys() == {'trial', 'fields', 'error'}
  assert 'learning rate' in failed['error']
  assert not any('error' in line for line in others)


def test_the_best_is_the_best_by_validation(finished):
  best = read_json(finished / 'best.json')
  lines = read_lines(finished)
  good = [line for line in lines if 'error' not in line]
  highest = max(line['validation_accuracy'] for line in good)
  assert highest > good[0]['validation_accuracy']  # One is worse.
  (first, *_) = (
      line for line in good if line['validation_accuracy'] == highest
  )
  assert {name: best[name] for name in first} == first


def test_the_picture_has_the_best_in_the_order_of_the_grid(
    finished, tmp_path, monkeypatch
):
  monkeypatch.setattr(trials, 'MAX_DRAWN', 2)
  drawn, draw = [], figures.trials
  monkeypatch.setattr(
      figures, 'trials', lambda *rows: drawn.extend(rows) or draw(*rows)
  )
  _, *good = read_lines(finished)
  good.sort(key=lambda line: (-line['validation_accuracy'], line['trial']))
  for line, images in zip(good, (100, 400, 900), strict=True):
    line['examples'] = {'validation': images}
  worst = good.pop()
  trials.draw(tmp_path / 'trials.png', [*good, worst])
  labels, accuracies, errors = drawn
  first, second = sorted(good, key=lambda line: line['trial'])
  assert [label.split('=')[1] for label in labels] == [
      str(value) for line in (first, second) for value in
      line['fields'].values()
  ]
  rows = zip((first, second), accuracies, errors, strict=True)
  for line, accuracy, error in rows:
    assert accuracy == line['validation_accuracy']
    variance = accuracy * (1 - accuracy) / line['examples']['validation']
    assert error == pytest.approx(variance ** 0.5)
  pixels = image_lib.imread(tmp_path / 'trials.png')
  assert pixels.shape[2] == 4 and pixels.std() > 0


def test_the_flags_of_the_best_repeat_it(finished, monkeypatch):
  best = read_json(finished / 'best.json')
  # Where ml_collections looks for fields of the config.
  monkeypatch.setattr(sys, 'argv', ['impactx', *best['flags']])
  config = common.get_config()
  values = flags.FlagValues()
  config_flags.DEFINE_config_dict('config', config, flag_values=values)
  values(sys.argv)
  assert best['flags'] == [f'--config.method.lambda_={config.method.lambda_}']
  assert {'method.lambda_': config.method.lambda_} == best['fields']
  checks.check(config)


def test_the_test_split_is_never_looked_at(finished):
  assert not list(finished.rglob('test.json'))
  assert not list(finished.rglob('report'))


def test_a_finished_sweep_trains_nothing_but_what_failed(
    finished, config, no_test, tmp_path, monkeypatch, capsys
):
  before = read_lines(finished)
  begun = count_trainings(monkeypatch)
  forbid(monkeypatch, (service, 'write_maps'))
  trials.run(config, finished, str(finished.parent / 'mine.py'))
  assert begun == ['00000/impactx']
  assert read_lines(finished) == before
  text = capsys.readouterr().out
  assert 'Trial 0 failed: The loss is' in text
  assert f'Trials: {finished}/trials.jsonl' in text


def test_an_interrupted_sweep_ends_as_an_undisturbed_one(
    finished, config, no_test, tmp_path, monkeypatch
):
  config = shared_with(config, finished)
  path = write_sweep(tmp_path, GRID)
  workdir = tmp_path / 'sweep'
  with monkeypatch.context() as patch:
    begun = count_trainings(patch, stop_at=3)
    with pytest.raises(table_fixtures.Interrupted):
      trials.run(config, workdir, path)
    assert begun == ['00000/impactx', '00001/impactx']
  assert [line['trial'] for line in read_lines(workdir)] == [0, 1]
  assert not (workdir / 'best.json').exists()
  begun = count_trainings(monkeypatch)
  trials.run(config, workdir, path)
  # What was finished is kept; what failed is tried again.
  assert begun == ['00000/impactx', '00002/impactx', '00003/impactx']
  assert without_seconds(read_lines(workdir)) == (
      without_seconds(read_lines(finished))
  )
  assert not (workdir / 'shared').exists()


def test_two_at_a_time_find_what_one_after_the_other_finds(
    finished, config, tmp_path
):
  workdir = tmp_path / 'sweep'
  try:
    trials.run(
        shared_with(config, finished), workdir, write_sweep(tmp_path, GRID),
        trials=2, jobs=2,
    )
  finally:
    loky.get_reusable_executor().shutdown(wait=True)
  chosen = grids.choose(4, 2, config.seed)
  assert names_in(workdir / 'trials') == {f'{i:05d}' for i in chosen}
  assert without_seconds(read_lines(workdir)) == (
      without_seconds([read_lines(finished)[i] for i in chosen])
  )


@pytest.mark.parametrize('grid', [
    pytest.param({'method.lambda_': [0.0, 1.0]}, id='fewer'),
    pytest.param({'method.lambda_': [0.0, 0.5, 1.0, 2.0]}, id='other values'),
])
def test_trials_of_another_grid_are_refused_before_any_work(
    finished, config, no_test, tmp_path, monkeypatch, grid
):
  forbid(monkeypatch, (loop, 'train'), (service, 'write_maps'))
  workdir = tmp_path / 'sweep'
  workdir.mkdir()
  shutil.copy(finished / 'trials.jsonl', workdir)
  refused(
      lambda: trials.run(config, workdir, write_sweep(tmp_path, grid)),
      'trials.jsonl', 'another grid', '--workdir',
  )
  assert names_in(workdir) == {'trials.jsonl'}


# --- Other sweeps -------------------------------------------------------------


def test_a_grid_of_budgets_makes_maps_for_each_trial(
    config, no_test, tmp_path, monkeypatch
):
  begun = count_trainings(monkeypatch)
  path = write_sweep(tmp_path, {'attribution.max_evals': [10, 20]})
  trials.run(config, tmp_path / 'sweep', path)
  assert begun == ['shared/classifier', '00000/impactx', '00001/impactx']
  assert names_in(tmp_path / 'sweep/shared') == {'config.json', 'classifier'}
  for trial in ('00000', '00001'):
    assert names_in(tmp_path / 'sweep/trials' / trial) == {
        'config.json', 'maps', 'impactx'
    }
  lines = read_lines(tmp_path / 'sweep')
  assert [line['evaluations'] for line in lines] == [160 * 10, 160 * 20]


def test_a_grid_of_stage_one_trains_classifiers_alone(
    config, no_test, tmp_path, monkeypatch
):
  begun, find = count_trainings(monkeypatch), builders.find
  monkeypatch.setattr(
      builders, 'find', lambda data: begun.append('data') or find(data)
  )
  forbid(monkeypatch, (service, 'write_maps'))
  grid = {'data.validation_fraction': [0.1, 0.2], 'data.image_size': [(9, 9)]}
  path = write_sweep(tmp_path, grid, 'classifier')
  trials.run(config, tmp_path / 'sweep', path)
  assert begun[:2] == ['data', 'data']  # Of all trials, before the first.
  trained = ['00000/classifier', '00001/classifier']
  assert [name for name in begun if name != 'data'] == trained
  trials.run(config, tmp_path / 'sweep', path)  # A tuple is the same in JSON.
  assert [name for name in begun if name != 'data'] == trained
  assert not (tmp_path / 'sweep/shared').exists()
  one, other = read_lines(tmp_path / 'sweep')
  assert one['examples']['validation'] < other['examples']['validation']
  assert (one['evaluations'], one['map_r2']) == (0, None)


def test_a_grid_of_stage_one_beside_a_trained_classifier_is_refused(
    finished, config, tmp_path
):
  grid = {'classifier.training.learning_rate': [0.001, 0.002]}
  path = write_sweep(tmp_path, grid, 'classifier')
  refused(
      lambda: trials.run(
          shared_with(config, finished), tmp_path / 'sweep', path
      ),
      '--config.classifier.workdir',
  )


def test_another_config_for_a_finished_sweep_is_refused(
    finished, config, no_test, monkeypatch
):
  forbid(monkeypatch, (loop, 'train'), (service, 'write_maps'))
  before = read_lines(finished)
  path = str(finished.parent / 'mine.py')
  for section, field, value in (
      ('data', 'validation_fraction', 0.2), ('attribution', 'max_evals', 21),
      ('method', 'lep_units', 31),
  ):
    other = config.copy_and_resolve_references()
    other[section][field] = value
    refused(
        lambda other=other: trials.run(other, finished, path),
        f'{section}.{field}', '--workdir',
    )
  assert read_lines(finished) == before
