"""The commands `impactx-table` and `impactx-sweep`: help and exit codes."""

import sys

from impactx_jax import methods
from impactx_jax.experiments import grids
import pytest
from tests.commands import test_cli


@pytest.mark.parametrize(('module', 'parts'), [
    ('table', ('--methods:', *methods.METHODS)),
    ('sweep', ('--trials:', *grids.installed())),
])
def test_help_exits_with_0_and_names_flags_and_choices(
    tmp_path, module, parts
):
  command = (sys.executable, '-m', f'impactx_jax.commands.{module}')
  result = test_cli._run(command, '--help', cwd=tmp_path)
  assert result.returncode == 0 and not result.stderr
  assert result.stdout.startswith(f'impactx-{module} ')
  for part in (*parts, '--config:', '--workdir:', 'quickstart'):
    assert part in result.stdout


@pytest.mark.parametrize(('module', 'arguments', 'part'), [
    ('table', (), '--config=NAME'),
    ('sweep', ('--config=quickstart',), '--sweep=NAME'),
])
def test_a_missing_flag_exits_with_2_and_one_paragraph(
    tmp_path, module, arguments, part
):
  command = (sys.executable, '-m', f'impactx_jax.commands.{module}')
  result = test_cli._run(command, '--workdir=run', *arguments, cwd=tmp_path)
  test_cli._assert_one_paragraph(result, part)
  assert not result.stdout and not list(tmp_path.iterdir())
