"""Which images get maps."""

import dataclasses

from impactx_jax.configs import common
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


@pytest.mark.parametrize('kind', maps.KINDS)
def test_further_classes_are_others_and_fewer_are_among_more(kind):
  found = {
      n: maps.select(make_dataset(), 0, 0, kind, n)['classes']
      for n in (1, 2, 3)
  }
  if kind != 'true_class':
    assert len({classes.shape for classes in found.values()}) == 1
    return
  labels = maps.select(make_dataset(), 0, 0)['label']
  assert found[3].shape == (100, 3)
  np.testing.assert_array_equal(found[3][:, 0], labels)
  np.testing.assert_array_equal(np.sort(found[3]), [[0, 1, 2]] * 100)
  for n in (1, 2):
    np.testing.assert_array_equal(found[n], found[3][:, :n])
  assert len({*found[2][labels == 0, 1]}) == 2  # Either of the others.


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
