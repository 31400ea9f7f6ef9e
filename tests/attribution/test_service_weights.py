"""Tests for one map of all classes, weighted by what the model says."""


from attribution import records
from attribution import service
import numpy as np
import pytest
from tests.attribution import service_fixtures
from tests.attribution.service_fixtures import COUNT
from tests.attribution.service_fixtures import Linear
from tests.attribution.service_fixtures import make_examples
from tests.attribution.service_fixtures import shard_path
from tests.attribution.service_fixtures import spoil
from tests.attribution.service_fixtures import write_maps

finished = service_fixtures.finished


WEIGHTS = (0.5, 0.3, 0.2)


def all_classes():
  examples = make_examples()
  return {**examples, 'classes': np.tile(np.arange(3), (COUNT, 1))}


def weighted(directory, weigh, **changes):
  """Writes weighted maps; returns their columns and the manifest."""
  maker = Linear().maker(weigh=weigh, **changes)
  write_maps(directory, maker, examples=all_classes())
  return records.read(directory)


def test_the_weighted_map_is_the_sum_of_all_classes_maps(tmp_path):
  columns, _ = weighted(
      tmp_path, lambda scores: np.tile(WEIGHTS, (len(scores), 1))
  )
  linear = Linear()
  images = make_examples()['image'].astype(np.float32) / 255
  maps = linear.explain(images, all_classes()['classes'])
  assert columns['map'].shape == (*images.shape, 1)
  np.testing.assert_allclose(
      columns['map'][..., 0],
      0.5 * maps[..., 0] + 0.3 * maps[..., 1] + 0.2 * maps[..., 2],
      rtol=1e-5, atol=1e-6,
  )
  for name, scores in (
      ('full_value', linear.score(images)),
      ('base_value', linear.score(np.zeros_like(images))),
  ):
    assert columns[name].shape == (COUNT, 1)
    np.testing.assert_allclose(
        columns[name][:, 0], scores @ WEIGHTS, rtol=1e-5
    )
  np.testing.assert_array_equal(
      columns['classes'], np.full((COUNT, 1), records.WEIGHTED)
  )
  np.testing.assert_array_equal(columns['label'], make_examples()['label'])


def test_the_weights_follow_each_examples_scores_of_its_classes(tmp_path):
  examples = all_classes()
  examples['classes'] = np.tile([2, 0], (COUNT, 1))
  seen = []

  def weigh(scores):
    seen.append(scores)
    return scores > np.median(scores, axis=0)  # Of both classes, one, or none.

  write_maps(
      tmp_path, Linear().maker(weigh=weigh), examples=examples,
      shard_size=COUNT,
  )
  columns, _ = records.read(tmp_path)
  linear = Linear()
  images = examples['image'].astype(np.float32) / 255
  scores = linear.score(images)[:, [2, 0]]
  np.testing.assert_allclose(np.concatenate(seen), scores, rtol=1e-6)
  weights = scores > np.median(scores, axis=0)
  assert len(np.unique(weights, axis=0)) > 2
  maps = linear.explain(images, examples['classes'])
  np.testing.assert_allclose(
      columns['map'][..., 0], np.einsum('nhwck,nk->nhwc', maps, weights),
      atol=1e-6,
  )
  np.testing.assert_allclose(
      columns['full_value'][:, 0], (scores * weights).sum(axis=1), rtol=1e-5
  )


def test_weighted_maps_are_complete(tmp_path):
  columns, manifest = weighted(
      tmp_path, lambda scores: np.exp(scores) / np.exp(scores).sum(1)[:, None]
  )
  gap = service.completeness_gap(columns)
  assert gap.max() < 1e-5
  assert np.abs(columns['full_value'] - columns['base_value']).min() > 0.01
  assert manifest['completeness']['largest_gap'] == pytest.approx(gap.max())


def test_a_weighted_map_that_is_not_complete_is_not_written(tmp_path):
  linear = Linear()
  with pytest.raises(RuntimeError, match=r'train/005\.png'):
    weighted(
        tmp_path, lambda scores: np.tile(WEIGHTS, (len(scores), 1)),
        explain=spoil(linear.explain, lambda maps: 1.01 * maps),
    )
  assert shard_path(tmp_path, 0).exists()
  assert not shard_path(tmp_path, 1).exists()


def test_without_weights_every_class_keeps_its_map(tmp_path):
  write_maps(tmp_path, examples=all_classes())
  columns, _ = records.read(tmp_path)
  images = make_examples()['image'].astype(np.float32) / 255
  np.testing.assert_array_equal(
      columns['map'], Linear().explain(images, all_classes()['classes'])
  )
  np.testing.assert_allclose(columns['full_value'], Linear().score(images))
  np.testing.assert_array_equal(columns['classes'], all_classes()['classes'])
