"""Adds the reference to the site: a page for each package, made from it.

A module that is new, moved or renamed needs no change here.
"""

import pathlib

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('attribution', 'impactx_jax')
# Console programs have --help; recipes explain themselves in comments.
LEFT_OUT = ('impactx_jax.commands', 'impactx_jax.configs')


def _rooms() -> dict[str, list[str]]:
  """The modules of each package, and itself, by their dotted names."""
  rooms = {}
  for package in PACKAGES:
    for init in sorted((ROOT / package).rglob('__init__.py')):
      folder = init.parent
      name = '.'.join(folder.relative_to(ROOT).parts)
      if not name.startswith(LEFT_OUT):
        modules = sorted(
            f'{name}.{path.stem}'
            for path in folder.glob('*.py')
            if not path.stem.startswith('_') and path.stem != 'main'
        )
        rooms[name] = [name, *modules]
  return rooms


def on_config(config):
  """Appends the pages to the navigation."""
  pages = [{name: f'reference/{name}.md'} for name in _rooms()]
  config.nav.insert(-1, {'Reference': pages})


def on_files(files, config):
  """Adds the pages, as if they were files."""
  for name, modules in _rooms().items():
    body = '\n\n'.join(f'::: {module}' for module in modules)
    files.append(
        File.generated(
            config,
            f'reference/{name}.md',
            content=f'# {name}\n\n{body}\n',
        )
    )
  return files
