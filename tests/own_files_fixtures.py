"""The files of a user's own that docs/extending.md shows, to run them."""

import pathlib
import re

EXTENDING = pathlib.Path(__file__).parents[1] / 'docs' / 'extending.md'


def documented() -> dict[str, str]:
  """The code of each file, by the name that its first line says."""
  blocks = re.findall(r'```python\n(.*?)```', EXTENDING.read_text(), re.DOTALL)
  return {re.match(r'"""(\w+\.py): ', code)[1]: code for code in blocks}


def write(folder: pathlib.Path, *names: str) -> dict[str, str]:
  """Writes documented files, all by default, and returns their paths."""
  files = documented()
  paths = {name: folder / name for name in names or files}
  for name, path in paths.items():
    path.write_text(files[name])
  return {name: str(path) for name, path in paths.items()}
