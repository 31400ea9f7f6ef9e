"""The `ground` TFDS data set: a shift of backgrounds, on real photographs.

Two kinds of objects are anywhere on photographs of two other classes, which
tell the object's kind in train and not in test (see `data.shift`). In `*_drawn`
the objects are a disc or a cross in any bright colour, in `*_pasted` discs cut
out of pictures of two more classes. `ground/NAME_reversed` asks for the
photograph's class, `ground/NAME_95` has the photograph agree in 95 % of train.

Of LeNet-5, 12 epochs and one seed, `cifar10_pasted` has 90.6 % right, 88.8 in
the worst group, where the photograph is free in train, and 62.2 and 26.0 where
it agrees; `cifar10_drawn`, 20 epochs, 97.9 and 97.3, and 57.4 and 16.3.

The photographs are those of another data set of TFDS, which must be prepared in
the same folder. Others need a file with a builder of one's own:

  class BUILDER(ground.Ground):
    BUILDER_CONFIGS = [ground.GroundConfig(
        name='mine', source='cifar100', objects=('apple', 'bus'), side=22,
        grounds=('sea', 'forest'), num_train=1000, num_test=200,
    )]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from attribution.errors import unknown_choice
from impactx_jax.data import drawing
from impactx_jax.data import pasting
from impactx_jax.data import shift
import numpy as np
import tensorflow_datasets as tfds

RADIUS = (6.0, 8.0)  # Circumscribed, of a drawn object, in pixels.

_DESCRIPTION = """
Objects of two kinds at random places of photographs of two classes. The
photograph's class is that of the object's kind in train, and independent of it
in test. `group` is 2 label + the other kind, `mask` and `box` are the object's.
"""


@dataclass(eq=False, kw_only=True)
class GroundConfig(shift.ShiftConfig):
  """A variant.

  Attributes:
    source: Name of the data set that the photographs are of; `grounds` are two
      of its classes.
    side: Of a pasted object in pixels; 0 for objects that are drawn, and named
      in `drawing.SHAPES`, where others are classes of the source.
  """

  source: str = 'cifar10'
  side: int = 0

  def render(
      self,
      rng: np.random.Generator,
      photograph: np.ndarray,
      kind: int,
      picture: np.ndarray | None,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Puts an object on a photograph.

    Args:
      rng: The source of everything random.
      photograph: uint8 [size, size, 3].
      kind: Of the object, 0 or 1.
      picture: uint8 [side, side, 3], to be cut out of; None for a drawn one.

    Returns:
      The image, uint8 [size, size, 3], and where the object is, bool [size,
      size, 1].
    """
    if picture is None:
      radius = rng.uniform(*RADIUS)
      centre = rng.uniform(radius + 1, self.size - radius - 1, 2)
      colour = rng.uniform(0, 1, 3)
      shape = drawing.SHAPES[self.objects[kind]]
      cover = drawing.coverage(shape, centre, radius, 0.0, self.size)
      image = photograph / 255
      image = image + cover * (colour / colour.max() - image)
      return drawing.to_uint8(image), cover > 0.5
    top, left = rng.integers(0, self.size - self.side + 1, 2)
    there = slice(top, top + self.side), slice(left, left + self.side)
    where = np.zeros((self.size, self.size, 1), bool)
    where[there] = pasting.ellipse(self.side)
    image = photograph.copy()
    image[there] = np.where(where[there], picture, image[there])
    return image, where


class Ground(pasting.PastingBuilder):
  """Objects on photographs that agree with them in train alone."""

  VERSION = tfds.core.Version('1.0.0')
  DESCRIPTION = _DESCRIPTION
  BUILDER_CONFIGS: ClassVar[list[GroundConfig]] = [
      GroundConfig(
          name=f'{name}{suffix}', description=description, agreement=agreement,
          reversed=suffix.endswith('reversed'), **options,
      )
      for name, description, options in (
          (
              'cifar10_drawn',
              'A disc or a cross on photographs of frogs and ships.',
              {
                  'objects': ('circle', 'cross'), 'grounds': ('frog', 'ship'),
                  'num_train': 4000, 'num_test': 4000,
              },
          ),
          (
              'cifar10_pasted',
              'Automobiles and horses, cut out by a disc, on frogs and ships.',
              {
                  'objects': ('automobile', 'horse'),
                  'grounds': ('frog', 'ship'), 'side': 20,
                  # Each object three times, at another place.
                  'num_train': 30_000, 'num_test': 2000,
              },
          ),
      )
      for suffix, agreement in (
          ('', 1.0), ('_reversed', 1.0), ('_95', 0.95), ('_95_reversed', 0.95)
      )
  ]

  def features(self) -> dict[str, Any]:
    """Returns the columns of the config."""
    return self.builder_config.features()

  def examples(self, split: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of 'train' or 'test', in order."""
    config, names = self.builder_config, pasting.labels_of(self.source)

    def of(chosen, side):
      for name in chosen:
        if name not in names:
          raise unknown_choice(
              f'class of {config.source}', name, names, 'BUILDER_CONFIGS'
          )
      classes = [names.index(name) for name in chosen]
      return pasting.read(self.source, split, side, classes)

    photographs = of(config.grounds, config.size)
    pictures = of(config.objects, config.side) if config.side else None
    for index in range(config.count(split)):
      rng = drawing.generator(config.seed, split, index)
      kind, ground = config.kinds(rng, split, index)
      photograph = photographs[ground]
      photograph = photograph[rng.integers(len(photograph))]
      picture = None
      if pictures:  # Each once, as far as they reach.
        picture = pictures[kind][index // 2 % len(pictures[kind])]
      image, where = config.render(rng, photograph, kind, picture)
      yield config.row(image, where, kind, ground)
