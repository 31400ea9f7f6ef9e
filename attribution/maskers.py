"""What stands in for the hidden pixels of an image.

Blur, mean and constant maskers replace hidden pixels by those of one fully
masked image, the background, so that a masked image is
`where(visible, image, background)`. The inpainting maskers fill the hidden
pixels from the visible ones, one mask at a time; for them the background is
what is left when everything is hidden: the image's own mean colour.
"""

from collections.abc import Sequence

import numpy as np

from attribution.errors import InputError
from attribution.errors import unknown_choice

BACKGROUND_MASKERS = ('blur', 'mean', 'constant')
INPAINT_MASKERS = ('inpaint_telea', 'inpaint_ns')
MASKERS = BACKGROUND_MASKERS + INPAINT_MASKERS


def check(masker: str, blur_kernel: int | None = None) -> None:
  """Raises InputError for an unknown masker or an impossible blur kernel."""
  if masker not in MASKERS:
    raise unknown_choice(
        'masker', masker, MASKERS, '--config.attribution.masker'
    )
  if blur_kernel is not None and blur_kernel < 0:
    raise InputError(
        f'The blur kernel is {blur_kernel} pixels wide; it must be 1 or more, '
        'or 0 for half the side of the image. Change it with '
        '--config.attribution.blur_kernel=N.'
    )


def background(
    images: np.ndarray,
    masker: str,
    *,
    blur_kernel: int | None = None,
    mask_value: float | Sequence[float] | np.ndarray = 0.0,
) -> np.ndarray:
  """Returns each image with every pixel hidden.

  Args:
    images: float32 [N, H, W, C] in [0, 1].
    masker: One of MASKERS.
    blur_kernel: Side of the box blur in pixels, for `blur`; None or 0 is half
      the shorter side (16 at 32x32, 48 at 96x96).
    mask_value: The colour for `mean` and `constant`: one value, or one for
      each channel, in [0, 1].

  Returns:
    float32 [N, H, W, C] in [0, 1].

  Raises:
    InputError: for an unknown masker or an impossible blur kernel.
  """
  check(masker, blur_kernel)
  images = np.asarray(images, np.float32)
  if masker == 'blur':
    import cv2  # pylint: disable=g-import-not-at-top

    side = blur_kernel or max(1, min(images.shape[1:3]) // 2)
    # cv2 drops a channel axis of length one; the reshape restores it.
    blurred = [cv2.blur(image, (side, side)) for image in images]
    return np.reshape(blurred, images.shape).astype(np.float32)
  if masker in INPAINT_MASKERS:
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.broadcast_to(mean, images.shape).copy()
  colour = np.asarray(mask_value, np.float32)
  if colour.shape not in ((), (1,), images.shape[3:]):
    raise InputError(
        f'The mask value has the shape {colour.shape}; give one number, or '
        f'one for each of the {images.shape[3]} channels.'
    )
  return np.broadcast_to(colour, images.shape).copy()
