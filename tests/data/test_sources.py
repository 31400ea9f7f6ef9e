"""Tests for loading data sets, and for the user's own pictures."""

import logging
import pathlib
import shutil

from attribution.errors import InputError
from impactx_jax.configs import common
from impactx_jax.data import sources
import numpy as np
from PIL import Image
import pytest

SPLITS = ('train', 'validation', 'test')
# Of the pictures below: each class has a colour of its own.
COLOURS = {'cat': (10, 200, 30), 'dog': (240, 0, 90), 'owl': (77, 77, 77)}
# Modes that keep these colours, and sizes (width, height).
KINDS = {
    'cat': (('RGB', (32, 32)), ('RGBA', (40, 20)), ('RGB', (7, 90))),
    'dog': (('RGBA', (33, 31)), ('RGB', (16, 16)), ('RGB', (64, 48))),
    'owl': (('L', (32, 32)), ('LA', (50, 50)), ('RGB', (20, 24))),
}


def _load(name, data_dir, seed=0, **fields) -> sources.Dataset:
  config = common.get_config()
  config.data.update({'name': name, 'data_dir': str(data_dir), **fields})
  return sources.load(config.data, seed)


def _refused(name, data_dir, **fields) -> str:
  with pytest.raises(InputError) as error:
    _load(name, data_dir, **fields)
  assert '\n' not in str(error.value)
  return str(error.value)


def _draw(path: pathlib.Path, colour, mode='RGB', size=(20, 20)) -> None:
  """Saves a picture of one colour; what is transparent shows it too."""
  path.parent.mkdir(parents=True, exist_ok=True)
  picture = Image.new('RGB', size, colour).convert(mode.removesuffix('A'))
  if mode in ('RGBA', 'LA'):
    picture.putalpha(128)
  picture.save(path)


