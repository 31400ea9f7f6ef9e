"""The README: its commands are ones that the program takes."""

import importlib
import pathlib
import re
import shlex

from impactx_jax import checks
from impactx_jax import compare
from impactx_jax import pipeline
from impactx_jax import grids
from impactx_jax import table
from ml_collections import config_flags
import pytest
from tests import table_fixtures

README = pathlib.Path(__file__).parents[1] / 'README.md'


def shell_commands():
  """Every command in the README's sh blocks, continued lines joined."""
  blocks = re.findall(r'```sh\n(.*?)```', README.read_text(), re.DOTALL)
  lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
  return [part for line in lines for part in line.split(' && ')]


def commands_of(*programs: str) -> list[str]:
  return [
      command for command in shell_commands() if command.startswith(programs)
  ]


def impactx_commands():
  return commands_of('impactx ', 'impactx_jax/launch/')


def flags_of(command: str) -> dict[str, str]:
  """The flags of a command, all written --name=value."""
  arguments = [a for a in shlex.split(command) if a.startswith('--')]
  values = dict(a.lstrip('-').split('=', 1) for a in arguments)
  assert values.pop('workdir')
  return values


def config_of(values: dict[str, str]):
  """The config that --config and the fields that are left describe."""
  recipe = pathlib.Path(values.pop('config')).stem
  module = importlib.import_module(f'impactx_jax.configs.{recipe}')
  config = module.get_config()
  for field, value in values.items():
    assert field.startswith('config.'), field
    path = field.removeprefix('config.')
    current = config_flags.config_path.get_value(path, config)
    config_flags.config_path.set_value(path, config, type(current)(value))
  return config


def test_the_set_up_commands_are_there():
  commands = shell_commands()
  assert 'pip install -e .' in commands
  assert "pip install -e '.[test]'" in commands and 'pytest' in commands


def test_nothing_is_left_to_fill_in():
  assert '@@' not in README.read_text()


@pytest.mark.parametrize('command', impactx_commands())
def test_command_is_one_that_the_program_takes(command):
  values = flags_of(command)
  assert values.pop('stage', 'all') in pipeline.STAGES
  values.setdefault('config', 'quickstart')  # Of the workdir, which has one.
  checks.check(config_of(values))


@pytest.fixture
def in_a_folder_with_mynet(tmp_path, monkeypatch):
  """A folder with the README's own backbone in it."""
  (tmp_path / 'mynet.py').write_text(table_fixtures.readme_backbone())
  monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures('in_a_folder_with_mynet')
@pytest.mark.parametrize('command', commands_of('impactx-table '))
def test_table_is_one_that_the_program_makes(command):
  values = flags_of(command)
  names = values.pop('methods', ','.join(table.METHODS.default)).split(',')
  plan = compare.Plan.parse(values.pop('seeds', table.SEEDS.default), names)
  config = config_of(values)
  for name in plan.names.keys() - {'baseline'}:
    config.method.name = name
    checks.check(config)


@pytest.mark.parametrize('command', commands_of('impactx-sweep '))
def test_sweep_is_one_that_the_program_runs(command):
  values = flags_of(command)
  _, grid = grids.load(values.pop('sweep'))
  trials = int(values.pop('trials', '0'))
  chosen = grids.choose(len(grid), trials, seed=0)
  assert len(chosen) == (trials or len(grid))
  assert int(values.pop('jobs', '1')) >= 1
  config = config_of(values)
  config.update_from_flattened_dict(grid[0])
  checks.check(config)


def test_there_are_commands_to_check():
  assert len(impactx_commands()) >= 8
  assert commands_of('impactx-table ') and commands_of('impactx-sweep ')


def test_links_into_the_repository_lead_somewhere():
  targets = re.findall(r'\]\((?!https?:)([^)#]+)\)', README.read_text())
  assert targets
  for target in targets:
    assert (README.parent / target).exists(), target
