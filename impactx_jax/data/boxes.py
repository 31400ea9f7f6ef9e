"""Boxes: ymin, xmin, ymax, xmax in [0, 1], zeros where there is nothing.

`boxes_to_masks` and `dilate` take NumPy's arrays and, inside a compiled step,
JAX's.
"""

from typing import Any

import numpy as np

# A box is something above this share of the image; less is left of one that
# was moved out of it, by rounding.
THINNEST = 1e-5


def boxes_to_masks(boxes: Any, sides: tuple[int, int]) -> Any:
  """Says which pixels are inside each box.

  Those whose centre is; of a box that is too thin to hold a centre, the row or
  the column of pixels in which its middle is.

  Args:
    boxes: float [..., K, 4].
    sides: (H, W) of the image in pixels.

  Returns:
    bool [..., H, W, K]; all False for a box of no area.
  """
  corners = boxes[..., None, None, :, :]
  rows = (np.arange(sides[0], dtype=np.float32)[:, None, None] + 0.5) / sides[0]
  columns = (np.arange(sides[1], dtype=np.float32)[:, None] + 0.5) / sides[1]
  return _within(
      rows, corners[..., 0], corners[..., 2], sides[0]
  ) & _within(columns, corners[..., 1], corners[..., 3], sides[1])


def _within(centres: Any, low: Any, high: Any, side: int) -> Any:
  half = ((high - low) / 2).clip(0.5 / side) + 1e-6
  return (abs(centres - (low + high) / 2) <= half) & (high - low > THINNEST)


def dilate(boxes: Any, share: float, sides: tuple[int, int]) -> Any:
  """Makes boxes larger, as inexact ones would be; for training alone.

  On each side by `int(share * side)` pixels, of the box's own height and width
  (Rao et al., ICCV 2023, and their code), as far as the image goes.

  Args:
    boxes: float [..., 4].
    share: Of the box's side, 0 or more.
    sides: (H, W) of the image in pixels.

  Returns:
    float [..., 4]; a box of no area stays one.
  """
  scale = np.array(sides, np.float32)
  # Whole pixels: a product that is one but for rounding is not rounded down.
  pixels = (boxes[..., 2:] - boxes[..., :2]) * scale * share + 1e-3
  added = (pixels // 1) / scale
  low, high = boxes[..., :2] - added, boxes[..., 2:] + added
  together = np if isinstance(boxes, np.ndarray) else _jax()
  return together.concatenate([low, high], axis=-1).clip(0, 1)


def _jax() -> Any:
  import jax.numpy as jnp  # pylint: disable=g-import-not-at-top

  return jnp


def boxes_of(masks: np.ndarray) -> np.ndarray:
  """Returns the box around each mask.

  Args:
    masks: [..., H, W, K]; not 0 where the object is.

  Returns:
    float32 [..., K, 4]; zeros for an empty mask.
  """
  here, ends = masks != 0, []
  for axis in (-2, -3):  # Rows with anything in them, then columns.
    filled = here.any(axis=axis)  # [..., side, K]
    side = filled.shape[-2]
    first = filled.argmax(axis=-2)
    last = side - filled[..., ::-1, :].argmax(axis=-2)
    there = filled.any(axis=-2)
    ends.append((there * first / side, there * last / side))
  (top, bottom), (left, right) = ends
  return np.stack([top, left, bottom, right], axis=-1).astype(np.float32)
