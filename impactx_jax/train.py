"""The one training loop, for stage one and for every method of stage two."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import math
import time
from typing import Any

from absl import logging
from attribution.errors import InputError
from clu import metric_writers
from clu import parameter_overview
from etils import epath
import flax
from impactx_jax import checkpoints
from impactx_jax import history
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.data import augment
from impactx_jax.data import batches
from impactx_jax.evaluators import Evaluator
from impactx_jax.methods import Method
from impactx_jax.methods import base
import jax
import jax.numpy as jnp
import optax
from tqdm.auto import tqdm

SCHEDULES = ('constant', 'cosine')
# Steps whose losses are fetched together; a NaN is noticed at the latest then.
CHECK_EVERY = 200


@flax.struct.dataclass
class TrainState:
  """All that changes in training, and all that a checkpoint must hold."""

  step: jax.Array
  params: Any
  collections: Any
  opt_state: Any


def create_optimizer(
    training, total_steps: int
) -> optax.GradientTransformation:
  """Adam with the schedule that `training` (a config section) describes."""
  rate, rise = training.learning_rate, round(training.warmup * total_steps)
  if training.schedule == 'cosine':
    schedule = optax.cosine_decay_schedule(rate, max(1, total_steps - rise))
  else:
    schedule = optax.constant_schedule(rate)
  if rise:
    warmup = optax.linear_schedule(0.0, rate, rise)
    schedule = optax.join_schedules([warmup, schedule], [rise])
  return optax.adam(schedule)


def train_step(
    state: TrainState,
    batch: dict[str, jax.Array],
    *,
    method: Method,
    optimizer: optax.GradientTransformation,
    training,
    seed: int,
) -> tuple[TrainState, dict[str, tuple[jax.Array, jax.Array]]]:
  """One update, on one device's part of the batch, over `parallel.AXIS`.

  Args:
    state: The same on every device.
    batch: This device's part.
    method: What is trained.
    optimizer: From `create_optimizer`.
    training: The config section.
    seed: Of the run.

  Returns:
    The next state, and each metric's (sum, count) over the whole batch.
  """
  collections = state.collections
  if method.prepare:
    collections, batch = method.prepare(state.params, collections, batch)
  batch = augment.augment(
      batch,
      jax.random.fold_in(rng.stream(seed, 'augment'), state.step),
      flip=training.flip,
      crop_padding=training.crop_padding,
  )
  key = jax.random.fold_in(rng.stream(seed, 'loss'), state.step)
  # Each device drops features of its own.
  key = jax.random.fold_in(key, batch['position'][0])
  (_, aux), gradients = jax.value_and_grad(method.loss, has_aux=True)(
      state.params, collections, batch, key
  )
  gradients = jax.lax.pmean(gradients, parallel.AXIS)
  metrics = jax.lax.psum(aux.metrics, parallel.AXIS)
  updates, opt_state = optimizer.update(
      gradients, state.opt_state, state.params
  )
  return (
      TrainState(
          step=state.step + 1,
          params=optax.apply_updates(state.params, updates),
          collections=aux.collections,
          opt_state=opt_state,
      ),
      metrics,
  )


def initial_state(
    method: Method, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
  """Returns the state before the first step."""
  params, collections = jax.jit(method.init)(rng.stream(seed, 'init'))
  return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      collections=collections,
      opt_state=optimizer.init(params),
  )


def variables_of(state: TrainState) -> dict[str, Any]:
  """Returns what `Method.predict` takes of a state."""
  return {
      'params': state.params,
      'collections': base.without_scratch(state.collections),
  }


def fit(
    method: Method,
    columns: dict[str, batches.Columns],
    *,
    training,
    seed: int,
    directory: epath.Path,
    start_from: Callable[[Any], Any] | None = None,
) -> history.Fit:
  """Trains until the epochs are over or validation accuracy stops rising.

  The best and the latest epoch are kept as checkpoints, and a run that was
  killed continues with the epoch after the latest; what it ends with is what
  an uninterrupted run ends with, bit for bit where the device computes so.

  Args:
    method: What to train.
    columns: {'train', 'validation'}.
    training: A config section such as `config.classifier.training`.
    seed: Of the run.
    directory: For checkpoints and TensorBoard files.
    start_from: Fresh variables -> those that training starts from.

  Returns:
    The Fit. Its best checkpoint is in `directory`.

  Raises:
    InputError: if the loss is not finite; the last good checkpoint stays.
  """
  count = len(columns['train']['label'])
  steps_per_epoch = count // training.batch_size
  if not steps_per_epoch:
    raise InputError(
        f'A batch of {training.batch_size} examples is more than the {count} '
        f'there are to train {directory.name} on. Lower the batch size '
        '(--config.classifier.training.batch_size or '
        '--config.method.training.batch_size), or use more examples.'
    )
  optimizer = create_optimizer(training, steps_per_epoch * training.epochs)
  state = initial_state(method, optimizer, seed)
  parameter_overview.log_parameter_overview(state.params, include_stats=False)
  step_fn = parallel.data_parallel(
      lambda state, batch: train_step(
          state,
          batch,
          method=method,
          optimizer=optimizer,
          training=training,
          seed=seed,
      )
  )
  evaluator = Evaluator(method, training.batch_size * 4)
  examples = steps_per_epoch * training.batch_size
  result = history.Fit()
  with checkpoints.Checkpoints(directory) as saved:
    if (restored := saved.restore_latest(state)) is not None:
      state, meta = restored
      result = history.Fit(**{**meta, 'history': tuple(meta['history'])})
      logging.info('Continuing after epoch %d.', len(result.history))
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
        initial=len(result.history) * examples,
        unit='example',
        unit_scale=True,
        desc=directory.name,
    ) as progress:
      while not result.is_over(training):
        epoch = len(result.history)
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
            first_step=epoch * steps_per_epoch,
            progress=progress,
            directory=directory,
        )
        rate = examples / (time.monotonic() - start)
        step = (epoch + 1) * steps_per_epoch
        validation = evaluator(variables_of(state), columns['validation'])
        _check_finite(
            validation['cross_entropy'], step, 'validation loss', directory,
            kept=epoch > 0,
        )
        metrics = {f'train/{n}': value for n, value in metrics.items()} | {
            f'validation/{n}': value for n, value in validation.items()
        }
        result = result.with_epoch(step, metrics, time.monotonic() - start)
        saved.save(
            step,
            state,
            dataclasses.asdict(result),
            # Of equal epochs the earliest is the best.
            score=validation['accuracy'] - 1e-9 * epoch,
        )
        writer.write_scalars(
            step,
            metrics
            | {'train/epoch': epoch + 1, 'train/examples_per_second': rate},
        )
        writer.flush()
        if parallel.is_main_process():
          tqdm.write(history.line(directory.name, epoch + 1, metrics))
      if len(result.history) < training.epochs:
        logging.info(
            'Stopped after %d epochs: the last %d were no better than the '
            'best.', len(result.history), training.patience,
        )
  return result


def train_epoch(
    step_fn,
    state: TrainState,
    epoch: Iterator[batches.Batch],
    *,
    first_step: int,
    progress: tqdm,
    directory: epath.Path,
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
      _check_finite(
          float(metrics['loss'][0]), done, 'loss', directory,
          kept=first_step > 0,
      )
    progress.update(len(waiting) * size)
    waiting.clear()

  for batch in parallel.prefetch(epoch):
    size = len(batch['label']) * jax.process_count()
    state, metrics = step_fn(state, parallel.shard(batch))
    waiting.append(metrics)
    if len(waiting) == CHECK_EVERY:
      fetch()
  fetch()
  return state, {name: total / count for name, (total, count) in sums.items()}


def _check_finite(
    value: float, step: int, what: str, directory: epath.Path, *, kept: bool
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
        '(--config.classifier.training.learning_rate or '
        '--config.method.training.learning_rate) is the usual cure, with a '
        'fresh --workdir.'
    )
