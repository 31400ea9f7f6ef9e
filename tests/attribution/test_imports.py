"""Tests for what the attribution package imports, and what it must not."""

import ast
from collections.abc import Iterator
import os
import pathlib
import subprocess
import sys

import attribution
import pytest

_PACKAGE = pathlib.Path(attribution.__file__).parent
_SOURCES = sorted(
    path for path in _PACKAGE.rglob('*.py')
    if path != _PACKAGE / 'main.py'  # Flags and one call of the maps stage.
)
_NAMES = [str(path.relative_to(_PACKAGE)) for path in _SOURCES]
_HEAVY = (
    'tensorflow', 'tensorflow_datasets', 'shap', 'matplotlib', 'sklearn',
    'scipy.stats',
)
_IMPORT_AND_LIST = """
import importlib, sys
for name in sys.argv[1].split(','):
  importlib.import_module(name)
print(*sorted(sys.modules))
"""


def _imported(source: str) -> Iterator[str]:
  """Yields the full name of everything that a module imports, anywhere."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      module = '.' * node.level + (node.module or '')
      yield from (f'{module}.{alias.name}' for alias in node.names)


def _forbidden(source: str) -> list[str]:
  """Returns the imports of impactx_jax."""
  return [
      name for name in _imported(source)
      if name.split('.')[0] == 'impactx_jax'
  ]


def test_importing_the_package_loads_no_heavy_library():
  modules = ['attribution']
  for path in _SOURCES:
    if path.name != '__init__.py':
      parts = path.relative_to(_PACKAGE.parent).with_suffix('').parts
      modules.append('.'.join(parts))
  assert 'attribution.explainers.shap_partition' in modules
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  process = subprocess.run(
      [sys.executable, '-c', _IMPORT_AND_LIST, ','.join(modules)],
      env=environment, capture_output=True, text=True, check=False,
  )
  assert process.returncode == 0, process.stderr
  loaded = process.stdout.split()
  assert 'attribution.service' in loaded
  assert not [name for name in _HEAVY if name in loaded]


@pytest.mark.parametrize('path', _SOURCES, ids=_NAMES)
def test_nothing_is_imported_from_impactx_jax(path):
  assert not _forbidden(path.read_text())


@pytest.mark.parametrize(
    'source',
    [
        'import impactx_jax',
        'import impactx_jax.training',
        'import attribution.records, impactx_jax.training as t',
        'from impactx_jax import training',
        'from impactx_jax.parallel import barrier',
        'from impactx_jax.data import maps',
        'def lazy():\n  from impactx_jax import stages',
    ],
)
def test_a_forbidden_import_is_found(source):
  assert _forbidden(source)


@pytest.mark.parametrize(
    'source',
    [
        'import impactx_jax_other',
        'from attribution import records',
    ],
)
def test_an_allowed_import_is_let_through(source):
  assert not _forbidden(source)
