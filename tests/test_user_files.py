"""Files of the user's own: run once for what is in them, or refused."""

from collections.abc import Callable
import dataclasses
import sys
import types

from attribution.errors import InputError
from etils import epath
from impactx_jax import user_files
import pytest

FLAG = '--config.model.name'


def write(folder, content, name='mine.py'):
  path = folder / name
  path.write_text(content)
  return str(path)


def load(path, kind=int):
  return user_files.load(path, 'MY_PART', kind, FLAG)


@pytest.mark.parametrize(('name', 'is_file', 'stem'), [
    ('lenet5', False, 'lenet5'),
    ('mine.py', True, 'mine'),
    ('~/nets/my.net.py', True, 'my.net'),
    ('gs://bucket/mine.py', True, 'mine'),
    ('shapes/easy', False, 'shapes/easy'),
])
def test_a_name_that_ends_in_py_is_a_file(name, is_file, stem):
  assert user_files.is_file(name) == is_file
  assert user_files.stem(name) == stem


def test_what_a_file_defines_is_returned(tmp_path):
  path = write(tmp_path, 'def MY_PART():\n  return __file__')
  assert load(path, Callable)() == path
  assert load(write(tmp_path, 'class MY_PART: pass'), type).__name__ == (
      'MY_PART'
  )


def test_the_same_content_is_run_once_wherever_it_lies(tmp_path):
  content = 'class Part: pass\nMY_PART = Part()'
  first = load(write(tmp_path, content), object)
  assert load(write(tmp_path, content), object) is first
  assert load(write(tmp_path, content, 'copy.py'), object) is first
  assert load(write(tmp_path, content + '\n# Edited.'), object) is not first
  assert load(write(tmp_path, content), object) is first


def test_a_digest_is_of_what_is_in_a_file(tmp_path):
  path = write(tmp_path, 'MY_PART = 1')
  before = user_files.digest(path)
  assert user_files.digest(write(tmp_path, 'MY_PART = 1', 'b.py')) == before
  assert user_files.digest(write(tmp_path, 'MY_PART = 2')) != before
  assert user_files.text('lenet5') == user_files.text('/nowhere/x.py') == ''


def test_dataclasses_of_a_file_work(tmp_path):
  """They look for their module in `sys.modules`."""
  path = write(tmp_path, (
      'from __future__ import annotations\nimport dataclasses\n'
      '@dataclasses.dataclass\nclass Part:\n  size: int = 3\n'
      'MY_PART = Part()'
  ))
  found = load(path, object)
  assert dataclasses.asdict(found) == {'size': 3}
  assert sys.modules[type(found).__module__].MY_PART is found


def test_a_file_of_the_name_of_a_module_does_not_replace_it(tmp_path):
  import random

  assert load(write(tmp_path, 'MY_PART = 4', 'random.py')) == 4
  assert sys.modules['random'] is random and hasattr(random, 'shuffle')


def test_a_file_in_a_bucket_is_read(tmp_path, monkeypatch):
  write(tmp_path, 'MY_PART = 24')

  def local(name):
    assert name == 'gs://bucket/run/mine.py'
    return epath.Path(tmp_path / 'mine.py')

  monkeypatch.setattr(user_files, 'epath', types.SimpleNamespace(Path=local))
  assert load('gs://bucket/run/mine.py') == 24


def test_home_is_known(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  write(tmp_path, 'MY_PART = 7')
  assert load('~/mine.py') == 7


@pytest.mark.parametrize(('content', 'parts'), [
    (None, ('There is no file', 'to take the my part from')),
    ('def part(:', ('cannot be loaded', 'SyntaxError')),
    ('import no_such_package', ('ModuleNotFoundError', 'no_such_package')),
    ('1 / 0', ('ZeroDivisionError', 'division by zero')),
    ('raise ValueError("no\\nso")', ('ValueError',)),
    ('raise SystemExit(3)', ('SystemExit',)),
    ('', ('defines no MY_PART', 'builtins.int')),
    ('my_part = 5', ('defines no MY_PART',)),
    ('MY_PART = "5"', ('defines no MY_PART', 'builtins.int')),
])
def test_what_cannot_be_used_is_refused(tmp_path, content, parts):
  path = str(tmp_path / 'mine.py')
  if content is not None:
    write(tmp_path, content)
  with pytest.raises(InputError) as error:
    load(path)
  message = str(error.value)
  assert '\n' not in message
  for part in (path, *parts, f'{FLAG}=FILE.py'):
    assert part in message, message


def test_a_folder_is_no_file(tmp_path):
  (tmp_path / 'mine.py').mkdir()
  with pytest.raises(InputError, match='There is no file'):
    load(str(tmp_path / 'mine.py'))


def test_a_file_that_was_mended_is_loaded(tmp_path):
  path = write(tmp_path, '1 / 0')
  with pytest.raises(InputError):
    load(path)
  write(tmp_path, 'MY_PART = 1')
  assert load(path) == 1
  write(tmp_path, '1 / 0')  # And once more: it is not taken for good.
  with pytest.raises(InputError):
    load(path)
