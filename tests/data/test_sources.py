"""Tests for loading data sets: what they hold, splits, and bad requests."""

import itertools

from impactx_jax.data import sources
import numpy as np
import pytest
from tests.data import sources_fixtures
from tests.data.sources_fixtures import COLOURS
from tests.data.sources_fixtures import SPLITS
from tests.data.sources_fixtures import draw
from tests.data.sources_fixtures import ids_of
from tests.data.sources_fixtures import load
from tests.data.sources_fixtures import refused

folder = sources_fixtures.folder


@pytest.fixture(scope='module')
def digits(data_dir):
  return load('digits', data_dir)


@pytest.fixture(scope='module')
def shapes(data_dir):
  return load('shapes/easy', data_dir)


@pytest.fixture(params=['digits', 'shapes', 'pictures'])
def dataset(request, folder):
  if request.param == 'pictures':
    return load('image_folder', folder)
  return request.getfixturevalue(request.param)


def test_columns_have_the_promised_types(dataset):
  for split in SPLITS:
    columns = getattr(dataset, split)
    count = len(columns['id'])
    assert count
    assert columns['id'].dtype.kind == 'U'
    assert columns['image'].dtype == np.uint8
    assert columns['image'].shape == (count, 32, 32, 3)
    assert columns['label'].dtype == np.int32
    assert columns['label'].shape == (count,)
    assert set(columns['label']) <= set(range(len(dataset.class_names)))
    assert {len(column) for column in columns.values()} == {count}


def test_ids_are_unique_and_the_splits_disjoint(dataset):
  ids = ids_of(dataset, *SPLITS)
  assert len(set(ids)) == len(ids)


def test_fingerprint_describes_the_data_set(digits, shapes):
  found = digits.fingerprint()
  assert len(found.pop('digest')) == 64
  assert found == {
      'name': 'digits/1.0.0',
      'task': 'classification',
      'class_names': list('0123456789'),
      'image_shape': [32, 32, 3],
      'columns': ['image', 'label'],
      'examples': {
          'train': len(digits.train['id']),
          'validation': 1437 - len(digits.train['id']),
          'test': 360,
      },
  }
  assert shapes.name == 'shapes/easy/1.0.0'
  assert shapes.fingerprint()['columns'] == ['cue', 'image', 'label', 'mask']
  assert shapes.class_names[:2] == ('circle', 'square')
  assert len(ids_of(shapes, 'train', 'validation')) == 4000
  assert len(shapes.test['id']) == 1000


def test_masks_of_the_objects_are_kept_beside_their_images(shapes):
  masks = shapes.test['mask']
  assert masks.shape == (1000, 32, 32, 1)
  assert set(np.unique(masks)) == {0, 255}


def test_loading_twice_gives_the_same_rows_in_the_same_order(digits, data_dir):
  again = load('digits', data_dir)
  for split in SPLITS:
    for name, column in getattr(digits, split).items():
      np.testing.assert_array_equal(getattr(again, split)[name], column)


def test_what_is_handed_out_cannot_be_changed(digits):
  with pytest.raises(ValueError, match='read-only'):
    digits.train['image'][0] = 0


def test_seed_decides_what_is_held_out_and_not_the_test_split(
    digits, data_dir
):
  other = load('digits', data_dir, seed=1)
  held_out, others = set(digits.validation['id']), set(other.validation['id'])
  assert held_out != others
  # About a tenth of a tenth, where the splits are independent.
  assert len(held_out & others) < 0.3 * len(held_out)
  assert set(ids_of(digits, 'train', 'validation')) == set(
      ids_of(other, 'train', 'validation')
  )
  np.testing.assert_array_equal(digits.test['id'], other.test['id'])


def test_rows_of_the_split_belong_together(digits):
  columns = digits.validation
  order = np.argsort(columns['id'])
  images = columns['image'][order].astype(int)
  # The mean image of a class is nearer to its members than to others'.
  means = np.stack([
      digits.train['image'][digits.train['label'] == k].mean(0)
      for k in range(10)
  ])
  distances = ((images[:, None] - means[None]) ** 2).sum((2, 3, 4))
  nearest = distances.argmin(1)
  assert np.mean(nearest == columns['label'][order]) > 0.8


@pytest.mark.parametrize('fraction', [0.1, 0.5, 0.9])
def test_share_held_out_is_the_fraction(fraction):
  ids = np.array([f'train/{i}' for i in range(10_000)])
  share = sources.split_by_id(ids, 3, fraction).mean()
  assert abs(share - fraction) < 0.02  # Four standard deviations.


def test_split_is_a_function_of_seed_fraction_and_id_alone():
  ids = np.array([f'train/{i}' for i in range(200)])
  held_out = sources.split_by_id(ids, 5, 0.3)
  order = np.random.default_rng(0).permutation(200)
  np.testing.assert_array_equal(
      sources.split_by_id(ids[order], 5, 0.3), held_out[order]
  )
  alone = [sources.split_by_id(ids[i : i + 1], 5, 0.3)[0] for i in range(200)]
  np.testing.assert_array_equal(alone, held_out)
  # What a smaller fraction holds out, a larger one does too.
  larger = sources.split_by_id(ids, 5, 0.6)
  assert larger[held_out].all() and larger.sum() > held_out.sum()
  assert (sources.split_by_id(ids, 6, 0.3) != held_out).any()


def test_split_is_the_published_one():
  # Another split makes every finished workdir's validation images others.
  ids = np.array([f'train/{i}' for i in range(40)])
  held_out = np.flatnonzero(sources.split_by_id(ids, 0, 0.1))
  assert held_out.tolist() == [22, 39]


