"""Grids: how they are read, and tiny sweeps from the beginning to the end."""

import json
import pathlib
import sys

from absl import flags
from attribution import service
from attribution.errors import InputError
from impactx_jax import checks
from impactx_jax import evaluate
from impactx_jax import pipeline
from impactx_jax import sweep
from impactx_jax import train
from impactx_jax.configs import common
from joblib.externals import loky
from ml_collections import config_flags
import pytest
from tests import table_fixtures
from tests import test_cli
from tests.pipeline_fixtures import forbid
from tests.table_fixtures import count_trainings
from tests.table_fixtures import read_json
from tests.table_fixtures import without_seconds

quickly = table_fixtures.quickly

INSTALLED = sorted(
    path.stem
    for path in (pathlib.Path(common.__file__).parent / 'sweeps').glob('*.py')
    if path.stem != '__init__'
)
SWEEP = 'def get_sweep():\n  return {sweep}\n'
# Numbers 0 and 1 of it cannot be right: not finite, and too slow.
GRID = [
    {'method.training.learning_rate': [1e30, 1e-6]},
    {'method.lambda_': [0.0, 1.0]},
]


def write_sweep(folder, grid, stage='impactx') -> str:
  path = pathlib.Path(folder) / 'mine.py'
  path.write_text(SWEEP.format(sweep={'stage': stage, 'grid': grid}))
  return str(path)


def refused(call, *parts: str) -> None:
  """Checks for an InputError of one paragraph that names `parts`."""
  with pytest.raises(InputError) as error:
    call()
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


# --- Reading ------------------------------------------------------------------


@pytest.mark.parametrize('name', INSTALLED)
def test_every_installed_sweep_is_one_that_can_be_run(name):
  stage, trials = sweep.load_sweep(name)
  assert stage in sweep.STAGES and trials
  different = {json.dumps(trial, sort_keys=True) for trial in trials}
  assert len(different) == len(trials)
  for trial in trials:
    config = common.get_config()
    config.update_from_flattened_dict(trial)
    if trial in (trials[0], trials[-1]):  # Each takes a while.
      checks.check(config)


def test_stage_ones_sweep_is_the_papers_grid():
  stage, trials = sweep.load_sweep('classifier')
  assert stage == 'classifier' and len(trials) == 180
  values = {
      field: sorted({trial[field] for trial in trials}) for field in trials[0]
  }
  assert values['classifier.training.batch_size'] == [16, 32, 64]
  assert values['data.validation_fraction'] == [0.05, 0.1, 0.2]
  rates = values['classifier.training.learning_rate']
  assert (len(rates), rates[0], rates[-1]) == (20, 0.0001, 0.0096)


def test_lambdas_sweep_has_the_papers_values_and_none():
  stage, trials = sweep.load_sweep('lambda_')
  values = {trial['method.lambda_'] for trial in trials}
  assert stage == 'impactx'
  assert {0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4} <= values


def test_a_sweep_of_ones_own_is_a_path_and_comes_first(tmp_path, monkeypatch):
  grid = {'method.lambda_': [0.5], 'method.lep_units': [8, 16]}
  path = write_sweep(tmp_path, grid)
  expected = 'impactx', [
      {'method.lambda_': 0.5, 'method.lep_units': 8},
      {'method.lambda_': 0.5, 'method.lep_units': 16},
  ]
  assert sweep.load_sweep(path) == expected
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'lambda_').mkdir()  # A folder is no sweep.
  assert len(sweep.load_sweep('lambda_')[1]) > 2
  (tmp_path / 'budget.py').write_text(pathlib.Path(path).read_text())
  assert sweep.load_sweep('budget.py') == expected


