"""Any number of rows through a function that is compiled for one number."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import numpy as np


def in_chunks(fn: Callable[..., Any], *arrays: Any, size: int) -> Any:
  """Calls a function of `size` rows on all rows, and joins its results.

  The last chunk is filled up with its last row, for another number of rows
  would be compiled anew, and what comes of the filling is cut off. While the
  host fetches the results of a chunk, the device has the next one to do.

  Args:
    fn: Takes arrays [size, …]; gives a tree of arrays [size, …], one row a row.
    *arrays: NumPy arrays [N, …], or trees of them, N >= 1 the same for all.
    size: Rows in one call.

  Returns:
    The tree that `fn` gives, of NumPy arrays [N, …].

  Raises:
    ValueError: for arrays of different lengths, or of none.
  """
  lengths = {len(x) for x in jax.tree.leaves(arrays)}
  if len(lengths) != 1 or not min(lengths):
    raise ValueError(f'Arrays of {sorted(lengths)} rows: one number, not 0.')
  (count,) = lengths
  parts, waiting = [], None
  for start in range(0, count, size):
    chunk = functools.partial(_chunk, start=start, size=size)
    result = fn(*jax.tree.map(chunk, arrays))
    if waiting is not None:
      parts.append(jax.device_get(waiting))
    waiting = result
  parts.append(jax.device_get(waiting))
  return jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)


def _chunk(array: np.ndarray, *, start: int, size: int) -> np.ndarray:
  """Returns `size` rows from `start` on, the last one repeated at the end."""
  rows = np.asarray(array[start : start + size])
  missing = size - len(rows)
  if not missing:
    return rows
  return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
