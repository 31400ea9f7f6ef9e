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
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax import tasks
from impactx_jax.data import batches
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import count as count_of
from impactx_jax.methods import Method
from impactx_jax.training import checkpoints
from impactx_jax.training import evaluator
from impactx_jax.training import history
from impactx_jax.training import train_step
import jax
from ml_collections import ConfigDict
import numpy as np
from tqdm.auto import tqdm

# Steps whose losses are fetched together; a NaN is noticed at the latest then.
CHECK_EVERY = 200


def train(
    method: Method,
    columns: dict[str, Columns],
    *,
    training: ConfigDict,
    section: str,
    seed: int,
    directory: epath.Path,
    classifier: Any = None,
    scalars: dict[str, float] | None = None,
    start_from: Callable[[Any], Any] | None = None,
) -> history.History:
  """Trains until the epochs are over or validation gets no better.

  The best and the latest epoch are kept as checkpoints, and those of a front
  (`training.front`); a run that was
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
  front_flag = f'--config.{section}.training.front'
  front = history.parse_front(training.front, front_flag)
  asked = {one.measure for one in (select, *front)} - {''}
  shapes = method.shapes(_shapes(classifier))
  plain, measures = (
      evaluator.measures_of(method, shapes, columns['validation'], further)
      for further in (False, True)
  )
  select.check(measures, flag)
  for one in front:
    one.check(measures, front_flag)
  rates = train_step.learning_rates(training, steps_per_epoch * training.epochs)
  state = train_step.initial_state(method, seed, classifier)
  parameter_overview.log_parameter_overview(state.params, include_stats=False)
  inputs = train_step.Inputs(
      keys={name: rng.stream(seed, name) for name in train_step.STREAMS},
      learning_rate=np.float32(0),
      scalars={n: np.float32(value) for n, value in (scalars or {}).items()},
  )
  step_fn = train_step.compiled_step(
      method, training.flip, training.crop_padding
  )
  examples = steps_per_epoch * training.batch_size
  result = history.History()
  with checkpoints.Checkpoints(directory) as saved:
    if (restored := saved.restore_latest(state)) is not None:
      state, meta = restored
      result = history.History(**{**meta, 'epochs': tuple(meta['epochs'])})
      logging.info('Continuing after epoch %d.', len(result.epochs))
    elif start_from:
      start = start_from(train_step.variables_of(state))
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
            method, train_step.variables_of(state), columns['validation'],
            4 * training.batch_size, further=not asked <= plain,
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
            keep=result.steps_to_keep(front),
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
    step_fn: Callable[..., Any],
    state: train_step.TrainState,
    epoch: Iterator[batches.Batch],
    *,
    inputs: train_step.Inputs,
    rates: np.ndarray,
    first_step: int,
    progress: tqdm,
    check: Callable[[float, int, str], None],
) -> tuple[train_step.TrainState, dict[str, float]]:
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
  return state, {
      name: total / count for name, (total, count) in sums.items() if count
  }


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
