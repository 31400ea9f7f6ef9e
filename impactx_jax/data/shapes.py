"""The `shapes` TFDS data set: drawn shapes whose pixels are known.

Coloured shapes on textured backgrounds, with a mask of the object in each
example, so that an attribution map can be compared with what it ought to show.
The `*_cue` configs add a coloured patch to the background which agrees with
the label in train but not in test: a classifier that looks at the patch
instead of the shape is found out by its test accuracy, and by its maps.

  builder = Shapes(config='easy', data_dir=...)
  builder.download_and_prepare()
  train = builder.as_dataset(split='train')

Drawing is plain NumPy and needs no TensorFlow: `render` draws a picture with a
given generator, `make_example` one that depends on (seed, split, index) only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

SIZE = 32  # Side of an image in pixels.
CUE_SIZE = 4  # Side of the cue in pixels; it is in the top left corner.
CUE_AGREEMENT = 0.95  # Share of train examples whose cue tells the label.
NO_CUE = -1  # The value of `cue` in an example without one.

_DESCRIPTION = """
Drawn shapes of eight classes in random colours, places, sizes and rotations on
textured backgrounds, with the mask of the object (0 or 255). Difficulty sets
contrast, texture, size, rotation and the amount of clutter that belongs to no
class. With a cue, a patch in the top left corner has one of eight colours;
`cue` is the class that it points at (-1 where there is none): the example's own
class with probability 0.95 in train, a class independent of the label in test.
Apart from the patch the pictures are those of the config without the cue.
"""

# The position of a split here is part of its examples' seed.
_SPLITS = ('train', 'test')

# Points a pixel side at which shapes are sampled; their mean smooths edges.
_SAMPLES = 4
_POINTS = (np.arange(SIZE * _SAMPLES, dtype=np.float32) + 0.5) / _SAMPLES

# Says which points (x to the right, y up) belong to a shape. All shapes fit
# into the unit circle, so that no rotation can push one out of the image.
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  """A five-pointed star with tips at radius 1 and notches at radius 0.45."""
  # Half a tip is enough, by symmetry: fold angles into [0, pi/5] from the
  # nearest tip, then compare with the edge from tip (1, 0) to notch.
  fold = np.pi / 5
  angle = abs((np.arctan2(x, y) + fold) % (2 * fold) - fold)
  u, v = np.hypot(x, y) * (np.cos(angle), np.sin(angle))
  notch_u, notch_v = 0.45 * np.cos(fold), 0.45 * np.sin(fold)
  return (1 - notch_u) * v <= notch_v * (1 - u)


# The classes, in the order of their labels.
SHAPES: dict[str, Shape] = {
  'circle': lambda x, y: np.hypot(x, y) <= 0.85,
  'square': lambda x, y: np.maximum(abs(x), abs(y)) <= 0.7,
  'triangle': lambda x, y: (y >= -0.5) & (y <= 1 - np.sqrt(3) * abs(x)),
  'cross': lambda x, y: (
    (np.minimum(abs(x), abs(y)) <= 0.28) & (np.maximum(abs(x), abs(y)) <= 0.95)
  ),
  'star': _star,
  'ring': lambda x, y: abs(np.hypot(x, y) - 0.75) <= 0.2,
  # Narrow, since a diamond with equal axes is a rotated square.
  'diamond': lambda x, y: abs(x) / 0.55 + abs(y) <= 1,
  'crescent': lambda x, y: (
    (np.hypot(x, y) <= 0.95) & (np.hypot(x - 0.45, y) >= 0.75)
  ),
}

# Shapes that belong to no class and lie about in the background.
CLUTTER: dict[str, Shape] = {
  'bar': lambda x, y: (abs(x) <= 0.95) & (abs(y) <= 0.25),
  'corner': lambda x, y: (
    (abs(np.minimum(x, y) + 0.4) <= 0.25) & (np.maximum(x, y) <= 0.65)
  ),
}


@dataclass(frozen=True)
class Difficulty:
  """What makes a shape easy or hard to recognise.

  Attributes:
    contrast: distance in RGB, channels in [0, 1], of the object's colour from
      the background's, or as near to it as the background's colour allows.
    texture: standard deviation of the texture in the same unit.
    radius: smallest and largest circumscribed radius of the object in pixels.
    rotation: largest rotation in degrees, to either side.
    clutter: number of pieces of clutter in the background.
  """

  contrast: float
  texture: float
  radius: tuple[float, float]
  rotation: float
  clutter: int


DIFFICULTIES: dict[str, Difficulty] = {
  'easy': Difficulty(0.9, 0.03, (9.0, 13.0), 10.0, 0),
  'medium': Difficulty(0.65, 0.07, (8.0, 12.0), 45.0, 3),
  'hard': Difficulty(0.5, 0.09, (7.5, 11.5), 180.0, 5),
  # As easy, but the object can be anywhere: a large one is always in the
  # middle, and a map of the middle fits it without having seen the picture.
  'small': Difficulty(0.9, 0.03, (5.5, 7.5), 10.0, 0),
}


def coverage(
  shape: Shape, centre: np.ndarray, radius: float, angle: float
) -> np.ndarray:
  """Draws a shape with smooth edges.

  Args:
    shape: a value of `SHAPES` or `CLUTTER`.
    centre: float [2], x to the right and y down, in pixels from the top left.
    radius: circumscribed radius in pixels.
    angle: rotation in radians, counter-clockwise.

  Returns:
    float32 [32, 32, 1], the covered share of each pixel.
  """
  x = (_POINTS[None, :] - centre[0]) / radius
  y = (centre[1] - _POINTS[:, None]) / radius
  cos, sin = np.cos(angle), np.sin(angle)
  inside = shape(cos * x + sin * y, cos * y - sin * x)
  blocks = inside.reshape(SIZE, _SAMPLES, SIZE, _SAMPLES)
  return blocks.mean((1, 3), dtype=np.float32)[..., None]


def _contrasting(
  rng: np.random.Generator, colour: np.ndarray, contrast: float
) -> np.ndarray:
  """Returns a random colour, float [3], at about `contrast` from `colour`."""
  candidates = rng.uniform(0, 1, (64, 3))
  distances = np.linalg.norm(candidates - colour, axis=-1)
  return candidates[np.argmin(abs(distances - contrast))]


def _texture(rng: np.random.Generator, strength: float) -> np.ndarray:
  """Returns coloured waves plus noise, float [32, 32, 3], mean about 0."""
  angle = rng.uniform(0, np.pi, 3)
  frequency = 2 * np.pi / rng.uniform(4, 12, 3)
  phase = rng.uniform(0, 2 * np.pi, 3)
  y, x, _ = np.ogrid[:SIZE, :SIZE, :1]
  along = x * np.cos(angle) + y * np.sin(angle)
  waves = np.sin(along * frequency + phase) @ rng.normal(0, 0.6, (3, 3))
  return strength * (waves + rng.normal(0, 0.7, (SIZE, SIZE, 3)))


def _background(
  rng: np.random.Generator, difficulty: Difficulty, cue: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the background, float [32, 32, 3], and its colour, float [3]."""
  colour = rng.uniform(0.2, 0.8, 3)
  image = colour + _texture(rng, difficulty.texture)
  for _ in range(difficulty.clutter):
    cover = coverage(
      list(CLUTTER.values())[rng.integers(len(CLUTTER))],
      centre=rng.uniform(0, SIZE, 2),
      radius=rng.uniform(3, 6),
      angle=rng.uniform(-np.pi, np.pi),
    )
    paint = _contrasting(rng, colour, difficulty.contrast)
    image += cover * (paint - image)
  if cue != NO_CUE:
    # The eight corners of the RGB cube are the colours farthest apart.
    image[:CUE_SIZE, :CUE_SIZE] = [(cue >> bit) & 1 for bit in (2, 1, 0)]
  return image, colour


