"""The compilation cache of the console programs: on by default, shared."""

import os
import pathlib
import subprocess
import sys

from impactx_jax import compilation
import pytest

# Compiles two programs under a command's flags, and says where they are kept.
PROGRAM = """
import sys
from impactx_jax import compilation
from impactx_jax.commands import cli
import jax
import jax.numpy as jnp

def program(config, workdir):
  found = []
  jax.monitoring.register_event_listener(lambda name, **_: found.append(name))
  for power in (2, 3):
    jax.jit(lambda x: jnp.linalg.matrix_power(x, power))(jnp.eye(8))
  hits = found.count('/jax/compilation_cache/cache_hits')
  print(compilation.cache_dir(), hits)

cli.run(program, '', reads_data=False)
"""


@pytest.mark.parametrize(('environment', 'expected'), [
    ({'HOME': '/home/me'}, '/home/me/.cache/impactx_jax/xla'),
    ({'HOME': '/home/me', 'XDG_CACHE_HOME': '/scratch'},
     '/scratch/impactx_jax/xla'),
    ({'XDG_CACHE_HOME': '/scratch', 'JAX_COMPILATION_CACHE_DIR': 'gs://mine'},
     'gs://mine'),
])
def test_the_folder_is_the_users(environment, expected, monkeypatch):
  for name in ('XDG_CACHE_HOME', 'JAX_COMPILATION_CACHE_DIR'):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert compilation.default_dir() == expected


def begin(home: pathlib.Path, *flags: str, **environment) -> subprocess.Popen:
  env = {
      name: value
      for name, value in os.environ.items()
      if not name.startswith('JAX_') and name != 'XDG_CACHE_HOME'
  }
  env |= {
      'HOME': str(home), 'JAX_PLATFORMS': 'cpu',
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      'PYTHONPATH': os.pathsep.join(sys.path), **environment,
  }
  return subprocess.Popen(
      [sys.executable, '-c', PROGRAM, '--workdir=run', *flags],
      cwd=home, env=env, text=True, stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
  )


def result(process: subprocess.Popen) -> tuple[str, int]:
  """The folder in use, and how many programs were found there."""
  printed, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  folder, _, hits = printed.strip().rpartition(' ')
  return folder, int(hits)


def test_what_one_process_compiles_another_finds(tmp_path):
  folder = tmp_path / '.cache' / 'impactx_jax' / 'xla'
  # Two at once, in a folder that is not there yet.
  for process in [begin(tmp_path), begin(tmp_path)]:
    assert result(process)[0] == str(folder)
  kept = {path.name for path in folder.iterdir()}
  assert len(kept) >= 2
  found, hits = result(begin(tmp_path))
  assert found == str(folder) and hits >= 2
  assert {name for name in kept if name.endswith('-cache')} <= {
      path.name for path in folder.iterdir()
  }


@pytest.mark.parametrize('environment', [
    {}, {'JAX_COMPILATION_CACHE_DIR': 'named'},
])
def test_the_flag_turns_it_off(tmp_path, environment):
  process = begin(tmp_path, '--nocompilation_cache', **environment)
  assert result(process) == ('', 0)
  assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_written_to_is_no_error(tmp_path):
  (tmp_path / '.cache').write_text('A file where a folder should be.')
  assert result(begin(tmp_path)) == ('', 0)
