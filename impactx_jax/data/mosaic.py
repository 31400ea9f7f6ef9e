"""The `mosaic` TFDS data set: several pictures of another set on one canvas.

`mosaic/SOURCE` has one to three pictures of different classes of SOURCE, any
classification set of TFDS such as cifar10 or cifar100, on a textured ground,
and `mosaic/SOURCE_grid` four in two rows without a ground (the grid pointing
game). Several labels, and for each class the box of its picture; a picture is a
rectangle, so that its pixels are those of the box.

SOURCE must be prepared in the same folder of TFDS, and is read into memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from impactx_jax.data import drawing
from impactx_jax.data import drawn
from impactx_jax.data import pasting
import numpy as np
import tensorflow_datasets as tfds

_GRID = '_grid'
_DESCRIPTION = """
Pictures of different classes of another data set at random places of a canvas,
which do not overlap. `labels` are their classes, row k of `boxes` is where the
picture of class k is, zeros where there is none.
"""


@dataclass(eq=False, kw_only=True)
class MosaicConfig(drawn.DrawnConfig):
  """A variant.

  Attributes:
    source: Name of the data set that the pictures are of.
    size: Side of the canvas in pixels.
    side: Of a picture on it, in pixels.
    most: Pictures on it, at most.
    grid: Whether they are four, side by side, with no ground between.
  """

  source: str = 'cifar10'
  size: int = 64
  side: int = 24
  most: int = 3
  grid: bool = False
  num_train: int = 10_000
  num_test: int = 2000


def config_of(name: str) -> MosaicConfig:
  """Returns the config that `mosaic/NAME` stands for, such as cifar100_grid."""
  source = name.removesuffix(_GRID)
  name = name.replace('/', '.')  # A config's name is one folder.
  if name.endswith(_GRID):
    return MosaicConfig(
        name=name, source=source, grid=True, side=32,
        description=f'Four pictures of {source} in two rows.',
    )
  return MosaicConfig(
      name=name, source=source,
      description=f'One to three pictures of {source} on a texture.',
  )


class Mosaic(pasting.PastingBuilder):
  """Several pictures of another data set on one canvas."""

  VERSION = tfds.core.Version('1.0.0')
  DESCRIPTION = _DESCRIPTION
  BUILDER_CONFIGS: ClassVar[list[MosaicConfig]] = [
      config_of('cifar10'), config_of('cifar10' + _GRID)
  ]

  def features(self) -> dict[str, Any]:
    """Returns the columns: the image, its classes and their boxes."""
    names = pasting.labels_of(self.source)
    size = self.builder_config.size
    return {
        'image': drawn.picture(size, 3),
        'labels': tfds.features.Sequence(
            tfds.features.ClassLabel(names=names)
        ),
        'boxes': tfds.features.Tensor(shape=(len(names), 4), dtype=np.float32),
    }

  def examples(self, split: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of 'train' or 'test', in order."""
    config = self.builder_config
    classes = range(len(pasting.labels_of(self.source)))
    pictures = pasting.read(self.source, split, config.side, classes)
    there = np.flatnonzero([len(mine) for mine in pictures])
    for index in range(config.count(split)):
      rng = drawing.generator(config.seed, split, index)
      count = 4 if config.grid else 1 + rng.integers(config.most)
      count = min(count, len(there))
      # Each class is the first of as many examples as any other.
      first = there[index % len(there)]
      others = rng.permutation(there[there != first])
      labels = rng.permutation([first, *others[: count - 1]])
      yield render(rng, config, pictures, labels)


def render(
    rng: np.random.Generator,
    config: MosaicConfig,
    pictures: Sequence[np.ndarray],
    labels: np.ndarray,
) -> dict[str, Any]:
  """Makes an example, unencoded.

  Args:
    rng: The source of everything random.
    config: The variant.
    pictures: For each class uint8 [N, side, side, 3].
    labels: int [1 to 4], of the pictures.
  """
  size, side = config.size, config.side
  colour = rng.uniform(0.2, 0.8, 3)
  image = drawing.to_uint8(colour + drawing.texture(rng, 0.06, size))
  boxes = np.zeros((len(pictures), 4), np.float32)
  places = grid(side) if config.grid else apart(rng, len(labels), size, side)
  for label, (top, left) in zip(labels, places, strict=False):
    picture = pictures[label][rng.integers(len(pictures[label]))]
    image[top : top + side, left : left + side] = picture
    boxes[label] = np.array([top, left, top + side, left + side]) / size
  return {'image': image, 'labels': sorted(map(int, labels)), 'boxes': boxes}


def grid(side: int) -> np.ndarray:
  """Returns the corners, top and left, of four cells, int [4, 2]."""
  return side * np.array([(0, 0), (0, 1), (1, 0), (1, 1)])


def apart(
    rng: np.random.Generator, count: int, size: int, side: int
) -> np.ndarray:
  """Draws the corners of squares that do not overlap, int [count, 2]."""
  while True:
    places = rng.integers(0, size - side + 1, (count, 2))
    distances = abs(places[:, None] - places).max(axis=-1)
    if (distances + size * np.eye(count) >= side).all():
      return places
