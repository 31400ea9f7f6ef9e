"""Methods compared over seeds: runs what is missing, gathers what there is.

  DIR/seed0/             a workdir as `impactx` makes it, all methods in it
  DIR/seed1/ …
  DIR/table.json, table.csv, table.md, table.png
"""

from collections.abc import Sequence
import dataclasses

from absl import logging
from attribution import files
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import stages
from impactx_jax import user_files
from impactx_jax.configs import common
from impactx_jax.experiments import comparison
from impactx_jax.experiments import table_formats
from impactx_jax.report import figures
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import evaluate
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages.runs import Run
from ml_collections import ConfigDict
import numpy as np

# What a run may take from another, and what stands for its seed in that path.
FROM_ELSEWHERE = (
    ('classifier', 'workdir'), ('attribution', 'workdir'),
    ('attribution', 'classifier'),
)
SEED = '{seed}'


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be compared.

  Attributes:
    seeds: Of the runs.
    names: Of the methods, each with the number of seeds it is run with.
  """

  seeds: tuple[int, ...]
  names: dict[str, int]

  @classmethod
  def parse(cls, seeds: str, names: Sequence[str]) -> 'Plan':
    """Reads the flags --seeds and --methods.

    Args:
      seeds: A number, for so many from 0 on, or numbers with commas, with
        ranges such as 5-9.
      names: Methods; NAME:N runs it with the first N seeds alone.

    Raises:
      InputError: for what cannot be read.
    """
    chosen = _parse_seeds(seeds)
    counts = {methods.BASELINE: len(chosen)}
    for item in names:
      name, colon, number = item.strip().partition(':')
      if not user_files.is_file(name) and name not in methods.METHODS:
        raise unknown_choice('method', name, methods.METHODS, '--methods')
      alike = [n for n in counts if user_files.stem(n) == user_files.stem(name)]
      if alike not in ([], [name]):
        raise InputError(
            f'--methods names {alike[0]} and {name}, which would both be '
            f'called {user_files.stem(name)}. Rename one of the files.'
        )
      if colon and not (number.isdecimal() and int(number) > 0):
        raise InputError(
            f'{item!r} does not say how many seeds: give --methods={name}:N, '
            'with N of 1 or more.'
        )
      counts[name] = min(int(number), len(chosen)) if colon else len(chosen)
    return cls(chosen, counts)

  def runs(self) -> list[tuple[int, str]]:
    """Seed by seed, so that what is finished first can be compared."""
    return [
        (seed, name)
        for i, seed in enumerate(self.seeds)
        for name, count in self.names.items()
        if i < count
    ]


def _parse_seeds(text: str) -> tuple[int, ...]:
  try:
    if text.strip().isdecimal():
      seeds = [*range(int(text))]
    else:
      seeds = []
      for part in filter(None, text.split(',')):
        first, dash, last = part.partition('-')
        found = range(int(first), int(last if dash else first) + 1)
        if not found:  # From 9 to 5.
          raise ValueError(part)
        seeds += found
  except ValueError:
    seeds = []
  if not seeds or len(set(seeds)) < len(seeds):
    raise InputError(
        f'--seeds={text} names no seeds, or one twice: give a number, such as '
        '5 for 0 to 4, or seeds with commas and ranges, such as 3,5-9.'
    )
  return tuple(seeds)


def run(
    config: ConfigDict,
    workdir: epath.PathLike,
    plan: Plan,
    *,
    report_only: bool = False,
) -> None:
  """Trains and tests what is missing, and writes the table after each run.

  Args:
    config: Of all runs but for the seed and the method. With
      `classifier.workdir` all share that classifier, and with
      `attribution.workdir` those maps; where `{seed}` is in such a path, each
      seed has its own.
    workdir: Where the runs and the table go.
    plan: What is compared.
    report_only: Whether to gather what is complete and run nothing.

  Raises:
    InputError: before anything is run, if any of the runs is impossible or
      clashes with what is in the workdir.
  """
  workdir = artefact.open_workdir(workdir)
  if (workdir / configs.CONFIG).exists():
    raise InputError(
        f'{workdir} holds a single run, and a table has runs of many seeds. '
        'Give another --workdir.'
    )
  runs = {
      (seed, name): run_lib.resolve(
          _config_of(config, seed, name), workdir / f'seed{seed}'
      )
      for seed, name in plan.runs()
  }
  todo = {} if report_only else runs
  own = any(SEED in config[section][field] for section, field in FROM_ELSEWHERE)
  for (seed, name), one in todo.items():
    # The sizes are those of every seed; what is taken from elsewhere need not.
    if own or seed == plan.seeds[0]:
      stages.check(one, 'classifier' if name == methods.BASELINE else 'all')
  for (seed, name), one in todo.items():
    logging.info('Seed %d, %s.', seed, name)
    stages.train(one, name)
    evaluate.test(one, name)
    _write(workdir, config, runs)
  table = _write(workdir, config, runs)
  print(f'\n{table_formats.plain(table)}\n\nTable: {workdir}/table.md')


def _config_of(config, seed: int, name: str):
  config = config.copy_and_resolve_references()
  config.seed = seed
  for section, field in FROM_ELSEWHERE:
    path = config[section][field]
    config[section][field] = path.replace(SEED, str(seed))
  if name != methods.BASELINE:
    common.set_method(config, name)
  return config


def _write(
    workdir: epath.Path, config, runs: dict[tuple[int, str], Run]
) -> comparison.Table:
  """Writes the table of what is complete."""
  shared = SEED not in config.classifier.workdir
  results = [
      result
      for (seed, name), one in runs.items()
      if (result := _result(one, seed, name, shared))
  ]
  table = comparison.make_table(
      results,
      data=config.data.name,
      model=config.model.name,
      as_published=config.data.label_fraction == config.model.width == 1,
      specs={user_files.stem(name): methods.find(name) for _, name in runs},
  )
  if parallel.is_main_process():
    workdir.mkdir(parents=True, exist_ok=True)
    files.write_json(
        workdir / 'table.json',
        table_formats.as_json(table, config.to_dict()),
    )
    files.write_text(workdir / 'table.csv', table_formats.csv(table))
    files.write_text(workdir / 'table.md', table_formats.markdown(table))
    figures.save(workdir / 'table.png', table_formats.draw(table))
  return table


def _result(
    one: Run, seed: int, name: str, shared: bool
) -> comparison.Result | None:
  """Returns what a finished run has to say, None if it is not finished.

  Args:
    one: The run.
    seed: Its own.
    name: Of the method.
    shared: Whether what it takes from elsewhere is the same for all seeds.
  """
  trained = one.trained(name)
  summary = trained.load()
  if summary is None or not (trained.directory / artefact.TEST).exists():
    return None
  test = evaluate.test(one, name)
  return comparison.Result(
      method=user_files.stem(name),
      seed=seed,
      shared=shared and trained.workdir != one.workdir,
      correct=np.array(test['correct'], bool),
      worst_group=test.get('worst_group_accuracy'),
      validation=summary['best_validation_accuracy'],
      map_r2=summary.get('map_r2'),
      probe_r2=summary.get('probe_r2'),
      parameters=summary.get('parameters'),
      seconds=summary['seconds'],
      evaluations=run_lib.evaluations(one, name),
      examples=summary['examples']['train'],
  )
