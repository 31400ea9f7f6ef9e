"""Maps as training targets."""

from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax.configs import common
from impactx_jax.data import maps
import numpy as np
import pytest


def options(**changes):
  method = common.get_config().method
  method.map_scaling = 'none'
  method.update(changes)
  return method


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
      'classes': np.array([[2, 0], [1, 0], [0, 0]], np.int32),
      'map': values,
  }
  return {**columns, **changes}


def many_records(train=40, validation=6, side=16):
  """Random maps of different means and spreads."""
  generator = np.random.default_rng(0)
  count = train + validation
  spread = generator.uniform(0.1, 3, (count, 1, 1, 1, 1))
  values = spread * generator.normal(size=(count, side, side, 3, 1)) + spread
  return {
      'id': np.array([f'i{i}' for i in range(count)]),
      'split': np.array(['train'] * train + ['validation'] * validation),
      'image': generator.integers(0, 256, (count, side, side, 3), np.uint8),
      'label': generator.integers(0, 3, count, np.int32),
      'classes': generator.integers(0, 3, (count, 1), np.int32),
      'map': values.astype(np.float32),
  }


def test_each_explained_class_is_a_row_of_the_training_columns():
  given = records()
  given['map'] = np.concatenate([given['map'], 10 * given['map']], axis=-1)
  given['label'] = np.array([2, 1, 0], np.int32)
  columns = maps.targets(given, options(), seed=0)
  train = columns['train']
  assert train['id'].tolist() == ['a', 'a', 'b', 'b']
  assert train['label'].tolist() == [2, 2, 1, 1]
  assert train['explained'].tolist() == [2, 0, 1, 0]
  np.testing.assert_array_equal(
      train['map'][:, 0, 0], [[1, 2, 3], [10, 20, 30], [0, -4, 0], [0, -40, 0]]
  )
  validation = columns['validation']
  assert validation['explained'].tolist() == [0]
  np.testing.assert_array_equal(validation['map'][:, 0, 0], [[100, 0, 0]])


def test_edges_may_be_the_maps():
  given = records(classes=np.zeros((3, 1), np.int32))
  given['image'] = np.zeros((3, 8, 8, 3), np.uint8)
  given['image'][:, :, 4:] = 255
  given['map'] = np.ones((3, 8, 8, 3, 1), np.float32)
  columns = maps.targets(given, options(maps='edges'), seed=0)
  found = columns['train']['map']
  assert found.shape == (2, 8, 8, 3)
  np.testing.assert_allclose(found[:, :, 3:5], 1)  # On both sides of the step.
  np.testing.assert_allclose(found[:, :, :3], 0)
  # What is measured on validation images are the maps.
  np.testing.assert_array_equal(columns['validation']['map'], 1)


def test_targets_follow_the_recorded_split():
  columns = maps.targets(records(), options(), seed=0)
  assert columns.keys() == {'train', 'validation'}
  assert columns['train']['id'].tolist() == ['a', 'b']
  assert columns['validation']['id'].tolist() == ['c']
  assert columns['train']['map'].shape == (2, 2, 2, 3)
  # The class whose map it is, whatever the label is.
  assert columns['train']['explained'].tolist() == [2, 1]
  assert columns['validation']['explained'].tolist() == [0]


def test_test_images_become_columns_where_they_have_maps():
  split = np.array(['train', 'validation', 'test'])
  columns = maps.targets(records(split=split), options(), seed=0)
  assert columns['test']['id'].tolist() == ['c']
  np.testing.assert_array_equal(
      columns['test']['map'][0, 0, 0], [100, 0, 0]
  )


def test_one_channel_is_the_sum_and_scaling_comes_after_it():
  columns = maps.targets(
      records(), options(map_scaling='max_abs', map_channels=1), seed=0
  )
  assert columns['train']['map'].shape == (2, 2, 2, 1)
  np.testing.assert_allclose(columns['train']['map'][:, 0, 0, 0], [1, -1])


def test_cells_are_averaged_before_scaling():
  columns = maps.targets(
      records(), options(map_cell=2, map_channels=1), seed=0
  )
  # 6 and -4 in one of four pixels.
  np.testing.assert_allclose(
      columns['train']['map'], np.array([1.5, -1]).reshape(2, 1, 1, 1)
      * np.ones((1, 2, 2, 1))
  )


def test_the_global_scale_is_that_of_the_training_maps_alone():
  columns = maps.targets(records(), options(map_scaling='global_std'), seed=0)
  plain = maps.targets(records(), options(), seed=0)
  assert columns['train']['map'].std() == pytest.approx(1)
  # The map of the validation image, a hundred, did not count; it is scaled.
  deviation = plain['train']['map'].std()
  for split in ('train', 'validation'):
    np.testing.assert_allclose(
        columns[split]['map'], plain[split]['map'] / deviation, rtol=1e-6
    )


def test_maps_of_zeros_have_no_scale_and_stay():
  zeros = np.zeros((3, 2, 2, 3, 1), np.float32)
  for scaling in ('global_std', 'max_abs'):
    columns = maps.targets(
        records(map=zeros), options(map_scaling=scaling), seed=0
    )
    assert not columns['train']['map'].any()


