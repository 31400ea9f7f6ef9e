"""The README: its commands are ones that the program takes."""

import importlib
import pathlib
import re
import shlex

from impactx_jax import checks
from impactx_jax import pipeline
from ml_collections import config_flags
import pytest

README = pathlib.Path(__file__).parents[1] / 'README.md'


def shell_commands():
  """Every command in the README's sh blocks, continued lines joined."""
  blocks = re.findall(r'```sh\n(.*?)```', README.read_text(), re.DOTALL)
  lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
  return [part for line in lines for part in line.split(' && ')]


def impactx_commands():
  return [
      command
      for command in shell_commands()
      if command.startswith(('impactx ', 'impactx_jax/launch/'))
  ]


def test_the_set_up_commands_are_there():
  commands = shell_commands()
  assert 'pip install -e .' in commands
  assert "pip install -e '.[test]'" in commands and 'pytest' in commands


def test_nothing_is_left_to_fill_in():
  assert '@@' not in README.read_text()


@pytest.mark.parametrize('command', impactx_commands())
def test_command_is_one_that_the_program_takes(command):
  arguments = [a for a in shlex.split(command) if a.startswith('--')]
  values = dict(a.lstrip('-').split('=', 1) for a in arguments)
  assert values.pop('workdir')
  assert values.pop('stage', 'all') in pipeline.STAGES
  if 'config' not in values:
    assert not values
    return
  recipe = pathlib.Path(values.pop('config')).stem
  module = importlib.import_module(f'impactx_jax.configs.{recipe}')
  config = module.get_config()
  for field, value in values.items():
    path = field.removeprefix('config.')
    current = config_flags.config_path.get_value(path, config)
    config_flags.config_path.set_value(path, config, type(current)(value))
  checks.check(config)


def test_there_are_commands_to_check():
  assert len(impactx_commands()) >= 8


def test_links_into_the_repository_lead_somewhere():
  targets = re.findall(r'\]\((?!https?:)([^)#]+)\)', README.read_text())
  assert targets
  for target in targets:
    assert (README.parent / target).exists(), target
