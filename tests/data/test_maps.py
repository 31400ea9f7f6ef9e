"""Which images get maps, and maps as training targets."""

from impactx_jax.data import maps
from impactx_jax.data import sources
import numpy as np
import pytest


def make_dataset(train=90, validation=10):
  def columns(name, count):
    return {
        'id': np.array([f'{name}{i}' for i in range(count)]),
        'image': np.zeros((count, 4, 4, 3), np.uint8),
        'label': np.arange(count, dtype=np.int32) % 3,
    }

  return sources.Dataset(
      name='toy',
      class_names=('a', 'b', 'c'),
      train=columns('t', train),
      validation=columns('v', validation),
      test=columns('e', 5),
  )


def test_all_images_are_explained_by_default():
  chosen = maps.select(make_dataset(), 0, seed=0)
  assert len(chosen['id']) == len(set(chosen['id'])) == 100


@pytest.mark.parametrize('count', [10, 50, 99])
def test_fewer_maps_are_divided_as_the_images_are(count):
  chosen = maps.select(make_dataset(), count, seed=0)
  validation = (chosen['split'] == 'validation').sum()
  assert len(chosen['id']) == count
  assert validation == round(count / 10)
  assert all(
      i.startswith(s[0])
      for i, s in zip(chosen['id'], chosen['split'], strict=True)
  )


def test_more_maps_include_fewer():
  dataset = make_dataset()
  few, many = (set(maps.select(dataset, n, 3)['id']) for n in (20, 60))
  assert few < many
  assert few != set(maps.select(dataset, 20, 4)['id'])


def records(**changes):
  values = np.zeros((3, 2, 2, 3, 1), np.float32)
  values[0, 0, 0, :, 0] = [1, 2, 3]
  values[1, 0, 0, :, 0] = [0, -4, 0]
  values[2, 0, 0, :, 0] = [100, 0, 0]
  columns = {
      'id': np.array(['a', 'b', 'c']),
      'split': np.array(['train', 'train', 'validation']),
      'image': np.zeros((3, 2, 2, 3), np.uint8),
      'label': np.array([0, 1, 2], np.int32),
      'map': values,
  }
  return {**columns, **changes}


def test_targets_follow_the_recorded_split():
  columns = maps.targets(records(), scaling='none', channels=0)
  assert columns['train']['id'].tolist() == ['a', 'b']
  assert columns['validation']['id'].tolist() == ['c']
  assert columns['train']['map'].shape == (2, 2, 2, 3)


def test_one_channel_is_the_sum_and_scaling_comes_after_it():
  columns = maps.targets(records(), scaling='max_abs', channels=1)
  assert columns['train']['map'].shape == (2, 2, 2, 1)
  np.testing.assert_allclose(columns['train']['map'][:, 0, 0, 0], [1, -1])


def test_the_global_scale_is_that_of_the_training_maps_alone():
  columns = maps.targets(records(), scaling='global_std', channels=0)
  assert columns['train']['map'].std() == pytest.approx(1)
