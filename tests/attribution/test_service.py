"""Tests for the shard loop: whole shards, or none, and never other ones."""

from collections.abc import Callable
import dataclasses
import hashlib
import json
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
from etils import epath
import numpy as np
import pytest

_SETTINGS = {
    'classifier': 'abc',
    'explainer': {'masker': 'constant', 'max_evals': 7},
    'seed': 0,
}
_FACTS = {'provenance': {'device': 'cpu'}}
_COUNT = 10
_SHARD_SIZE = 4  # So shards of 4, 4 and 2.
_NUM_SHARDS = 3
# Calls of the explainer in a whole run: two to estimate, one for each shard.
_CALLS = 2 + _NUM_SHARDS


class _Killed(BaseException):
  """Ends a run as a signal does: nothing in the code catches it."""


def _examples(count: int = _COUNT) -> records.Columns:
  rng = np.random.default_rng(0)
  return {
      'id': np.array([f'train/{i:03d}.png' for i in range(count)]),
      'split': np.array(['train', 'train', 'validation'] * count)[:count],
      'image': rng.integers(1, 256, (count, 4, 5, 3), np.uint8),
      'label': rng.integers(0, 3, count, np.int32),
  }


class _Linear:
  """A linear classifier and its exact maps, w · x, with black as hidden."""

  weights = np.random.default_rng(1).normal(size=(4, 5, 3, 3))
  bias = np.array([0.5, -1, 2])

  def __init__(self):
    self.explained = []  # The images of each call.
    self.before_call: Callable[[int], None] = lambda call: None

  def explain(self, images, labels):
    self.before_call(len(self.explained))
    assert images.dtype == np.float32
    assert len(labels) == len(images)
    self.explained.append(np.array(images))
    maps = images * np.moveaxis(self.weights[..., labels], -1, 0)
    return maps.astype(np.float32)

  def score(self, images):
    scores = np.tensordot(images, self.weights, axes=3) + self.bias
    return scores.astype(np.float32)

  def teacher(self, **changes) -> service.Teacher:
    teacher = service.Teacher(
        explain=self.explain,
        score=self.score,
        background=np.zeros_like,
        evaluations=7,
        chunk=_SHARD_SIZE,
    )
    return dataclasses.replace(teacher, **changes)


def _write(directory, teacher: service.Teacher | None = None, **changes):
  arguments = {
      'examples': _examples(),
      'settings': _SETTINGS,
      'facts': _FACTS,
      'shard_size': _SHARD_SIZE,
      **changes,
  }
  return service.write_maps(
      directory, arguments.pop('examples'), teacher or _Linear().teacher(),
      **arguments,
  )


def _contents(directory) -> dict[str, bytes]:
  """Every file of a directory, hidden ones too."""
  directory = pathlib.Path(directory)
  return {
      str(path.relative_to(directory)): path.read_bytes()
      for path in directory.rglob('*') if path.is_file()
  }


def _shard(directory, index: int) -> epath.Path:
  return epath.Path(directory) / records.shard_name(index, _NUM_SHARDS)


def _fail_at(linear: _Linear, call: int, error: BaseException) -> None:
  def before_call(current):
    if current == call:
      raise error

  linear.before_call = before_call


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """The directory of an uninterrupted run; tests must not change it."""
  directory = tmp_path_factory.mktemp('finished')
  _write(directory)
  return directory


def test_every_example_gets_its_map_in_order(finished):
  examples = _examples()
  columns, _ = records.read(finished)
  for name, column in examples.items():
    np.testing.assert_array_equal(columns[name], column)
  linear = _Linear()
  rows = np.arange(_COUNT)
  images = examples['image'].astype(np.float32) / 255
  np.testing.assert_array_equal(columns['classes'], examples['label'][:, None])
  np.testing.assert_array_equal(
      columns['map'][..., 0], linear.explain(images, examples['label'])
  )
  for name, scores in (
      ('full_value', linear.score(images)),
      ('base_value', linear.score(np.zeros_like(images))),
  ):
    np.testing.assert_allclose(
        columns[name], scores[rows, examples['label']][:, None], rtol=1e-6
    )


