"""Metrics and predictions over a split, each example counted once."""

from typing import Any

from impactx_jax import losses
from impactx_jax import parallel
from impactx_jax.data import batches
from impactx_jax.methods import Method
from impactx_jax.methods import Prediction
import jax
import numpy as np

# Of the validation split, explained by a method that makes its own maps.
SELF_EXPLAINED = 512


def evaluation_metrics(
    method: Method, variables: Any, batch: dict[str, jax.Array]
) -> dict[str, jax.Array]:
  """Returns the metrics of each example, [B], 0 where its weight is 0."""
  prediction = method.predict_batch(variables, batch)
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
  """Means over a split, each example counted once; compiled once.

  Where the columns have maps and the method predicts them, `map_r2` is the
  share of their variance about their mean map that the prediction explains:
  1 for a perfect one, 0 for always the mean map, and less for a worse one.
  """

  def __init__(self, method: Method, batch_size: int):
    """Prepares the evaluation of a method in batches of `batch_size`."""
    self._batch_size = _divisible(batch_size)
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
    means = {
        name: total / len(columns['label']) for name, total in sums.items()
    }
    if 'map_mse' in means:
      variance = float(columns['map'].var(axis=0).mean(dtype=np.float64))
      means['map_r2'] = 1 - means['map_mse'] / variance if variance else 0.0
    return means


def fit_to_own_maps(
    method: Method, variables: Any, columns: batches.Columns, batch_size: int
) -> float:
  """Returns the map R2 of a method that makes the maps it learns from itself.

  Args:
    method: One that has `explain`.
    variables: Of the method.
    columns: `image` and `label`; the first `SELF_EXPLAINED` are explained.
    batch_size: Examples a forward pass.
  """
  some = {name: column[:SELF_EXPLAINED] for name, column in columns.items()}
  count = len(some['label'])
  explain = parallel.data_parallel_map(method.explain)
  maps = [
      explain(variables, batch)
      for batch in batches.evaluation_pass(
          some, batch_size=_divisible(min(batch_size, count))
      )
  ]
  some['map'] = np.concatenate(maps)[:count]
  return Evaluator(method, batch_size)(variables, some)['map_r2']


def predict(
    method: Method,
    variables: Any,
    columns: batches.Columns,
    batch_size: int,
    *,
    attribution: bool = True,
) -> Prediction:
  """Returns the predictions for all rows of the columns, as NumPy arrays.

  Args:
    method: With its variables.
    variables: Of the method.
    columns: `image`, `label`, and `map` if the method needs it.
    batch_size: Examples a forward pass.
    attribution: Whether its maps are wanted as well.
  """
  def call(variables, batch):
    prediction = method.predict_batch(variables, batch)
    return prediction if attribution else Prediction(prediction.logits)

  mapped = parallel.data_parallel_map(call)
  parts = [
      mapped(variables, batch)
      for batch in batches.evaluation_pass(
          columns, batch_size=_divisible(batch_size)
      )
  ]
  count = len(columns['label'])
  return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def _divisible(batch_size: int) -> int:
  """Rounds up to what divides among the devices."""
  devices = jax.local_device_count()
  return -(-batch_size // devices) * devices