def rows_of(columns):
  """The maps as a sorted list of rows: the multiset of them."""
  return sorted(columns['train']['map'].reshape(40, -1).tolist())


@pytest.mark.parametrize('seed', range(5))
def test_shuffled_maps_are_the_same_ones_and_none_is_its_own(seed):
  plain = maps.targets(many_records(), options(), seed)
  control = maps.targets(many_records(), options(maps='shuffled'), seed)
  ours, theirs = plain['train']['map'], control['train']['map']
  assert (ours != theirs).any(axis=(1, 2, 3)).all()
  assert rows_of(plain) == rows_of(control)


def test_two_maps_are_exchanged():
  values = np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1)
  for seed in range(4):
    np.testing.assert_array_equal(maps.shuffled(values, seed), values[::-1])


def test_random_maps_have_each_maps_mean_and_spread():
  plain, control = (
      maps.targets(many_records(), options(maps=name), 0)['train']['map']
      for name in ('true_class', 'random')
  )
  axes = (1, 2, 3)
  deviation = plain.std(axes)
  error = deviation / np.sqrt(16 * 16 * 3)  # Of a mean of that many values.
  assert (np.abs(control.mean(axes) - plain.mean(axes)) < 5 * error).all()
  assert (np.abs(control.std(axes) / deviation - 1) < 0.15).all()
  for ours, theirs in zip(plain, control, strict=True):
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.2


def test_random_maps_keep_the_scale_where_d_predicts_cells():
  plain, control = (
      maps.targets(many_records(), options(maps=name, map_cell=4), 0)
      for name in ('true_class', 'random')
  )
  # The loss sees the means of cells, and lambda weighs their errors.
  ours, theirs = (
      losses.pool(columns['train']['map'], 4).std(axis=(1, 2, 3))
      for columns in (plain, control)
  )
  assert (np.abs(theirs / ours - 1) < 0.5).all()


@pytest.mark.parametrize('control', ['shuffled', 'random'])
def test_controls_change_the_training_maps_alone(control):
  plain = maps.targets(many_records(), options(), 0)
  changed = maps.targets(many_records(), options(maps=control), 0)
  assert changed['train']['map'].dtype == np.float32
  for name in ('id', 'image', 'label'):
    np.testing.assert_array_equal(
        changed['train'][name], plain['train'][name]
    )
  for name, column in plain['validation'].items():
    np.testing.assert_array_equal(changed['validation'][name], column)


@pytest.mark.parametrize('control', ['shuffled', 'random'])
def test_controls_are_functions_of_the_seed(control):
  first, again, other = (
      maps.targets(many_records(), options(maps=control), seed)['train']['map']
      for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_the_objects_masks_may_be_the_maps():
  options = common.get_config().method
  options.update(maps='mask', map_cell=2)
  mask = np.zeros((4, 4, 4, 1), np.uint8)
  mask[:, :2, 1:3] = 255
  maps_of = np.random.default_rng(0).normal(size=(4, 4, 4, 3, 1))
  columns = {
      'id': np.array(list('abcd')),
      'split': np.array(['train'] * 3 + ['validation']),
      'image': np.zeros((4, 4, 4, 3), np.uint8),
      'label': np.zeros(4, np.int32),
      'classes': np.zeros((4, 1), np.int32),
      'map': maps_of.astype(np.float32),
      'mask': mask,
  }
  found = maps.targets(columns, options, 0)
  expected = np.zeros((4, 4))
  expected[:2] = 1  # Half of both cells above, scaled to the largest.
  for channel in range(3):
    np.testing.assert_allclose(found['train']['map'][1, ..., channel], expected)
  # What is measured on validation images is the fit to real maps.
  real = common.get_config().method
  real.map_cell = 2
  np.testing.assert_array_equal(
      found['validation']['map'],
      maps.targets(columns, real, 0)['validation']['map'],
  )
  del columns['mask']
  with pytest.raises(InputError, match='neither masks.*maps=true_class'):
    maps.targets(columns, options, 0)


@pytest.mark.parametrize('scaling', ['none', 'max_abs', 'global_std'])
def test_masked_maps_are_the_maps_where_the_object_is(scaling):
  columns = many_records()
  columns['mask'] = np.zeros((46, 16, 16, 1), np.uint8)
  columns['mask'][:, 4:8, 2:9] = 255
  found = maps.targets(
      columns, options(map_scaling=scaling, maps='masked'), seed=0
  )
  plain = maps.targets(columns, options(map_scaling=scaling), seed=0)
  np.testing.assert_array_equal(
      found['validation']['map'], plain['validation']['map']
  )
  inside = plain['train']['map'] * (columns['mask'][:40] > 0)
  if scaling == 'max_abs':  # Of what is left.
    inside = inside / abs(inside).max(axis=(1, 2, 3), keepdims=True)
  np.testing.assert_allclose(found['train']['map'], inside, rtol=1e-5)


def test_without_masks_no_map_is_masked():
  with pytest.raises(InputError, match='neither masks nor boxes'):
    maps.targets(many_records(), options(maps='masked'), seed=0)
