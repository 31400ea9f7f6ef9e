"""Files that are whole or not there, and JSON."""

from collections.abc import Callable
import json
from typing import Any

from attribution.errors import InputError
from etils import epath


def write_atomically(path: epath.Path, write: Callable[[str], None]) -> None:
  """Writes a file under a temporary name and renames it when it is whole."""
  temporary = path.parent / f'.{path.name}.partial'
  write(str(temporary))
  temporary.replace(path)


def write_text(path: epath.Path, text: str) -> None:
  """Writes text, atomically."""
  write_atomically(path, lambda name: epath.Path(name).write_text(text))


def write_json(path: epath.Path, content: Any) -> None:
  """Writes JSON with sorted keys, atomically."""
  write_text(path, json.dumps(content, indent=2, sort_keys=True) + '\n')


def as_json(content: Any) -> Any:
  """Returns what is read where this was written: lists in place of tuples."""
  return json.loads(json.dumps(content))


def read_json(path: epath.Path) -> Any:
  """Reads JSON that `write_json` wrote.

  Raises:
    InputError: if it is damaged.
  """
  try:
    return json.loads(path.read_text())
  except ValueError as error:  # Of the text's encoding too.
    raise InputError(
        f'{path} is truncated or damaged ({error}). Restore it, or delete '
        'this one file and do again what made it: it is made anew.'
    ) from error
