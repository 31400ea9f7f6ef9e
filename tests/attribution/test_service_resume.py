"""Tests for the shard loop: whole shards, or none, and never other ones."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

from attribution import files
from attribution import records
from attribution import service
from attribution.errors import InputError
import numpy as np
import pytest
from tests.attribution import service_fixtures
from tests.attribution.service_fixtures import CALLS
from tests.attribution.service_fixtures import Killed
from tests.attribution.service_fixtures import Linear
from tests.attribution.service_fixtures import NUM_SHARDS
from tests.attribution.service_fixtures import SETTINGS
from tests.attribution.service_fixtures import contents
from tests.attribution.service_fixtures import make_examples
from tests.attribution.service_fixtures import shard_path
from tests.attribution.service_fixtures import write_maps

finished = service_fixtures.finished


def _fail_at(linear: Linear, call: int, error: BaseException) -> None:
  def before_call(current):
    if current == call:
      raise error

  linear.before_call = before_call


@pytest.mark.parametrize('calls', range(CALLS))
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, finished, calls):
  linear = Linear()
  _fail_at(linear, calls, Killed())
  with pytest.raises(Killed):
    write_maps(tmp_path, linear.maker())
  assert not (tmp_path / records.MANIFEST).exists()
  with pytest.raises(InputError):
    records.read(tmp_path)
  shards_done = max(0, calls - 2)
  for i in range(NUM_SHARDS):
    assert shard_path(tmp_path, i).exists() == (i < shards_done)
  before = {
      path: path.stat().st_mtime_ns for path in tmp_path.glob('maps-*')
  }

  linear = Linear()
  write_maps(tmp_path, linear.maker())
  assert contents(tmp_path) == contents(finished)
  # What was whole was neither explained nor written again.
  assert len(linear.explained) == CALLS - shards_done
  for path, modified in before.items():
    assert path.stat().st_mtime_ns == modified


@pytest.mark.parametrize('index', range(NUM_SHARDS))
def test_a_failed_write_is_reported_and_can_be_continued(
    tmp_path, finished, monkeypatch, index
):
  write_shard = records.write_shard

  def full_disk(path, columns):
    if path == shard_path(tmp_path, index):
      raise OSError('No space left on device')
    write_shard(path, columns)

  monkeypatch.setattr(records, 'write_shard', full_disk)
  # It happens in another thread, where an error is easily lost.
  with pytest.raises(OSError, match='No space left'):
    write_maps(tmp_path)
  assert not (tmp_path / records.MANIFEST).exists()
  monkeypatch.undo()
  write_maps(tmp_path)
  assert contents(tmp_path) == contents(finished)


def test_damaged_settings_are_named(tmp_path):
  write_maps(tmp_path)
  settings = tmp_path / service.SETTINGS
  settings.write_text(settings.read_text()[:9])
  with pytest.raises(InputError, match=service.SETTINGS):
    write_maps(tmp_path)


# For the script, which imports from `tests`.
_REPOSITORY = pathlib.Path(__file__).parents[2]
_RUN_AND_DIE = """
import os, pathlib, signal, sys
from attribution import files
from attribution import records
from tests.attribution.service_fixtures import write_maps

write_atomically = files.write_atomically

