"""What mkdocs does beside: the reference, and numbers that stay together."""

import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ('attribution', 'impactx_jax')
# Console programs have --help; recipes explain themselves in comments.
LEFT_OUT = ('impactx_jax.commands', 'impactx_jax.configs')
# A cell of a table: 70.12 ± 1.04, +0.86 [+0.43, +1.29], or 8.0 (6.9 to 9.2).
NUMBERS = re.compile(r'(?<=>)[+-]?\d(?: to |[^<>a-z]){2,30}(?=</td>)')
OPTIONS = '\n    options:\n      heading_level: {level}'


def _rooms() -> dict[str, list[str]]:
  """The modules of each package, and itself, by their dotted names.

  A module that is new, moved or renamed needs no change here.
  """
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
  """Puts the reference before the last part of the navigation."""
  pages = [{name: f'reference/{name}.md'} for name in _rooms()]
  config.nav.insert(-1, {'Reference': pages})


def on_files(files, config):
  """Adds the reference, a page a package, as if they were files."""
  for name, modules in _rooms().items():
    levels = [1] + [2] * (len(modules) - 1)
    body = [
        f'::: {module}{OPTIONS.format(level=level)}'
        for module, level in zip(modules, levels, strict=True)
    ]
    files.append(
        File.generated(
            config, f'reference/{name}.md', content='\n\n'.join(body) + '\n'
        )
    )
  return files


def on_page_content(html, **_):
  """Keeps a number and its interval on one line of a table."""
  return NUMBERS.sub(lambda cell: cell[0].replace(' ', '&nbsp;'), html)
