"""The import graph: no circles, and arrows only downward (docs/layout.md)."""

import ast
import graphlib
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# From the top down; a room imports from itself and from what is below it.
LAYERS = (
    ('impactx_jax.main',),
    ('impactx_jax.commands',),
    ('impactx_jax.inference',),
    ('impactx_jax.experiments',),
    ('impactx_jax.stages',),
    ('impactx_jax.evaluation', 'impactx_jax.report'),
    ('impactx_jax.training',),
    ('impactx_jax.configs',),
    ('impactx_jax.methods',),
    ('impactx_jax.models', 'impactx_jax.data'),
    ('impactx_jax.tasks',),
    (
        'impactx_jax.losses', 'impactx_jax.user_files', 'impactx_jax.bounds',
        'impactx_jax.parallel', 'impactx_jax.rng', 'impactx_jax.compilation',
        'impactx_jax.memory', 'impactx_jax.relevance',
    ),
    ('attribution',),
)
# Doors, which may reach up: a program, a recipe that reads a workdir, and the
# one name that the package itself offers.
DOORS = {
    'attribution.main': 'flags and one call of the maps stage',
    'impactx_jax.configs.from_workdir': 'the config of a run that is there',
    'impactx_jax': 'load(DIR)',
}
# The package's version stands in its `__init__`, and is no part of the graph.
VERSION = ('impactx_jax.stages.provenance', 'impactx_jax')


def sources() -> dict[str, pathlib.Path]:
  """Every module's name and file; the recipes under the package's name."""
  found = {}
  for path in ROOT.glob('impactx_jax/**/*.py'):
    found[path.relative_to(ROOT)] = path
  for path in ROOT.glob('attribution/**/*.py'):
    found[path.relative_to(ROOT)] = path
  for path in ROOT.glob('configs/**/*.py'):
    found['impactx_jax' / path.relative_to(ROOT)] = path
  return {
      '.'.join(relative.with_suffix('').parts).removesuffix('.__init__'): path
      for relative, path in found.items()
  }


def imports_of(module: str, path: pathlib.Path, modules) -> set[str]:
  """The modules of this project that one imports, anywhere in it."""
  package = module if path.name == '__init__.py' else module.rpartition('.')[0]
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        parents = package.split('.')[:len(package.split('.')) - node.level + 1]
        base = '.'.join([*parents, *([base] if base else [])])
      for alias in node.names:
        full = f'{base}.{alias.name}'
        found.add(full if full in modules else base)
  return {name for name in found if name in modules} - {module}


@pytest.fixture(scope='module')
def graph() -> dict[str, set[str]]:
  modules = sources()
  found = {
      name: imports_of(name, path, modules) for name, path in modules.items()
  }
  module, imported = VERSION
  found[module].remove(imported)
  return found


def is_in(module: str, room: str) -> bool:
  return module == room or module.startswith(room + '.')


def place_of(module: str) -> tuple[int, str] | None:
  """A module's layer, counted from the top, and its room."""
  for layer, rooms in enumerate(LAYERS):
    for room in rooms:
      if is_in(module, room):
        return layer, room
  return None


def upward(graph) -> list[str]:
  """The arrows that do not point to the same room or to a layer below."""
  wrong = []
  for module, imported in graph.items():
    if module in DOORS:
      continue
    for name in imported:
      if name in DOORS:
        wrong.append(f'{module} -> {name}')
        continue
      (above, room), (below, other) = place_of(module), place_of(name)
      if room != other and above >= below:
        wrong.append(f'{module} -> {name}')
  return wrong


def test_every_module_is_in_a_room(graph):
  assert len(graph) > 90
  assert not [
      name for name in graph if place_of(name) is None and name not in DOORS
  ]


def test_every_room_is_there(graph):
  for room in (room for rooms in LAYERS for room in rooms):
    assert any(is_in(name, room) for name in graph)


def test_no_circles(graph):
  order = list(graphlib.TopologicalSorter(graph).static_order())
  assert set(order) == set(graph)


def test_arrows_point_downward(graph):
  assert not upward(graph)


@pytest.mark.parametrize(('module', 'imported'), [
    ('attribution.service', 'impactx_jax.rng'),
    ('impactx_jax.training.loop', 'impactx_jax.stages.runs'),
    ('impactx_jax.models.base', 'impactx_jax.data.maps'),
    ('impactx_jax.rng', 'impactx_jax.parallel'),
    ('impactx_jax.methods.base', 'impactx_jax'),
])
def test_an_arrow_that_points_elsewhere_is_found(module, imported):
  assert upward({module: {imported}}) == [f'{module} -> {imported}']
