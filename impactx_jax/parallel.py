"""Devices and processes. No other file names pmap, a mesh or a sharding.

A step is a pure function of (state, batch) for one device's part of the
batch, written against the axis AXIS. `data_parallel` runs it on every device:
the state replicated, the batch split.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import functools
import queue
import threading
from typing import Any

from attribution.errors import InputError
import jax
from jax.experimental import multihost_utils
import numpy as np

AXIS = 'data'


def initialize_distributed() -> None:
  """Joins the processes of a multi-host run; before anything else of JAX."""
  jax.distributed.initialize()


def hide_devices_from_tensorflow() -> None:
  """It only reads records here, and would take the GPU's memory."""
  import tensorflow as tf  # pylint: disable=g-import-not-at-top

  tf.config.set_visible_devices([], 'GPU')


def check_batch_size(batch_size: int, flag: str) -> None:
  """Raises InputError unless the batch divides evenly among the devices."""
  devices = jax.device_count()
  if batch_size < 1 or batch_size % devices:
    below = batch_size // devices * devices
    raise InputError(
        f'A batch of {batch_size} examples does not divide among {devices} '
        f'devices. Change it with {flag}=N to a multiple of {devices}, such '
        f'as {max(below, devices)} or {max(below, 0) + devices}.'
    )


def data_parallel(step: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles `step(state, batch, inputs) -> (state, metrics)` for all devices.

  Args:
    step: Pure; must make its results equal on all devices with collectives
      over AXIS. The state is donated.

  Returns:
    A function of the replicated state, a batch from `shard` and inputs that
    are the same on every device, with unstacked, replicated results.
  """
  return jax.pmap(
      step,
      axis_name=AXIS,
      in_axes=(None, 0, None),
      out_axes=(None, None),
      donate_argnums=0,
  )


def data_parallel_map(fn: Callable[..., Any]) -> Callable[..., Any]:
  """Compiles `fn(variables, batch) -> results`, one row of results an example.

  Returns:
    A function of replicated variables and a batch of arrays [B, …] on this
    process, with results as NumPy arrays [B, …].
  """
  mapped = jax.pmap(fn, axis_name=AXIS, in_axes=(None, 0))

  def call(variables, batch):
    results = jax.device_get(mapped(variables, shard(batch)))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)

  return call


def gather(tree: Any) -> Any:
  """Inside a step: joins the rows of all devices, [B, …] -> [all B, …]."""
  return jax.tree.map(
      lambda x: jax.lax.all_gather(x, AXIS, tiled=True), tree
  )


def replicate(tree: Any) -> Any:
  """Puts a tree on every device, as `data_parallel` returns its state.

  A state that lies elsewhere works too, but costs a second compilation when
  the first step returns it replicated.
  """
  return _copy(tree, np.zeros(jax.local_device_count()))


@functools.partial(  # At least one argument must be split.
    jax.pmap, axis_name=AXIS, in_axes=(None, 0), out_axes=None
)
def _copy(tree, _):
  return tree


def shard(batch: Any) -> Any:
  """Splits [B, …] into [devices of this process, B / devices, …]."""
  devices = jax.local_device_count()
  return jax.tree.map(
      lambda x: x.reshape(devices, x.shape[0] // devices, *x.shape[1:]), batch
  )


def process_rows(rows: np.ndarray) -> np.ndarray:
  """Returns this process's slice of the rows of a global batch."""
  return np.split(rows, jax.process_count())[jax.process_index()]


def is_main_process() -> bool:
  """Whether this process writes what is written once."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Waits until every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def prefetch(batches: Iterable[Any], size: int = 2) -> Iterator[Any]:
  """Prepares batches in a thread of their own, `size` ahead of their use."""
  filled = queue.Queue(maxsize=size)
  stop = threading.Event()
  end = object()

  def put(item) -> bool:
    while not stop.is_set():
      try:
        filled.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False

  def fill():
    try:
      for batch in batches:
        if not put(batch):
          return
      put(end)
    except BaseException as error:  # pylint: disable=broad-exception-caught
      put(error)

  thread = threading.Thread(target=fill, daemon=True)
  thread.start()
  try:
    while (item := filled.get()) is not end:
      if isinstance(item, BaseException):
        raise item
      yield item
  finally:
    stop.set()
    thread.join()
