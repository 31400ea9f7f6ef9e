"""Metrics and predictions over a split, each example counted once."""

import functools
from typing import Any

from impactx_jax import losses
from impactx_jax import parallel
from impactx_jax.data import batches
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import count as count_of
from impactx_jax.methods import Method
from impactx_jax.methods import Prediction
import jax
import numpy as np

# Of the validation split, explained by a method that makes its own maps.
SELF_EXPLAINED = 512


def batch_measures(
    method: Method, variables: Any, batch: dict[str, jax.Array],
    further: bool = False,
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Returns each example's part in every measure.

  Args:
    method: With its variables.
    variables: Of the method.
    batch: As `batches.evaluation_pass` gives it.
    further: Whether the method's own `measures` are among them.

  Returns:
    {name: (values, counts)}, [B] both, 0 where the example's weight is 0: the
    measure is the sum of the first over that of the second.
  """
  prediction = method.predict(variables, batch)
  found = method.task.measures(prediction.logits, batch)
  if further and method.measures:
    found |= method.measures(variables, batch)
  if 'map' in batch and prediction.attribution is not None:
    own = prediction.attribution
    if method.map_of:
      own = method.map_of(variables, batch, batch['explained'])
    error = losses.map_mse(own, batch['map'])
    mapped = batch.get('mapped', np.ones(len(error), np.float32))
    found['map_mse'] = error * mapped, mapped
  return {
      name: tuple(x * batch['weight'] for x in pair)
      for name, pair in found.items()
  }


def measure(
    method: Method,
    variables: Any,
    columns: Columns,
    batch_size: int,
    *,
    further: bool = False,
) -> dict[str, float]:
  """Returns every measure over the columns.

  Where the columns have maps and the method predicts them, `map_r2` is the
  share of their variance about their mean map that the prediction explains:
  1 for a perfect one, 0 for always the mean map, and less for a worse one. Of a
  method that has a map for each class it is that of the class that was
  explained, otherwise that of the class it answers.

  Args:
    method: With its variables.
    variables: Of the method.
    columns: Of the split.
    batch_size: Examples a forward pass.
    further: Whether to measure what the method alone does (`Method.measures`),
      which can cost many times the rest.
  """
  call = _compiled_measures(method, further)
  sums: dict[str, np.ndarray] = {}
  for batch in parallel.prefetch(
      batches.evaluation_pass(columns, batch_size=_divisible(batch_size))
  ):
    for name, pair in call(variables, batch).items():
      total = np.array([x.sum(dtype=np.float64) for x in pair])
      sums[name] = sums.get(name, 0.0) + total
  found = {
      name: float(total / max(count, 1))
      for name, (total, count) in sums.items()
  }
  if 'map_mse' in found:
    maps = columns['map']
    if 'mapped' in columns:
      maps = maps[columns['mapped'] > 0]
    variance = float(maps.var(axis=0).mean(dtype=np.float64))
    found['map_r2'] = 1 - found['map_mse'] / variance if variance else 0.0
  return found


def measures_of(
    method: Method, variables: Any, columns: Columns, further: bool = False
) -> set[str]:
  """Names what `measure` will give, without computing anything."""
  batch = next(batches.evaluation_pass(columns, batch_size=1))
  found = set(jax.eval_shape(
      functools.partial(batch_measures, method, further=further), variables,
      batch,
  ))
  return found | ({'map_r2'} if 'map_mse' in found else set())


def with_own_maps(
    method: Method, variables: Any, columns: Columns, batch_size: int
) -> Columns:
  """Adds the maps of a method that makes those it learns from itself.

  Args:
    method: One that has `explain`.
    variables: Of the method.
    columns: Of which the first `SELF_EXPLAINED` are explained.
    batch_size: Examples a forward pass.

  Returns:
    These, with `map` and `explained`.
  """
  some = {name: column[:SELF_EXPLAINED] for name, column in columns.items()}
  count = count_of(some)
  explain = _compiled_explain(method)
  maps = [
      explain(variables, batch)
      for batch in batches.evaluation_pass(
          some, batch_size=_divisible(min(batch_size, count))
      )
  ]
  some['map'] = np.concatenate(maps)[:count]
  some['explained'] = some[method.task.labels]
  return some


def predict(
    method: Method,
    variables: Any,
    columns: Columns,
    batch_size: int,
    *,
    attribution: bool = True,
    classes: np.ndarray | None = None,
) -> Prediction:
  """Returns the predictions for all rows of the columns, as NumPy arrays.

  Args:
    method: With its variables.
    variables: Of the method.
    columns: With those in `method.inputs`.
    batch_size: Examples a forward pass.
    attribution: Whether its maps are wanted as well.
    classes: int [N], which the maps are to be of, where the method has a map
      for each class; None for those that it answers.
  """
  of_class = classes is not None and method.map_of is not None
  call = _compiled_predict(method, attribution, of_class)
  variables = parallel.replicate(variables)
  needed = {name: columns[name] for name in method.inputs}
  if of_class:
    needed['explained'] = np.asarray(classes, np.int32)
  parts = [
      call(variables, batch)
      for batch in batches.evaluation_pass(
          needed, batch_size=_divisible(batch_size)
      )
  ]
  count = count_of(columns)
  return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def codes(
    method: Method, variables: Any, columns: Columns, batch_size: int
) -> np.ndarray:
  """Returns the codes [N, U] of a method that has them."""
  call = _compiled_code(method)
  variables = parallel.replicate(variables)
  parts = [
      call(variables, batch)
      for batch in batches.evaluation_pass(
          {'image': columns['image']}, batch_size=_divisible(batch_size)
      )
  ]
  return np.concatenate(parts)[:count_of(columns)]


# Compiled once for a method, whatever its variables and however often called.
@functools.lru_cache(maxsize=32)
def _compiled_measures(method: Method, further: bool):
  return parallel.data_parallel_map(
      functools.partial(batch_measures, method, further=further)
  )


@functools.lru_cache(maxsize=32)
def _compiled_explain(method: Method):
  return parallel.data_parallel_map(method.explain)


@functools.lru_cache(maxsize=32)
def _compiled_code(method: Method):
  return parallel.data_parallel_map(method.code)


@functools.lru_cache(maxsize=32)
def _compiled_predict(method: Method, attribution: bool, of_class: bool):
  def call(variables, batch):
    prediction = method.predict(variables, batch)
    if not attribution:
      return Prediction(prediction.logits)
    if of_class:
      found = method.map_of(variables, batch, batch['explained'])
      return Prediction(prediction.logits, found)
    return prediction

  return parallel.data_parallel_map(call)


def _divisible(batch_size: int) -> int:
  """Rounds up to what divides among the devices."""
  devices = jax.local_device_count()
  return -(-batch_size // devices) * devices