def test_numbers_of_numpy_become_pythons(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('import numpy as np\n' + SWEEP.format(sweep=(
      "{'stage': 'impactx', 'grid': {"
      "'method.lambda_': np.linspace(0, 1, 3), 'seed': np.arange(1)}}"
  )))
  _, trials = sweep.load_sweep(str(path))
  assert json.loads(json.dumps(trials)) == trials
  assert [type(value) for value in trials[0].values()] == [float, int]


@pytest.mark.parametrize(('name', 'nearest'), [
    ('lamda', 'lambda_'), ('clasifier', 'classifier'), ('nowhere/mine.py', ''),
])
def test_a_missing_sweep_is_refused_with_the_installed_ones(name, nearest):
  hint = f'Did you mean {nearest!r}?' if nearest else ''
  refused(
      lambda: sweep.load_sweep(name), repr(name), hint, *INSTALLED, '--sweep='
  )


@pytest.mark.parametrize(('text', 'parts'), [
    ('def get_sweep(:', ('SyntaxError',)),
    ('GRID = {}', ('AttributeError', 'get_sweep')),
    ('import no_such_module', ('ModuleNotFoundError', 'no_such_module')),
    ('1 / 0', ('ZeroDivisionError',)),
    (SWEEP.format(sweep='None'), ('TypeError',)),
    (SWEEP.format(sweep="{'grid': {}}"), ('KeyError', "'stage'")),
    (SWEEP.format(sweep="{'stage': 'impactx'}"), ('KeyError', "'grid'")),
    (SWEEP.format(sweep="{'stage': 'impactx', 'grid': 3}"), ('TypeError',)),
    (SWEEP.format(sweep="{'stage': 'impactx', 'grid': []}"), ()),
    (
        SWEEP.format(sweep="{'stage': 'impactx', 'grid': {'seed': 3}}"),
        ('TypeError', 'seed'),
    ),
    (
        SWEEP.format(sweep="{'stage': 'impactx', 'grid': {'seed': []}}"),
        ('ValueError', 'seed'),
    ),
])
def test_a_sweep_that_cannot_be_read_is_refused(tmp_path, text, parts):
  path = tmp_path / 'mine.py'
  path.write_text(text)
  refused(
      lambda: sweep.load_sweep(str(path)), str(path), *parts, 'get_sweep()',
      "'classifier' or 'impactx'",
  )


def test_a_sweep_in_a_file_that_is_not_python_is_refused(tmp_path):
  path = tmp_path / 'mine.txt'
  path.write_text(SWEEP.format(sweep="{'stage': 'impactx', 'grid': {}}"))
  refused(lambda: sweep.load_sweep(str(path)), str(path))


@pytest.mark.parametrize('stage', ['maps', 'impctx', 3])
def test_an_unknown_stage_is_refused(tmp_path, stage):
  path = write_sweep(tmp_path, {'seed': [0]}, stage)
  refused(
      lambda: sweep.load_sweep(path), repr(stage), 'classifier', 'impactx',
      '--sweep=',
  )


@pytest.mark.parametrize('grid', [
    pytest.param({'method.lamda_': [0.5]}, id='unknown field'),
    pytest.param({'methods.lambda_': [0.5]}, id='unknown section'),
    pytest.param({'method.lambda_.x': [0.5]}, id='field of a field'),
    pytest.param({'method.lambda_.x.y': [0.5]}, id='deeper still'),
    pytest.param({'method.lep_units': ['many']}, id='word for a number'),
    pytest.param({'method.lep_units': [0.5]}, id='fraction'),
    pytest.param({'data.name': [3]}, id='number for a word'),
    pytest.param({'method.training': [3]}, id='number for a section'),
    pytest.param({'method.lep_units': [None]}, id='nothing'),
    pytest.param({'method.lep_units': [8, 0]}, id='out of range'),
    pytest.param({'method.maps': ['shufled']}, id='unknown choice'),
])
def test_a_trial_that_cannot_be_run_is_refused_before_any_work(
    tmp_path, monkeypatch, grid
):
  forbid(monkeypatch, (train, 'fit'), (service, 'write_maps'))
  path = write_sweep(tmp_path, grid)
  (field,) = grid
  refused(
      lambda: sweep.run(common.get_config(), tmp_path / 'sweep', path), field
  )
  assert not (tmp_path / 'sweep').exists()


@pytest.mark.parametrize(('options', 'part'), [
    ({'jobs': 0}, '--jobs=0'), ({'trials': -1}, '--trials=-1'),
])
def test_wrong_numbers_are_refused_before_any_work(
    tmp_path, monkeypatch, options, part
):
  forbid(monkeypatch, (train, 'fit'), (service, 'write_maps'))
  refused(
      lambda: sweep.run(
          common.get_config(), tmp_path / 'sweep', 'lambda_', **options
      ),
      part,
  )
  assert not (tmp_path / 'sweep').exists()


# --- Choosing -----------------------------------------------------------------


def test_all_trials_are_chosen_in_the_order_of_the_grid():
  assert sweep.choose(7, 0, seed=3) == [0, 1, 2, 3, 4, 5, 6]
  assert sweep.choose(7, 100, seed=3) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize('seed', [0, 1])
def test_more_trials_include_fewer(seed):
  fewer = []
  for wanted in range(1, 181):
    chosen = sweep.choose(180, wanted, seed)
    assert len(chosen) == len(set(chosen)) == wanted
    assert chosen == sorted(chosen) and set(fewer) < set(chosen)
    fewer = chosen
  assert fewer == [*range(180)]


def test_the_seed_decides_which():
  assert sweep.choose(180, 20, seed=4) == sweep.choose(180, 20, seed=4)
  assert sweep.choose(180, 20, seed=4) != sweep.choose(180, 20, seed=5)
  assert sweep.choose(180, 20, seed=4) != [*range(20)]


# --- A sweep of stage two -----------------------------------------------------


@pytest.fixture(scope='module')
def config(data_dir, quickly):
  return table_fixtures.digits_config(data_dir)


@pytest.fixture(scope='module')
def no_test(quickly):
  """Fails where the test split would be looked at."""
  with pytest.MonkeyPatch.context() as monkeypatch:
    forbid(monkeypatch, (evaluate, 'test'), (pipeline.Pipeline, 'test'))
    yield


@pytest.fixture(scope='module')
def finished(config, no_test, tmp_path_factory):
  """A finished sweep, of which the first trial fails."""
  folder = tmp_path_factory.mktemp('finished_sweep')
  with pytest.MonkeyPatch.context() as monkeypatch:
    begun = count_trainings(monkeypatch)
    sweep.run(config, folder / 'sweep', write_sweep(folder, GRID))
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
      'shared', 'trials', 'trials.jsonl', 'best.json'
  }
  assert names_in(finished / 'shared') == {'config.json', 'classifier', 'maps'}
  assert names_in(finished / 'trials') == {'00000', '00001', '00002', '00003'}
  for trial in (finished / 'trials').iterdir():
    assert names_in(trial) == {'config.json', 'impactx'}


