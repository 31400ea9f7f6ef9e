"""Python files of the user's own: a backbone, a method, an explainer, data.

A file is named where a built-in would be, `--config.model.name=mynet.py`, and
defines one name, such as BACKBONE. Each content of a file is run once in a
process, so that what was made of it is compiled once.
"""

from collections.abc import Iterator
import contextlib
import hashlib
import sys
import types
from typing import Any

from attribution.errors import InputError
from etils import epath


def is_file(name: str) -> bool:
  """Whether a config's value names a file rather than something built in."""
  return name.endswith('.py')


def stem(name: str) -> str:
  """Returns what a thing is called: a file by its name without folder."""
  return epath.Path(name).stem if is_file(name) else name


def text(path: str) -> str:
  """Returns what is in a file; '' for what is not one."""
  found = epath.Path(path).expanduser()
  return found.read_text() if is_file(path) and found.is_file() else ''


def load(path: str, name: str, kind: Any, flag: str) -> Any:
  """Returns what a file of the user's own defines.

  Args:
    path: Of the file, FILE.py.
    name: What it must define, such as 'BACKBONE'.
    kind: The type that this must have, or several; `type` for a class,
      `Callable` for a function.
    flag: That named the file, such as '--config.model.name'.

  Raises:
    InputError: for a file that is not there, cannot be run, or does not
      define that.
  """
  what = name.lower().replace('_', ' ')
  if not epath.Path(path).expanduser().is_file():
    raise InputError(
        f'There is no file {path} to take the {what} from.', flag, 'FILE.py'
    )
  with blamed(path, what, flag):
    found = module(path)
  found = getattr(found, name, None)
  if not isinstance(found, kind):
    kinds = ' or '.join(
        f'{k.__module__}.{k.__qualname__}'
        for k in (kind if isinstance(kind, tuple) else (kind,))
    )
    raise InputError(
        f'{path} defines no {name} of the type {kinds}. Add one, or name '
        f'another file with {flag}=FILE.py.'
    )
  return found


@contextlib.contextmanager
def blamed(path: str, what: str, flag: str) -> Iterator[None]:
  """Raises InputError, of that file, for whatever is raised inside."""
  try:
    yield
  except InputError:
    raise
  except (Exception, SystemExit) as error:  # Whatever the user's file raises.
    said = ' '.join(str(error).split())
    raise InputError(
        f'The {what} in {path} cannot be loaded: {type(error).__name__}: '
        f'{said}. Mend the file, or name another with {flag}=FILE.py.'
    ) from error


def digest(path: str) -> str:
  """Returns the SHA-256 of a file's content."""
  return hashlib.sha256(text(path).encode()).hexdigest()


_MODULES: dict[str, types.ModuleType] = {}  # By what is in the file.


def module(path: str) -> types.ModuleType:
  """Runs a file, once for what is in it, and returns it as a module."""
  key = digest(path)
  if key not in _MODULES:
    found = types.ModuleType(f'user_file_{key[:12]}')
    found.__file__ = str(epath.Path(path).expanduser())
    sys.modules[found.__name__] = found  # Dataclasses and TFDS look there.
    exec(compile(text(path), path, 'exec'), found.__dict__)
    _MODULES[key] = found
  return _MODULES[key]
