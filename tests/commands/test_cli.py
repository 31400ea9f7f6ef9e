"""Tests for the commands: flags, help, exit codes, recipes by name."""

import os
import shutil
import subprocess
import sys
import sysconfig
import types

from impactx_jax.commands import cli
from impactx_jax.configs import common
import pytest
from tests import cli_fixtures

in_process = cli_fixtures.in_process

IMPACTX = (sys.executable, '-m', 'impactx_jax.main')
# Prints one field of the config that the command line describes.
PRINT_FIELD = (
    sys.executable, '-c',
    'import sys\n'
    'from impactx_jax.commands import cli\n'
    # Called when the flags are parsed, and before the slow imports.
    'show = lambda config: print(config.attribution.max_evals)\n'
    'cli.run(lambda config, workdir: sys.exit(show(config)), "")',
)
RECIPE = """
from impactx_jax.configs import common

def get_config():
  config = common.get_config()
  config.attribution.max_evals = 321
  return config
"""


def _run(command, *arguments: str, cwd=None) -> subprocess.CompletedProcess:
  return subprocess.run(
      [*command, *arguments],
      cwd=cwd,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      timeout=120,
      check=False,
  )


def _assert_one_paragraph(
    result: subprocess.CompletedProcess, *parts: str
) -> None:
  """Checks for exit code 2 and nothing but an error of one paragraph."""
  assert result.returncode == 2, result.stderr
  assert 'Traceback' not in result.stderr
  *_, message = result.stderr.partition('Error: ')
  assert message.strip()
  assert '\n\n' not in message.strip()
  assert '\\n' not in message and "\\'" not in message
  assert all(len(line) < 80 for line in message.splitlines())
  # Lines are filled, so words may be apart.
  text = ' '.join(message.split())
  for part in parts:
    assert part in text


# --- Exit codes ---------------------------------------------------------------


@pytest.mark.parametrize(('arguments', 'parts'), [
    pytest.param(
        ('--config=quickstart', '--workdir=run', '--config.data.nmae=digits'),
        ('config.data.nmae', "Did you mean 'config.data.name'?",
         'config.data.data_dir'),
        id='unknown field',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run', '--config.dta.name=digits'),
        ('config.dta', "Did you mean 'config.data'?"),
        id='unknown section',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run', '--config.qqq=1'),
        ('config.qqq', 'config.attribution', 'config.seed'),
        id='field like no other',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run', '--config.data.name.x=1'),
        ('config.data.name.x', 'config.data.name has no fields'),
        id='field of a field',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run',
         '--config.classifier.training.epochs=many'),
        ('--config.classifier.training.epochs=many',),
        id='word for a number',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run', '--config.seed=0.5'),
        ('--config.seed=0.5',),
        id='fraction for a whole number',
    ),
    pytest.param(
        ('--config=quikstart', '--workdir=run'),
        ("'quikstart'", "Did you mean 'quickstart'?", 'cifar10_lenet5',
         '--config='),
        id='unknown recipe',
    ),
    pytest.param(
        ('--config=mine/nowhere.py', '--workdir=run'),
        ('mine/nowhere.py', 'quickstart', '--config='),
        id='missing file',
    ),
    pytest.param(
        ('--config=folder', '--workdir=run'),
        ("'folder'", 'quickstart', '--config='),
        id='folder for a file',
    ),
    pytest.param(
        ('--config=typed.py', '--workdir=run'),
        ('typed.py', 'max_evals', 'many'),
        id='wrong type in a file',
    ),
    pytest.param(
        ('--config=', '--workdir=run'), ('quickstart', '--config='),
        id='empty config',
    ),
    pytest.param(
        ('--workdir=run', '--config.seed=1'), ('--config.seed', '--config='),
        id='field without a config',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run', 'evaluate'),
        ("'evaluate'", '--name=value'),
        id='unexpected argument',
    ),
    pytest.param(
        ('--config=quickstart', '--workdir=run', '--stages=all'),
        ('stages', 'stage'),
        id='unknown flag',
    ),
    pytest.param(
        ('--config=quickstart',), ('--workdir=DIR',), id='no workdir'
    ),
])
def test_wrong_flags_exit_with_2_and_one_paragraph(
    tmp_path, arguments, parts
):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'typed.py').write_text(RECIPE.replace('321', "'many'"))
  before = sorted(tmp_path.iterdir())
  result = _run(IMPACTX, *arguments, cwd=tmp_path)
  _assert_one_paragraph(result, *parts)
  assert not result.stdout
  assert sorted(tmp_path.iterdir()) == before


def test_error_of_the_pipeline_exits_with_2_and_one_paragraph(tmp_path):
  result = _run(
      IMPACTX, '--config=quickstart', '--workdir=run', '--stage=evalute',
      cwd=tmp_path,
  )
  _assert_one_paragraph(
      result, "'evalute'", "Did you mean 'evaluate'?", '--stage='
  )
  assert not list(tmp_path.iterdir())


