"""A data set from a file: several labels, masks, boxes and groups."""

from impactx_jax.data import batches
from impactx_jax.data import builders
import numpy as np
import pytest
from tests.data.sources_fixtures import SPLITS
from tests.data.sources_fixtures import load
from tests.data.sources_fixtures import refused

# Of example i the classes are the bits of i; the first pixel says which it is.
TOY = """
import numpy as np
import tensorflow_datasets as tfds

class Toy(tfds.core.GeneratorBasedBuilder):
  '''Any number of three classes an image.'''

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    label = tfds.features.ClassLabel(names=['cat', 'dog', 'owl'])
    return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(shape=(32, 32, 3)),
            'labels': tfds.features.Sequence(label),
            'masks': tfds.features.Tensor(shape=(32, 32, 3), dtype=np.uint8),
            'boxes': tfds.features.Tensor(shape=(3, 4), dtype=np.float32),
            'group': tfds.features.Scalar(np.int64),
            'note': tfds.features.Text(),
            'points': tfds.features.Tensor(shape=(5,), dtype=np.float32),
            'words': tfds.features.Sequence(np.int64),
        }),
    )

  def _split_generators(self, dl_manager):
    return {
        'train': self._generate_examples(0, 40),
        'test': self._generate_examples(40, 60),
    }

  def _generate_examples(self, first, last):
    for i in range(first, last):
      present = [k for k in (2, 1, 0) if i >> k & 1]
      image = np.zeros((32, 32, 3), np.uint8)
      image[0, 0, 0] = i
      masks = np.zeros((32, 32, 3), np.uint8)
      boxes = np.zeros((3, 4), np.float32)
      for k in present:
        masks[8 * k : 8 * k + 8, : 2 * k + 4, k] = 255
        boxes[k] = k / 4, 0, (k + 1) / 4, (2 * k + 4) / 32
      yield i, {
          'image': image, 'labels': present, 'masks': masks, 'boxes': boxes,
          'group': i % 4, 'note': 'hm', 'points': np.zeros(5, np.float32),
          'words': [1] * i,
      }

BUILDER = Toy
"""


@pytest.fixture(scope='module')
def toy(tmp_path_factory):
  path = tmp_path_factory.mktemp('toy') / 'mine.py'
  path.write_text(TOY)
  return path


@pytest.fixture(scope='module')
def dataset(toy):
  return load(str(toy), toy.parent, validation_fraction=0.3)


def bits(numbers):
  return numbers[:, None] >> np.arange(3) & 1


def test_it_is_prepared_and_known_by_its_own_name(dataset, toy):
  (folder,) = toy.parent.glob('mine-*')  # And what is in the file.
  assert (folder / 'toy' / '1.0.0').is_dir()
  assert dataset.name == 'toy/1.0.0'
  assert dataset.class_names == ('cat', 'dog', 'owl')
  assert dataset.task == dataset.fingerprint()['task'] == 'multi_label'
  assert len(dataset.test['id']) == 20


def test_columns_are_the_numbers_that_it_has_of_one_shape(dataset):
  for split in SPLITS:
    columns = getattr(dataset, split)
    kinds = {
        name: (column.dtype, column.shape[1:])
        for name, column in columns.items() if name != 'id'
    }
    assert kinds == {
        'image': (np.uint8, (32, 32, 3)),
        'labels': (np.int32, (3,)),
        'masks': (np.uint8, (32, 32, 3)),
        'boxes': (np.float32, (3, 4)),
        'group': (np.int64, ()),
    }


def test_rows_belong_together(dataset):
  seen = []
  for split in SPLITS:
    columns = getattr(dataset, split)
    numbers = columns['image'][:, 0, 0, 0].astype(int)
    seen += numbers.tolist()
    present = bits(numbers)
    np.testing.assert_array_equal(columns['labels'], present)
    np.testing.assert_array_equal(columns['group'], numbers % 4)
    np.testing.assert_array_equal(
        columns['masks'].sum(axis=(1, 2), dtype=int),
        present * 255 * 8 * np.array([4, 6, 8]),
    )
    np.testing.assert_array_equal(
        columns['boxes'][:, 2], present[:, 2:] * [0.5, 0, 0.75, 0.25]
    )
  assert sorted(seen) == list(range(60))