def test_the_manifest_describes_the_shards(finished):
  manifest = records.read_manifest(finished)
  assert {name: manifest[name] for name in _SETTINGS} == _SETTINGS
  assert manifest['provenance'] == _FACTS['provenance']
  assert manifest['examples'] == {'train': 7, 'validation': 3}
  assert manifest['shards'] == [
      {
          'name': f'maps-0000{i}-of-00003.tfrecord',
          'examples': count,
          'sha256': hashlib.sha256(
              (finished / f'maps-0000{i}-of-00003.tfrecord').read_bytes()
          ).hexdigest(),
      }
      for i, count in enumerate((4, 4, 2))
  ]
  columns, _ = records.read(finished)
  gaps = np.abs(
      columns['map'].astype(np.float64).sum(axis=(1, 2, 3))
      - (columns['full_value'] - columns['base_value'])
  )
  assert manifest['completeness']['largest_gap'] == pytest.approx(
      gaps.max(), abs=1e-9
  )
  assert manifest['completeness']['mean_gap'] == pytest.approx(
      gaps.mean(), abs=1e-9
  )
  assert 0 < gaps.max() < 1e-5


def test_the_directory_holds_nothing_else(finished):
  assert set(_contents(finished)) == {
      *(records.shard_name(i, _NUM_SHARDS) for i in range(_NUM_SHARDS)),
      records.MANIFEST,
      service.SETTINGS,
  }


def test_the_manifest_is_returned(tmp_path):
  returned = _write(tmp_path)
  assert returned == records.read_manifest(tmp_path)
  assert returned['shards']


def test_the_explainer_gets_images_between_0_and_1(tmp_path):
  linear = _Linear()
  _write(tmp_path, linear.teacher())
  images = np.concatenate(linear.explained[2:])  # After the estimate.
  np.testing.assert_array_equal(
      images, _examples()['image'].astype(np.float32) / 255
  )


def test_a_shard_is_explained_in_chunks(tmp_path, finished):
  linear = _Linear()
  _write(tmp_path, linear.teacher(chunk=3))
  sizes = [len(images) for images in linear.explained[2:]]
  assert sizes == [3, 1, 3, 1, 2]
  assert _contents(tmp_path) == _contents(finished)


def test_one_shard_may_hold_everything(tmp_path):
  manifest = _write(tmp_path, shard_size=100)
  assert [shard['examples'] for shard in manifest['shards']] == [_COUNT]
  assert len(records.read(tmp_path)[0]['id']) == _COUNT


@pytest.mark.parametrize('calls', range(_CALLS))
def test_a_killed_run_continues_to_the_same_bytes(tmp_path, finished, calls):
  linear = _Linear()
  _fail_at(linear, calls, _Killed())
  with pytest.raises(_Killed):
    _write(tmp_path, linear.teacher())
  assert not (tmp_path / records.MANIFEST).exists()
  with pytest.raises(InputError):
    records.read(tmp_path)
  shards_done = max(0, calls - 2)
  for i in range(_NUM_SHARDS):
    assert _shard(tmp_path, i).exists() == (i < shards_done)
  before = {
      path: path.stat().st_mtime_ns for path in tmp_path.glob('maps-*')
  }

  linear = _Linear()
  _write(tmp_path, linear.teacher())
  assert _contents(tmp_path) == _contents(finished)
  # What was whole was neither explained nor written again.
  assert len(linear.explained) == _CALLS - shards_done
  for path, modified in before.items():
    assert path.stat().st_mtime_ns == modified


