"""Backgrounds that tell the class in train and not in test: drawn, and real."""

import pathlib

from attribution.errors import InputError
from impactx_jax.data import boxes
from impactx_jax.data import ground
from impactx_jax.data import mosaic
from impactx_jax.data import pasting
from impactx_jax.data import shapes
from impactx_jax.data import shapes_ground
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tests.data.sources_fixtures import load
from tests.data.sources_fixtures import refused

CONFIGS = shapes.Shapes.builder_configs
NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog',
         'horse', 'ship', 'truck']
GREY = 16  # Of a class's pictures: its number times this, in train one less.


class TinyPictures(tfds.core.GeneratorBasedBuilder):
  """Pictures of one grey an image: 16 a class in train, 4 in test."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict({
            'image': tfds.features.Image(shape=(28, 28, 1)),
            'label': tfds.features.ClassLabel(names=NAMES),
        }),
    )

  def _split_generators(self, dl_manager):
    return {
        'train': self._generate_examples(16, 8),
        'test': self._generate_examples(4, 0),
    }

  def _generate_examples(self, count, brighter):
    for i in range(10 * count):
      grey = GREY * (i % 10) + brighter
      yield i, {
          'image': np.full((28, 28, 1), grey, np.uint8), 'label': i % 10
      }


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('source')
  TinyPictures(data_dir=path).download_and_prepare()
  return path


@pytest.mark.parametrize(('name', 'agreement'), [
    ('ground', 1), ('ground_95', 0.95), ('ground_reversed', 1),
])
def test_the_ground_agrees_in_train_and_is_independent_in_test(name, agreement):
  groups = {
      split: np.array([
          CONFIGS[name].example(split, i)['group'] for i in range(400)
      ])
      for split in ('train', 'test')
  }
  agrees = np.isin(groups['train'], (0, 3)).mean()
  assert agrees == 1 if agreement == 1 else abs(agrees - agreement) < 0.03
  assert np.bincount(groups['test']).tolist() == [100] * 4


@pytest.mark.parametrize(('name', 'labels', 'groups'), [
    ('ground', ['circle', 'cross'], [
        'circle on level', 'circle on upright', 'cross on level',
        'cross on upright',
    ]),
    ('ground_reversed', ['level', 'upright'], [
        'level with circle', 'level with cross', 'upright with circle',
        'upright with cross',
    ]),
])
def test_groups_are_named_after_the_class_and_the_other_kind(
    name, labels, groups
):
  features = CONFIGS[name].features()
  assert features['label'].names == labels
  assert features['group'].names == groups


def test_the_reversed_question_is_of_the_same_pictures():
  for i in range(12):
    asked, other = (
        CONFIGS[name].example('test', i) for name in
        ('ground', 'ground_reversed')
    )
    np.testing.assert_array_equal(asked['image'], other['image'])
    assert asked['group'] == 2 * asked['label'] + other['label']
    assert other['group'] == 2 * other['label'] + asked['label']
    # Where to look: at the object, or beside its box.
    assert set(np.unique(asked['mask'])) == {0, 255}
    np.testing.assert_array_equal(boxes.boxes_of(asked['mask'])[0],
                                  asked['box'])
    np.testing.assert_array_equal(
        other['mask'] == 0, boxes.boxes_to_masks(asked['box'][None], (32, 32))
    )
    assert 'box' not in other


def test_stripes_are_level_or_upright():
  for seed in range(5):
    for kind in (0, 1):
      pattern = shapes_ground.pattern(np.random.default_rng(seed), kind, 64)
      assert -1 <= pattern.min() < -0.9 and 0.9 < pattern.max() <= 1
      down, along = (
          np.square(slope).sum() for slope in np.gradient(pattern[..., 0])
      )
      share = down / (down + along)  # 1: it changes from row to row alone.
      assert share < 0.1 if kind else share > 0.9


SMALL = {'source': 'tiny_pictures', 'num_train': 48, 'num_test': 8}


@pytest.fixture
def tiny_ground(monkeypatch):
  for name, config in ground.Ground.builder_configs.items():
    kept = ('name', 'objects', 'grounds', 'agreement', 'reversed', 'side')
    small = ground.GroundConfig(
        **{field: getattr(config, field) for field in kept}, **SMALL
    )
    monkeypatch.setitem(ground.Ground.builder_configs, name, small)


@pytest.mark.parametrize(('name', 'object_classes'), [
    ('cifar10_drawn', None), ('cifar10_pasted', 'objects'),
])
def test_real_grounds_are_the_photographs(
    folder, tiny_ground, name, object_classes
):
  dataset = load(f'ground/{name}', folder, validation_fraction=0.3)
  config = ground.Ground.builder_configs[name]
  assert dataset.class_names == config.objects
  assert dataset.group_names[1] == f'{config.objects[0]} on {config.grounds[1]}'
  for split in ('train', 'validation', 'test'):
    columns = getattr(dataset, split)
    offset = 0 if split == 'test' else 8  # Train's pictures are brighter.
    for i in range(len(columns['id'])):
      kind, behind = columns['label'][i], columns['group'][i] % 2
      assert columns['group'][i] == 2 * kind + behind
      if split != 'test':
        assert kind == behind
      mask = columns['mask'][i, ..., 0] > 0
      np.testing.assert_array_equal(
          columns['box'][i], boxes.boxes_of(mask[..., None])[0]
      )
      grey = GREY * NAMES.index(config.grounds[behind]) + offset
      reach = mask  # A drawn one has smooth edges.
      if object_classes is None:
        box = boxes.boxes_to_masks(columns['box'][i][None], (32, 32))[..., 0]
        reach = np.pad(box, 1)[2:, 1:-1] | np.pad(box, 1)[:-2, 1:-1]
        reach = np.pad(reach, 1)[1:-1, 2:] | np.pad(reach, 1)[1:-1, :-2]
      assert (columns['image'][i][~reach] == grey).all()
      if object_classes:
        grey = GREY * NAMES.index(config.objects[kind]) + offset
        assert (columns['image'][i][mask] == grey).all()
      else:
        assert columns['image'][i][mask].max() > 200  # Bright.
  assert np.bincount(dataset.test['group']).tolist() == [2] * 4


@pytest.mark.parametrize('name', ['ground/cifar10_drawn', 'mosaic/cifar10'])
def test_a_source_that_is_not_prepared_is_said(tmp_path, name):
  message = refused(name, tmp_path)
  for part in (
      f'{name} is made of cifar10', f'not prepared in {tmp_path}',
      '--config.data.download=True', '--config.data.data_dir=DIR',
  ):
    assert part in message
  assert not list(tmp_path.iterdir())


@pytest.fixture
def few(monkeypatch):
  monkeypatch.setattr(
      mosaic, 'config_of', lambda name, of=mosaic.config_of: _few(of(name))
  )


def _few(config):
  config.num_train, config.num_test = 60, 20
  return config


@pytest.mark.parametrize(('name', 'counts', 'side'), [
    ('mosaic/tiny_pictures', {1, 2, 3}, 24),
    ('mosaic/tiny_pictures_grid', {4}, 32),
])
def test_a_mosaic_has_each_picture_in_its_box(folder, few, name, counts, side):
  dataset = load(name, folder, validation_fraction=0.3)
  assert dataset.class_names == tuple(NAMES)
  for split in ('train', 'test'):
    columns = getattr(dataset, split)
    found = columns['labels'].sum(axis=1)
    assert {*found} == counts
    masks = boxes.boxes_to_masks(columns['boxes'], (64, 64))
    np.testing.assert_array_equal(
        masks.sum(axis=(1, 2)), side**2 * columns['labels']
    )
    assert masks.sum(axis=-1).max() == 1  # None over another.
    for i, k in np.argwhere(columns['labels']):
      grey = GREY * k + (0 if split == 'test' else 8)
      assert (columns['image'][i][masks[i, ..., k]] == grey).all()


@pytest.mark.parametrize('make', [
    lambda: mosaic.Mosaic(config=_few(mosaic.config_of('tiny_pictures'))),
    lambda: ground.Ground(config=ground.GroundConfig(
        name='mine', objects=('cat', 'dog'), grounds=('frog', 'ship'), side=20,
        **SMALL,
    )),
])
def test_examples_are_a_function_of_seed_split_and_index(folder, make):
  runs = []
  for _ in range(2):
    builder = make()
    builder.found = TinyPictures(data_dir=folder)
    np.random.seed(len(runs))  # Must not matter.
    runs.append([list(builder.examples(s)) for s in ('train', 'test')])
  for first, again in zip(*runs, strict=True):
    for one, other in zip(first, again, strict=True):
      for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])
  assert (runs[0][0][0]['image'] != runs[0][1][0]['image']).any()


def test_a_class_that_the_source_lacks_is_refused(folder):
  builder = ground.Ground(config=ground.GroundConfig(
      name='mine', objects=('circle', 'cross'), grounds=('frog', 'shop'),
      **SMALL,
  ))
  builder.found = TinyPictures(data_dir=folder)
  with pytest.raises(InputError, match="'shop'.*'ship'"):
    list(builder.examples('train'))
  with pytest.raises(InputError, match="no split 'dev'.*test, train"):
    pasting.read(builder.found, 'dev', 20, [0])


OWN = """
from impactx_jax.data import ground

class BUILDER(ground.Ground):
  BUILDER_CONFIGS = [ground.GroundConfig(
      name='mine', source='tiny_pictures', objects=('cat', 'dog'), side=22,
      grounds=('ship', 'truck'), num_train=40, num_test=8,
  )]
"""


def test_a_set_of_ones_own_is_made_of_what_is_prepared_beside_it(folder):
  path = pathlib.Path(folder) / 'own.py'
  path.write_text(OWN)
  dataset = load(str(path), folder, validation_fraction=0.3)
  assert dataset.class_names == ('cat', 'dog')
  assert dataset.group_names[0] == 'cat on ship'
