"""What made a result: versions, device, command."""

import datetime
import importlib.metadata
import pathlib
import platform
import subprocess
import sys
from typing import Any

import impactx_jax
import jax

LIBRARIES = (
    'jax', 'flax', 'optax', 'orbax-checkpoint', 'shap', 'numpy',
    'tensorflow-datasets',
)


def collect() -> dict[str, Any]:
  """Returns versions, git commit, device, time and command; for JSON."""
  versions = {'impactx_jax': impactx_jax.__version__}
  for name in LIBRARIES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = 'not installed'
  device = jax.devices()[0]
  return {
      'command': [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
      'device': device.device_kind,
      'device_count': jax.device_count(),
      'git': _git_commit(),
      'python': platform.python_version(),
      'time': datetime.datetime.now(datetime.UTC).isoformat('T', 'seconds'),
      'versions': versions,
  }


def _git_commit() -> str:
  """The checkout's commit, with '+' if it has changes; '' elsewhere."""
  folder = pathlib.Path(__file__).parents[2]

  def git(*arguments):
    return subprocess.run(
        ['git', '-C', str(folder), *arguments],
        capture_output=True, text=True, check=True, timeout=10,
    ).stdout.strip()

  try:
    # An installed copy may lie inside a repository that is not this one.
    if pathlib.Path(git('rev-parse', '--show-toplevel')) != folder.resolve():
      return ''
    changed = git('status', '--porcelain', '--untracked-files=no')
    return git('rev-parse', 'HEAD') + ('+' if changed else '')
  except (OSError, subprocess.SubprocessError):
    return ''
