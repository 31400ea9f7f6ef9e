"""One training run in its folder, with the summary that completes it."""

from collections.abc import Callable
import dataclasses
from typing import Any

from absl import logging
from attribution import files
from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import count as count_of
from impactx_jax.evaluation import probe
from impactx_jax.models.weights import pretrained
from impactx_jax.report import console
from impactx_jax.stages import configs
from impactx_jax.stages import provenance
from impactx_jax.stages.artefact import Artefact
from impactx_jax.stages.runs import Run
from impactx_jax.training import checkpoints
from impactx_jax.training import evaluator
from impactx_jax.training import history as history_lib
from impactx_jax.training import loop
import jax
from ml_collections import ConfigDict


def train(
    run: Run,
    name: str,
    problem: methods.Problem,
    columns: dict[str, Columns],
    *,
    data: dict[str, Any],
    made_from: dict[str, str],
    classifier: Any = None,
) -> None:
  """Trains, and writes the summary that marks the run as complete.

  Args:
    run: Whose config says how.
    name: Of the method, the baseline included.
    problem: What the method must know of the data.
    columns: {'train', 'validation'}.
    data: The fingerprint of the data set.
    made_from: Digests of what else it is made from.
    classifier: The variables of stage one, for a method that needs them.
  """
  result = run.trained(name)
  config, section = result.config, methods.find(name).section
  method = methods.create(name, config, problem)
  method.shapes(classifier)  # What cannot be made must leave nothing behind.
  result.begin(run.config)
  training = config[section].training
  if name == methods.BASELINE and (
      methods.find(run.config.method.name).section == section
  ):
    training = _with_own_front(training, method, columns['validation'])
  history = loop.train(
      method,
      columns,
      training=training,
      section=section,
      seed=run.config.seed,
      directory=result.directory,
      classifier=classifier,
      scalars=methods.scalars(name, config),
      start_from=_published(run, name, result),
  )
  best = history.best_epoch
  front = history_lib.front(history.epochs, history_lib.parse_front(
      training.front, f'--config.{section}.training.front'
  ))
  variables = checkpoints.restore_variables(
      result.directory, best['step'], method.shapes(classifier)
  )
  fit = _fit_to_maps(
      method, variables, columns['validation'],
      config[section].training.batch_size,
  )
  if not methods.learns_maps(name, config):
    fit['map_r2'] = None  # Of what was never to be one of these maps.
  accuracy = best['validation/accuracy']
  result.finish({
      'best_step': best['step'],
      'best_validation_accuracy': accuracy,
      'best_epoch': history.best + 1,
      **fit,
      'parameters': sum(
          leaf.size for leaf in jax.tree.leaves(variables['params'])
      ),
      'data': data,
      'made_from': made_from,
      'digest': checkpoints.digest(variables),
      'examples': {split: count_of(c) for split, c in columns.items()},
      'history': list(history.epochs),
      'front': [history.epochs[i] | {'epoch': i + 1} for i in front],
      'provenance': provenance.collect(),
      'seconds': history.seconds,
  })
  print('\n' + console.table(
      [
          result.directory.name, 'epochs', 'best epoch', 'validation %',
          'map R2', 'probe R2', 'seconds',
      ],
      [[
          '', len(history.epochs), history.best + 1, f'{100 * accuracy:.2f}',
          *('' if r2 is None else f'{r2:.3f}' for r2 in fit.values()),
          f'{history.seconds:.0f}',
      ]],
  ) + '\n')
  if accuracy <= method.task.chance(problem.num_classes):
    logging.warning(
        '%s is no better than chance on the validation images: there is '
        'nothing in it to explain. Train it longer (training.epochs), or with '
        'another learning rate.', result.directory,
    )


def _with_own_front(
    training: ConfigDict, method: methods.Method, validation: Columns
) -> ConfigDict:
  """Leaves out a front of what A does not measure: it is another method's."""
  selects = history_lib.parse_front(
      training.front, '--config.classifier.training.front'
  )
  measured = evaluator.measures_of(method, method.shapes(), validation, True)
  if {one.measure for one in selects} <= measured:
    return training
  training = training.copy_and_resolve_references()
  training.front = ''
  return training


def _fit_to_maps(
    method: methods.Method, variables: Any, validation: Columns, size: int
) -> dict[str, float | None]:
  """Returns what the network's own map, and its code, have of the maps.

  Args:
    method: With its variables.
    variables: Of the method.
    validation: The images, with their maps unless the method makes its own.
    size: Examples a forward pass.

  Returns:
    `map_r2`, as `evaluator.measure` gives it, and `probe_r2`, as `probe.r2`;
    None where there are no maps, no map of its own, or no code.
  """
  fit = dict.fromkeys(('map_r2', 'probe_r2'))
  if method.explain:
    validation = evaluator.with_own_maps(method, variables, validation, size)
  if 'map' not in validation:
    return fit
  fit['map_r2'] = evaluator.measure(
      method, variables, validation, 4 * size
  ).get('map_r2')
  if method.code:
    if 'mapped' in validation:
      validation = column_lib.rows(validation, validation['mapped'] > 0)
    fit['probe_r2'] = probe.r2(
        evaluator.codes(method, variables, validation, 4 * size),
        validation['map'],
    )
  return fit


def _published(
    run: Run, name: str, result: Artefact
) -> Callable[[Any], Any] | None:
  """Returns what puts published weights into fresh variables, or None."""
  model = result.config.model
  if model.pretrained in models.AT_RANDOM:
    return None
  leave = methods.find(name).published(result.config.method)
  if leave is None:
    logging.info('%s takes nothing from %s.', name, model.pretrained)
    return None

  def start(variables):
    variables, report = pretrained.start(model, variables, leave=leave)
    print(f'\n{report}\n')
    path = run.classifier.directory / pretrained.REPORT
    if path.exists() and configs.read_json(path)['digest'] != report.digest:
      raise InputError(
          f'{model.pretrained} is not the file that the classifier in '
          f'{run.classifier.workdir} started from. Give that one with '
          '--config.model.pretrained=FILE.'
      )
    if parallel.is_main_process():
      files.write_json(
          result.directory / pretrained.REPORT, dataclasses.asdict(report)
      )
    return variables

  return start
