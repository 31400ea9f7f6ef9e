"""The one training loop, for stage one and for every method of stage two."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import math
import time
from typing import Any

from absl import logging
from attribution.errors import InputError
from clu import metric_writers
from clu import parameter_overview
from etils import epath
import flax
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax import tasks
from impactx_jax.data import augment
from impactx_jax.data import batches
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import count as count_of
from impactx_jax.methods import Method
from impactx_jax.methods import base
from impactx_jax.training import checkpoints
from impactx_jax.training import evaluator
from impactx_jax.training import history
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

SCHEDULES = ('constant', 'cosine')
OPTIMIZER = optax.scale_by_adam()  # Adam, before its learning rate.
# Steps whose losses are fetched together; a NaN is noticed at the latest then.
CHECK_EVERY = 200


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


def learning_rates(training, total_steps: int) -> np.ndarray:
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
def compiled_step(method: Method, flip: bool, crop_padding: int):
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


def train(
    method: Method,
    columns: dict[str, Columns],
    *,
    training,
    section: str,
    seed: int,
    directory: epath.Path,
    classifier: Any = None,
    scalars: dict[str, float] | None = None,
    start_from: Callable[[Any], Any] | None = None,
) -> history.History:
  """Trains until the epochs are over or validation gets no better.

  The best and the latest epoch are kept as checkpoints, and a run that was
  killed continues with the epoch after the latest; what it ends with is what
  an uninterrupted run ends with, bit for bit where the device computes so.

  Args:
    method: What to train.
    columns: {'train', 'validation'}.
    training: A config section such as `config.classifier.training`.
    section: Whose it is, 'classifier' or 'method', for messages.
    seed: Of the run.
    directory: For checkpoints and TensorBoard files.
    classifier: The variables of stage one, for a method that needs them.
    scalars: Of the method; see `methods.scalars`.
    start_from: Fresh variables -> those that training starts from.

  Returns:
    The history. Its best checkpoint is in `directory`.

  Raises:
    InputError: if the loss is not finite; the last good checkpoint stays.
  """
  steps_per_epoch = count_of(columns['train']) // training.batch_size
  if not steps_per_epoch:
    raise InputError(
        f'A batch of {training.batch_size} examples is more than the '
        f'{count_of(columns["train"])} there are to train {directory.name} on. '
        'Use more examples, or lower the batch size with '
        f'--config.{section}.training.batch_size=N.'
    )
  flag = f'--config.{section}.training.select'
  select = history.Select.parse(training.select, flag)
  select.check(
      evaluator.measures_of(
          method, method.shapes(_shapes(classifier)), columns['validation']
      ),
      flag,
  )
  rates = learning_rates(training, steps_per_epoch * training.epochs)
  state = initial_state(method, seed, classifier)
  parameter_overview.log_parameter_overview(state.params, include_stats=False)
  inputs = Inputs(
      keys={name: rng.stream(seed, name) for name in STREAMS},
      learning_rate=np.float32(0),
      scalars={n: np.float32(value) for n, value in (scalars or {}).items()},
  )
  step_fn = compiled_step(method, training.flip, training.crop_padding)
  examples = steps_per_epoch * training.batch_size
  result = history.History()
  with checkpoints.Checkpoints(directory) as saved:
    if (restored := saved.restore_latest(state)) is not None:
      state, meta = restored
      result = history.History(**{**meta, 'epochs': tuple(meta['epochs'])})
      logging.info('Continuing after epoch %d.', len(result.epochs))
    elif start_from:
      start = start_from(variables_of(state))
      state = state.replace(
          params=start['params'],
          collections={**state.collections, **start['collections']},
      )
    state = parallel.replicate(state)
    writer = metric_writers.MultiWriter(
        [metric_writers.SummaryWriter(str(directory / 'tensorboard'))]
        if parallel.is_main_process()
        else []
    )
    with contextlib.closing(writer), tqdm(
        total=training.epochs * examples,
        initial=len(result.epochs) * examples,
        unit='example',
        unit_scale=True,
        desc=directory.name,
    ) as progress:
      while not result.is_over(training):
        epoch = len(result.epochs)
        start = time.monotonic()
        state, metrics = train_epoch(
            step_fn,
            state,
            batches.training_epoch(
                columns['train'],
                batch_size=training.batch_size,
                seed=seed,
                epoch=epoch,
            ),
            inputs=inputs,
            rates=rates,
            first_step=epoch * steps_per_epoch,
            progress=progress,
            check=functools.partial(
                _check_finite, directory=directory, section=section,
                kept=epoch > 0,
            ),
        )
        rate = examples / (time.monotonic() - start)
        step = (epoch + 1) * steps_per_epoch
        validation = evaluator.measure(
            method, variables_of(state), columns['validation'],
            4 * training.batch_size,
        )
        _check_finite(
            validation[tasks.CROSS_ENTROPY], step, 'validation loss',
            directory=directory, section=section, kept=epoch > 0,
        )
        metrics = {f'train/{n}': value for n, value in metrics.items()} | {
            f'validation/{n}': value for n, value in validation.items()
        }
        result = result.with_epoch(
            step, metrics, time.monotonic() - start, select
        )
        saved.save(
            step,
            state,
            dataclasses.asdict(result),
            best=result.best_epoch['step'] == step,
        )
        writer.write_scalars(
            step,
            metrics
            | {'train/epoch': epoch + 1, 'train/examples_per_second': rate},
        )
        writer.flush()
        if parallel.is_main_process():
          tqdm.write(history.epoch_line(directory.name, epoch + 1, metrics))
      if len(result.epochs) < training.epochs:
        logging.info(
            'Stopped after %d epochs: the last %d were no better than the '
            'best.', len(result.epochs), training.patience,
        )
  return result


def train_epoch(
    step_fn,
    state: TrainState,
    epoch: Iterator[batches.Batch],
    *,
    inputs: Inputs,
    rates: np.ndarray,
    first_step: int,
    progress: tqdm,
    check: Callable[[float, int, str], None],
) -> tuple[TrainState, dict[str, float]]:
  """Runs one epoch; returns the state and the mean of each metric."""
  waiting, sums, done = [], {}, first_step
  size = 0

  def fetch():
    nonlocal done
    for metrics in jax.device_get(waiting):
      for name, (total, count) in metrics.items():
        old = sums.get(name, (0.0, 0.0))
        sums[name] = (old[0] + float(total), old[1] + float(count))
      done += 1
      check(float(metrics['loss'][0]), done, 'loss')
    progress.update(len(waiting) * size)
    waiting.clear()

  for step, batch in enumerate(parallel.prefetch(epoch), start=first_step):
    size = count_of(batch) * jax.process_count()
    state, metrics = step_fn(
        state,
        parallel.shard(batch),
        inputs.replace(learning_rate=rates[step]),
    )
    waiting.append(metrics)
    if len(waiting) == CHECK_EVERY:
      fetch()
  fetch()
  return state, {name: total / count for name, (total, count) in sums.items()}


def _check_finite(
    value: float, step: int, what: str, *, directory: epath.Path, section: str,
    kept: bool,
) -> None:
  if not math.isfinite(value):
    checkpoint = (
        f'the last good checkpoint is in {directory}'
        if kept
        else 'no epoch was finished, so there is no checkpoint'
    )
    raise InputError(
        f'The {what} is {value} at step {step}, so training stopped; '
        f'{checkpoint}. A lower learning rate '
        f'(--config.{section}.training.learning_rate) is the usual cure, with '
        'a fresh --workdir.'
    )


def _shapes(tree: Any) -> Any:
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