def test_each_trial_has_a_line_with_its_fields(finished):
  lines = read_lines(finished)
  assert [line['trial'] for line in lines] == [0, 1, 2, 3]
  _, trials = sweep.load_sweep(str(finished.parent / 'mine.py'))
  assert [line['fields'] for line in lines] == trials
  for line in lines[1:]:
    assert 0 <= line['validation_accuracy'] <= 1
    assert (line['epochs'], line['best_epoch']) == (1, 1)
    assert line['evaluations'] == 160 * 20
    assert sum(line['examples'].values()) == 160


def test_a_line_says_what_the_trials_summary_says(finished):
  for line in read_lines(finished)[1:]:
    folder = finished / 'trials' / f'{line["trial"]:05d}' / 'impactx'
    summary = read_json(folder / 'summary.json')
    assert line['validation_accuracy'] == summary['best_validation_accuracy']
    assert line['map_r2'] == summary['map_r2'] is not None
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
  sweep.run(config, finished, str(finished.parent / 'mine.py'))
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
      sweep.run(config, workdir, path)
    assert begun == ['00000/impactx', '00001/impactx']
  assert [line['trial'] for line in read_lines(workdir)] == [0, 1]
  assert not (workdir / 'best.json').exists()
  begun = count_trainings(monkeypatch)
  sweep.run(config, workdir, path)
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
    sweep.run(
        shared_with(config, finished), workdir, write_sweep(tmp_path, GRID),
        trials=2, jobs=2,
    )
  finally:
    loky.get_reusable_executor().shutdown(wait=True)
  chosen = sweep.choose(4, 2, config.seed)
  assert names_in(workdir / 'trials') == {f'{i:05d}' for i in chosen}
  assert without_seconds(read_lines(workdir)) == (
      without_seconds([read_lines(finished)[i] for i in chosen])
  )


# --- Other sweeps -------------------------------------------------------------


def test_a_grid_of_budgets_makes_maps_for_each_trial(
    config, no_test, tmp_path, monkeypatch
):
  begun = count_trainings(monkeypatch)
  path = write_sweep(tmp_path, {'attribution.max_evals': [10, 20]})
  sweep.run(config, tmp_path / 'sweep', path)
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
  begun = count_trainings(monkeypatch)
  forbid(monkeypatch, (service, 'write_maps'))
  grid = {'data.validation_fraction': [0.1, 0.2]}
  path = write_sweep(tmp_path, grid, 'classifier')
  sweep.run(config, tmp_path / 'sweep', path)
  assert begun == ['00000/classifier', '00001/classifier']
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
      lambda: sweep.run(
          shared_with(config, finished), tmp_path / 'sweep', path
      ),
      '--config.classifier.workdir',
  )


def test_another_config_for_a_finished_sweep_is_refused(
    finished, config, no_test, monkeypatch
):
  forbid(monkeypatch, (train, 'fit'), (service, 'write_maps'))
  before = read_lines(finished)
  path = str(finished.parent / 'mine.py')
  for section, field, value in (
      ('data', 'validation_fraction', 0.2), ('attribution', 'max_evals', 21),
      ('method', 'lep_units', 31),
  ):
    other = config.copy_and_resolve_references()
    other[section][field] = value
    refused(
        lambda other=other: sweep.run(other, finished, path),
        f'{section}.{field}', '--workdir',
    )
  assert read_lines(finished) == before


# --- The commands -------------------------------------------------------------


@pytest.mark.parametrize(('module', 'flag'), [
    ('table', '--methods:'), ('sweep', '--trials:'),
])
def test_help_exits_with_0_and_names_the_flags(tmp_path, module, flag):
  command = (sys.executable, '-m', f'impactx_jax.{module}')
  result = test_cli._run(command, '--help', cwd=tmp_path)
  assert result.returncode == 0 and not result.stderr
  assert result.stdout.startswith(f'impactx-{module} ')
  for part in (flag, '--config:', '--workdir:', 'quickstart'):
    assert part in result.stdout


@pytest.mark.parametrize(('module', 'arguments', 'part'), [
    ('table', (), '--config=NAME'),
    ('sweep', ('--config=quickstart',), '--sweep=NAME'),
])
def test_a_missing_flag_exits_with_2_and_one_paragraph(
    tmp_path, module, arguments, part
):
  command = (sys.executable, '-m', f'impactx_jax.{module}')
  result = test_cli._run(command, '--workdir=run', *arguments, cwd=tmp_path)
  test_cli._assert_one_paragraph(result, part)
  assert not result.stdout and not list(tmp_path.iterdir())
