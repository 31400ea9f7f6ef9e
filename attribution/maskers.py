"""What stands in for the hidden pixels of an image.

Blur, mean and constant maskers replace hidden pixels by those of one fully
masked image, the background, so that a masked image is
`where(visible, image, background)`. The inpainting maskers fill the hidden
pixels from the visible ones, one mask at a time; for them the background is
what is left when everything is hidden: the image's own mean colour.
"""

import dataclasses

from attribution.errors import InputError
from attribution.errors import unknown_choice
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

BACKGROUND_MASKERS = ('blur', 'mean', 'constant')
INPAINT_MASKERS = ('inpaint_telea', 'inpaint_ns')
MASKERS = BACKGROUND_MASKERS + INPAINT_MASKERS


@dataclasses.dataclass(frozen=True)
class Masker:
  """A masker and its settings; equal ones hash alike.

  Attributes:
    name: One of MASKERS.
    blur_kernel: Side of the box blur in pixels, for `blur`; 0 is half the
      shorter side of the image (16 at 32x32, 48 at 96x96).
    mask_value: The colour for `mean` and `constant`, in [0, 1]: one number,
      or one for each channel, which may be an array and is kept as a tuple.

  Raises:
    InputError: for an unknown name, or settings that cannot be met.
  """

  name: str = 'blur'
  blur_kernel: int = 0
  mask_value: float | tuple[float, ...] = 0.0

  def __post_init__(self):
    """Checks the settings."""
    if self.name not in MASKERS:
      raise unknown_choice('masker', self.name, MASKERS, 'masker')
    if self.blur_kernel < 0:
      raise InputError(
          f'The blur kernel is {self.blur_kernel} pixels wide; it must be 1 or '
          'more, or 0 for half the side of the image.',
          'blur_kernel',
          'N',
      )
    try:
      colour = np.asarray(self.mask_value, np.float32)
    except (TypeError, ValueError) as error:
      raise InputError(
          f'The mask value is {self.mask_value!r}; give one number in [0, 1], '
          'or one for each channel.',
          'mask_value',
      ) from error
    if colour.ndim > 1:
      raise InputError(
          f'The mask value has the shape {colour.shape}; give one number, or '
          'one for each channel.',
          'mask_value',
      )
    value = colour.tolist()
    if colour.ndim:
      value = tuple(value)
    object.__setattr__(self, 'mask_value', value)

  @property
  def inpaints(self) -> bool:
    """Whether hidden pixels depend on which others are hidden."""
    return self.name in INPAINT_MASKERS

  def background(self, images: np.ndarray | jax.Array) -> jax.Array:
    """Returns each image with every pixel hidden; may be part of a jitted one.

    Args:
      images: float32 [N, H, W, C] in [0, 1].

    Returns:
      float32 [N, H, W, C] in [0, 1].

    Raises:
      InputError: for a mask value of another number of channels.
    """
    images = jnp.asarray(images, jnp.float32)
    if self.name == 'blur':
      side = self.blur_kernel or max(1, min(images.shape[1:3]) // 2)
      return blur(images, side)
    if self.inpaints:
      mean = images.mean(axis=(1, 2), keepdims=True)
      return jnp.broadcast_to(mean, images.shape)
    colour = np.asarray(self.mask_value, np.float32)
    if colour.shape not in ((), (1,), images.shape[3:]):
      raise InputError(
          f'The mask value has {len(colour)} numbers; give one, or one for '
          f'each of the {images.shape[3]} channels.',
          'mask_value',
      )
    return jnp.broadcast_to(colour, images.shape)


BLUR = Masker()


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
