"""How sure is a mean over images? Bootstrap intervals, also of differences."""

import dataclasses

import numpy as np

Values = dict[str, dict[str, np.ndarray]]  # By measure and by map.


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean and a confidence interval for it.

  Attributes:
    mean: Of the values.
    low: Lower end; NaN for less than two values.
    high: Upper end; NaN for less than two values.
  """

  mean: float
  low: float
  high: float


def bootstrap_interval(
    values: np.ndarray, *, seed: int = 0, level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
  """Percentile bootstrap interval for a mean over images.

  Args:
    values: float [N]; NaN, where a measure is not defined, is left out.
    seed: Of the resampling.
    level: Confidence.
    resamples: How often the images are drawn anew.

  Returns:
    The interval; NaN at both ends for less than two values.
  """
  from scipy import stats  # pylint: disable=g-import-not-at-top

  values = np.asarray(values, np.float64)
  values = values[~np.isnan(values)]
  if not len(values):
    return Interval(float('nan'), float('nan'), float('nan'))
  mean = float(values.mean())
  if len(values) < 2:
    return Interval(mean, float('nan'), float('nan'))
  found = stats.bootstrap(
      (values,), np.mean, vectorized=True, n_resamples=resamples, batch=100,
      confidence_level=level, method='percentile',
      rng=np.random.default_rng(seed),
  ).confidence_interval
  return Interval(mean, float(found.low), float(found.high))


def differences(values: Values, reference: str) -> Values:
  """Returns each image's value minus that of the reference, by measure and map.

  An interval of these is a paired one: what the images have in common is out.

  Args:
    values: One value an image, by measure and map.
    reference: A map. Measures that it has no values of are left out.
  """
  return {
      measure: {
          name: found - by_name[reference]
          for name, found in by_name.items() if name != reference
      }
      for measure, by_name in values.items() if reference in by_name
  }
