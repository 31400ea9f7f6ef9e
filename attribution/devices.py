"""Devices. No other file of `attribution` names a mesh or a sharding."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
import numpy as np

_ROWS = 'rows'


def replicate(tree: Any) -> Any:
  """Puts a tree of arrays on every device of this process, each leaf whole.

  Costs nothing for what lies there already.
  """
  if jax.local_device_count() == 1:
    return jax.device_put(tree)
  return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def over_rows(program: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles a program that treats each row of its arguments alone.

  Each process has rows of its own, and as many calls as these need.

  Args:
    program: Pure, (variables, *arrays [N, …]) -> a tree of arrays [N, …].

  Returns:
    The same function for all devices of this process: the variables on each
    of them, see `replicate`, and the rows split among them. N must be a
    multiple of their number.
  """
  if jax.local_device_count() == 1:
    return jax.jit(program)
  split = PartitionSpec(_ROWS)
  mapped = jax.jit(
      jax.shard_map(
          lambda variables, rows: program(variables, *rows),
          mesh=_mesh(),
          in_specs=(PartitionSpec(), split),
          out_specs=split,
          check_vma=False,  # Loops end on each device for itself.
      )
  )

  def call(variables, *rows):
    return mapped(replicate(variables), rows)

  return call


def _mesh() -> jax.sharding.Mesh:
  return jax.sharding.Mesh(np.array(jax.local_devices()), (_ROWS,))