# --- Help ---------------------------------------------------------------------


@pytest.mark.parametrize(('command', 'usage', 'stage'), [
    pytest.param(IMPACTX, 'impactx --config=NAME|FILE', True, id='module'),
    pytest.param(
        (f'{sysconfig.get_path("scripts")}/impactx',),
        'impactx --config=NAME|FILE', True, id='script',
    ),
    pytest.param(
        (sys.executable, '-m', 'attribution.main'),
        'python -m attribution.main --config=NAME|FILE', False,
        id='attribution',
    ),
])
def test_help_exits_with_0_and_names_flags_and_recipes(
    tmp_path, command, usage, stage
):
  if not shutil.which(command[0]):
    pytest.skip('The console script is not installed.')
  result = _run(command, '--help', cwd=tmp_path)
  assert result.returncode == 0
  assert result.stdout.startswith(usage)
  for part in ('--config:', '--workdir:', '--config.SECTION', 'quickstart'):
    assert part in result.stdout
  assert ('--stage:' in result.stdout) == stage
  assert 'common' not in result.stdout.splitlines()[-1]
  assert not result.stderr


# --- Recipes ------------------------------------------------------------------


@pytest.fixture
def max_evals(in_process, tmp_path, monkeypatch):
  """Returns read(*arguments): that field of the config they describe."""
  monkeypatch.chdir(tmp_path)

  def read(*arguments):
    found = []
    program = types.SimpleNamespace(run=lambda: cli.run(
        lambda config, _: found.append(config.attribution.max_evals), '',
        reads_data=False,
    ))
    in_process(program, *arguments)
    return found[0]

  return read


@pytest.mark.parametrize('arguments', [
    ('--config', 'quickstart'),
    ('-config=quickstart',),
    ('--config=quickstart.py',),
    ('--config=configs/quickstart.py',),
], ids=' '.join)
def test_recipe_is_found_by_name(max_evals, arguments):
  assert max_evals(*arguments, '--workdir=run') == 500


def test_recipe_is_found_by_name_from_any_folder(tmp_path):
  # None of these is the recipe: a workdir of its name, a package `configs`.
  (tmp_path / 'quickstart').mkdir()
  (tmp_path / 'configs').mkdir()
  for name in ('__init__', 'common'):
    (tmp_path / 'configs' / f'{name}.py').write_text('raise RuntimeError')
  result = _run(
      PRINT_FIELD, '--config=quickstart', '--workdir=quickstart', cwd=tmp_path
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout == '500\n'


@pytest.mark.parametrize(('path', 'expected'), [
    ('configs/quickstart.py', 321), ('quickstart', 500), ('mine.py', 322)
])
def test_recipe_of_ones_own_is_a_path_and_comes_first(
    max_evals, tmp_path, path, expected
):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'quickstart.py').write_text(RECIPE)
  (tmp_path / 'mine.py').write_text(RECIPE.replace('321', '322'))
  assert max_evals(f'--config={path}', '--workdir=run') == expected


@pytest.mark.parametrize(('arguments', 'expected'), [
    # Its own, where no other is named.
    (('--workdir=earlier', '--config.seed=1'), 323),
    (('--workdir', 'earlier', '--config.attribution.max_evals=9'), 9),
    (('--config=from_workdir:earlier', '--workdir=another'), 323),
    (('--config=quickstart', '--workdir=earlier'), 500),
], ids=str)
def test_fields_are_changed_of_the_config_of_an_earlier_run(
    max_evals, tmp_path, arguments, expected
):
  (tmp_path / 'earlier').mkdir()
  config = common.get_config()
  config.attribution.max_evals = 323
  (tmp_path / 'earlier' / 'config.json').write_text(config.to_json())
  assert max_evals(*arguments) == expected


def test_an_earlier_run_is_found_at_home(max_evals, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'earlier').mkdir()
  config = common.get_config()
  config.attribution.max_evals = 323
  (tmp_path / 'earlier' / 'config.json').write_text(config.to_json())
  monkeypatch.chdir('/')
  assert max_evals('--workdir=~/earlier', '--config.seed=1') == 323


def test_a_mistyped_field_of_an_earlier_run_is_named(
    max_evals, tmp_path, capsys
):
  (tmp_path / 'config.json').write_text(common.get_config().to_json())
  with pytest.raises(SystemExit):
    max_evals(f'--workdir={tmp_path}', '--config.data.nmae=digits')
  assert "Did you mean 'config.data.name'?" in ' '.join(
      capsys.readouterr().err.split()
  )


def test_an_earlier_run_that_is_none_is_refused(max_evals, capsys):
  with pytest.raises(SystemExit) as error:
    max_evals('--config=from_workdir:nowhere', '--workdir=run')
  assert error.value.code == 2
  message = ' '.join(capsys.readouterr().err.split())
  assert 'There is no config.json in' in message
