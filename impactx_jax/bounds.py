"""What the fields of a config may be, as tables."""

import dataclasses
import math
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers from `low` to `high`.

  Attributes:
    low: The smallest.
    high: The largest.
    above: Whether `low` itself is too small.
    below: Whether `high` itself is too large.
  """

  low: float
  high: float = math.inf
  above: bool = False
  below: bool = False

  def __contains__(self, value: float) -> bool:
    # Written so that NaN is in no range.
    low = value > self.low if self.above else value >= self.low
    high = value < self.high if self.below else value <= self.high
    return low and high and not math.isnan(value)

  def __str__(self) -> str:
    if self.high == math.inf:
      return f'above {self.low}' if self.above else f'{self.low} or more'
    low = 'above' if self.above else 'at least'
    high = 'below' if self.below else 'at most'
    return f'{low} {self.low} and {high} {self.high}'


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of some names.

  Attributes:
    what: What the name stands for, such as 'schedule'.
    names: Those that exist.
  """

  what: str
  names: tuple[str, ...]


Bounds = dict[str, Range | Choice]


def check(section: Any, bounds: Bounds, path: str) -> None:
  """Raises InputError for the first field that is out of its bounds.

  Args:
    section: Of a config.
    bounds: By field.
    path: Of the section, such as 'config.method'.
  """
  for field, bound in bounds.items():
    value, flag = section[field], f'--{path}.{field}'
    if isinstance(bound, Choice):
      if value not in bound.names:
        raise unknown_choice(bound.what, value, bound.names, flag)
    elif value not in bound:
      raise InputError(
          f'{path}.{field} is {value}; it must be {bound}.', flag, 'N'
      )