@pytest.mark.parametrize('index', range(_NUM_SHARDS))
def test_a_failed_write_is_reported_and_can_be_continued(
    tmp_path, finished, monkeypatch, index
):
  write_shard = records.write_shard

  def full_disk(path, columns):
    if path == _shard(tmp_path, index):
      raise OSError('No space left on device')
    write_shard(path, columns)

  monkeypatch.setattr(records, 'write_shard', full_disk)
  # It happens in another thread, where an error is easily lost.
  with pytest.raises(OSError, match='No space left'):
    _write(tmp_path)
  assert not (tmp_path / records.MANIFEST).exists()
  monkeypatch.undo()
  _write(tmp_path)
  assert _contents(tmp_path) == _contents(finished)


_RUN_AND_DIE = """
import os, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import test_service
from attribution import files
from attribution import records

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
test_service._write(pathlib.Path(sys.argv[2]))
"""


def test_a_process_killed_while_it_writes_continues_to_the_same_bytes(
    tmp_path, finished
):
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  process = subprocess.run(
      [
          sys.executable, '-c', _RUN_AND_DIE,
          str(pathlib.Path(__file__).parent), str(tmp_path),
      ],
      env=environment, capture_output=True, text=True, check=False,
  )
  assert process.returncode == -signal.SIGKILL, process.stderr
  assert _shard(tmp_path, 0).exists()
  assert not _shard(tmp_path, 1).exists()
  assert not (tmp_path / records.MANIFEST).exists()
  linear = _Linear()
  _write(tmp_path, linear.teacher())
  # The first shard is another process's, so this compares processes too.
  assert len(linear.explained) == _CALLS - 1
  assert _contents(tmp_path) == _contents(finished)


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
  damage(_shard(tmp_path, 1))
  linear = _Linear()
  _write(tmp_path, linear.teacher())
  assert _contents(tmp_path) == _contents(finished)
  assert len(linear.explained) == 3  # Two to estimate, one shard.
  np.testing.assert_array_equal(
      linear.explained[2], _examples()['image'][4:8].astype(np.float32) / 255
  )


def test_nothing_is_explained_again_when_all_is_there(tmp_path, finished):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  linear = _Linear()
  manifest = _write(tmp_path, linear.teacher())
  assert not linear.explained
  assert manifest == records.read_manifest(finished)
  assert _contents(tmp_path) == _contents(finished)


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        ({**_SETTINGS, 'classifier': 'abd'}, ['classifier', 'abc', 'abd']),
        (
            {**_SETTINGS, 'explainer': {'masker': 'blur', 'max_evals': 7}},
            ['explainer', 'constant', 'blur'],
        ),
        ({**_SETTINGS, 'more': 5}, ['more', 'None', '5']),
        ({k: v for k, v in _SETTINGS.items() if k != 'seed'}, ['seed', '0']),
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
    _shard(tmp_path, 2).unlink()
  before = _contents(tmp_path)
  linear = _Linear()
  with pytest.raises(InputError, match='other settings') as error:
    _write(tmp_path, linear.teacher(), settings=settings)
  message = str(error.value)
  for part in [*named, str(tmp_path), '--workdir']:
    assert part in message
  same = {'classifier', 'explainer', 'seed'} - {named[0]}
  assert not [name for name in same if f'{name} (there' in message]
  assert not linear.explained
  assert _contents(tmp_path) == before


def test_settings_are_compared_as_json_keeps_them(tmp_path):
  settings = {**_SETTINGS, 'size': (4, 5)}
  _write(tmp_path, settings=settings)
  _write(tmp_path, settings=settings)


def _free(monkeypatch, free: int) -> None:
  usage = types.SimpleNamespace(total=10**9, used=0, free=free)
  monkeypatch.setattr(service.shutil, 'disk_usage', lambda path: usage)


def test_too_little_disk_is_refused_before_anything_is_explained(
    tmp_path, finished, monkeypatch
):
  shards = [path.stat().st_size for path in finished.glob('maps-*')]
  _free(monkeypatch, sum(shards) - 1)
  linear = _Linear()
  with pytest.raises(InputError, match='free') as error:
    _write(tmp_path, linear.teacher())
  message = str(error.value)
  for part in (str(tmp_path), '--config.attribution.num_examples', 'kB'):
    assert part in message
  assert not linear.explained
  assert not list(tmp_path.glob('*maps-*'))


