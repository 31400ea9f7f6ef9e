"""One training run in its folder, with the summary that completes it."""

from collections.abc import Callable
from typing import Any

from absl import logging
from attribution import files
from etils import epath
from impactx_jax import checkpoints
from impactx_jax import evaluators
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import provenance
from impactx_jax import restore
from impactx_jax import train
from impactx_jax import workdirs
from impactx_jax.data import sources
from impactx_jax.report import tables
import jax


def fit(
    directory: epath.Path,
    method: methods.Method,
    columns: dict[str, sources.Columns],
    *,
    training,
    seed: int,
    data: dict[str, Any],
    start_from: Callable[[Any], Any] | None = None,
) -> None:
  """Trains, and writes the summary that marks the run as complete.

  Args:
    directory: Of the run.
    method: What is trained.
    columns: {'train', 'validation'}.
    training: The config section that says how.
    seed: Of the run.
    data: The fingerprint of the data set.
    start_from: Fresh variables -> those that training starts from.
  """
  result = train.fit(
      method,
      columns,
      training=training,
      seed=seed,
      directory=directory,
      start_from=start_from,
  )
  variables = checkpoints.restore_variables(
      directory, result.best_step, restore.shapes(method)
  )
  number, best = next(
      (i, epoch) for i, epoch in enumerate(result.history, start=1)
      if epoch['step'] == result.best_step
  )
  r2 = best.get('validation/map_r2')
  if method.explain:
    r2 = evaluators.fit_to_own_maps(
        method, variables, columns['validation'], training.batch_size
    )
  summary = {
      'best_step': result.best_step,
      'best_validation_accuracy': result.best_accuracy,
      'best_epoch': number,
      'map_r2': r2,
      'parameters': sum(
          leaf.size for leaf in jax.tree.leaves(variables['params'])
      ),
      'data': data,
      'digest': checkpoints.digest(variables),
      'examples': {name: len(c['label']) for name, c in columns.items()},
      'history': list(result.history),
      'provenance': provenance.collect(),
      'seconds': result.seconds,
  }
  if parallel.is_main_process():
    files.write_json(directory / workdirs.SUMMARY, summary)
  parallel.barrier(directory.name)
  print('\n' + tables.table(
      [
          directory.name, 'epochs', 'best epoch', 'validation %', 'map R2',
          'seconds',
      ],
      [[
          '', len(result.history), number,
          f'{100 * result.best_accuracy:.2f}',
          '' if r2 is None else f'{r2:.3f}',
          f'{summary["seconds"]:.0f}',
      ]],
  ) + '\n')
  if result.best_accuracy <= 1 / len(data['class_names']):
    logging.warning(
        '%s is no better than chance on the validation images: there is '
        'nothing in it to explain. Train it longer (training.epochs, '
        'training.patience), or with another learning rate.', directory,
    )
