"""Random streams: every number is a function of (seed, name, counter).

Nothing random is kept between steps, so a resumed run draws what an
uninterrupted one would have drawn.
"""

import hashlib
import zlib

import jax
import numpy as np


def stream(seed: int, name: str) -> jax.Array:
  """Returns the JAX key of a named stream; fold a step or an index into it."""
  return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def numpy_stream(seed: int, name: str, *counters: int) -> np.random.Generator:
  """Returns a NumPy generator for a named stream at the given counters."""
  return np.random.default_rng([seed, zlib.crc32(name.encode()), *counters])


def uniform_by_id(seed: int, name: str, ids: np.ndarray) -> np.ndarray:
  """Returns a number in [0, 1) for each example id, whatever its neighbours.

  Args:
    seed: Of the run.
    name: Of the stream.
    ids: str [N].

  Returns:
    float64 [N].
  """
  digests = [
      hashlib.blake2b(f'{seed}/{name}/{i}'.encode(), digest_size=8).digest()
      for i in ids
  ]
  return np.array([int.from_bytes(d, 'big') for d in digests]) / 2**64