def test_enough_disk_is_not_refused(tmp_path, finished, monkeypatch):
  shards = [path.stat().st_size for path in finished.glob('maps-*')]
  _free(monkeypatch, 2 * sum(shards))
  _write(tmp_path)


def test_a_continued_run_needs_disk_for_the_rest_only(
    tmp_path, finished, monkeypatch
):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  size = len(_shard(tmp_path, 2).read_bytes())
  _shard(tmp_path, 2).unlink()
  _free(monkeypatch, 2 * size)
  _write(tmp_path)


def _spoil(explain, change):
  """An explainer whose map of the example 5 (of shard 1) is spoilt."""
  target = _examples()['image'][5].astype(np.float32) / 255

  def spoilt(images, labels):
    maps = explain(images, labels)
    for i, image in enumerate(images):
      if np.array_equal(image, target):
        maps[i] = change(maps[i])
    return maps

  return spoilt


def _with_nan(attribution):
  attribution[0, 0, 0] = np.nan
  return attribution


@pytest.mark.parametrize(
    'change',
    [_with_nan, np.zeros_like, np.negative, lambda x: 1.01 * x],
    ids=['nan', 'zero', 'negative', 'a hundredth off'],
)
def test_a_map_that_is_not_complete_is_not_written(
    tmp_path, finished, change
):
  linear = _Linear()
  teacher = linear.teacher(explain=_spoil(linear.explain, change))
  with pytest.raises(RuntimeError, match=r'train/005\.png'):
    _write(tmp_path, teacher)
  assert _shard(tmp_path, 0).exists()  # What was sound before is kept.
  assert not _shard(tmp_path, 1).exists()
  assert not _shard(tmp_path, 2).exists()
  assert not (tmp_path / records.MANIFEST).exists()
  _write(tmp_path)
  assert _contents(tmp_path) == _contents(finished)


def test_a_score_of_nan_is_not_written(tmp_path):
  linear = _Linear()
  teacher = linear.teacher(score=lambda x: np.full((len(x), 3), np.nan))
  with pytest.raises(RuntimeError, match='train/000'):
    _write(tmp_path, teacher)
  assert not list(tmp_path.glob('maps-*'))


def test_rounding_errors_are_no_gap(tmp_path):
  linear = _Linear()
  teacher = linear.teacher(
      explain=_spoil(linear.explain, lambda x: 1.0005 * x)
  )
  manifest = _write(tmp_path, teacher)
  assert manifest['completeness']['largest_gap'] > linear.teacher().absolute_gap


def test_an_explainer_need_not_be_complete(tmp_path):
  linear = _Linear()
  teacher = linear.teacher(
      explain=_spoil(linear.explain, np.zeros_like), complete=False
  )
  manifest = _write(tmp_path, teacher)
  assert manifest['completeness']['largest_gap'] > 0.1


def test_an_incomplete_map_must_be_finite_all_the_same(tmp_path):
  linear = _Linear()
  teacher = linear.teacher(
      explain=_spoil(linear.explain, _with_nan), complete=False
  )
  with pytest.raises(RuntimeError, match=r'train/005\.png'):
    _write(tmp_path, teacher)


def test_coarser_scores_may_be_allowed_a_larger_gap(tmp_path):
  linear = _Linear()
  teacher = linear.teacher(
      explain=_spoil(linear.explain, lambda x: x * 1.01), absolute_gap=1.0
  )
  assert _write(tmp_path, teacher)['completeness']['largest_gap'] > 1e-3


def test_the_gap_of_several_classes_is_the_largest():
  maps = np.zeros((2, 1, 2, 1, 3), np.float32)
  maps[0, 0, :, 0] = [[1, 2, 3], [4, 5, 6]]  # Sums to 5, 7, 9.
  gap = service.completeness_gap({
      'map': maps,
      'base_value': np.array([[1, 1, 1], [0, 0, 0]], np.float32),
      'full_value': np.array([[6, 8.5, 9], [0, 0.25, 0]], np.float32),
  })
  np.testing.assert_allclose(gap, [1, 0.25])


