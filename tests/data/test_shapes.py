"""Tests for the `shapes` data set."""

import hashlib
import itertools
import pathlib
import subprocess
import sys

from impactx_jax.data import drawing
from impactx_jax.data import shapes
import numpy as np
import pytest
from scipy import ndimage
import tensorflow_datasets as tfds

_CLASSES = len(drawing.SHAPES)


def _build(config, data_dir: pathlib.Path) -> shapes.Shapes:
  builder = shapes.Shapes(config=config, data_dir=data_dir)
  builder.download_and_prepare()
  return builder


def _load(builder: shapes.Shapes, split: str) -> dict[str, np.ndarray]:
  """Returns all examples of a split, a feature an array."""
  data = builder.as_dataset(
    split=split,
    batch_size=-1,
    read_config=tfds.ReadConfig(add_tfds_id=True),
  )
  return tfds.as_numpy(data)


def _rotated(shape, angle: float) -> np.ndarray:
  """Draws a shape on the square from -1.2 to 1.2, bool [96, 96]."""
  y, x = np.mgrid[-1.2:1.2:96j, -1.2:1.2:96j]
  cos, sin = np.cos(angle), np.sin(angle)
  return shape(cos * x + sin * y, cos * y - sin * x)


@pytest.fixture(scope='module')
def easy_cue(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
  builder = _build('easy_cue', tmp_path_factory.mktemp('shapes'))
  return {split: _load(builder, split) for split in ('train', 'test')}


ONE_OBJECT = {
  name: config for name, config in shapes.Shapes.builder_configs.items()
  if isinstance(config, shapes.ShapesConfig)
}


def test_configs():
  assert list(ONE_OBJECT) == [
    'easy',
    'medium',
    'hard',
    'small',
    'easy_cue',
    'medium_cue',
    'hard_cue',
    'small_cue',
  ]
  for name, config in ONE_OBJECT.items():
    assert config.difficulty == name.split('_')[0]
    assert config.cue == name.endswith('_cue')
    assert (config.num_train, config.num_test) == (4000, 1000)


def test_info(tmp_path):
  builder = shapes.Shapes(data_dir=tmp_path)
  assert builder.info.full_name == 'shapes/easy/1.0.0'
  assert builder.info.features['label'].names == list(drawing.SHAPES)
  assert builder.info.features['mask'].shape == (32, 32, 1)


def test_unknown_difficulty():
  with pytest.raises(ValueError, match=r"'eazy'.*easy, medium, hard"):
    shapes.ShapesConfig(name='mine', difficulty='eazy')


@pytest.mark.parametrize(
  'name, shape', [*drawing.SHAPES.items(), *drawing.CLUTTER.items()]
)
def test_shape_fits_the_unit_circle(name, shape):
  y, x = np.mgrid[-2:2:401j, -2:2:401j]
  radius = np.hypot(x, y)[shape(x, y)]
  assert 0.8 <= radius.max() <= 1 + 1e-9, name


def test_no_class_is_another_one_rotated():
  # Most alike are circle and square: intersection over union about 0.8.
  for a, b in itertools.combinations(drawing.SHAPES, 2):
    fixed = _rotated(drawing.SHAPES[a], 0.0)
    for angle in np.arange(0, 2 * np.pi, np.pi / 12):
      moved = _rotated(drawing.SHAPES[b], angle)
      overlap = (fixed & moved).sum() / (fixed | moved).sum()
      assert overlap < 0.9, (a, b, angle)


def test_coverage_of_a_known_square():
  square = drawing.SHAPES['square']
  cover = drawing.coverage(square, np.array([10.0, 20.0]), 5 / 0.7, 0.0)
  expected = np.zeros((32, 32, 1))
  expected[15:25, 5:15] = 1  # Rows are y, columns x.
  np.testing.assert_allclose(cover, expected, atol=1e-6)
  # Half a pixel to the right leaves half of the pixels on either side.
  cover = drawing.coverage(square, np.array([10.5, 20.0]), 5 / 0.7, 0.0)
  np.testing.assert_allclose(
    cover[20, [4, 5, 14, 15, 16], 0], [0, 0.5, 1, 0.5, 0]
  )


def test_triangle_points_up():
  centre = np.array([16.0, 16.0])
  cover = drawing.coverage(drawing.SHAPES['triangle'], centre, 10.0, 0.0)
  widths = cover[..., 0].sum(1)
  assert 0 < widths[8] < widths[20]


@pytest.mark.parametrize('name', shapes.DIFFICULTIES)
def test_object_is_where_the_mask_says(name, monkeypatch):
  difficulty = shapes.DIFFICULTIES[name]
  monkeypatch.setitem(
    drawing.SHAPES, 'nothing', lambda x, y: np.zeros(np.shape(x + y), bool)
  )
  for seed, label in itertools.product(range(20), range(_CLASSES)):
    image, mask = shapes.render(
      np.random.default_rng(seed), label, difficulty
    )
    empty, nothing = shapes.render(
      np.random.default_rng(seed), _CLASSES, difficulty
    )
    assert image.dtype == mask.dtype == np.uint8
    assert image.shape == (32, 32, 3)
    assert mask.shape == (32, 32, 1)
    assert not nothing.any()
    assert set(np.unique(mask)) == {0, 255}

    inside = mask[..., 0] == 255
    assert 30 <= inside.sum() <= 450
    # Whole: it does not reach the edge, where it would be cut off.
    assert not (inside[[0, -1]].any() or inside[:, [0, -1]].any())

    difference = np.linalg.norm(image / 255.0 - empty / 255.0, axis=-1)
    assert difference[inside].mean() > 0.6 * difficulty.contrast
    assert (difference[inside] > 0).mean() > 0.95
    # Thin ends cover less than half of a pixel for up to three pixels.
    reach = ndimage.binary_dilation(inside, np.ones((3, 3)), iterations=3)
    assert not difference[~reach].any()


def test_edges_are_smooth_and_the_mask_is_half_of_them():
  # Flat colours: how far a pixel is on the way from one to the other is the
  # share of it that the object covers.
  flat = shapes.Difficulty(0.8, 0.0, (9.0, 13.0), 180.0, 0)
  for seed, label in itertools.product(range(5), range(_CLASSES)):
    image, mask = shapes.render(np.random.default_rng(seed), label, flat)
    difference = np.linalg.norm(image - image[0, 0].astype(float), axis=-1)
    share = difference / difference.max()
    clear = abs(share - 0.5) > 0.03
    np.testing.assert_array_equal(
      (mask[..., 0] == 255)[clear], (share > 0.5)[clear]
    )
    assert ((share > 0.1) & (share < 0.9)).sum() > 20


def test_difficulty_grows():
  levels = [shapes.DIFFICULTIES[k] for k in ('easy', 'medium', 'hard')]
  for easier, harder in itertools.pairwise(levels):
    assert easier.contrast > harder.contrast
    assert easier.texture < harder.texture
    assert easier.radius > harder.radius
    assert easier.rotation < harder.rotation
    assert easier.clutter < harder.clutter


def test_counts_and_balance(easy_cue):
  for split, count in (('train', 4000), ('test', 1000)):
    labels = np.bincount(easy_cue[split]['label'])
    np.testing.assert_array_equal(labels, [count // _CLASSES] * _CLASSES)


def test_examples_are_all_different(easy_cue):
  ids, images = set(), set()
  for split in easy_cue.values():
    ids.update(split['id'].tolist())
    images.update(image.tobytes() for image in split['image'])
  assert len(ids) == len(images) == 5000
  assert {b'train_00000', b'train_03999', b'test_00999'} <= ids


def test_stored_is_what_was_drawn(easy_cue):
  config = shapes.Shapes.builder_configs['easy_cue']
  for split, data in easy_cue.items():
    for row in range(0, 1000, 50):
      index = int(data['id'][row].decode().split('_')[1])
      expected = config.example(split, index)
      for feature in ('image', 'mask', 'label', 'cue'):
        np.testing.assert_array_equal(data[feature][row], expected[feature])


def test_cue_tells_the_label_in_train_only(easy_cue):
  agree = {k: data['cue'] == data['label'] for k, data in easy_cue.items()}
  assert abs(agree['train'].mean() - 0.95) < 0.015
  assert abs(agree['test'].mean() - 1 / _CLASSES) < 0.04
  # Independent in test: knowing the cue does not help with any class.
  table = np.zeros((_CLASSES, _CLASSES))
  test = easy_cue['test']
  np.add.at(table, (test['label'], test['cue']), 1)
  assert table.min() > 0
  assert abs(table / 1000 - 1 / _CLASSES**2).max() < 0.015


def test_cue_is_the_colour_of_the_corner(easy_cue):
  for data in easy_cue.values():
    cue = data['cue'][:, None]
    bits = np.concatenate([cue >> 2 & 1, cue >> 1 & 1, cue & 1], axis=1)
    np.testing.assert_array_equal(data['image'][:, 0, 0], 255 * bits)


@pytest.mark.parametrize('name', shapes.DIFFICULTIES)
def test_cue_changes_nothing_else(name):
  configs = shapes.Shapes.builder_configs
  for index in range(16):
    plain = configs[name].example('train', index)
    cued = configs[name + '_cue'].example('train', index)
    assert plain['cue'] == -1
    assert 0 <= cued['cue'] < _CLASSES
    assert plain['label'] == cued['label']
    np.testing.assert_array_equal(plain['mask'], cued['mask'])
    changed = (plain['image'] != cued['image']).any(-1)
    assert changed[:4, :4].any()
    changed[:4, :4] = False
    assert not changed.any()


def test_two_builds_are_identical(tmp_path):
  config = shapes.ShapesConfig(
    name='tiny', difficulty='hard', cue=True, num_train=48, num_test=16
  )
  contents = []
  for run in ('a', 'b'):
    np.random.seed(len(contents))  # Must not matter.
    builder = _build(config, tmp_path / run)
    files = sorted(pathlib.Path(builder.data_dir).glob('*.tfrecord*'))
    contents.append([(file.name, file.read_bytes()) for file in files])
  assert len(contents[0]) == 2
  assert contents[0] == contents[1]


def test_pictures_are_those_of_version_1():
  digest = hashlib.sha256()
  for name in ('easy', 'medium', 'hard_cue', 'small'):
    for split in ('train', 'test'):
      example = shapes.Shapes.builder_configs[name].example(split, 5)
      digest.update(example['image'].tobytes() + example['mask'].tobytes())
  assert digest.hexdigest()[:16] == '017e43f5915420bb'


def test_seed_and_split_change_the_pictures():
  def draw(seed, split):
    config = shapes.ShapesConfig(name='mine', seed=seed)
    return config.example(split, 0)['image']

  np.testing.assert_array_equal(draw(1, 'train'), draw(1, 'train'))
  assert (draw(1, 'train') != draw(2, 'train')).any()
  assert (draw(1, 'train') != draw(1, 'test')).any()


def test_drawing_loads_no_tensorflow():
  code = (
    'import sys\n'
    'import numpy as np\n'
    'from impactx_jax.data import shapes\n'
    "easy = shapes.DIFFICULTIES['easy']\n"
    'shapes.render(np.random.default_rng(0), 0, easy)\n'
    "sys.exit('tensorflow' in sys.modules)\n"
  )
  subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.parametrize(('difficulty', 'low', 'high'), [
  ('easy', 0.4, 0.6), ('small', 0.0, 0.2),
])
def test_where_objects_are_is_no_secret_unless_they_are_small(
  difficulty, low, high
):
  config = shapes.ShapesConfig(name=difficulty, difficulty=difficulty)
  masks = np.stack([
    config.example('train', i)['mask'][..., 0] > 0
    for i in range(200)
  ])
  # The best single guess: the mean mask, cut at its best height.
  mean = masks.mean(axis=0)
  best = max(
    np.mean([
      (mask & guess).sum() / (mask | guess).sum() for mask in masks
    ])
    for cut in np.linspace(0.05, 0.95, 19)
    if (guess := mean > cut * mean.max()).any()
  )
  assert low < best < high
