"""Tests for data sets of the user's own pictures."""

import logging
import shutil

from impactx_jax.data import pictures
import numpy as np
from PIL import Image
import pytest
from tests.data import sources_fixtures
from tests.data.sources_fixtures import COLOURS
from tests.data.sources_fixtures import SPLITS
from tests.data.sources_fixtures import draw
from tests.data.sources_fixtures import draw_folder
from tests.data.sources_fixtures import ids_of
from tests.data.sources_fixtures import load
from tests.data.sources_fixtures import refused

folder = sources_fixtures.folder


def test_pictures_are_resized_and_in_colour(folder):
  dataset = load('image_folder', folder, image_size=(24, 40))
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
  image = load('image_folder', tmp_path, image_size=(20, 16)).test['image'][0]
  assert not image[:, :7].any()
  assert (image[:, 9:] == 255).all()


def test_ids_of_pictures_survive_moving_the_folder(folder, tmp_path):
  shutil.copytree(folder, tmp_path / 'elsewhere' / 'train')
  here = load('image_folder', folder)
  there = load('image_folder', tmp_path / 'elsewhere' / 'train')
  for split in SPLITS:
    for name, column in getattr(here, split).items():
      np.testing.assert_array_equal(getattr(there, split)[name], column)
  assert set(ids_of(here, *SPLITS)) == {
      str(path.relative_to(folder)) for path in folder.glob('*/*/*')
  }


def test_fingerprint_is_of_these_pictures_in_these_classes(folder, tmp_path):
  found = load('image_folder', folder).fingerprint()
  copies = [tmp_path / name for name in ('same', 'relabelled', 'replaced')]
  for copy in copies:
    shutil.copytree(folder, copy)
  same, relabelled, replaced = copies
  (relabelled / 'train/dog/0.png').rename(relabelled / 'train/dog/x.png')
  (relabelled / 'train/cat/0.png').rename(relabelled / 'train/dog/0.png')
  (relabelled / 'train/dog/x.png').rename(relabelled / 'train/cat/0.png')
  draw(replaced / 'test/owl/0.png', (1, 2, 3))
  assert load('image_folder', same).fingerprint() == found
  for copy in (relabelled, replaced):
    other = load('image_folder', copy).fingerprint()
    assert other | {'digest': ''} == found | {'digest': ''}
    assert other['digest'] != found['digest']


def test_without_a_test_folder_a_share_is_held_out_and_said_so(
    folder, tmp_path, caplog
):
  shutil.copytree(folder / 'train', tmp_path / 'train')
  shares = {'test_fraction': 0.3, 'validation_fraction': 0.3}
  absl_logger = logging.getLogger('absl')
  absl_logger.addHandler(caplog.handler)
  try:
    dataset = load('image_folder', tmp_path, **shares)
  finally:
    absl_logger.removeHandler(caplog.handler)
  count = len(dataset.test['id'])
  assert 0 < count < 31
  assert len(set(ids_of(dataset, *SPLITS))) == 31
  warning = next(
      record.getMessage()
      for record in caplog.records
      if record.levelname == 'WARNING'
  )
  assert f'{count} of the training images' in warning
  assert '--config.data.test_fraction=0.3' in warning
  # A new seed must not put a former test picture into training.
  other = load('image_folder', tmp_path, seed=1, **shares)
  assert sorted(ids_of(other, 'test')) == sorted(ids_of(dataset, 'test'))
  assert set(ids_of(other, 'validation')) != set(ids_of(dataset, 'validation'))


def test_picture_folder_must_be_given():
  message = refused('image_folder', '')
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
      draw(folder / label / '0.png', colour)
  if kind == 'bare':  # Classes without pictures of a known format.
    for label in COLOURS:
      (folder / 'train' / label).mkdir(parents=True)
      (folder / 'train' / label / 'notes.txt').write_text('')
  message = refused('image_folder', folder)
  assert str(folder) in message
  assert 'FOLDER/train/CLASS/' in message


def test_folder_without_a_training_split_is_refused(tmp_path):
  draw_folder(tmp_path, splits=('val',))
  shutil.rmtree(tmp_path / 'train')
  message = refused('image_folder', tmp_path)
  for part in ("'train'", 'val', '--config.data.train_split=NAME'):
    assert part in message
  assert len(ids_of(load('image_folder', tmp_path, train_split='val'), *SPLITS))


def test_pictures_are_read_as_those_to_be_classified_are(tmp_path):
  """Turned by their EXIF data, put on white, and so on: one function."""
  generator = np.random.default_rng(0)
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
  for split in ('train', 'test'):
    for i in range(12):
      path = tmp_path / split / f'class{i % 2}' / f'{i}'
      path.parent.mkdir(parents=True, exist_ok=True)
      values = generator.integers(0, 256, (30 + i, 50, 4), np.uint8)
      if i < 6:
        Image.fromarray(values).save(path.with_suffix('.png'))
      else:
        picture = Image.fromarray(values[..., :3])
        picture.save(path.with_suffix('.jpg'), exif=exif)
  dataset = load('image_folder', tmp_path, image_size=(8, 12))
  for split in SPLITS:
    columns = getattr(dataset, split)
    for name, image in zip(columns['id'], columns['image'], strict=True):
      expected = pictures.read(tmp_path / name, (8, 12, 3))
      np.testing.assert_array_equal(image, expected)


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
  message = refused('image_folder', tmp_path)
  assert str(broken) in message
  assert 'remove' in message
  assert 'function_node' not in message
