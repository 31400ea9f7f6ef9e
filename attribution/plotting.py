"""Images beside their maps, as a matplotlib figure.

matplotlib is imported only inside the functions that need it, and without its
`pyplot`: nothing is shown, and no figure is kept anywhere.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.errors import unknown_choice
from attribution.metrics.checks import check_fit
import numpy as np

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

DIVERGING = 'RdBu_r'  # Red for the class, blue against it, white at zero.
SCALES = ('map', 'image')
LARGEST = 200  # Rows of a figure.
_SIDE, _FONT, _GREY = 1.6, 9, '#666666'  # Inches, points.


def plot(
    images: np.ndarray,
    maps: np.ndarray | Mapping[str, np.ndarray],
    *,
    titles: Sequence[Any] | None = None,
    scale: str = 'map',
    columns: int = 1,
) -> 'Figure':
  """Draws images, each with its maps beside it.

  Maps are summed over their channels. Red is for the explained class and blue
  against it; white is zero. Under each map stands the value at the ends of its
  colours.

  Args:
    images: [N, H, W, 1 or 3], uint8 or float. Floats outside [0, 1] are
      stretched to it, each image by its own smallest and largest value.
    maps: float [N, H, W, C]; or those of several methods side by side, by name.
    titles: One for each image, such as its class; None for none.
    scale: 'map', each by its own largest magnitude; or 'image', all maps of an
      image by the largest of theirs, where their units are the same.
    columns: Images side by side, each with its maps.

  Returns:
    A figure: `savefig` keeps it, and a notebook shows it once
    `matplotlib.pyplot` is imported there.

  Raises:
    InputError: a ValueError, for arguments that do not fit.
  """
  from matplotlib import figure  # pylint: disable=g-import-not-at-top

  images = np.asarray(images)
  by_name = maps if isinstance(maps, Mapping) else {'': maps}
  _check(images, by_name, titles, scale, columns)
  relevance = {
      name: np.asarray(values, np.float64).sum(axis=-1)
      for name, values in by_name.items()
  }
  columns = min(columns, len(images))
  header = 0.25 if any(relevance) and titles is None else 0
  rows, across = -(-len(images) // columns), 1 + len(relevance)
  height = _SIDE * images.shape[1] / images.shape[2] + 0.17 + (
      0.2 if titles is not None else 0
  )
  # A narrow column between an image's maps and the next image.
  widths = [*([1] * across + [0.1]) * columns][:-1]
  picture = figure.Figure(
      figsize=(_SIDE * sum(widths) + 0.3, height * rows + header + 0.75),
      layout='compressed', dpi=120,
  )
  picture.get_layout_engine().set(
      w_pad=0.03, h_pad=0.03, wspace=0.01, hspace=0.01
  )
  axes = picture.subplots(
      rows, len(widths), squeeze=False, width_ratios=widths
  )
  for axis in axes.flat:
    axis.axis('off')
  for i, image in enumerate(displayed(images)):
    row, place = divmod(i, columns)
    first, *others = axes[row, place * (across + 1):][:across]
    draw_image(first, image)
    if titles is not None:
      first.set_title(str(titles[i]), fontsize=_FONT)
    limits = [abs(values[i]).max() for values in relevance.values()]
    for axis, name, limit in zip(others, relevance, limits, strict=True):
      limit = max(limits) if scale == 'image' else limit
      draw_map(axis, relevance[name][i], limit)
      axis.text(
          0.5, -0.03, f'±{limit:.2g}' if limit else 'all zero', va='top',
          ha='center', transform=axis.transAxes, fontsize=_FONT - 2,
          color=_GREY,
      )
      if row == 0:
        axis.set_title(name, fontsize=_FONT)
  _colour_bar(picture, axes, shrink=min(0.9, 2.4 / sum(widths)))
  return picture


def _colour_bar(picture: 'Figure', axes: np.ndarray, shrink: float) -> None:
  """Adds a thin one below, of what the colours say whatever the scale."""
  from matplotlib import cm  # pylint: disable=g-import-not-at-top
  from matplotlib import colors  # pylint: disable=g-import-not-at-top

  bar = picture.colorbar(
      cm.ScalarMappable(colors.Normalize(-1, 1), DIVERGING), ax=axes,
      orientation='horizontal', shrink=shrink, aspect=30, pad=0.02,
  )
  bar.set_ticks([-1, 0, 1], labels=['against', '0', 'for the class'])
  bar.ax.tick_params(length=0, labelsize=_FONT - 1, labelcolor=_GREY)
  bar.outline.set_visible(False)


def draw_image(axis: 'Axes', image: np.ndarray) -> None:
  """Draws an image, float [H, W, 1 or 3] in [0, 1], or uint8."""
  axis.imshow(to_rgb(image), interpolation='nearest')


def draw_map(
    axis: 'Axes', relevance: np.ndarray, limit: float | None = None
) -> None:
  """Draws a map, float [H, W], in colours about zero.

  Args:
    axis: Where.
    relevance: The map, summed over its channels.
    limit: The value at the ends of the colours; None for the largest magnitude.
  """
  if limit is None:
    limit = np.abs(relevance).max()
  limit = limit or 1.0
  axis.imshow(
      relevance, cmap=DIVERGING, vmin=-limit, vmax=limit,
      interpolation='nearest',
  )


def displayed(images: np.ndarray) -> np.ndarray:
  """Returns images that can be drawn: uint8, or floats in [0, 1].

  Args:
    images: uint8 or float [N, H, W, C]. Floats outside [0, 1] are stretched to
      it, each image by its own smallest and largest value.
  """
  if images.dtype == np.uint8 or (images.min() >= 0 and images.max() <= 1):
    return images
  low = images.min(axis=(1, 2, 3), keepdims=True)
  spread = images.max(axis=(1, 2, 3), keepdims=True) - low
  return (images - low) / np.where(spread > 0, spread, 1)


def to_rgb(image: np.ndarray) -> np.ndarray:
  """An image [H, W, 1 or 3], float in [0, 1] or uint8, as uint8 [H, W, 3]."""
  if image.shape[-1] != 3:
    image = np.repeat(image[..., :1], 3, axis=-1)
  if image.dtype == np.uint8:
    return image
  return (255 * image).round().astype(np.uint8)


def relevance_colours(values: np.ndarray) -> np.ndarray:
  """Colours a map: red for the class, blue against it, white at zero.

  Args:
    values: float [H, W, C]; summed over channels, and scaled by the largest
      magnitude.

  Returns:
    uint8 [H, W, 3].
  """
  from matplotlib import colormaps  # pylint: disable=g-import-not-at-top

  relevance = values.sum(-1)
  limit = np.abs(relevance).max() or 1.0
  colours = colormaps[DIVERGING]((relevance / limit + 1) / 2)
  return (255 * colours[..., :3]).round().astype(np.uint8)


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Lays a map over its image in grey, more opaque where it says more.

  Args:
    image: float32 [H, W, C] in [0, 1].
    values: float [H, W, C'].

  Returns:
    uint8 [H, W, 3].
  """
  grey = np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
  relevance = np.abs(values.sum(-1, keepdims=True))
  share = 0.85 * np.sqrt(relevance / (relevance.max() or 1.0))
  mixed = share * relevance_colours(values) / 255 + (1 - share) * grey
  return (255 * mixed).round().astype(np.uint8)


