"""Is a predicted map to be trusted for this picture?

A learned map is a guess. A coarse map that is computed, a few evaluations of
the network, tells how far off it is; how far is too far is learned from
validation images, so that a stated share of ordinary pictures raises an alarm.
"""

import dataclasses
import itertools
from typing import Any

from attribution import explainers
from attribution import maskers
from attribution.errors import InputError
from attribution.maskers import Masker
from impactx_jax.data import columns as column_lib
from impactx_jax.data.sources import Dataset
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation.explaining import Explain
from impactx_jax.evaluation.explaining import Network
from impactx_jax.training import evaluator
from ml_collections import ConfigDict
import numpy as np


@dataclasses.dataclass(frozen=True)
class Guard:
  """What decides whether a map is trusted; JSON-compatible with `asdict`.

  Attributes:
    threshold: The largest `disagreement` that is trusted.
    grid: Cells a side of the check.
    false_alarms: Share of the validation images beyond the threshold, as it
      was asked for.
    images: How many of them it was calibrated on.
    masker: What hides pixels.
    explained_output: 'probability' or 'logit'.
  """

  threshold: float
  grid: int
  false_alarms: float
  images: int
  masker: dict[str, Any]
  explained_output: str

  @property
  def evaluations(self) -> int:
    """How many of the network the check of one image takes."""
    return explainers.evaluations(
        'partition_grid', max_evals=0, grid=self.grid, integration_steps=0
    )

  def checker(self, network: Network) -> Explain:
    """Returns what makes the coarse maps."""
    return explainers.create(
        'partition_grid',
        explaining.scores(network[0], self.explained_output),
        masker=Masker(**self.masker),
        grid=self.grid,
    )


def disagreement(
    maps: np.ndarray, coarse: np.ndarray, grid: int
) -> np.ndarray:
  """Returns how far maps are from the coarse ones, float64 [N] in [0, 2].

  Args:
    maps: Predicted, [N, H, W, C'].
    coarse: Computed, [N, H, W, C].
    grid: Cells a side over which both are averaged.

  Returns:
    1 minus the cosine of the cells' relevance: 0 for the same up to a scale, 1
    for nothing in common, 2 for the opposite.
  """
  ours, theirs = (_cells(x, grid) for x in (maps, coarse))
  product = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
  return 1 - np.divide(
      (ours * theirs).sum(axis=1), product,
      out=np.zeros(len(ours)), where=product > 0,
  )


def _cells(maps: np.ndarray, grid: int) -> np.ndarray:
  """[N, H, W, C] -> the mean relevance of grid x grid cells, [N, grid**2]."""
  relevance = np.asarray(maps, np.float64).sum(axis=-1)
  for axis in (1, 2):  # Sides need not divide evenly.
    edges = np.linspace(0, relevance.shape[axis], grid + 1).round().astype(int)
    relevance = np.stack([
        relevance.take(range(low, high), axis).mean(axis)
        for low, high in itertools.pairwise(edges)
    ], axis=axis)
  return relevance.reshape(len(relevance), -1)


def calibrate(
    config: ConfigDict, dataset: Dataset, network: Network
) -> Guard | None:
  """Finds the threshold on validation images.

  Args:
    config: `evaluation`, `attribution` and the seed are read.
    dataset: The data.
    network: One that predicts maps.

  Returns:
    None where the check cannot be made: of a masker that is not computed on
    the device, or of images that are not square, whose grid has other cells.
  """
  options, attribution = config.evaluation, config.attribution
  height, width = dataset.image_shape[:2]
  if attribution.masker not in maskers.BACKGROUND_MASKERS or height != width:
    return None
  masker = explaining.masker(attribution, dataset.train['image'])
  columns = column_lib.sample(
      dataset.validation, options.guard_images, config.seed
  )
  found = Guard(
      threshold=0.0,
      grid=min(options.guard_grid, 1 << (height.bit_length() - 1)),
      false_alarms=options.guard_false_alarms,
      images=column_lib.count(columns),
      masker=dataclasses.asdict(masker),
      explained_output=attribution.explained_output,
  )
  values = of_images(
      found, network, column_lib.to_float(columns['image']),
      options.batch_size,
  )
  threshold = np.quantile(values, 1 - options.guard_false_alarms)
  return dataclasses.replace(found, threshold=float(threshold))


def of_images(
    guard: Guard, network: Network, images: np.ndarray, batch_size: int
) -> np.ndarray:
  """Returns the disagreement of each image's own map, float64 [N].

  Args:
    guard: What is checked with.
    network: One that predicts maps.
    images: float32 [N, H, W, C] in [0, 1].
    batch_size: Examples a forward pass.
  """
  method, variables = network
  logits, maps = evaluator.predict(
      method, variables, {'image': images}, batch_size
  )
  classes = np.asarray(method.task.top(logits))
  coarse = guard.checker(network)(variables, images, classes)
  return disagreement(maps, coarse, guard.grid)


def check(options: ConfigDict) -> None:
  """Raises InputError for a grid that there is not."""
  grid = options.guard_grid
  if grid < 2 or grid & (grid - 1):
    raise InputError(
        f'config.evaluation.guard_grid is {grid}; it must be a power of two, '
        'such as 4.', '--config.evaluation.guard_grid', 'N',
    )
