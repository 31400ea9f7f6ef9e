"""Boxes of objects as tensorflow-datasets has them: voc and coco."""

from impactx_jax.data import builders
from impactx_jax.data import masks
import numpy as np
import pytest
from tensorflow_datasets.object_detection import coco
from tensorflow_datasets.object_detection import voc
from tests.data.sources_fixtures import load
from tests.data.sources_fixtures import refused

BIRD, DOG, PERSON = 2, 11, 14  # In VOC.
# Of each example by number: (class, ymin, xmin, ymax, xmax), in eighths.
OBJECTS = [
    [(DOG, 0, 0, 4, 4), (PERSON, 4, 4, 8, 8), (PERSON, 0, 6, 2, 8)],
    [],
    [(DOG, 2, 2, 6, 8)],
    [(PERSON, 0, 0, 8, 8), (BIRD, 3, 3, 3, 8)],  # Of no area.
]


def image_of(index):
  """Of many sizes, and twice as bright on its left half."""
  image = np.full((40 + index, 60 - index, 3), 100, np.uint8)
  image[:, : (60 - index) // 2] = 200
  return image


def objects_of(index, further):
  return [
      {'label': k, 'bbox': np.float32(box) / 8} | further
      for k, *box in OBJECTS[index % 4]
  ]


class TinyVoc(voc.Voc):
  """In the features of VOC, of which they are inherited."""

  BUILDER_CONFIGS = voc.Voc.BUILDER_CONFIGS

  def _split_generators(self, dl_manager):
    return {
        split: self._generate_examples(i, 8)
        for i, split in enumerate(('train', 'validation', 'test'))
    }

  def _generate_examples(self, first, count):
    for i in range(8 * first, 8 * first + count):
      found = objects_of(i, {
          'pose': 0, 'is_truncated': False, 'is_difficult': True
      })
      yield i, {
          'image': image_of(i), 'image/filename': f'{i}.jpg',
          'objects': found,
          'labels': sorted({x['label'] for x in found}),
          'labels_no_difficult': [],
      }


class TinyCoco(coco.Coco):
  """In the features of COCO; the test split has no objects."""

  BUILDER_CONFIGS = coco.Coco.BUILDER_CONFIGS

  def _split_generators(self, dl_manager):
    return {
        'train': self._generate_examples(True),
        'validation': self._generate_examples(True),
        'test': self._generate_examples(False),
    }

  def _generate_examples(self, annotated):
    for i in range(8):
      found = objects_of(i, {'id': 0, 'area': 0, 'is_crowd': False})
      yield i, {
          'image': image_of(i), 'image/filename': f'{i}.jpg', 'image/id': i,
          'objects': found if annotated else [],
      }


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('objects')
  TinyVoc(config='2007', data_dir=path).download_and_prepare()
  TinyCoco(config='2014', data_dir=path).download_and_prepare()
  return path


@pytest.mark.parametrize(('name', 'classes', 'options'), [
    ('tiny_voc/2007', 20, {}),
    ('tiny_coco/2014', 80, {'test_split': 'validation'}),
])
def test_objects_are_labels_and_boxes_of_each_class(
    folder, name, classes, options
):
  dataset = load(
      name, folder, image_size=(16, 24), validation_fraction=0.3, **options
  )
  assert dataset.task == 'multi_label'
  assert len(dataset.class_names) == classes
  test = dataset.test
  assert test['image'].shape == (8, 16, 24, 3)
  assert test['boxes'].shape == (8, classes, 2, 4)  # Two persons at most.
  seen = {}
  for labels, boxes in zip(test['labels'], test['boxes'], strict=True):
    there = boxes.any(axis=(1, 2))
    assert not there[BIRD]
    there[BIRD] = labels[BIRD]
    np.testing.assert_array_equal(labels, there)
    seen[tuple(np.flatnonzero(labels))] = boxes
  assert {*seen} == {
      (DOG, PERSON), (), (DOG,), (BIRD, PERSON)
  }
  np.testing.assert_array_equal(seen[DOG, PERSON][PERSON] * 8, [
      [4, 4, 8, 8], [0, 6, 2, 8]
  ])
  np.testing.assert_array_equal(seen[DOG,][DOG] * 8, [
      [2, 2, 6, 8], [0, 0, 0, 0]
  ])


def test_images_are_squashed_and_masks_with_them(folder):
  dataset = load(
      'tiny_voc/2007', folder, image_size=(16, 24), validation_fraction=0.3
  )
  assert set(dataset.class_names) >= {'dog', 'person'}
  test = dataset.test
  assert (test['image'][:, :, :11] == 200).all()
  assert (test['image'][:, :, 13:] == 100).all()
  row = np.flatnonzero(test['labels'][:, [DOG, PERSON]].all(axis=1))[:1]
  batch = {name: test[name][row] for name in ('image', 'boxes')}
  found = masks.of_batch(batch, 'boxes')[0]
  assert found.shape == (16, 24, 20)
  expected = np.zeros((16, 24), bool)
  expected[8:, 12:] = expected[:4, 18:] = True
  np.testing.assert_array_equal(found[..., PERSON], expected)
  np.testing.assert_array_equal(
      masks.masks_of(batch, np.array([PERSON]), 20)[0], expected
  )
  assert np.flatnonzero(found.any(axis=(0, 1))).tolist() == [DOG, PERSON]


def test_a_split_without_labels_is_refused(folder):
  message = refused('tiny_coco/2014', folder)
  for part in (
      "split 'test' of tiny_coco/2014", 'not published',
      'test, train, validation', '--config.data.test_split=NAME',
  ):
    assert part in message


def test_the_real_ones_fit_by_their_names():
  for builder, count in (
      (voc.Voc(config='2007'), 20), (coco.Coco(config='2014'), 80)
  ):
    found = builders.labels_feature(builder.info.features, 'labels')
    assert len(builders.classes_of(found)) == count
    assert builders.objects_of(builder.info.features)