def _check(images, maps, titles, scale, columns) -> None:
  if images.ndim != 4 or images.shape[3] not in (1, 3) or not len(images):
    raise InputError(
        f'Images of shape {images.shape} cannot be drawn: give some, '
        '[N, H, W, 1] in grey or [N, H, W, 3] in colour.'
    )
  if images.dtype != np.uint8 and images.dtype.kind != 'f':
    raise InputError(
        f'The images are {images.dtype}: give uint8, or floats in [0, 1].'
    )
  check_at_least('columns', columns, 1)
  if len(images) > LARGEST * columns:
    raise InputError(
        f'{len(images)} images are more than the {LARGEST} rows that a figure '
        'has room for: give some of them, such as images[:20] and maps[:20].'
    )
  if not maps:
    raise InputError('There are no maps: give [N, H, W, C], or some by name.')
  for name, values in maps.items():
    check_fit(images=images, **{f'maps {name}'.strip(): values})
  for name, values in {'the images': images, **maps}.items():
    if not np.isfinite(values).all():
      where = name if name == 'the images' else f'the maps {name}'.strip()
      raise InputError(
          f'There is NaN or infinity in {where}: leave those out.'
      )
  if titles is not None and len(titles) != len(images):
    raise InputError(
        f'{len(titles)} titles for {len(images)} images: give one for each.'
    )
  if scale not in SCALES:
    raise unknown_choice('scale', scale, SCALES, 'scale')