def _draw_folder(folder: pathlib.Path, splits=('train', 'test')) -> None:
  for split in splits:
    for label, colour in COLOURS.items():
      for i in range(10):
        mode, size = KINDS[label][i % 3]
        _draw(folder / split / label / f'{i}.png', colour, mode, size)
  # JPEG keeps colours to within a few grey values.
  _draw(folder / 'train' / 'cat' / 'schöne Katze 1.JPEG', COLOURS['cat'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pictures')
  _draw_folder(folder)
  return folder


@pytest.fixture(scope='module')
def digits(data_dir):
  return _load('digits', data_dir)


@pytest.fixture(scope='module')
def shapes(data_dir):
  return _load('shapes/easy', data_dir)


@pytest.fixture(params=['digits', 'shapes', 'pictures'])
def dataset(request, folder):
  if request.param == 'pictures':
    return _load('image_folder', folder)
  return request.getfixturevalue(request.param)


def _ids(dataset: sources.Dataset, *splits: str) -> list[str]:
  return [i for split in splits for i in getattr(dataset, split)['id']]


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
  ids = _ids(dataset, *SPLITS)
  assert len(set(ids)) == len(ids)


def test_fingerprint_describes_the_data_set(digits, shapes):
  assert digits.fingerprint() == {
      'name': 'digits/1.0.0',
      'class_names': list('0123456789'),
      'image_shape': [32, 32, 3],
      'examples': {
          'train': len(digits.train['id']),
          'validation': 1437 - len(digits.train['id']),
          'test': 360,
      },
  }
  assert shapes.name == 'shapes/easy/1.0.0'
  assert shapes.class_names[:2] == ('circle', 'square')
  assert len(_ids(shapes, 'train', 'validation')) == 4000
  assert len(shapes.test['id']) == 1000


def test_masks_of_the_objects_are_kept_beside_their_images(shapes):
  masks = shapes.test['mask']
  assert masks.shape == (1000, 32, 32, 1)
  assert set(np.unique(masks)) == {0, 255}


def test_loading_twice_gives_the_same_rows_in_the_same_order(digits, data_dir):
  again = _load('digits', data_dir)
  for split in SPLITS:
    for name, column in getattr(digits, split).items():
      np.testing.assert_array_equal(getattr(again, split)[name], column)


def test_seed_decides_what_is_held_out_and_not_the_test_split(
    digits, data_dir
):
  other = _load('digits', data_dir, seed=1)
  held_out, others = set(digits.validation['id']), set(other.validation['id'])
  assert held_out != others
  # About a tenth of a tenth, where the splits are independent.
  assert len(held_out & others) < 0.3 * len(held_out)
  assert set(_ids(digits, 'train', 'validation')) == set(
      _ids(other, 'train', 'validation')
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


def test_pictures_are_resized_and_in_colour(folder):
  dataset = _load('image_folder', folder, image_size=(24, 40))
  assert dataset.image_shape == (24, 40, 3)
  assert dataset.class_names == ('cat', 'dog', 'owl')
  for split in SPLITS:
    columns = getattr(dataset, split)
    expected = np.array([
        COLOURS[dataset.class_names[label]] for label in columns['label']
    ])
    difference = columns['image'].astype(int) - expected[:, None, None]
    jpeg = np.char.endswith(columns['id'], '.JPEG')
    assert not difference[~jpeg].any()
    assert abs(difference).max() <= 3


def test_resizing_keeps_the_picture_upright(tmp_path):
  # Left half black, right half white, top row of the other colour.
  picture = np.zeros((40, 80, 3), np.uint8)
  picture[:, 40:] = 255
  for i in range(20):
    for split in ('train', 'test'):
      path = tmp_path / split / 'only' / f'{i}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(picture).save(path)
  image = _load('image_folder', tmp_path, image_size=(20, 16)).test['image'][0]
  assert not image[:, :7].any()
  assert (image[:, 9:] == 255).all()


def test_ids_of_pictures_survive_moving_the_folder(folder, tmp_path):
  shutil.copytree(folder, tmp_path / 'elsewhere' / 'train')
  here = _load('image_folder', folder)
  there = _load('image_folder', tmp_path / 'elsewhere' / 'train')
  for split in SPLITS:
    for name, column in getattr(here, split).items():
      np.testing.assert_array_equal(getattr(there, split)[name], column)
  assert set(_ids(here, *SPLITS)) == {
      str(path.relative_to(folder)) for path in folder.glob('*/*/*')
  }


def test_without_a_test_folder_a_share_is_held_out_and_said_so(
    folder, tmp_path, caplog
):
  shutil.copytree(folder / 'train', tmp_path / 'train')
  shares = {'test_fraction': 0.3, 'validation_fraction': 0.3}
  absl_logger = logging.getLogger('absl')
  absl_logger.addHandler(caplog.handler)
  try:
    dataset = _load('image_folder', tmp_path, **shares)
  finally:
    absl_logger.removeHandler(caplog.handler)
  count = len(dataset.test['id'])
  assert 0 < count < 31
  assert len(set(_ids(dataset, *SPLITS))) == 31
  warning = next(
      record.getMessage()
      for record in caplog.records
      if record.levelname == 'WARNING'
  )
  assert f'{count} of the training pictures' in warning
  assert '--config.data.test_fraction=0.3' in warning
  # A new seed must not put a former test picture into training.
  other = _load('image_folder', tmp_path, seed=1, **shares)
  assert sorted(_ids(other, 'test')) == sorted(_ids(dataset, 'test'))
  assert set(_ids(other, 'validation')) != set(_ids(dataset, 'validation'))


def test_picture_folder_must_be_given():
  message = _refused('image_folder', '')
  assert '--config.data.data_dir=FOLDER' in message
  assert 'FOLDER/train/CLASS/' in message


@pytest.mark.parametrize('kind', ['missing', 'file', 'empty', 'flat', 'bare'])
def test_folder_of_another_layout_is_refused(tmp_path, kind):
  folder = tmp_path / 'pictures'
  if kind == 'file':
    folder.write_text('')
  elif kind != 'missing':
    folder.mkdir()
  if kind == 'flat':
    for label, colour in COLOURS.items():
      _draw(folder / label / '0.png', colour)
  if kind == 'bare':  # Classes without pictures of a known format.
    for label in COLOURS:
      (folder / 'train' / label).mkdir(parents=True)
      (folder / 'train' / label / 'notes.txt').write_text('')
  message = _refused('image_folder', folder)
  assert str(folder) in message
  assert 'FOLDER/train/CLASS/' in message


def test_folder_without_a_training_split_is_refused(tmp_path):
  _draw_folder(tmp_path, splits=('val',))
  shutil.rmtree(tmp_path / 'train')
  message = _refused('image_folder', tmp_path)
  for part in ("'train'", 'val', '--config.data.train_split=NAME'):
    assert part in message
  assert len(_ids(_load('image_folder', tmp_path, train_split='val'), *SPLITS))


@pytest.mark.parametrize('content', ['text', 'half', 'nothing'])
def test_picture_that_cannot_be_read_is_named(folder, tmp_path, content):
  shutil.copytree(folder / 'train', tmp_path / 'train')
  broken = tmp_path / 'train' / 'dog' / 'broken.png'
  noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
  Image.fromarray(noise).save(broken)
  whole = broken.read_bytes()
  broken.write_bytes({
      'text': b'this is no picture',
      'half': whole[: len(whole) // 2],
      'nothing': b'',
  }[content])
  message = _refused('image_folder', tmp_path)
  assert str(broken) in message
  assert 'remove' in message
  assert 'function_node' not in message


def test_split_that_is_empty_is_refused(tmp_path, data_dir):
  message = _refused('digits', data_dir, validation_fraction=1e-9)
  assert 'validation split' in message
  assert '--config.data.validation_fraction' in message
  for label, colour in COLOURS.items():
    _draw(tmp_path / 'train' / label / '0.png', colour)
  message = _refused('image_folder', tmp_path, test_fraction=1e-9)
  assert 'test split' in message
  assert '--config.data.test_fraction' in message


@pytest.mark.parametrize(('field', 'split'), [
    ('train_split', 'trian'), ('test_split', 'validation'),
    ('test_split', 'train[:50%]'),
])
def test_split_that_is_not_there_is_refused(data_dir, field, split):
  message = _refused('digits', data_dir, **{field: split})
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
  message = _refused(name, tmp_path)
  for part in (*parts, '--config.data.name=NAME'):
    assert part in message
  assert len(message) < 700
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['cifar10', 'cifar10_corrupted'])
def test_data_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path, name):
  message = _refused(name, tmp_path / 'tfds')
  for part in (
      'not prepared',
      f'tfds build {name} --data_dir={tmp_path / "tfds"}"',
      '--config.data.download=True',
      '--config.data.data_dir=DIR',
  ):
    assert part in message
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['imdb_reviews', 'coco'])
def test_data_set_of_another_kind_is_refused_before_it_is_prepared(
    tmp_path, name
):
  message = _refused(name, tmp_path)
  for part in (
      name, 'not an image-classification data set', '--config.data.name=NAME'
  ):
    assert part in message


def test_own_data_set_needs_a_folder_to_be_written_to(tmp_path):
  (tmp_path / 'file').write_text('mine')
  message = _refused('digits', tmp_path / 'file')
  assert str(tmp_path / 'file') in message
  assert '--config.data.data_dir=DIR' in message


def test_own_data_set_is_prepared_under_any_spelling(tmp_path, digits):
  assert _load('Digits', tmp_path).fingerprint() == digits.fingerprint()
