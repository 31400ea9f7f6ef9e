"""What stands in for the hidden pixels of an image.

Blur, mean and constant maskers replace hidden pixels by those of one fully
masked image, the background, so that a masked image is
`where(visible, image, background)`. The inpainting maskers fill the hidden
pixels from the visible ones, one mask at a time; for them the background is
what is left when everything is hidden: the image's own mean colour.
"""

from collections.abc import Sequence

from attribution.errors import InputError
from attribution.errors import unknown_choice
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

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
    images: np.ndarray | jax.Array,
    masker: str,
    *,
    blur_kernel: int | None = None,
    mask_value: float | Sequence[float] | np.ndarray = 0.0,
) -> jax.Array:
  """Returns each image with every pixel hidden; can be part of a jitted one.

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
  images = jnp.asarray(images, jnp.float32)
  if masker == 'blur':
    return blur(images, blur_kernel or max(1, min(images.shape[1:3]) // 2))
  if masker in INPAINT_MASKERS:
    mean = images.mean(axis=(1, 2), keepdims=True)
    return jnp.broadcast_to(mean, images.shape)
  colour = np.asarray(mask_value, np.float32)
  if colour.shape not in ((), (1,), images.shape[3:]):
    raise InputError(
        f'The mask value has the shape {colour.shape}; give one number, or '
        f'one for each of the {images.shape[3]} channels.'
    )
  return jnp.broadcast_to(colour, images.shape)


def blur(images: jax.Array, side: int) -> jax.Array:
  """The mean over a square around each pixel, as OpenCV's `blur` has it.

  Args:
    images: float32 [N, H, W, C].
    side: Of the square, in pixels; an even one reaches further up and left.

  Returns:
    float32 [N, H, W, C]. Beyond the edge the image is mirrored, the edge
    itself not repeated.
  """
  before, after = side // 2, side - 1 - side // 2
  for axis in (1, 2):
    padding = [(0, 0)] * 4
    padding[axis] = (before, after)
    window = [1] * 4
    window[axis] = side
    # A side of one pixel has nothing to mirror but itself.
    mode = 'reflect' if images.shape[axis] > 1 else 'edge'
    images = lax.reduce_window(
        jnp.pad(images, padding, mode=mode), 0.0, lax.add, window, [1] * 4,
        'VALID',
    )
  return images / side**2
