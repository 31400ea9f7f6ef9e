"""Tests for writing files: whole, or not at all."""

import json

from attribution import files
from attribution.errors import InputError
from etils import epath
import pytest


def test_a_file_gets_its_name_only_when_it_is_whole(tmp_path):
  path = epath.Path(tmp_path) / 'file'

  def write(name: str) -> None:
    # In the same directory: renaming across file systems is not atomic.
    assert epath.Path(name).parent == path.parent
    epath.Path(name).write_text('new')
    assert path.read_text() == 'old'

  path.write_text('old')
  files.write_atomically(path, write)
  assert path.read_text() == 'new'


def test_json_that_cannot_be_written_keeps_the_old_file(tmp_path):
  path = epath.Path(tmp_path) / 'x.json'
  files.write_json(path, {'b': 1, 'a': [1, 2]})
  before = path.read_text()
  assert list(json.loads(before)) == ['a', 'b']  # Sorted: the same bytes.
  with pytest.raises(TypeError):
    files.write_json(path, {'b': object()})
  assert path.read_text() == before


def test_damaged_json_is_named_alone(tmp_path):
  path = epath.Path(tmp_path) / 'x.json'
  path.write_text('{"a": 1')
  with pytest.raises(InputError) as error:
    files.read_json(path)
  message = str(error.value)
  # The folder may hold a trained network: nothing else is to be deleted.
  assert str(path) in message and 'delete this one file' in message
