"""Drawing of shapes: where one is, its colour, and textures, in plain NumPy.

Needs no TensorFlow. Everything random comes from a generator that is handed in,
so that a picture is a function of (seed, split, index).
"""

from collections.abc import Callable

import numpy as np

SIZE = 32  # Side of a drawn image in pixels.

# The position of a split here is part of its examples' seed.
SPLITS = ('train', 'test')

# Points a pixel side at which shapes are sampled; their mean smooths edges.
_SAMPLES = 4

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


def generator(seed: int, split: str, index: int) -> np.random.Generator:
  """Returns the source of everything random in an example."""
  return np.random.default_rng((seed, SPLITS.index(split), index))


def coverage(
  shape: Shape,
  centre: np.ndarray,
  radius: float,
  angle: float,
  size: int = SIZE,
) -> np.ndarray:
  """Draws a shape with smooth edges.

  Args:
    shape: a value of `SHAPES` or `CLUTTER`.
    centre: float [2], x to the right and y down, in pixels from the top left.
    radius: circumscribed radius in pixels.
    angle: rotation in radians, counter-clockwise.
    size: side of the image in pixels.

  Returns:
    float32 [size, size, 1], the covered share of each pixel.
  """
  points = np.arange(size * _SAMPLES, dtype=np.float32) + 0.5
  points /= _SAMPLES
  x = (points[None, :] - centre[0]) / radius
  y = (centre[1] - points[:, None]) / radius
  cos, sin = np.cos(angle), np.sin(angle)
  inside = shape(cos * x + sin * y, cos * y - sin * x)
  blocks = inside.reshape(size, _SAMPLES, size, _SAMPLES)
  return blocks.mean((1, 3), dtype=np.float32)[..., None]


def contrasting(
  rng: np.random.Generator, colour: np.ndarray, contrast: float
) -> np.ndarray:
  """Returns a random colour, float [3], at about `contrast` from `colour`."""
  candidates = rng.uniform(0, 1, (64, 3))
  distances = np.linalg.norm(candidates - colour, axis=-1)
  return candidates[np.argmin(abs(distances - contrast))]


def texture(
  rng: np.random.Generator, strength: float, size: int = SIZE
) -> np.ndarray:
  """Returns coloured waves plus noise, float [size, size, 3], mean about 0."""
  angle = rng.uniform(0, np.pi, 3)
  frequency = 2 * np.pi / rng.uniform(4, 12, 3)
  phase = rng.uniform(0, 2 * np.pi, 3)
  y, x, _ = np.ogrid[:size, :size, :1]
  along = x * np.cos(angle) + y * np.sin(angle)
  waves = np.sin(along * frequency + phase) @ rng.normal(0, 0.6, (3, 3))
  return strength * (waves + rng.normal(0, 0.7, (size, size, 3)))


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Returns a picture of floats as one of uint8, what is beyond [0, 1] cut."""
  return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
