"""Metrics over a split, each example counted once."""

from typing import Any

from impactx_jax import losses
from impactx_jax import parallel
from impactx_jax.data import batches
from impactx_jax.methods import Method
import jax
import numpy as np


def evaluation_metrics(
    method: Method, variables: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
  """Returns the metrics of each example, [B], 0 where its weight is 0."""
  prediction = method.predict(variables, batch['image'])
  values = {
      'accuracy': prediction.logits.argmax(-1) == batch['label'],
      'cross_entropy': losses.cross_entropy(
          prediction.logits, batch['label']
      ),
  }
  if 'map' in batch and prediction.attribution is not None:
    values['map_mse'] = losses.map_mse(prediction.attribution, batch['map'])
  return {name: value * batch['weight'] for name, value in values.items()}


class Evaluator:
  """Means over a split, each example counted once; compiled once."""

  def __init__(self, method: Method, batch_size: int):
    """Prepares the evaluation of a method in batches of `batch_size`."""
    self._batch_size = _round_up(batch_size, jax.local_device_count())
    self._call = parallel.data_parallel_map(
        lambda variables, batch: evaluation_metrics(method, variables, batch)
    )

  def __call__(
      self, variables: Any, columns: batches.Columns
  ) -> dict[str, float]:
    """Returns the mean of each metric over the columns."""
    sums: dict[str, float] = {}
    for batch in parallel.prefetch(
        batches.evaluation_pass(columns, batch_size=self._batch_size)
    ):
      for name, values in self._call(variables, batch).items():
        sums[name] = sums.get(name, 0.0) + float(values.sum(dtype=np.float64))
    return {name: total / len(columns['label']) for name, total in sums.items()}


def _round_up(value: int, multiple: int) -> int:
  return -(-value // multiple) * multiple
