"""A grid of trials, judged by validation alone.

  DIR/shared/            what no field of the grid changes: classifier, maps
  DIR/trials/00017/      the workdir of trial 17 of the grid
  DIR/trials.jsonl       a line for each finished trial
  DIR/trials.png         the best 40 as a picture, in the order of the grid
  DIR/best.json          the best of them, and its fields as flags
"""

from collections.abc import Iterator
import functools
import json
import shlex
from typing import Any

from absl import logging
from attribution import files
from attribution.errors import InputError
from etils import epath
from impactx_jax import compilation
from impactx_jax import memory
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import stages
from impactx_jax.data import builders
from impactx_jax.experiments import grids
from impactx_jax.report import console
from impactx_jax.report import figures
from impactx_jax.stages import artefact
from impactx_jax.stages import checks
from impactx_jax.stages import runs as run_lib
import joblib
from ml_collections import ConfigDict
import numpy as np

MAX_DRAWN = 40


def run(
    config: ConfigDict,
    workdir: str,
    sweep: str,
    *,
    trials: int = 0,
    jobs: int = 1,
) -> None:
  """Runs a sweep, or what is missing of it.

  Args:
    config: Of all trials but for the fields of the grid.
    workdir: Where everything goes.
    sweep: See `grids.load`.
    trials: How many of the grid are drawn at random; 0 is all.
    jobs: Trials at the same time, each in a process of its own.

  Raises:
    InputError: for a field that no config has, and before any work for a
      trial that cannot be run.
  """

  if jobs < 1:
    raise InputError(f'--jobs={jobs}: give 1 or more.')
  stage, grid = grids.load(sweep)
  if stage == 'classifier' and config.classifier.workdir:
    raise InputError(
        f'The sweep {sweep} trains classifiers, and --config.classifier.workdir'
        f'={config.classifier.workdir} says to take one. Leave that out.'
    )
  root = artefact.open_workdir(workdir)
  chosen = grids.choose(len(grid), trials, config.seed)
  for i in chosen:
    checks.check(grids.config_of(config, grid[i]))
  finished = _finished(root / 'trials.jsonl', grid)
  config = _share(config, root / 'shared', _shared_sections(stage, grid))
  configs = {i: grids.config_of(config, grid[i]) for i in chosen}
  places = {i: root / 'trials' / f'{i:05d}' for i in chosen}
  for i in chosen:
    one = run_lib.resolve(configs[i], places[i])  # Or it clashes.
    if not one.makes_maps:
      stages.make_maps(one)  # Of every kind, before two trials need them.
  for data in {c.data.to_json(): c.data for c in configs.values()}.values():
    builders.find(data)  # Prepared, before two trials need it at once.

  def write(result):
    finished[result['trial']] = result
    lines = [json.dumps(finished[i]) for i in sorted(finished)]
    root.mkdir(parents=True, exist_ok=True)
    files.write_text(root / 'trials.jsonl', '\n'.join(lines) + '\n')

  tasks = [(i, configs[i].to_dict(), str(places[i]), stage) for i in chosen]
  for result in _results(tasks, jobs):
    write({**result, 'fields': grid[result['trial']]})
    logging.info(
        'Trial %d, %d of %d: %s', result['trial'], len(finished), len(chosen),
        result.get('error') or f'{100 * result["validation_accuracy"]:.2f} %',
    )
  _report(root, list(finished.values()))


