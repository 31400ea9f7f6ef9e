"""One update of a network: what it changes, what it is given, the step."""

from collections.abc import Callable
import functools
from typing import Any

import flax
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.data import augment
from impactx_jax.methods import Method
from impactx_jax.methods import base
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax

SCHEDULES = ('constant', 'cosine')
OPTIMIZER = optax.scale_by_adam()  # Adam, before its learning rate.


@flax.struct.dataclass
class TrainState:
  """All that changes in training, and all that a checkpoint must hold."""

  step: jax.Array
  params: Any
  collections: Any
  opt_state: Any


@flax.struct.dataclass
class Inputs:
  """What a step is given and does not compile: runs share one program.

  Attributes:
    keys: Of the named random streams of the run.
    learning_rate: Of this step, float32 [].
    scalars: Of the method, float32 [] each; see `methods.base.Spec`.
  """

  keys: dict[str, jax.Array]
  learning_rate: jax.Array
  scalars: dict[str, jax.Array]


STREAMS = ('augment', 'loss', 'prepare')


def learning_rates(training: ConfigDict, total_steps: int) -> np.ndarray:
  """Returns the learning rate of every step, float32 [total_steps].

  Args:
    training: A config section; `learning_rate`, `schedule` and `warmup` say.
    total_steps: Of the run, at most.
  """
  rate, rise = training.learning_rate, round(training.warmup * total_steps)
  if training.schedule == 'cosine':
    schedule = optax.cosine_decay_schedule(rate, max(1, total_steps - rise))
  else:
    schedule = optax.constant_schedule(rate)
  if rise:
    warmup = optax.linear_schedule(0.0, rate, rise)
    schedule = optax.join_schedules([warmup, schedule], [rise])
  steps = jnp.arange(total_steps, dtype=jnp.int32)
  return np.broadcast_to(
      np.asarray(jax.jit(schedule)(steps), np.float32), total_steps
  )


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    inputs: Inputs,
    *,
    method: Method,
    flip: bool = False,
    crop_padding: int = 0,
) -> tuple[TrainState, dict[str, tuple[jax.Array, jax.Array]]]:
  """One update, on one device's part of the batch, over `parallel.AXIS`.

  Args:
    state: The same on every device.
    batch: This device's part.
    inputs: The same on every device.
    method: What is trained.
    flip: With `crop_padding`, see `data.augment`.
    crop_padding: In pixels.

  Returns:
    The next state, and each metric's (sum, count) over the whole batch.
  """
  keys = {
      name: jax.random.fold_in(key, state.step)
      for name, key in inputs.keys.items()
  }
  # Each device drops features of its own.
  key = jax.random.fold_in(keys['loss'], batch['position'][0])
  if method.prepare:
    state, batch = method.prepare(state, batch, keys['prepare'])
  batch = augment.augment(
      batch, keys['augment'], flip=flip, crop_padding=crop_padding
  )
  (_, aux), gradients = jax.value_and_grad(method.loss, has_aux=True)(
      state.params, state.collections, batch | inputs.scalars, key
  )
  gradients = jax.lax.pmean(gradients, parallel.AXIS)
  metrics = jax.lax.psum(aux.metrics, parallel.AXIS)
  updates, opt_state = OPTIMIZER.update(gradients, state.opt_state)
  updates = jax.tree.map(lambda x: -inputs.learning_rate * x, updates)
  return (
      TrainState(
          step=state.step + 1,
          params=optax.apply_updates(state.params, updates),
          collections=aux.collections,
          opt_state=opt_state,
      ),
      metrics,
  )


@functools.lru_cache(maxsize=16)
def compiled_step(
    method: Method, flip: bool, crop_padding: int
) -> Callable[..., Any]:
  """Returns `train_step` for all devices; compiled once for a method."""
  return parallel.data_parallel(functools.partial(
      train_step, method=method, flip=flip, crop_padding=crop_padding
  ))


@functools.lru_cache(maxsize=16)
def _compiled_init(method: Method):
  return jax.jit(method.init)


def initial_state(
    method: Method, seed: int, classifier: Any = None
) -> TrainState:
  """Returns the state before the first step.

  Args:
    method: What is to be trained.
    seed: Of the run.
    classifier: The variables of stage one, for a method that needs them.
  """
  params, collections = _compiled_init(method)(
      rng.stream(seed, 'init'), classifier
  )
  return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      collections=collections,
      opt_state=OPTIMIZER.init(params),
  )


def variables_of(state: TrainState) -> dict[str, Any]:
  """Returns what `Method.predict` takes of a state."""
  return {
      'params': state.params,
      'collections': base.without_scratch(state.collections),
  }