def test_they_reach_a_batch_as_a_step_takes_them(dataset):
  batch = next(batches.training_epoch(
      dataset.train, batch_size=8, seed=0, epoch=0
  ))
  assert batch.keys() == {
      'image', 'labels', 'masks', 'boxes', 'group', 'position', 'row'
  }
  assert batch['masks'].dtype == batch['image'].dtype == np.float32
  assert set(np.unique(batch['masks'])) == {0, 1}
  np.testing.assert_array_equal(
      batch['labels'], dataset.train['labels'][batch['row']]
  )


def test_a_share_of_the_labels_is_even_over_sets_of_classes(dataset, toy):
  few = load(str(toy), toy.parent, label_fraction=0.5)
  # Of the numbers to 39 each set of three bits has five.
  labels = np.concatenate([few.train['labels'], few.validation['labels']])
  counts = np.unique(labels, axis=0, return_counts=True)[1]
  assert counts.tolist() == [2] * 8


def test_other_labels_are_other_data(dataset, toy, tmp_path):
  path = tmp_path / 'other.py'
  path.write_text(TOY.replace('if i >> k & 1', 'if i >> k & 1 and i != 5'))
  other = load(str(path), tmp_path, validation_fraction=0.3)
  ours, theirs = dataset.fingerprint(), other.fingerprint()
  assert ours['digest'] != theirs['digest']
  assert ours | {'digest': ''} == theirs | {'digest': ''}


# --- What is refused ----------------------------------------------------------


@pytest.mark.parametrize(('name', 'task', 'parts'), [
    ('TOY', 'classification', (
        'image, labels', 'needs image and label (of the task classification)',
        '--config.data.name=', '--config.data.task=',
    )),
    ('digits', 'multi_label', (
        'digits', 'needs image and labels (of the task multi_label)',
        '--config.data.name=', '--config.data.task=',
    )),
    ('imdb_reviews', '', (
        'imdb_reviews',
        'label (of the task classification or one_versus_rest) or labels',
        '--config.data.name=',
    )),
])
def test_a_task_that_does_not_fit_is_refused(toy, tmp_path, name, task, parts):
  name = str(toy) if name == 'TOY' else name
  message = refused(name, tmp_path, task=task)
  for part in (name, *parts):
    assert part in message, message
  assert ('--config.data.task=' in message) == bool(task)
  assert not list(tmp_path.iterdir())  # Before anything is prepared.


@pytest.mark.parametrize(('content', 'parts'), [
    (None, ('There is no file',)),
    ('', ('no BUILDER',)),
    ('BUILDER = 5', ('no BUILDER',)),
    ('1 / 0', ('ZeroDivisionError',)),
    ('BUILDER = dict', ('is dict', 'GeneratorBasedBuilder')),
    (
        'from tensorflow_datasets import core\n'
        'class BUILDER(core.GeneratorBasedBuilder): pass',
        ('cannot be loaded', 'abstract'),
    ),
])
def test_a_file_without_a_builder_is_refused(tmp_path, content, parts):
  path = tmp_path / 'mine.py'
  if content is not None:
    path.write_text(content)
  message = refused(str(path), tmp_path)
  for part in (str(path), *parts, '--config.data.name'):
    assert part in message, message


def test_the_same_file_is_the_same_builder(toy):
  found = builders.builder_class(str(toy))
  assert builders.builder_class(str(toy)) is found and found.name == 'toy'


def test_what_another_content_prepared_is_not_taken(toy, dataset, tmp_path):
  # The same class and version, and in the same process.
  changed = TOY.replace('image[0, 0, 0] = i', 'image[0, 0, 0] = 100 + i')
  (tmp_path / 'mine.py').write_text(changed)
  other = load(
      str(tmp_path / 'mine.py'), toy.parent, validation_fraction=0.3
  )
  assert sorted(other.test['image'][:, 0, 0, 0]) == list(range(140, 160))
  assert sorted(dataset.test['image'][:, 0, 0, 0]) == list(range(40, 60))
  # A file that is edited in its place.
  (tmp_path / 'mine.py').write_text(TOY)
  again = load(
      str(tmp_path / 'mine.py'), toy.parent, validation_fraction=0.3
  )
  np.testing.assert_array_equal(again.test['image'], dataset.test['image'])


def test_columns_whose_names_are_taken_are_left_out(tmp_path, caplog):
  renamed = TOY.replace("'group'", "'weight'").replace("'boxes'", "'row'")
  (tmp_path / 'mine.py').write_text(renamed)
  found = load(str(tmp_path / 'mine.py'), tmp_path, validation_fraction=0.3)
  assert not {'weight', 'row'} & set(found.train)
  for name in ('weight', 'row'):
    assert f"{name!r} of the data set is left out" in caplog.text