def render(
  rng: np.random.Generator,
  label: int,
  difficulty: Difficulty,
  cue: int = NO_CUE,
) -> tuple[np.ndarray, np.ndarray]:
  """Draws an object, whole and in front of everything else.

  The same state of `rng` gives the same picture whatever the cue is, but for
  the cue itself.

  Args:
    rng: the source of everything random.
    label: the object's class, 0 to 7, in the order of `SHAPES`.
    difficulty: a value of `DIFFICULTIES`, or another one.
    cue: the class, 0 to 7, that the patch in the corner points at, or -1.

  Returns:
    The image, uint8 [32, 32, 3], and the object's mask, uint8 [32, 32, 1]: 255
    where the object covers more than half of the pixel, 0 elsewhere.
  """
  image, colour = _background(rng, difficulty, cue)
  radius = rng.uniform(*difficulty.radius)
  # The outermost pixels stay free.
  centre = rng.uniform(radius + 1, SIZE - radius - 1, 2)
  angle = np.deg2rad(rng.uniform(-1, 1) * difficulty.rotation)
  cover = coverage(list(SHAPES.values())[label], centre, radius, angle)
  paint = _contrasting(rng, colour, difficulty.contrast)
  surface = paint + _texture(rng, difficulty.texture)
  image = np.clip(image + cover * (surface - image), 0, 1)
  mask = np.where(cover > 0.5, 255, 0).astype(np.uint8)
  return np.round(image * 255).astype(np.uint8), mask


