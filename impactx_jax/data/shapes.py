"""The `shapes` TFDS data set: drawn shapes whose pixels are known.

Coloured shapes on textured backgrounds, with a mask of the object in each
example, so that an attribution map can be compared with what it ought to show.
The `*_cue` configs add a coloured patch to the background which agrees with
the label in train but not in test: a classifier that looks at the patch
instead of the shape is found out by its test accuracy, and by its maps. `multi`
has several objects an image (`shapes_multi`), `ground` a background that is the
cue (`shapes_ground`).

  builder = Shapes(config='easy', data_dir=...)
  builder.download_and_prepare()
  train = builder.as_dataset(split='train')

Drawing is plain NumPy and needs no TensorFlow: `render` draws a picture with a
given generator, a config's `example` one that depends on (seed, split, index)
only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from impactx_jax.data import drawing
from impactx_jax.data import drawn
from impactx_jax.data import shapes_ground
from impactx_jax.data import shapes_multi
from impactx_jax.data.drawing import CLUTTER
from impactx_jax.data.drawing import SHAPES
from impactx_jax.data.drawing import SIZE
import numpy as np
import tensorflow_datasets as tfds

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
Apart from the patch the pictures are those of the config without the cue. The
configs `multi` have one to three objects of different classes, with the mask
and the box of each; of the configs `ground` the background tells the class in
train and not in test.
"""


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


def _background(
  rng: np.random.Generator, difficulty: Difficulty, cue: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the background, float [32, 32, 3], and its colour, float [3]."""
  colour = rng.uniform(0.2, 0.8, 3)
  image = colour + drawing.texture(rng, difficulty.texture)
  for _ in range(difficulty.clutter):
    cover = drawing.coverage(
      list(CLUTTER.values())[rng.integers(len(CLUTTER))],
      centre=rng.uniform(0, SIZE, 2),
      radius=rng.uniform(3, 6),
      angle=rng.uniform(-np.pi, np.pi),
    )
    paint = drawing.contrasting(rng, colour, difficulty.contrast)
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
  cover = drawing.coverage(list(SHAPES.values())[label], centre, radius, angle)
  paint = drawing.contrasting(rng, colour, difficulty.contrast)
  surface = paint + drawing.texture(rng, difficulty.texture)
  mask = np.where(cover > 0.5, 255, 0).astype(np.uint8)
  return drawing.to_uint8(image + cover * (surface - image)), mask


@dataclass(eq=False, kw_only=True)
class ShapesConfig(drawn.DrawnConfig):
  """A variant with one object an image.

  Attributes:
    difficulty: a key of `DIFFICULTIES`.
    cue: whether the background carries a cue.
  """

  difficulty: str = 'easy'
  cue: bool = False

  def __post_init__(self):
    if self.difficulty not in DIFFICULTIES:
      raise ValueError(
        f'difficulty is {self.difficulty!r}, but must be one of '
        f'{", ".join(DIFFICULTIES)}.'
      )

  def features(self) -> dict[str, Any]:
    """Returns the columns: the image, its class, mask and cue."""
    return {
      'image': drawn.picture(SIZE, 3),
      'label': tfds.features.ClassLabel(names=list(SHAPES)),
      'mask': drawn.picture(SIZE, 1),
      'cue': tfds.features.Scalar(np.int64),
    }

  def example(self, split: str, index: int) -> dict[str, Any]:
    """Returns example `index` of `split` ('train' or 'test'), unencoded."""
    rng = drawing.generator(self.seed, split, index)
    label = index % len(SHAPES)
    # Agreement at chance makes the cue independent of the label.
    agreement = CUE_AGREEMENT if split == 'train' else 1 / len(SHAPES)
    other = (label + int(rng.integers(1, len(SHAPES)))) % len(SHAPES)
    cue = label if rng.uniform() < agreement else other
    # Dropped only after it is drawn: pictures with and without it agree.
    cue = cue if self.cue else NO_CUE
    image, mask = render(rng, label, DIFFICULTIES[self.difficulty], cue)
    return {'image': image, 'label': label, 'mask': mask, 'cue': cue}


class Shapes(drawn.DrawnBuilder):
  """Shapes on textured backgrounds with the masks of the objects."""

  VERSION = tfds.core.Version('1.0.0')
  DESCRIPTION = _DESCRIPTION
  # The first one is the default.
  BUILDER_CONFIGS: ClassVar[list[drawn.DrawnConfig]] = [
    *(
      ShapesConfig(
        name=difficulty + ('_cue' if cue else ''),
        description=f'Difficulty {difficulty}, with{"" if cue else "out"} cue.',
        difficulty=difficulty,
        cue=cue,
      )
      for cue in (False, True)
      for difficulty in DIFFICULTIES
    ),
    *shapes_multi.CONFIGS,
    *shapes_ground.CONFIGS,
  ]

  def features(self) -> dict[str, Any]:
    """Returns the columns of the config."""
    return self.builder_config.features()

  def examples(self, split: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of 'train' or 'test', in order."""
    config = self.builder_config
    return (config.example(split, i) for i in range(config.count(split)))