def make_labels(counts, seed=0):
  labels = np.repeat(np.arange(len(counts)), counts)
  labels = np.random.default_rng(seed).permutation(labels)
  return np.array([f'train/{i}' for i in range(len(labels))]), labels


@pytest.mark.parametrize('fraction', [0.1, 0.25, 0.5])
def test_share_of_labels_is_the_same_in_each_class(fraction):
  ids, labels = make_labels([100, 40, 20])
  chosen = sources.labelled(ids, labels, 0, fraction)
  counts = np.bincount(labels[chosen])
  assert counts.tolist() == [round(fraction * n) for n in (100, 40, 20)]


def test_a_class_keeps_at_least_one_label():
  ids, labels = make_labels([100, 3])
  chosen = sources.labelled(ids, labels, 0, 0.02)
  assert np.bincount(labels[chosen]).tolist() == [2, 1]


def test_all_labels_are_all():
  ids, labels = make_labels([5, 4])
  assert sources.labelled(ids, labels, 0, 1.0).tolist() == [True] * 9


def test_what_a_smaller_share_of_labels_uses_a_larger_one_does_too():
  ids, labels = make_labels([60, 30, 9])
  shares = [
      sources.labelled(ids, labels, 4, f) for f in (0.05, 0.1, 0.2, 0.9, 1.0)
  ]
  for few, more in itertools.pairwise(shares):
    assert more[few].all() and more.sum() > few.sum()


def test_share_of_labels_is_a_function_of_seed_and_id():
  ids, labels = make_labels([50, 50])
  chosen = sources.labelled(ids, labels, 2, 0.3)
  order = np.random.default_rng(1).permutation(100)
  np.testing.assert_array_equal(
      sources.labelled(ids[order], labels[order], 2, 0.3), chosen[order]
  )
  assert (sources.labelled(ids, labels, 3, 0.3) != chosen).any()


def test_share_of_labels_limits_training_and_validation_alone(
    digits, data_dir
):
  few = load('digits', data_dir, label_fraction=0.2)
  whole = {
      i: (split, label)
      for split in ('train', 'validation')
      for i, label in zip(
          getattr(digits, split)['id'], getattr(digits, split)['label'],
          strict=True,
      )
  }
  kept = []
  for split in ('train', 'validation'):
    columns = getattr(few, split)
    # What is left is in the same split as without the limit.
    assert {whole[i][0] for i in columns['id']} == {split}
    kept += columns['label'].tolist()
  counts = np.bincount([label for _, label in whole.values()])
  assert np.bincount(kept).tolist() == [round(0.2 * n) for n in counts]
  np.testing.assert_array_equal(few.test['id'], digits.test['id'])
  assert few.fingerprint() != digits.fingerprint()


def test_split_that_is_empty_is_refused(tmp_path, data_dir):
  message = refused('digits', data_dir, validation_fraction=1e-9)
  assert 'validation split' in message
  assert '--config.data.validation_fraction' in message
  for label, colour in COLOURS.items():
    draw(tmp_path / 'train' / label / '0.png', colour)
  message = refused('image_folder', tmp_path, test_fraction=1e-9)
  assert 'test split' in message
  assert '--config.data.test_fraction' in message


@pytest.mark.parametrize(('field', 'split'), [
    ('train_split', 'trian'), ('test_split', 'validation'),
    ('test_split', 'train[:50%]'),
])
def test_split_that_is_not_there_is_refused(data_dir, field, split):
  message = refused('digits', data_dir, **{field: split})
  assert repr(split) in message
  assert 'test, train' in message
  assert f'--config.data.{field}=NAME' in message


@pytest.mark.parametrize(('name', 'parts'), [
    ('cifra10', ("'cifra10'", "Did you mean 'cifar10'?", 'image_folder')),
    ('digit', ("'digit'", "Did you mean 'digits'?", 'image_folder')),
    ('shapes/eazy', ("'shapes/eazy'", "'shapes/easy'", 'shapes/hard_cue')),
    ('digits:9.9.9', ("'digits:9.9.9'", '1.0.0')),
    ('../digits', ("'../digits'",)),
    ('', ("''", 'image_folder')),
])
def test_data_set_that_does_not_exist_is_refused(tmp_path, name, parts):
  message = refused(name, tmp_path)
  for part in (*parts, '--config.data.name=NAME'):
    assert part in message
  assert len(message) < 700
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['cifar10', 'cifar10_corrupted'])
def test_data_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path, name):
  message = refused(name, tmp_path / 'tfds')
  for part in (
      'not prepared',
      f'not prepared in {tmp_path / "tfds"}.',
      '--config.data.download=True',
      '--config.data.data_dir=DIR',
  ):
    assert part in message
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['imdb_reviews', 'coco/2017_panoptic'])
def test_data_set_of_another_kind_is_refused_before_it_is_prepared(
    tmp_path, name
):
  message = refused(name, tmp_path)
  for part in (
      f'{name} does not fit', 'needs image and label (of the task class',
      'labels (of the task multi_label)', '--config.data.name=NAME',
  ):
    assert part in message, message


def test_own_data_set_needs_a_folder_to_be_written_to(tmp_path):
  (tmp_path / 'file').write_text('mine')
  message = refused('digits', tmp_path / 'file')
  assert str(tmp_path / 'file') in message
  assert '--config.data.data_dir=DIR' in message


def test_own_data_set_is_prepared_under_any_spelling(tmp_path, digits):
  assert load('Digits', tmp_path).fingerprint() == digits.fingerprint()