def _finished(path, grid: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
  """Reads the trials of earlier calls, by their number in the same grid."""
  if not path.exists():
    return {}
  found = [json.loads(line) for line in path.read_text().splitlines()]
  if any(
      result['trial'] >= len(grid)
      or _as_json(grid[result['trial']]) != result['fields']
      for result in found
  ):
    raise InputError(
        f'{path} has trials of another grid. Give another --workdir.'
    )
  return {result['trial']: result for result in found}


def _as_json(fields: dict[str, Any]) -> dict[str, Any]:
  """What a file keeps of a trial's fields: no tuples."""
  return json.loads(json.dumps(fields))


def _results(tasks, jobs: int) -> Iterator[dict[str, Any]]:
  """Yields the result of each trial as it is finished."""
  if jobs == 1:
    yield from (run_trial(*task) for task in tasks)
    return
  pool = joblib.Parallel(
      jobs, return_as='generator_unordered', batch_size=1, pre_dispatch=jobs
  )
  in_a_worker = functools.partial(_in_a_worker, compilation.cache_dir())
  yield from pool(joblib.delayed(in_a_worker)(*task) for task in tasks)


def _in_a_worker(cache: str, *task) -> dict[str, Any]:
  """Runs a trial in a process that has not set up its devices."""
  memory.keep()
  parallel.hide_devices_from_tensorflow()
  compilation.use_cache(cache)
  return run_trial(*task)


def run_trial(
    index: int, config: dict[str, Any], workdir: str, stage: str
) -> dict[str, Any]:
  """Trains one trial, or finds it trained; JSON-compatible in and out.

  Args:
    index: In the grid.
    config: Of the trial, as a dict.
    workdir: Of the trial.
    stage: What it ends with: 'classifier', or 'impactx' for config.method.

  Returns:
    `trial`, and what its summary says on validation, or the `error` that
    stopped it: a trial whose loss is not finite does not stop the others.
  """

  config = ConfigDict(config)
  of_classifier = stage == 'classifier'
  name = methods.BASELINE if of_classifier else config.method.name
  try:
    one = run_lib.resolve(config, workdir)
    stages.check(one, stage if of_classifier else 'all')
    stages.train(one, name)
  except InputError as error:
    return {'trial': index, 'error': str(error)}
  summary = one.trained(name).load()
  return {
      'trial': index,
      'validation_accuracy': summary['best_validation_accuracy'],
      'best_epoch': summary['best_epoch'],
      'epochs': len(summary['history']),
      'map_r2': summary['map_r2'],
      'seconds': summary['seconds'],
      'evaluations': 0 if of_classifier else run_lib.evaluations(one, name),
      'examples': summary['examples'],
  }


def _shared_sections(stage: str, grid: list[dict[str, Any]]) -> list[str]:
  """Returns what no field of the grid changes: 'classifier', 'attribution'."""
  changed = {field.partition('.')[0] for trial in grid for field in trial}
  if stage == 'classifier' or changed & {
      'seed', 'data', 'model', 'classifier'
  }:
    return []
  if 'attribution' in changed:
    return ['classifier']
  return ['classifier', 'attribution']


def _share(config, home, shared: list[str]):
  """Makes what the trials share, unless the user has named it, in `home`.

  Args:
    config: Of the sweep.
    home: The workdir for it.
    shared: Of which sections.

  Returns:
    The config that points the trials there.
  """

  missing = [section for section in shared if not config[section].workdir]
  if missing:
    one = run_lib.resolve(config, home)
    stages.check(one, 'all')
    stages.train_classifier(one)
    if 'attribution' in missing:
      stages.make_maps(one)
  config = config.copy_and_resolve_references()
  for section in missing:
    config[section].workdir = str(home)
  return config


def _report(root, results: list[dict[str, Any]]) -> None:
  """Writes the best trial, and prints them all from the best on."""

  good = [result for result in results if 'error' not in result]
  good.sort(key=lambda r: (-r['validation_accuracy'], r['trial']))
  rows = [
      [
          r['trial'],
          as_label(r['fields']),
          f'{100 * r["validation_accuracy"]:.2f}',
          '' if r['map_r2'] is None else f'{r["map_r2"]:.3f}',
          f'{r["examples"]["validation"]:,}',
          f'{r["seconds"]:.0f}',
          f'{r["evaluations"]:,}',
      ]
      for r in good
  ]
  print('\n' + console.table(
      [
          'trial', 'fields', 'validation %', 'map R2', 'of images', 'seconds',
          'evaluations',
      ],
      rows,
  ))
  for result in results:
    if 'error' in result:
      print(f'Trial {result["trial"]} failed: {result["error"]}')
  if good:
    best = good[0]
    overrides = [
        shlex.quote(f'--config.{k}={v}') for k, v in best['fields'].items()
    ]
    files.write_json(root / 'best.json', {**best, 'flags': overrides})
    draw(root / 'trials.png', good)
    print(
        f'\nBest: {" ".join(overrides)}\nTrials: {root}/trials.jsonl, '
        f'{root}/trials.png'
    )


def as_label(fields: dict[str, Any]) -> str:
  """Returns the fields of a trial in a line."""
  return ' '.join(f'{name}={value}' for name, value in fields.items())


def draw(path: epath.Path, best_first: list[dict[str, Any]]) -> None:
  """Draws the best `MAX_DRAWN` trials in the order of the grid.

  Args:
    path: Of the PNG.
    best_first: Lines of trials.jsonl without an error.
  """

  shown = sorted(best_first[:MAX_DRAWN], key=lambda result: result['trial'])
  accuracies = np.array([result['validation_accuracy'] for result in shown])
  images = np.array([result['examples']['validation'] for result in shown])
  picture = figures.trials(
      [as_label(result['fields']) for result in shown], accuracies,
      np.sqrt(accuracies * (1 - accuracies) / images),
  )
  figures.save(path, picture)
