"""Tests for the `digits` data set."""

import pathlib

from impactx_jax.data import digits
import numpy as np
import pytest
from sklearn import datasets
import tensorflow_datasets as tfds


def _build(data_dir: pathlib.Path) -> digits.Digits:
  builder = digits.Digits(data_dir=data_dir)
  builder.download_and_prepare()
  return builder


def _load(builder: digits.Digits, split: str) -> list[dict]:
  data = builder.as_dataset(
    split=split, read_config=tfds.ReadConfig(add_tfds_id=True)
  )
  return list(tfds.as_numpy(data))


@pytest.fixture(scope='module')
def builder(tmp_path_factory) -> digits.Digits:
  return _build(tmp_path_factory.mktemp('digits'))


@pytest.fixture(scope='module')
def splits(builder) -> dict[str, list[dict]]:
  return {split: _load(builder, split) for split in ('train', 'test')}


def _indices(examples: list[dict]) -> list[int]:
  return [int(example['id']) for example in examples]


def test_info(builder):
  info = builder.info
  assert info.name == 'digits'
  assert str(info.version) == '1.0.0'
  assert info.features['image'].shape == (32, 32, 3)
  assert info.features['label'].num_classes == 10
  assert info.splits['train'].num_examples == 1437
  assert info.splits['test'].num_examples == 360
  assert 'scikit-learn' in info.description
  assert 'Alpaydin' in info.citation
  assert 'archive.ics.uci.edu' in info.homepage


def test_splits_cover_the_source_once(splits):
  train, test = _indices(splits['train']), _indices(splits['test'])
  assert sorted(train + test) == list(range(1797))
  tfds_ids = [e['tfds_id'] for split in splits.values() for e in split]
  assert len(set(tfds_ids)) == 1797


def test_split_is_stratified(splits):
  source = np.bincount(datasets.load_digits().target)
  test = np.bincount([example['label'] for example in splits['test']])
  np.testing.assert_allclose(test, source * 360 / 1797, atol=1)


def test_split_is_the_published_one(splits):
  # Another split is another data set, and needs another version.
  test = sorted(_indices(splits['test']))
  assert test[:8] == [21, 24, 28, 34, 35, 37, 39, 42]
  assert sum(test) == 337944


def test_pixels_and_labels_match_the_source(splits):
  source = datasets.load_digits()
  for example in splits['train'] + splits['test']:
    index, image = int(example['id']), example['image']
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    blocks = image.reshape(8, 4, 8, 4, 3)
    corners = blocks[:, :1, :, :1, :1]
    assert (blocks == corners).all(), 'not a grey 4x4 block a source pixel'
    np.testing.assert_array_equal(
      np.round(corners[:, 0, :, 0, 0] * (16 / 255)), source.images[index]
    )
    assert example['label'] == source.target[index]


def test_grey_values():
  image = digits.enlarge(np.array([[0.0, 1.0], [8.0, 16.0]]))
  assert image.shape == (8, 8, 3)
  np.testing.assert_array_equal(
    image[::4, ::4], np.array([[0, 16], [128, 255]])[..., None].repeat(3, -1)
  )


def test_two_builds_are_identical(builder, tmp_path):
  again = _build(tmp_path)
  files = sorted(pathlib.Path(builder.data_dir).glob('*.tfrecord*'))
  assert len(files) == 2
  for file in files:
    twin = pathlib.Path(again.data_dir) / file.name
    assert twin.read_bytes() == file.read_bytes()


def test_needs_no_files_beside_the_module(builder):
  # Installed from a wheel there are none.
  assert builder.url_infos is None
  assert builder.info.download_size == 0
