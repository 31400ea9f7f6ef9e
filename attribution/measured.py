"""What was measured of maps: values of each image, intervals, and a table."""

import dataclasses

from attribution.errors import unknown_choice
from attribution.metrics import intervals
from attribution.metrics.intervals import Interval
from attribution.metrics.intervals import Values
import numpy as np

# Titles, and what is better.
MEASURES = {
    'morf_area': ('MoRF area', 'lower is better'),
    'morf_aopc': ('MoRF AOPC', 'higher is better'),
    'lerf_area': ('LeRF area', 'higher is better'),
    'deletion_area': ('deletion area', 'lower is better'),
    'insertion_area': ('insertion area', 'higher is better'),
    'swap_difference': (
        "insertion area above another image's map",
        'above 0: about this image',
    ),
    'completeness_gap': ('completeness gap', '0: complete'),
    'epg': ('energy in the mask', 'higher is better'),
    'iou': ('IoU with the mask', 'higher is better'),
    'stability': ('stability under noise', '1: the same order; 0: chance'),
    'max_sensitivity': ('max-sensitivity to noise', 'lower is better'),
    'randomisation': (
        'likeness after randomising the model', 'near 0: it follows the model'
    ),
}


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredMaps:
  """What was measured of maps; print it for a table.

  Attributes:
    values: By measure and by the map's name, one value an image, float [N]; NaN
      where a measure is not defined.
    labels: int [N], the explained classes.
    names: Of the maps.
    region: Side of the regions that were perturbed, in pixels.
    seed: Of all random numbers, those of the intervals too.
  """

  values: Values = dataclasses.field(repr=False)
  labels: np.ndarray = dataclasses.field(repr=False)
  names: tuple[str, ...]
  region: int
  seed: int

  def intervals(self, level: float = 0.95) -> dict[str, dict[str, Interval]]:
    """Returns means and bootstrap intervals over images, by measure and map."""
    return self._intervals(self.values, level)

  def differences(
      self, reference: str, level: float = 0.95
  ) -> dict[str, dict[str, Interval]]:
    """Returns means and intervals of each image's difference to a reference.

    Args:
      reference: The name of one of the maps.
      level: Confidence.

    Raises:
      InputError: a ValueError, for an unknown name.
    """
    if reference not in self.names:
      raise unknown_choice('reference', reference, self.names, 'reference')
    return self._intervals(
        intervals.differences(self.values, reference), level
    )

  def table(self, reference: str | None = None) -> str:
    """Returns an aligned table of text: measures by maps, 95 % intervals.

    Args:
      reference: The name of one of the maps, to show the differences of the
        others to it; None for the values.
    """
    names = [name for name in self.names if name != reference]
    if reference is None:
      found, what = self.intervals(), 'means'
    else:
      found = self.differences(reference)
      what = f'means of the paired differences to {reference}'
    rows = [['', *names, '']]
    for measure, by_name in found.items():
      title, better = MEASURES[measure]
      if reference is not None and 'is better' not in better:
        better = ''  # It is of values.
      rows.append([title, *(_cell(by_name.get(n)) for n in names), better])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        '  '.join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    lines.append(
        f'{len(self.labels)} images; {what}, and 95 % bootstrap intervals; '
        f'regions of {self.region}x{self.region} pixels.'
    )
    return '\n'.join(lines)

  def __str__(self) -> str:
    return self.table()

  def _intervals(self, values, level):
    return {
        measure: {
            name: intervals.bootstrap_interval(x, seed=self.seed, level=level)
            for name, x in by_name.items()
        }
        for measure, by_name in values.items()
    }


def _cell(found: Interval | None) -> str:
  if found is None or np.isnan(found.mean):
    return '–'
  if np.isnan(found.low):
    return _number(found.mean)
  return f'{_number(found.mean)} [{_number(found.low)}, {_number(found.high)}]'


def _number(value: float) -> str:
  plain = value == 0 or 1e-3 <= abs(value) < 1e3
  return f'{value:.3f}' if plain else f'{value:.1e}'
