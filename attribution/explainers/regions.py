"""Regions of images: how they are numbered, and which pixels they have."""

from attribution.errors import InputError
from attribution.errors import check_at_least
import jax
import jax.numpy as jnp
import numpy as np


def cells(height: int, width: int, grid: int) -> np.ndarray:
  """Returns which cell of a grid each pixel is in, int32 [1, H, W].

  Raises:
    InputError: for more cells a side than pixels.
  """
  if grid > min(height, width):
    raise InputError(
        f'A grid of {grid} cells a side is finer than the pixels of images of '
        f'{height}x{width}: give {min(height, width)} or less.', 'grid', 'N',
    )
  rows, columns = (np.arange(n) * grid // n for n in (height, width))
  return (rows[:, None] * grid + columns).astype(np.int32)[None]


def number(grid: int, num_regions: int) -> int:
  """Returns how many regions there are: the user's, or cells."""
  check_at_least('grid', grid, 1)
  check_at_least('num_regions', num_regions, 0)
  return num_regions or grid**2


def checked(
    regions: np.ndarray, images: np.ndarray, num_regions: int | None
) -> np.ndarray:
  """Numbers the regions of a user's along a balanced hierarchy of them.

  The regions of an image are halved again and again, at the median of their
  centres along the direction in which these lie furthest apart, so that halves
  of the numbers, as `partition_tree` takes them, are neighbours.

  Args:
    regions: int [H, W] for all images, or [N, H, W].
    images: [N, H, W, C].
    num_regions: How many numbers there are; None for as many as are needed.

  Returns:
    int32 [N, H, W], each below `num_regions`.

  Raises:
    InputError: for regions of other sizes, or that leave pixels or numbers out.
  """
  regions = np.asarray(regions)
  shape = images.shape[:3]
  if regions.dtype.kind not in 'iu' or regions.shape not in (shape, shape[1:]):
    raise InputError(
        f'The regions are {regions.dtype} of shape {regions.shape}; for images '
        f'of shape {images.shape} give whole numbers [{shape[1]}, {shape[2]}], '
        f'or one such array an image.', 'regions',
    )
  several = regions.reshape(-1, *shape[1:])
  counts = [_count(numbers, i) for i, numbers in enumerate(several)]
  largest = max(counts, default=1)
  if num_regions is None:
    num_regions = largest
  if largest > num_regions:
    raise InputError(
        f'Image {int(np.argmax(counts))} has {largest} regions, and '
        f'num_regions is {num_regions}. Give the largest number, or None.',
        'num_regions', 'N',
    )
  placed = [
      _places(numbers, count, num_regions)[numbers]
      for numbers, count in zip(several, counts, strict=True)
  ]
  placed = np.reshape(placed, several.shape).astype(np.int32)
  return np.ascontiguousarray(np.broadcast_to(placed, shape))


def _count(numbers: np.ndarray, image: int) -> int:
  """Returns how many regions there are; raises InputError for gaps."""
  found = np.unique(numbers)
  if found[0] < 0:
    raise InputError(
        f'The regions of image {image} leave out {(numbers < 0).sum()} pixels, '
        f'which are numbered {found[0]}. Give these a region of their own.',
        'regions',
    )
  if found[-1] != len(found) - 1:
    raise InputError(
        f'The regions of image {image} are {len(found)} numbers from '
        f'{found[0]} to {found[-1]}; they must be 0 to {len(found) - 1}, none '
        'skipped. np.unique(x, return_inverse=True)[1], of one image each '
        'time, numbers them so.',
        'regions',
    )
  return len(found)


def _places(numbers: np.ndarray, count: int, slots: int) -> np.ndarray:
  """Returns the place of each region along the hierarchy, int [count]."""
  pixels = np.bincount(numbers.ravel(), minlength=count)
  centres = np.stack([
      np.bincount(numbers.ravel(), where.ravel(), count) / pixels
      for where in np.indices(numbers.shape)
  ], axis=1)
  places = np.empty(count, int)

  def place(members, start, slots):
    if len(members) < 2:
      places[members] = start
      return
    spans = np.ptp(centres[members], axis=0)
    along = centres[members, int(np.argmax(spans))]
    members = members[np.argsort(along, kind='stable')]
    # The first half is the larger one, as in `partition_tree`; where an image
    # has fewer regions than there are places, both halves have spare ones.
    half = -(-len(members) // 2)
    room = -(-slots // 2)
    place(members[:half], start, room)
    place(members[half:], start + room, slots - room)

  place(np.arange(count), 0, slots)
  return places


def there(regions: np.ndarray | jax.Array, num_regions: int) -> jax.Array:
  """Returns which regions an image has: int [B, H, W] -> bool [B, d]."""
  return jax.vmap(
      lambda places: jnp.bincount(places.ravel(), length=num_regions) > 0
  )(jnp.asarray(regions))


def spread(
    values: jax.Array, regions: np.ndarray | jax.Array, channels: int
) -> jax.Array:
  """Shares the values of regions among their pixels and channels.

  Args:
    values: [N, d, K'].
    regions: int [1, H, W] or [N, H, W], of each pixel.
    channels: C.

  Returns:
    [N, H, W, C, K'], which sums to the same.
  """
  regions = jnp.broadcast_to(regions, (len(values), *regions.shape[1:]))

  def one(values, regions):
    pixels = jnp.bincount(regions.ravel(), length=len(values))
    return (values / (channels * jnp.maximum(pixels, 1))[:, None])[regions]

  maps = jax.vmap(one)(values, regions)
  return jnp.repeat(maps[:, :, :, None], channels, axis=3)
