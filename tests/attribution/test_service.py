"""Tests for what the shard loop writes: complete maps and their manifest."""

import hashlib
import json
import shutil
import types

from attribution import records
from attribution import service
from attribution.errors import InputError
import numpy as np
import pytest
from tests.attribution import service_fixtures
from tests.attribution.service_fixtures import COUNT
from tests.attribution.service_fixtures import FACTS
from tests.attribution.service_fixtures import Linear
from tests.attribution.service_fixtures import NUM_SHARDS
from tests.attribution.service_fixtures import SETTINGS
from tests.attribution.service_fixtures import contents
from tests.attribution.service_fixtures import make_examples
from tests.attribution.service_fixtures import shard_path
from tests.attribution.service_fixtures import spoil
from tests.attribution.service_fixtures import write_maps

finished = service_fixtures.finished


def test_every_example_gets_its_map_in_order(finished):
  examples = make_examples()
  columns, _ = records.read(finished)
  for name, column in examples.items():
    np.testing.assert_array_equal(columns[name], column)
  linear = Linear()
  rows = np.arange(COUNT)
  images = examples['image'].astype(np.float32) / 255
  np.testing.assert_array_equal(
      columns['map'], linear.explain(images, examples['classes'])
  )
  for name, scores in (
      ('full_value', linear.score(images)),
      ('base_value', linear.score(np.zeros_like(images))),
  ):
    np.testing.assert_allclose(
        columns[name], scores[rows, examples['label']][:, None], rtol=1e-6
    )


def test_every_column_of_the_examples_is_in_the_shards(tmp_path):
  examples = make_examples()
  del examples['label']
  examples |= {
      'labels': np.eye(COUNT, 7, dtype=np.int8),
      'boxes': np.arange(COUNT * 8, dtype=np.float32).reshape(COUNT, 2, 4),
      'mask': examples['image'][..., 0] > 99,
      'group': np.arange(COUNT, dtype=np.int32),
  }
  write_maps(tmp_path, examples=examples)
  columns, _ = records.read(tmp_path)
  assert 'label' not in columns
  for name, column in examples.items():
    np.testing.assert_array_equal(columns[name], column)
    assert columns[name].dtype.kind == column.dtype.kind


def test_a_column_that_shards_cannot_keep_is_refused_first(tmp_path):
  linear = Linear()
  examples = make_examples() | {'names': np.array(['x'] * COUNT)}
  with pytest.raises(InputError, match="'names'"):
    write_maps(tmp_path, linear.maker(), examples=examples)
  assert not linear.explained and not list(tmp_path.iterdir())


def test_the_manifest_describes_the_shards(finished):
  manifest = records.read_manifest(finished)
  assert {name: manifest[name] for name in SETTINGS} == SETTINGS
  assert manifest['provenance'] == FACTS['provenance']
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
  assert set(contents(finished)) == {
      *(records.shard_name(i, NUM_SHARDS) for i in range(NUM_SHARDS)),
      records.MANIFEST,
      service.SETTINGS,
  }


def test_the_manifest_is_returned(tmp_path):
  returned = write_maps(tmp_path)
  assert returned == records.read_manifest(tmp_path)
  assert returned['shards']


def test_the_explainer_gets_images_between_0_and_1(tmp_path):
  linear = Linear()
  write_maps(tmp_path, linear.maker())
  images = np.concatenate(linear.explained[2:])  # After the estimate.
  np.testing.assert_array_equal(
      images, make_examples()['image'].astype(np.float32) / 255
  )


def test_a_shard_is_explained_in_chunks(tmp_path, finished):
  linear = Linear()
  write_maps(tmp_path, linear.maker(chunk=3))
  sizes = [len(images) for images in linear.explained[2:]]
  assert sizes == [3, 1, 3, 1, 2]
  assert contents(tmp_path) == contents(finished)


def test_one_shard_may_hold_everything(tmp_path):
  manifest = write_maps(tmp_path, shard_size=100)
  assert [shard['examples'] for shard in manifest['shards']] == [COUNT]
  assert len(records.read(tmp_path)[0]['id']) == COUNT


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
  linear = Linear()
  maker = linear.maker(explain=spoil(linear.explain, change))
  with pytest.raises(RuntimeError, match=r'train/005\.png'):
    write_maps(tmp_path, maker)
  assert shard_path(tmp_path, 0).exists()  # What was sound before is kept.
  assert not shard_path(tmp_path, 1).exists()
  assert not shard_path(tmp_path, 2).exists()
  assert not (tmp_path / records.MANIFEST).exists()
  write_maps(tmp_path)
  assert contents(tmp_path) == contents(finished)


