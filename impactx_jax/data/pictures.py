"""Picture files as the images that a network takes."""

import io
import warnings

from attribution.errors import InputError
from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageOps

# Of a picture, before it is made small; more is refused as damaged or hostile.
MAX_PIXELS = 170_000_000  # Just below where Pillow stops; it warns at half.
warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)


def read(path: epath.PathLike, shape: tuple[int, int, int]) -> np.ndarray:
  """Reads a picture and brings it to a network's size and channels.

  Args:
    path: Of the file, of any kind that Pillow reads.
    shape: (H, W, C), with one channel or three.

  Returns:
    uint8 [H, W, C], as `decode` gives it.

  Raises:
    InputError: for what is no picture.
  """
  path = epath.Path(path)
  if not path.exists() or path.is_dir():
    raise InputError(f'There is no picture {path}. Give the path of a file.')
  try:
    content = path.read_bytes()
  except OSError as error:
    raise InputError(
        f'The picture {path} cannot be read ({error.strerror}).'
    ) from error
  return decode(content, str(path), shape)


def decode(
    content: bytes, name: str, shape: tuple[int, int, int]
) -> np.ndarray:
  """Brings an encoded picture to a network's size and channels.

  It is turned as its EXIF data say, what is transparent becomes white, 16 bits
  a channel become 8, and the whole is resized, its sides each by itself.

  Args:
    content: Of a file, of any kind that Pillow reads.
    name: What an error calls it.
    shape: (H, W, C), with one channel or three.

  Returns:
    uint8 [H, W, C].

  Raises:
    InputError: for what is no picture.
  """
  height, width, channels = shape
  try:
    picture = Image.open(io.BytesIO(content))
    if picture.width * picture.height > MAX_PIXELS:
      raise InputError(
          f'{name} has {picture.width}x{picture.height} pixels; the most is '
          f'{MAX_PIXELS:,}. Give a smaller copy.'
      )
    picture.draft('RGB', (8 * width, 8 * height))  # JPEG: reads it smaller.
    picture = ImageOps.exif_transpose(picture)
    picture = _flat(picture)
  except InputError:
    raise
  except Exception as error:  # Pillow raises many kinds for damaged files.
    raise InputError(
        f'{name} is no picture that can be read. Mend or remove it, or give a '
        'png or jpeg.'
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