@dataclass(eq=False, kw_only=True)
class ShapesConfig(tfds.core.BuilderConfig):
  """A variant of the data set; one with other values needs another name.

  Attributes:
    difficulty: a key of `DIFFICULTIES`.
    cue: whether the background carries a cue.
    num_train: number of train examples.
    num_test: number of test examples.
    seed: 0 or more; another seed gives other examples.
  """

  difficulty: str = 'easy'
  cue: bool = False
  num_train: int = 4000
  num_test: int = 1000
  seed: int = 0

  def __post_init__(self):
    if self.difficulty not in DIFFICULTIES:
      raise ValueError(
        f'difficulty is {self.difficulty!r}, but must be one of '
        f'{", ".join(DIFFICULTIES)}.'
      )


def make_example(
  config: ShapesConfig, split: str, index: int
) -> dict[str, Any]:
  """Returns example `index` of `split` ('train' or 'test'), unencoded."""
  rng = np.random.default_rng((config.seed, _SPLITS.index(split), index))
  label = index % len(SHAPES)
  # Agreement at chance makes the cue independent of the label.
  agreement = CUE_AGREEMENT if split == 'train' else 1 / len(SHAPES)
  other = (label + int(rng.integers(1, len(SHAPES)))) % len(SHAPES)
  cue = label if rng.uniform() < agreement else other
  # Dropped only after it is drawn, so that the pictures with and without agree.
  cue = cue if config.cue else NO_CUE
  image, mask = render(rng, label, DIFFICULTIES[config.difficulty], cue)
  key = f'{split}_{index:05d}'
  return {'image': image, 'label': label, 'mask': mask, 'cue': cue, 'id': key}


class Shapes(tfds.core.GeneratorBasedBuilder):
  """Shapes on textured backgrounds with the mask of the object."""

  VERSION = tfds.core.Version('1.0.0')
  # The first one is the default.
  BUILDER_CONFIGS: ClassVar[list[ShapesConfig]] = [
    ShapesConfig(
      name=difficulty + ('_cue' if cue else ''),
      description=f'Difficulty {difficulty}, with{"" if cue else "out"} cue.',
      difficulty=difficulty,
      cue=cue,
    )
    for cue in (False, True)
    for difficulty in DIFFICULTIES
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    # Not `dataset_info_from_configs`, which would look for a README and a
    # citation file beside this module.
    image = tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format='png')
    mask = tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format='png')
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict({
        'image': image,
        'label': tfds.features.ClassLabel(names=list(SHAPES)),
        'mask': mask,
        'cue': tfds.features.Scalar(np.int64),
        'id': tfds.features.Text(),
      }),
      supervised_keys=('image', 'label'),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # Everything is drawn here.
    config = self.builder_config
    counts = {'train': config.num_train, 'test': config.num_test}
    return {s: self._generate_examples(s, n) for s, n in counts.items()}

  def _generate_examples(
    self, split: str, count: int
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the `count` examples of a split, keyed by their index."""
    for index in range(count):
      yield index, make_example(self.builder_config, split, index)