def test_a_score_of_nan_is_not_written(tmp_path):
  linear = Linear()
  maker = linear.maker(score=lambda x: np.full((len(x), 3), np.nan))
  with pytest.raises(RuntimeError, match='train/000'):
    write_maps(tmp_path, maker)
  assert not list(tmp_path.glob('maps-*'))


def test_rounding_errors_are_no_gap(tmp_path):
  linear = Linear()
  maker = linear.maker(
      explain=spoil(linear.explain, lambda x: 1.0005 * x)
  )
  manifest = write_maps(tmp_path, maker)
  assert manifest['completeness']['largest_gap'] > linear.maker().absolute_gap


def test_an_explainer_need_not_be_complete(tmp_path):
  linear = Linear()
  maker = linear.maker(
      explain=spoil(linear.explain, np.zeros_like), complete=False
  )
  manifest = write_maps(tmp_path, maker)
  assert manifest['completeness']['largest_gap'] > 0.1


def test_an_incomplete_map_must_be_finite_all_the_same(tmp_path):
  linear = Linear()
  maker = linear.maker(
      explain=spoil(linear.explain, _with_nan), complete=False
  )
  with pytest.raises(RuntimeError, match=r'train/005\.png'):
    write_maps(tmp_path, maker)


def test_coarser_scores_may_be_allowed_a_larger_gap(tmp_path):
  linear = Linear()
  maker = linear.maker(
      explain=spoil(linear.explain, lambda x: x * 1.01), absolute_gap=1.0
  )
  assert write_maps(tmp_path, maker)['completeness']['largest_gap'] > 1e-3


def test_the_gap_of_several_classes_is_the_largest():
  maps = np.zeros((2, 1, 2, 1, 3), np.float32)
  maps[0, 0, :, 0] = [[1, 2, 3], [4, 5, 6]]  # Sums to 5, 7, 9.
  gap = service.completeness_gap({
      'map': maps,
      'base_value': np.array([[1, 1, 1], [0, 0, 0]], np.float32),
      'full_value': np.array([[6, 8.5, 9], [0, 0.25, 0]], np.float32),
  })
  np.testing.assert_allclose(gap, [1, 0.25])


def test_the_estimate_comes_before_the_work(tmp_path, monkeypatch):
  events = []
  clock = [0.0]
  linear = Linear()

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
  write_maps(tmp_path, linear.maker())
  said = next(e for e in events if 'To explain' in e)
  assert '10 images x 7 evaluations = 70 evaluations' in said
  # Half a second an image (two seconds for four), ten images.
  time = next(e for e in events if 'Estimated time' in e)
  assert '5 seconds' in time
  assert '0.500 s an image' in time
  order = [events.index(e) for e in (said, 'call 0', 'call 1', time, 'call 2')]
  assert order == sorted(order)
  assert [len(images) for images in linear.explained[:2]] == [4, 4]


@pytest.mark.parametrize(('chunk', 'probed'), [(3, 3), (100, COUNT)])
def test_the_estimate_explains_what_the_run_explains_at_once(
    tmp_path, chunk, probed
):
  linear = Linear()
  write_maps(tmp_path, linear.maker(chunk=chunk))
  assert [len(images) for images in linear.explained[:2]] == [probed] * 2


def test_the_estimate_is_of_what_is_missing(tmp_path, finished, monkeypatch):
  shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
  shard_path(tmp_path, 1).unlink()
  messages = []
  monkeypatch.setattr(
      service.logging, 'info', lambda text, *args: messages.append(text % args)
  )
  write_maps(tmp_path)
  assert any('3 shards, 2 are there already' in m for m in messages)
  assert any('4 images x 7 evaluations = 28' in m for m in messages)


def test_the_settings_are_readable(finished):
  # By whoever wonders what is in a directory that is not finished.
  assert json.loads((finished / service.SETTINGS).read_text()) == SETTINGS