def write_half_and_die(path, write):
  if path.name != records.shard_name(1, 3):
    return write_atomically(path, write)

  def write_half(name):
    write(name)
    os.truncate(name, os.path.getsize(name) // 2)
    os.kill(os.getpid(), signal.SIGKILL)

  write_atomically(path, write_half)

files.write_atomically = write_half_and_die
write_maps(pathlib.Path(sys.argv[1]))
"""


def test_a_process_killed_while_it_writes_continues_to_the_same_bytes(
    tmp_path, finished
):
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  process = subprocess.run(
      [sys.executable, '-c', _RUN_AND_DIE, str(tmp_path)],
      cwd=_REPOSITORY, env=environment, capture_output=True, text=True,
      check=False,
  )
  assert process.returncode == -signal.SIGKILL, process.stderr
  assert shard_path(tmp_path, 0).exists()
  assert not shard_path(tmp_path, 1).exists()
  assert not (tmp_path / records.MANIFEST).exists()
  linear = Linear()
  write_maps(tmp_path, linear.maker())
  # The first shard is another process's, so this compares processes too.
  assert len(linear.explained) == CALLS - 1
  assert contents(tmp_path) == contents(finished)


def _flip_a_bit(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(bytes(content))


def _truncate(path):
  path.write_bytes(path.read_bytes()[:-30])


def _empty(path):
  path.write_bytes(b'')


def _lose_a_record(path):
  columns = records.read_shard(path)
  records.write_shard(path, {n: c[:-1] for n, c in columns.items()})


def _delete(path):
  path.unlink()


@pytest.mark.parametrize(
    'damage', [_flip_a_bit, _truncate, _empty, _lose_a_record, _delete]
)
def test_a_damaged_shard_is_made_again(tmp_path, finished, damage):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  damage(shard_path(tmp_path, 1))
  linear = Linear()
  write_maps(tmp_path, linear.maker())
  assert contents(tmp_path) == contents(finished)
  assert len(linear.explained) == 3  # Two to estimate, one shard.
  images = make_examples()['image'][4:8]
  np.testing.assert_array_equal(
      linear.explained[2], images.astype(np.float32) / 255
  )


def test_nothing_is_explained_again_when_all_is_there(tmp_path, finished):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  linear = Linear()
  manifest = write_maps(tmp_path, linear.maker())
  assert not linear.explained
  assert manifest == records.read_manifest(finished)
  assert contents(tmp_path) == contents(finished)


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        ({**SETTINGS, 'classifier': 'abd'}, ['classifier', 'abc', 'abd']),
        (
            {**SETTINGS, 'explainer': {'masker': 'blur', 'max_evals': 7}},
            ['explainer', 'constant', 'blur'],
        ),
        ({**SETTINGS, 'more': 5}, ['more', 'None', '5']),
        ({k: v for k, v in SETTINGS.items() if k != 'seed'}, ['seed', '0']),
    ],
    ids=['changed', 'changed inside', 'added', 'removed'],
)
@pytest.mark.parametrize('complete', [True, False])
def test_other_settings_are_refused_and_nothing_is_changed(
    tmp_path, finished, settings, named, complete
):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  if not complete:
    (tmp_path / records.MANIFEST).unlink()
    shard_path(tmp_path, 2).unlink()
  before = contents(tmp_path)
  linear = Linear()
  with pytest.raises(InputError, match='other settings') as error:
    write_maps(tmp_path, linear.maker(), settings=settings)
  message = str(error.value)
  for part in [*named, str(tmp_path), 'another directory']:
    assert part in message
  same = {'classifier', 'explainer', 'seed'} - {named[0]}
  assert not [name for name in same if f'{name} (there' in message]
  assert not linear.explained
  assert contents(tmp_path) == before


def test_settings_are_compared_as_json_keeps_them(tmp_path):
  settings = {**SETTINGS, 'size': (4, 5)}
  write_maps(tmp_path, settings=settings)
  write_maps(tmp_path, settings=settings)


def _free(monkeypatch, free: int) -> None:
  usage = types.SimpleNamespace(total=10**9, used=0, free=free)
  monkeypatch.setattr(service.shutil, 'disk_usage', lambda path: usage)


def test_too_little_disk_is_refused_before_anything_is_explained(
    tmp_path, finished, monkeypatch
):
  shards = [path.stat().st_size for path in finished.glob('maps-*')]
  _free(monkeypatch, sum(shards) - 1)
  linear = Linear()
  with pytest.raises(InputError, match='free') as error:
    write_maps(tmp_path, linear.maker())
  message = str(error.value)
  for part in (str(tmp_path), 'Explain fewer images', 'kB'):
    assert part in message
  assert not linear.explained
  assert not list(tmp_path.glob('*maps-*'))


def test_enough_disk_is_not_refused(tmp_path, finished, monkeypatch):
  shards = [path.stat().st_size for path in finished.glob('maps-*')]
  _free(monkeypatch, 2 * sum(shards))
  write_maps(tmp_path)


def test_a_continued_run_needs_disk_for_the_rest_only(
    tmp_path, finished, monkeypatch
):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  size = len(shard_path(tmp_path, 2).read_bytes())
  shard_path(tmp_path, 2).unlink()
  _free(monkeypatch, 2 * size)
  write_maps(tmp_path)


def test_two_processes_write_what_one_does(tmp_path, finished):
  linears = [Linear(), Linear()]
  reached = []
  manifest = tmp_path / records.MANIFEST
  written = []

  def process(index: int) -> None:
    write_maps(
        tmp_path,
        linears[index].maker(),
        process_index=index,
        process_count=2,
        barrier=lambda: barrier(index),
    )

  def barrier(index: int) -> None:
    reached.append(index)
    if reached == [1]:
      # The second process is done and waits; now the first one runs.
      assert not manifest.exists()
      assert not shard_path(tmp_path, 0).exists()
      assert shard_path(tmp_path, 1).exists()
      process(0)
      written.append(manifest.stat().st_mtime_ns)

  process(1)
  assert reached == [1, 0, 0, 1]
  assert [manifest.stat().st_mtime_ns] == written  # Once, by the first.
  assert contents(tmp_path) == contents(finished)
  explained = [
      [len(images) for images in linear.explained[2:]] for linear in linears
  ]
  assert explained == [[4, 2], [4]]  # Shards 0 and 2; shard 1.


def test_processes_may_claim_a_new_directory_at_once(
    tmp_path, finished, monkeypatch
):
  write_atomically = files.write_atomically

  def stop():
    raise Killed

  def interrupted(path, write):
    def write_and_let_the_other_come(name):
      write(name)
      monkeypatch.undo()
      with pytest.raises(Killed):
        write_maps(tmp_path, process_index=1, process_count=2, barrier=stop)

    write_atomically(path, write_and_let_the_other_come)

  # The second process runs between the first one's writing its settings
  # under a temporary name and the renaming.
  monkeypatch.setattr(files, 'write_atomically', interrupted)
  write_maps(tmp_path, process_index=0, process_count=2)
  assert contents(tmp_path) == contents(finished)
