"""Grids of trials: how they are read, and which trials are drawn."""

import json
import pathlib

from impactx_jax.stages import checks
from impactx_jax.experiments import grids
from impactx_jax.configs import common
import pytest
from tests.table_fixtures import SWEEP
from tests.table_fixtures import refused
from tests.table_fixtures import write_sweep

INSTALLED = sorted(
    path.stem
    for path in (pathlib.Path(common.__file__).parent / 'sweeps').glob('*.py')
    if path.stem != '__init__'
)


# --- Reading ------------------------------------------------------------------


@pytest.mark.parametrize('name', INSTALLED)
def test_every_installed_sweep_is_one_that_can_be_run(name):
  stage, trials = grids.load(name)
  assert stage in grids.STAGES and trials
  different = {json.dumps(trial, sort_keys=True) for trial in trials}
  assert len(different) == len(trials)
  for trial in trials:
    config = common.get_config()
    config.update_from_flattened_dict(trial)
    if trial in (trials[0], trials[-1]):  # Each takes a while.
      checks.check(config)


def test_stage_ones_sweep_is_the_papers_grid():
  stage, trials = grids.load('classifier')
  assert stage == 'classifier' and len(trials) == 180
  values = {
      field: sorted({trial[field] for trial in trials}) for field in trials[0]
  }
  assert values['classifier.training.batch_size'] == [16, 32, 64]
  assert values['data.validation_fraction'] == [0.05, 0.1, 0.2]
  rates = values['classifier.training.learning_rate']
  assert (len(rates), rates[0], rates[-1]) == (20, 0.0001, 0.0096)


def test_lambdas_sweep_has_the_papers_values_and_none():
  stage, trials = grids.load('lambda_')
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
  assert grids.load(path) == expected
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'lambda_').mkdir()  # A folder is no sweep.
  assert len(grids.load('lambda_')[1]) > 2
  (tmp_path / 'budget.py').write_text(pathlib.Path(path).read_text())
  assert grids.load('budget.py') == expected


def test_numbers_of_numpy_become_pythons(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('import numpy as np\n' + SWEEP.format(sweep=(
      "{'stage': 'impactx', 'grid': {"
      "'method.lambda_': np.linspace(0, 1, 3), 'seed': np.arange(1)}}"
  )))
  _, trials = grids.load(str(path))
  assert json.loads(json.dumps(trials)) == trials
  assert [type(value) for value in trials[0].values()] == [float, int]


@pytest.mark.parametrize(('name', 'nearest'), [
    ('lamda', 'lambda_'), ('clasifier', 'classifier'), ('nowhere/mine.py', ''),
])
def test_a_missing_sweep_is_refused_with_the_installed_ones(name, nearest):
  hint = f'Did you mean {nearest!r}?' if nearest else ''
  refused(
      lambda: grids.load(name), repr(name), hint, *INSTALLED, '--sweep='
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
      lambda: grids.load(str(path)), str(path), *parts, 'get_sweep()',
      "'classifier' or 'impactx'",
  )


def test_a_sweep_in_a_file_that_is_not_python_is_refused(tmp_path):
  path = tmp_path / 'mine.txt'
  path.write_text(SWEEP.format(sweep="{'stage': 'impactx', 'grid': {}}"))
  refused(lambda: grids.load(str(path)), str(path))


@pytest.mark.parametrize('stage', ['maps', 'impctx', 3])
def test_an_unknown_stage_is_refused(tmp_path, stage):
  path = write_sweep(tmp_path, {'seed': [0]}, stage)
  refused(
      lambda: grids.load(path), repr(stage), 'classifier', 'impactx',
      '--sweep=',
  )


# --- Choosing -----------------------------------------------------------------


def test_all_trials_are_chosen_in_the_order_of_the_grid():
  assert grids.choose(7, 0, seed=3) == [0, 1, 2, 3, 4, 5, 6]
  assert grids.choose(7, 100, seed=3) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize('seed', [0, 1])
def test_more_trials_include_fewer(seed):
  fewer = []
  for wanted in range(1, 181):
    chosen = grids.choose(180, wanted, seed)
    assert len(chosen) == len(set(chosen)) == wanted
    assert chosen == sorted(chosen) and set(fewer) < set(chosen)
    fewer = chosen
  assert fewer == [*range(180)]


def test_the_seed_decides_which():
  assert grids.choose(180, 20, seed=4) == grids.choose(180, 20, seed=4)
  assert grids.choose(180, 20, seed=4) != grids.choose(180, 20, seed=5)
  assert grids.choose(180, 20, seed=4) != [*range(20)]
