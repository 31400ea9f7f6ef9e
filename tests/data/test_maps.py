"""Which images get maps, and maps as training targets."""

import dataclasses

from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import tasks
from impactx_jax.configs import common
from impactx_jax.data import maps
from impactx_jax.data import sources
from impactx_jax.methods import base
from impactx_jax.training import evaluator
import jax.numpy as jnp
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
  assert set(chosen['split']) == {'train', 'validation'}


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


def test_the_class_that_is_explained_is_the_label():
  chosen = maps.select(make_dataset(), 30, seed=0)
  assert chosen['classes'].shape == (30, 1)
  np.testing.assert_array_equal(chosen['classes'][:, 0], chosen['label'])


def test_the_other_class_is_never_the_label_and_may_be_any_other():
  chosen = maps.select(make_dataset(), 0, 0, 'other_class')
  classes, labels = chosen['classes'][:, 0], chosen['label']
  assert chosen['classes'].shape == (100, 1)
  pairs = set(zip(labels.tolist(), classes.tolist(), strict=True))
  assert pairs == {(i, j) for i in range(3) for j in range(3) if i != j}


def test_the_other_class_is_a_function_of_seed_and_id():
  def classes(dataset, seed):
    chosen = maps.select(dataset, 0, seed, 'other_class')
    return dict(zip(chosen['id'], chosen['classes'][:, 0], strict=True))

  dataset = make_dataset()
  backwards = sources.Dataset(
      dataset.name, dataset.class_names,
      {name: column[::-1] for name, column in dataset.train.items()},
      dataset.validation, dataset.test,
  )
  first = classes(dataset, 0)
  assert first == classes(backwards, 0)
  assert first != classes(dataset, 1)


def test_of_two_classes_the_other_one_is_explained():
  dataset = make_dataset()
  for columns in (dataset.train, dataset.validation):
    columns['label'] = columns['label'] % 2
  two = sources.Dataset(
      'toy', ('a', 'b'), dataset.train, dataset.validation, dataset.test
  )
  chosen = maps.select(two, 0, 0, 'other_class')
  np.testing.assert_array_equal(chosen['classes'][:, 0], 1 - chosen['label'])


def test_weighted_maps_are_of_all_classes_and_of_all_test_images():
  dataset = make_dataset()
  chosen = maps.select(dataset, 20, 0, 'weighted')
  counts = {
      split: (chosen['split'] == split).sum()
      for split in ('train', 'validation', 'test')
  }
  assert counts == {'train': 18, 'validation': 2, 'test': 5}
  np.testing.assert_array_equal(chosen['classes'], [[0, 1, 2]] * 25)
  test = chosen['split'] == 'test'
  np.testing.assert_array_equal(chosen['id'][test], dataset.test['id'])
  np.testing.assert_array_equal(chosen['label'][test], dataset.test['label'])


def test_every_kind_explains_the_same_training_images():
  ids = {}
  for kind in maps.KINDS:
    chosen = maps.select(make_dataset(), 20, 3, kind)
    ids[kind] = chosen['id'][chosen['split'] != 'test'].tolist()
  assert ids['true_class'] == ids['other_class'] == ids['weighted']


def test_all_columns_of_the_data_go_with_the_maps():
  dataset = make_dataset()
  for columns in (dataset.train, dataset.validation, dataset.test):
    count = len(columns['id'])
    columns['mask'] = np.zeros((count, 4, 4, 1), np.uint8)
    columns['group'] = np.arange(count)
    columns['file_digest'] = columns['id']  # No text on a device.
  del dataset.validation['group']  # What one split lacks, none has.
  chosen = maps.select(dataset, 30, seed=0)
  assert chosen.keys() == {'id', 'image', 'label', 'mask', 'split', 'classes'}
  assert {len(column) for column in chosen.values()} == {30}


def test_of_several_labels_a_present_class_is_explained():
  generator = np.random.default_rng(0)
  dataset = dataclasses.replace(make_dataset(), task='multi_label')
  for columns in (dataset.train, dataset.validation):
    columns['labels'] = generator.integers(
        0, 2, (len(columns.pop('label')), 3), np.int32
    )
  chosen = maps.select(dataset, 0, seed=0)
  some = chosen['labels'].any(axis=1)
  of_chosen = np.take_along_axis(chosen['labels'], chosen['classes'], axis=1)
  np.testing.assert_array_equal(of_chosen[:, 0], some)
  other = maps.select(dataset, 0, 0, 'other_class')
  assert (other['classes'] != chosen['classes']).all()
  assert set(other['classes'].ravel()) == {0, 1, 2}


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


def test_images_without_a_map_teach_the_class():
  dataset = make_dataset()
  chosen = maps.select(dataset, 20, seed=0)
  chosen |= {'map': np.ones((20, 4, 4, 3, 1), np.float32)}
  options = common.get_config().method
  parts = maps.with_unmapped(maps.targets(chosen, options, 0), dataset, 0)
  for split, count, mapped in (('train', 90, 18), ('validation', 10, 2)):
    part, whole = parts[split], getattr(dataset, split)
    assert {len(column) for column in part.values()} == {count}
    assert sorted(part['id']) == sorted(whole['id'])
    labels = dict(zip(whole['id'], whole['label'], strict=True))
    assert [labels[i] for i in part['id']] == part['label'].tolist()
    np.testing.assert_array_equal(part['explained'], part['label'])
    has = np.isin(part['id'], chosen['id'])
    assert part['mapped'].sum() == mapped
    np.testing.assert_array_equal(part['mapped'], has)
    assert (part['map'] == has[:, None, None, None]).all()


def test_the_fit_is_measured_where_there_is_a_map():
  stream = np.random.default_rng(0)
  shown = stream.normal(size=(6, 4, 4, 1)).astype(np.float32)
  method = base.Method(
      tasks.TASKS['classification'], None, None,
      lambda variables, batch: base.Prediction(
          jnp.zeros((len(batch['image']), 3)), batch['image']
      ),
  )
  columns = {
      'image': shown,
      'label': np.zeros(6, np.int32),
      'map': np.where(np.arange(6)[:, None, None, None] < 4, shown + 0.5, 0),
      'mapped': np.array([1, 1, 1, 1, 0, 0], np.float32),
  }
  found = evaluator.measure(method, {}, columns, 8)
  assert found['map_mse'] == pytest.approx(0.25, rel=1e-5)
  variance = (shown[:4] + 0.5).var(axis=0).mean()
  assert found['map_r2'] == pytest.approx(1 - 0.25 / variance, rel=1e-4)


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
  with pytest.raises(InputError, match='no masks.*maps=true_class'):
    maps.targets(columns, options, 0)
