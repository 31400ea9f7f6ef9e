"""Picture files as the images that a network takes."""

import warnings

from attribution.errors import InputError
from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageOps

# Of a picture, before it is made small; more is refused as damaged or hostile.
MAX_PIXELS = 400_000_000


def read(path: epath.PathLike, shape: tuple[int, int, int]) -> np.ndarray:
  """Reads a picture and brings it to a network's size and channels.

  The whole picture is resized, its sides each by itself, as in training. Other
  than there, it is turned as its EXIF data say, and what is transparent becomes
  white; 16 bits a channel become 8.

  Args:
    path: Of the file, of any kind that Pillow reads.
    shape: (H, W, C), with one channel or three.

  Returns:
    uint8 [H, W, C].

  Raises:
    InputError: for what is no picture.
  """
  path = epath.Path(path)
  if not path.exists() or path.is_dir():
    raise InputError(f'There is no picture {path}. Give the path of a file.')
  height, width, channels = shape
  try:
    with warnings.catch_warnings(), path.open('rb') as file:
      # Pillow warns of large pictures, and refuses very large ones.
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      picture = Image.open(file)
      if picture.width * picture.height > MAX_PIXELS:
        raise InputError(
            f'{path} has {picture.width}x{picture.height} pixels; the most is '
            f'{MAX_PIXELS:,}. Give a smaller copy.'
        )
      picture.draft('RGB', (8 * width, 8 * height))  # JPEG: reads it smaller.
      picture = ImageOps.exif_transpose(picture)
      picture = _flat(picture)
  except InputError:
    raise
  except Exception as error:  # Pillow raises many kinds for damaged files.
    raise InputError(
        f'{path} is no picture that can be read ({error}). Give a png or jpeg.'
    ) from error
  picture = picture.convert('L' if channels == 1 else 'RGB')
  picture = picture.resize((width, height), Image.Resampling.BILINEAR)
  return np.asarray(picture, np.uint8).reshape(height, width, channels)


def _flat(picture: Image.Image) -> Image.Image:
  """Eight bits a channel, and nothing transparent."""
  if picture.mode.startswith('I') or picture.mode == 'F':
    values = np.asarray(picture, np.float64)
    largest = 1.0 if picture.mode == 'F' else 65535.0
    values = 255 * np.clip(values / largest, 0, 1)
    return Image.fromarray(values.round().astype(np.uint8))
  if picture.has_transparency_data:
    picture = picture.convert('RGBA')
    white = Image.new('RGBA', picture.size, 'white')
    return Image.alpha_composite(white, picture).convert('RGB')
  return picture.convert('RGB') if picture.mode != 'L' else picture
