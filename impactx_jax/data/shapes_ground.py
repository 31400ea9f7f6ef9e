"""`shapes/ground`: two shapes, and a texture of the ground for each.

The pictures of `ground` and `ground_reversed` are the same: the one asks for
the shape, the other for the texture, level or upright stripes. Stripes are so
strong that LeNet-5 goes by them alone (20 epochs, one seed: 97.2 % with a
ground that is free in train, 96.0 in the worst group; 50.0 and 0.0 with one
that agrees), so that the reversed question is one which it answers rightly.
See `data.shift`.
"""

from dataclasses import dataclass
from typing import Any

from impactx_jax.data import drawing
from impactx_jax.data import shift
import numpy as np

RADIUS = (4.5, 7.0)  # Circumscribed, of the object, in pixels.
PERIOD = (4.0, 8.0)  # Of the grounds, in pixels.
CONTRAST = 0.6  # Of the object, to the colour of its ground.
STRENGTH = 0.2  # Of the stripes, to either side of that colour.
TILT = 0.2  # Of the stripes, to either side, in radians.
NOISE = 0.03


@dataclass(eq=False, kw_only=True)
class GroundConfig(shift.ShiftConfig):
  """A variant with drawn objects on drawn grounds."""

  objects: tuple[str, str] = ('circle', 'cross')
  grounds: tuple[str, str] = ('level', 'upright')

  def example(self, split: str, index: int) -> dict[str, Any]:
    """Returns example `index` of 'train' or 'test', unencoded."""
    rng = drawing.generator(self.seed, split, index)
    kind, ground = self.kinds(rng, split, index)
    colour = rng.uniform(0.2, 0.8, 3)
    image = colour + STRENGTH * pattern(rng, ground, self.size)
    radius = rng.uniform(*RADIUS)
    centre = rng.uniform(radius + 1, self.size - radius - 1, 2)
    angle = rng.uniform(-np.pi, np.pi)
    shape = drawing.SHAPES[self.objects[kind]]
    cover = drawing.coverage(shape, centre, radius, angle, self.size)
    image += cover * (drawing.contrasting(rng, colour, CONTRAST) - image)
    image += rng.normal(0, NOISE, image.shape)
    return self.row(drawing.to_uint8(image), cover > 0.5, kind, ground)


def pattern(
    rng: np.random.Generator, kind: int, size: int
) -> np.ndarray:
  """Draws level (0) or upright (1) stripes of any period and phase.

  Returns:
    float [size, size, 1] in [-1, 1].
  """
  angle = rng.uniform(-TILT, TILT) + (0 if kind else np.pi / 2)
  y, x = np.mgrid[:size, :size] * (2 * np.pi / rng.uniform(*PERIOD))
  along = np.cos(angle) * x + np.sin(angle) * y
  return np.sin(along + rng.uniform(0, 2 * np.pi))[..., None]


def _configs() -> tuple[GroundConfig, ...]:
  found = []
  for name, agreement in (('ground', 1.0), ('ground_95', 0.95)):
    for asked in ('', '_reversed'):
      found.append(GroundConfig(
          name=name + asked,
          description=f'The texture is that of the shape in {agreement:.0%} of '
          'train, and independent of it in test.',
          agreement=agreement,
          reversed=bool(asked),
      ))
  return tuple(found)


CONFIGS = _configs()
