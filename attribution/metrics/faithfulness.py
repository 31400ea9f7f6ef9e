"""Is a map faithful to the model? What its order of regions does to the score.

The four curves of `perturbation` and their areas, the control by the map of
another image, and whether a map sums to what it should.
"""

from collections.abc import Collection
from collections.abc import Mapping

from attribution.metrics import perturbation
from attribution.metrics.intervals import Values
from attribution.model_fn import ScoreFn
from attribution.model_fn import Variables
import jax
import numpy as np
from tqdm.auto import tqdm


def perturb(
    score_fn: ScoreFn,
    variables: Variables,
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    classes: np.ndarray,
    *,
    hidden: np.ndarray,
    key: jax.Array,
    region: int,
    draws: int = 10,
    batch_size: int = 256,
    low: float = 0.0,
    high: float = 1.0,
    unswapped: Collection[str] = (),
) -> tuple[Values, Values]:
  """Perturbs regions in the order of each map.

  'morf' and 'lerf' replace regions by noise, most or least relevant first;
  'deletion' replaces them by those of the hidden image, and 'insertion' those
  of the hidden image by the image's. `swap_difference` is how much greater the
  insertion area is than in the order of the map of the same name of another
  image of the same class: what of it is about this image.

  Args:
    score_fn: Jittable and hashable, (variables, images) -> scores [B, K].
    variables: Of it.
    images: float32 [N, H, W, C].
    maps: By name, [N, H, W, C'].
    classes: int [N], those explained.
    hidden: float32 [N, H, W, C], the images with everything hidden.
    key: Of noise and ties; all maps meet the same.
    region: Side of the square regions in pixels.
    draws: Of the noise.
    batch_size: Perturbed images a forward pass, at most.
    low: Of the noise; with `high` the range of the data.
    high: Of the noise.
    unswapped: Names of maps that get no `swap_difference`.

  Returns:
    The four curves by kind and map, float32 [N, R + 1]. And by measure and map,
    float [N]: the area under each curve, `morf_aopc`, and `swap_difference`,
    NaN where there is no other image (see `partners`).
  """
  morf, lerf = (
      perturbation.perturbation_curves(
          score_fn, region=region, draws=draws, order=order,
          batch_size=batch_size, low=low, high=high,
      )
      for order in perturbation.ORDERS
  )
  partner = partners(classes)
  curves: Values = {}
  swapped = {}
  for name, values in tqdm(maps.items(), desc='curves', unit='map'):
    for kind, curve in (
        ('morf', morf(variables, images, values, classes, key)),
        ('lerf', lerf(variables, images, values, classes, key)),
        ('deletion', morf(variables, images, values, classes, key, hidden)),
        ('insertion', morf(variables, hidden, values, classes, key, images)),
    ):
      curves.setdefault(kind, {})[name] = curve
    if name not in unswapped:
      others = morf(variables, hidden, values[partner], classes, key, images)
      swapped[name] = perturbation.area(others)
  measures = {
      f'{kind}_area': {n: perturbation.area(c) for n, c in by_name.items()}
      for kind, by_name in curves.items()
  }
  measures['morf_aopc'] = {
      name: perturbation.aopc(curve) for name, curve in curves['morf'].items()
  }
  insertion = measures['insertion_area']
  measures['swap_difference'] = {
      name: np.where(partner >= 0, insertion[name] - area, np.nan)
      for name, area in swapped.items()
  }
  return curves, measures


def partners(classes: np.ndarray) -> np.ndarray:
  """Returns another example of the same class for each, the next one.

  Args:
    classes: int [N].

  Returns:
    int [N], places in `classes`; -1 where there is no other.
  """
  found = np.full(len(classes), -1)
  for k in np.unique(classes):
    rows = np.flatnonzero(classes == k)
    if len(rows) > 1:
      found[rows] = np.roll(rows, -1)
  return found


def completeness_gap(maps: np.ndarray, change: np.ndarray) -> np.ndarray:
  """How far maps miss the sum that Shapley and Owen values have.

  Args:
    maps: float [N, H, W, C].
    change: float [N], score(image) - score(everything hidden).

  Returns:
    |sum of the map - change|, float [N].
  """
  return np.abs(maps.sum(axis=(1, 2, 3)) - change)
