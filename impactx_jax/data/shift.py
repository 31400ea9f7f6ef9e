"""Sets in which the background tells the class in train and not in test.

What Waterbirds is: two kinds of objects, two of grounds. A classifier of the
objects can go by the ground, in validation too, which is a part of train; the
groups of test, object by ground, find it out. The question can be asked the
other way: the class is then the ground, and the object the cue.
"""

from dataclasses import dataclass
from typing import Any

from impactx_jax.data import boxes
from impactx_jax.data import drawn
import numpy as np
import tensorflow_datasets as tfds


@dataclass(eq=False, kw_only=True)
class ShiftConfig(drawn.DrawnConfig):
  """A variant of such a set.

  Attributes:
    objects: Names of the two kinds of objects.
    grounds: Names of the two kinds of grounds.
    size: Side of an image in pixels.
    agreement: Share of the train examples whose ground is that of the object's
      kind; in test it is half of them, of either kind.
    reversed: Whether the class is the ground's kind.
  """

  objects: tuple[str, str] = ('', '')
  grounds: tuple[str, str] = ('', '')
  size: int = 32
  agreement: float = 1.0
  reversed: bool = False

  def features(self) -> dict[str, Any]:
    """Returns the columns.

    `group` is 2 label + the other kind. `mask` is where to look for the class:
    the object's pixels, and, where the class is the ground, what is outside of
    the object's box; `box` is the object's, where the class is.
    """
    asked, other, word = self.objects, self.grounds, 'on'
    if self.reversed:
      asked, other, word = self.grounds, self.objects, 'with'
    groups = [f'{mine} {word} {with_}' for mine in asked for with_ in other]
    columns = {
        'image': drawn.picture(self.size, 3),
        'label': tfds.features.ClassLabel(names=list(asked)),
        'group': tfds.features.ClassLabel(names=groups),
        'mask': drawn.picture(self.size, 1),
    }
    box = tfds.features.Tensor(shape=(4,), dtype=np.float32)
    return columns if self.reversed else columns | {'box': box}

  def kinds(
      self, rng: np.random.Generator, split: str, index: int
  ) -> tuple[int, int]:
    """Returns the kinds of object and ground, 0 or 1 each, of an example."""
    kind, agrees = index % 2, rng.uniform() < self.agreement
    if split == 'test':
      return kind, index // 2 % 2
    return kind, kind if agrees else 1 - kind

  def row(
      self, image: np.ndarray, where: np.ndarray, kind: int, ground: int
  ) -> dict[str, Any]:
    """Returns an example, unencoded.

    Args:
      image: uint8 [size, size, 3].
      where: bool [size, size, 1], the object's pixels.
      kind: Of the object, 0 or 1.
      ground: Of the ground, 0 or 1.
    """
    box = boxes.boxes_of(where)
    if self.reversed:
      outside = ~boxes.boxes_to_masks(box, (self.size, self.size))
      found = {'label': ground, 'group': 2 * ground + kind}
      return {'image': image, 'mask': np.uint8(255) * outside} | found
    return {
        'image': image, 'mask': np.uint8(255) * where, 'box': box[0],
        'label': kind, 'group': 2 * kind + ground,
    }
