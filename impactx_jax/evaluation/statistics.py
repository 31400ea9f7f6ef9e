"""Is a difference in accuracy more than chance? Pure functions of arrays."""

from collections.abc import Sequence
import dataclasses

from attribution.metrics.intervals import Interval
import numpy as np
from scipy import stats


def paired_interval(
    ours: Sequence[float], theirs: Sequence[float], level: float = 0.95
) -> Interval:
  """Student's interval for the mean of paired differences.

  Args:
    ours: One value for each seed.
    theirs: The other method's value for the same seeds, in the same order.
    level: Confidence.

  Returns:
    The interval of ours - theirs.

  Raises:
    ValueError: if there is not one value for each.
  """
  _check_paired(ours, theirs)
  differences = np.subtract(ours, theirs, dtype=np.float64)
  count, mean = len(differences), float(differences.mean())
  if count < 2:
    return Interval(mean, float('nan'), float('nan'))
  found = stats.ttest_rel(ours, theirs).confidence_interval(level)
  return Interval(mean, float(found.low), float(found.high))


@dataclasses.dataclass(frozen=True)
class McNemar:
  """McNemar's test of two classifiers on one test split.

  Attributes:
    gained: Examples that ours has right and theirs has wrong.
    lost: Examples that theirs has right and ours has wrong.
    p_value: Of the exact two-sided test that both are equally likely.
  """

  gained: int
  lost: int
  p_value: float


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> McNemar:
  """Compares which examples two classifiers have right.

  Args:
    ours: bool [N], whether each example is classified rightly.
    theirs: bool [N], the same of the other classifier.

  Raises:
    ValueError: if they are not of the same examples.
  """
  _check_paired(ours, theirs)
  ours, theirs = np.asarray(ours, bool), np.asarray(theirs, bool)
  gained = int((ours & ~theirs).sum())
  lost = int((theirs & ~ours).sum())
  if not gained + lost:
    return McNemar(0, 0, 1.0)
  test = stats.binomtest(gained, gained + lost)
  return McNemar(gained, lost, float(test.pvalue))


def _check_paired(ours, theirs) -> None:
  if np.shape(ours) != np.shape(theirs) or np.ndim(ours) != 1 or not len(ours):
    raise ValueError(
        f'Values of the shapes {np.shape(ours)} and {np.shape(theirs)} cannot '
        'be paired: give one of each, and at least one pair.'
    )
