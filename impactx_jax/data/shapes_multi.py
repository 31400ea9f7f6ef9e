"""`shapes/multi`: several shapes an image, each with its mask and its box.

One to three shapes of different classes, of which less than a fifth is hidden
by another. In `shapes/multi_cooccur` a circle is hardly ever in train without a
square, nor a square without a circle; in test the two are never together, so
that a classifier that takes one for the other is found out.
"""

from dataclasses import dataclass
from typing import Any

from impactx_jax.data import boxes
from impactx_jax.data import drawing
from impactx_jax.data import drawn
from impactx_jax.data.drawing import SHAPES
from impactx_jax.data.drawing import SIZE
import numpy as np
import tensorflow_datasets as tfds

MOST = 3  # Shapes an image.
HIDDEN = 0.2  # Of a shape less than this is behind others.
RADIUS = (4.0, 7.0)  # Circumscribed, in pixels.
ROTATION = 10.0  # To either side, in degrees.
CONTRAST, TEXTURE = 0.9, 0.03  # As in the difficulty 'easy'.
PAIR = (0, 1)  # Circle and square: the classes that go together.


@dataclass(eq=False, kw_only=True)
class MultiConfig(drawn.DrawnConfig):
  """A variant with several objects an image.

  Attributes:
    together: Share of the train examples with one class of `PAIR` that have
      the other one too; in test none has. -1 for no such bond.
  """

  together: float = -1.0

  def features(self) -> dict[str, Any]:
    """Returns the columns: the image, its classes, their masks and boxes."""
    return {
        'image': drawn.picture(SIZE, 3),
        'labels': tfds.features.Sequence(
            tfds.features.ClassLabel(names=list(SHAPES))
        ),
        'masks': tfds.features.Tensor(
            shape=(SIZE, SIZE, len(SHAPES)), dtype=np.uint8,
            encoding=tfds.features.Encoding.ZLIB,
        ),
        'boxes': tfds.features.Tensor(
            shape=(len(SHAPES), 4), dtype=np.float32
        ),
    }

  def example(self, split: str, index: int) -> dict[str, Any]:
    """Returns example `index` of 'train' or 'test', unencoded."""
    rng = drawing.generator(self.seed, split, index)
    chosen = choose(rng, index % len(SHAPES))
    if self.together >= 0:
      share = self.together if split == 'train' else 0.0
      chosen = bind(chosen, rng.uniform() < share)
    image, masks = render(rng, rng.permutation(chosen))
    return {
        'image': image,
        'labels': sorted(map(int, chosen)),
        'masks': masks,
        'boxes': boxes.boxes_of(masks),
    }


def choose(rng: np.random.Generator, first: int) -> list[int]:
  """Draws one to three different classes, among them `first`."""
  others = rng.permutation(np.delete(np.arange(len(SHAPES)), first))
  return [first, *others[: rng.integers(MOST)].tolist()]


def bind(chosen: list[int], together: bool) -> list[int]:
  """Returns classes of which both or one of `PAIR` are there, if one was."""
  mine = [k for k in chosen if k in PAIR]
  if mine:
    mine = list(PAIR) if together else mine[:1]
  others = [k for k in chosen if k not in PAIR]
  return mine + others[: MOST - len(mine)]


def render(
    rng: np.random.Generator, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Draws objects on a background, the last one in front.

  Args:
    rng: The source of everything random.
    labels: int [1 to 3], in the order of `SHAPES`.

  Returns:
    The image, uint8 [32, 32, 3], and of each class's object what is visible,
    uint8 [32, 32, 8]: 1 where it covers more than half of the pixel and is not
    behind another one.
  """
  covers = _places(rng, labels)
  colour = rng.uniform(0.2, 0.8, 3)
  image = colour + drawing.texture(rng, TEXTURE)
  masks = np.zeros((SIZE, SIZE, len(SHAPES)), np.uint8)
  for label, cover in zip(labels, covers, strict=True):
    paint = drawing.contrasting(rng, colour, CONTRAST)
    surface = paint + drawing.texture(rng, TEXTURE)
    image += cover * (surface - image)
    masks[cover[..., 0] > 0.5] = 0
    masks[..., label] = cover[..., 0] > 0.5
  return drawing.to_uint8(image), masks


def _places(
    rng: np.random.Generator, labels: np.ndarray
) -> list[np.ndarray]:
  """Returns what each object covers, float32 [32, 32, 1], little hidden."""
  shapes, covers = list(SHAPES.values()), []
  while len(covers) < len(labels):
    radius = rng.uniform(*RADIUS)
    # The outermost pixels stay free.
    centre = rng.uniform(radius + 1, SIZE - radius - 1, 2)
    angle = np.deg2rad(rng.uniform(-1, 1) * ROTATION)
    shape = shapes[labels[len(covers)]]
    covers.append(drawing.coverage(shape, centre, radius, angle))
    if _hidden(covers) >= HIDDEN:
      covers.pop()
  return covers


def _hidden(covers: list[np.ndarray]) -> float:
  """Returns the largest share of an object that later ones hide."""
  objects = np.stack(covers)[..., 0] > 0.5
  later = np.logical_or.accumulate(objects[::-1])[::-1]
  shares = [
      (mine & behind).sum() / mine.sum()
      for mine, behind in zip(objects, later[1:], strict=False)
  ]
  return max(shares, default=0.0)


CONFIGS = (
    MultiConfig(
        name='multi', description='One to three shapes an image.'
    ),
    MultiConfig(
        name='multi_cooccur',
        description='Circle and square are together in 90 % of the train '
        'images with one of them, and in no test image.',
        together=0.9,
    ),
)
