"""What was measured of maps: one value an image, and its summary."""

import dataclasses
from typing import Any

from attribution.metrics import intervals
from attribution.metrics.intervals import Values
from ml_collections import ConfigDict
import numpy as np


@dataclasses.dataclass(frozen=True)
class Measured:
  """What was measured, and what is drawn of it.

  Attributes:
    method: Name of the method, one of the maps.
    reference: Name of the explainer that it is compared with.
    images: float32 [N, H, W, C] in [0, 1].
    labels: The truth, as the task writes it: int [N], or 0 and 1 [N, K].
    right: bool [N], whether the network's answer is right.
    predicted: int [N], the explained classes.
    probabilities: float32 [N, K].
    maps: By name, [N, H, W, C'].
    curves: By name, the MoRF curve of each image, [N, R + 1].
    values: By measure and name, one value an image; not all measures have
      all maps, nor all images.
    randomised_accuracy: Share of the images that the network answers rightly
      with its parameters shuffled, by the measure of likeness in `values`.
    mask_share: Share of an image that its object's mask has, where data have
      masks: the EPG of chance.
  """

  method: str
  reference: str
  images: np.ndarray
  labels: np.ndarray
  right: np.ndarray
  predicted: np.ndarray
  probabilities: np.ndarray
  maps: dict[str, np.ndarray]
  curves: dict[str, np.ndarray]
  values: Values
  randomised_accuracy: dict[str, float]
  mask_share: float | None = None

  def summary(self, options: ConfigDict, seed: int) -> dict[str, Any]:
    """Returns means and 95 % bootstrap intervals, JSON-compatible.

    Args:
      options: `config.evaluation`.
      seed: Of the run.
    """

    def interval(values):
      found = intervals.bootstrap_interval(values, seed=seed)
      return {
          'mean': None if np.isnan(found.mean) else found.mean,
          'interval': (
              None if np.isnan(found.low) else [found.low, found.high]
          ),
          'images': int(np.isfinite(values).sum()),
      }

    def each(values):
      return {
          measure: {name: interval(x) for name, x in by_name.items()}
          for measure, by_name in values.items()
      }

    return {
        'names': list(self.maps),
        'images': len(self.images),
        'region': region_of(options, self.images.shape),
        'draws': options.draws,
        'reference': self.reference,
        'method': self.method,
        'accuracy': float(np.mean(self.right)),
        'randomised_accuracy': self.randomised_accuracy,
        'mask_share': self.mask_share,
        'measures': each(self.values),
        # Paired, of each image.
        'differences': {
            to: each(intervals.differences(self.values, to))
            for to in (self.reference, self.method)
        },
    }


def region_of(options: ConfigDict, shape: tuple[int, ...]) -> int:
  """Returns the side of the regions that are perturbed, in pixels."""
  return options.region or max(1, min(shape[1:3]) // 8)
