"""Data sets of tensorflow-datasets that are not as CIFAR-10 is."""

from attribution.errors import InputError
from impactx_jax.configs import common
from impactx_jax.data import builders
import numpy as np
import pytest
from tests.data.sources_fixtures import load
from tests.data.sources_fixtures import refused
import tensorflow_datasets as tfds


class OnlyTrain(tfds.core.GeneratorBasedBuilder):
  """Sixty small images in one split."""

  VERSION = tfds.core.Version('1.0.0')
  DTYPE = np.uint8

  def _info(self):
    return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(shape=(8, 8, 1), dtype=self.DTYPE),
            'label': tfds.features.ClassLabel(num_classes=3),
        }),
    )

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples()}

  def _generate_examples(self):
    for i in range(60):
      yield i, {'image': np.full((8, 8, 1), i, self.DTYPE), 'label': i % 3}


class DeepColour(OnlyTrain):
  """The same with 16 bits."""

  DTYPE = np.uint16


def test_a_share_of_data_with_one_split_becomes_the_test_split(tmp_path):
  options = {'download': True, 'test_fraction': 0.3, 'validation_fraction': 0.2}
  first = load('only_train', tmp_path, **options)
  found = [first.train['id'], first.validation['id'], first.test['id']]
  assert len(set(np.concatenate(found))) == sum(map(len, found)) == 60
  assert 0 < len(first.test['id']) < 36
  # A new seed must not put a former test image into training.
  other = load('only_train', tmp_path, seed=1, **options)
  np.testing.assert_array_equal(first.test['id'], other.test['id'])
  assert set(first.validation['id']) != set(other.validation['id'])


def test_images_of_another_type_are_refused(tmp_path):
  message = refused('deep_colour', tmp_path, download=True)
  for part in ('deep_colour', 'uint16', 'uint8', '--config.data.name='):
    assert part in message
  assert not list(tmp_path.iterdir())


@pytest.fixture
def data(tmp_path):
  config = common.get_config()
  config.data.update({'name': 'only_train', 'data_dir': str(tmp_path)})
  config.data.download = True
  return config.data


def test_another_process_may_prepare_it_first(data, monkeypatch):
  prepare = OnlyTrain.download_and_prepare

  def overtaken(self):
    prepare(self)
    raise OSError('the destination already exists')

  monkeypatch.setattr(OnlyTrain, 'download_and_prepare', overtaken)
  builder = builders.find(data)
  assert builder.info.splits['train'].num_examples == 60


def test_a_folder_that_cannot_be_written_to_is_refused(data, monkeypatch):
  def failing(self):
    raise OSError('read-only')

  monkeypatch.setattr(OnlyTrain, 'download_and_prepare', failing)
  with pytest.raises(InputError, match='read-only.*--config.data.data_dir='):
    builders.find(data)
