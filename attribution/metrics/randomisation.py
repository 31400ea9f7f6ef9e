"""Variables in another order: does a map follow what it explains?

After Adebayo et al., 2018: a map of a network with shuffled parameters that is
like the map before does not say what the network has learned.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Path = tuple[Any, ...]  # The keys that lead to an array of a tree.


def shuffled(
    variables: Any,
    generator: np.random.Generator,
    chosen: Callable[[Path], bool] | None = None,
) -> Any:
  """Returns variables with the numbers of each array in another order.

  Within each array, so that their scale stays what training made it.

  Args:
    variables: Any tree of arrays.
    generator: Of the orders.
    chosen: Which arrays, by the keys that lead there; None for all of floats,
      or those of them that are under a key 'params' where there is one, as in
      Flax, so that the statistics of normalisations stay.
  """
  named = [
      (_keys_of(path), leaf)
      for path, leaf in jax.tree.leaves_with_path(variables)
  ]
  if chosen is None:
    of_flax = any('params' in keys for keys, _ in named)
    taken = [
        jnp.issubdtype(jax.typeof(leaf).dtype, jnp.floating)
        and ('params' in keys or not of_flax)
        for keys, leaf in named
    ]
  else:
    taken = [chosen(keys) for keys, _ in named]
  leaves = [
      generator.permutation(np.asarray(leaf).ravel()).reshape(np.shape(leaf))
      if take else leaf
      for take, (_, leaf) in zip(taken, named, strict=True)
  ]
  return jax.tree.unflatten(jax.tree.structure(variables), leaves)


def _keys_of(path: tuple[Any, ...]) -> Path:
  """Returns the plain keys of a path of `jax.tree_util`."""
  return tuple(
      getattr(key, 'key', getattr(key, 'name', getattr(key, 'idx', key)))
      for key in path
  )