def test_two_processes_write_what_one_does(tmp_path, finished):
  linears = [_Linear(), _Linear()]
  reached = []
  manifest = tmp_path / records.MANIFEST
  written = []

  def process(index: int) -> None:
    _write(
        tmp_path,
        linears[index].teacher(),
        process_index=index,
        process_count=2,
        barrier=lambda: barrier(index),
    )

  def barrier(index: int) -> None:
    reached.append(index)
    if reached == [1]:
      # The second process is done and waits; now the first one runs.
      assert not manifest.exists()
      assert not _shard(tmp_path, 0).exists()
      assert _shard(tmp_path, 1).exists()
      process(0)
      written.append(manifest.stat().st_mtime_ns)

  process(1)
  assert reached == [1, 0, 0, 1]
  assert [manifest.stat().st_mtime_ns] == written  # Once, by the first.
  assert _contents(tmp_path) == _contents(finished)
  explained = [
      [len(images) for images in linear.explained[2:]] for linear in linears
  ]
  assert explained == [[4, 2], [4]]  # Shards 0 and 2; shard 1.


def test_processes_may_claim_a_new_directory_at_once(
    tmp_path, finished, monkeypatch
):
  write_atomically = files.write_atomically

  def stop():
    raise _Killed

  def interrupted(path, write):
    def write_and_let_the_other_come(name):
      write(name)
      monkeypatch.undo()
      with pytest.raises(_Killed):
        _write(tmp_path, process_index=1, process_count=2, barrier=stop)

    write_atomically(path, write_and_let_the_other_come)

  # The second process runs between the first one's writing its settings
  # under a temporary name and the renaming.
  monkeypatch.setattr(files, 'write_atomically', interrupted)
  _write(tmp_path, process_index=0, process_count=2)
  assert _contents(tmp_path) == _contents(finished)


def test_the_estimate_comes_before_the_work(tmp_path, monkeypatch):
  events = []
  clock = [0.0]
  linear = _Linear()

  def before_call(call):
    events.append(f'call {call}')
    clock[0] += 100.0 if call == 0 else 2.0  # The first call compiles.

  linear.before_call = before_call
  monkeypatch.setattr(
      service, 'time', types.SimpleNamespace(monotonic=lambda: clock[0])
  )
  monkeypatch.setattr(
      service.logging, 'info', lambda text, *args: events.append(text % args)
  )
  _write(tmp_path, linear.teacher())
  said = next(e for e in events if 'To explain' in e)
  assert '10 images x 7 evaluations = 70 evaluations' in said
  # Half a second an image (two seconds for four), ten images.
  time = next(e for e in events if 'Estimated time' in e)
  assert '5 seconds' in time
  assert '0.500 s an image' in time
  order = [events.index(e) for e in (said, 'call 0', 'call 1', time, 'call 2')]
  assert order == sorted(order)
  assert [len(images) for images in linear.explained[:2]] == [4, 4]


@pytest.mark.parametrize(('chunk', 'probed'), [(3, 3), (100, _COUNT)])
def test_the_estimate_explains_what_the_run_explains_at_once(
    tmp_path, chunk, probed
):
  linear = _Linear()
  _write(tmp_path, linear.teacher(chunk=chunk))
  assert [len(images) for images in linear.explained[:2]] == [probed] * 2


def test_the_estimate_is_of_what_is_missing(tmp_path, finished, monkeypatch):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  _shard(tmp_path, 1).unlink()
  messages = []
  monkeypatch.setattr(
      service.logging, 'info', lambda text, *args: messages.append(text % args)
  )
  _write(tmp_path)
  assert any('3 shards, 2 are there already' in m for m in messages)
  assert any('4 images x 7 evaluations = 28' in m for m in messages)


def test_the_settings_are_readable(finished):
  # By whoever wonders what is in a directory that is not finished.
  assert json.loads((finished / service.SETTINGS).read_text()) == _SETTINGS
