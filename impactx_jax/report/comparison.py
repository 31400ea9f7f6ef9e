"""The table of compared methods: statistics, verdicts, and three formats."""

from collections.abc import Sequence
import csv as csv_lib
import dataclasses
import io
from typing import Any

from impactx_jax.metrics import statistics
from impactx_jax.report import paper
from impactx_jax.report import tables
import numpy as np

BASELINE = 'baseline'
CONTROL = 'impactx_lambda0'
# Fewer paired seeds are printed without a verdict.
SEEDS_FOR_A_VERDICT = 5
SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True)
class Result:
  """What one trained method says of the test split.

  Attributes:
    method: Its name.
    seed: Of the run.
    shared: Whether it is one network for all seeds.
    correct: bool [N], of each test example.
    validation: Best validation accuracy, 0 to 1.
    map_r2: Share of the maps' variance on validation images that its own
      maps explain; None without maps.
    parameters: How many are trained.
    seconds: Of training.
    evaluations: Of the model, for its maps.
  """

  method: str
  seed: int
  shared: bool
  correct: np.ndarray
  validation: float
  map_r2: float | None
  parameters: int | None
  seconds: float
  evaluations: int

  @property
  def accuracy(self) -> float:
    """On the test split, in per cent."""
    return 100 * float(self.correct.mean())


@dataclasses.dataclass(frozen=True)
class Difference:
  """One method against another, on the seeds that both have.

  Attributes:
    interval: Of the difference in points of test accuracy, 95 %.
    mcnemar: The test for each seed, never pooled.
  """

  interval: statistics.Interval
  mcnemar: dict[int, statistics.McNemar]

  @property
  def sign(self) -> int:
    """1 or -1 where the interval excludes 0, else 0."""
    return int(self.interval.low > 0) - int(self.interval.high < 0)

  def significant(self) -> str:
    """How many seeds McNemar's test finds better, and worse, of how many."""
    tests = self.mcnemar.values()
    found = [t for t in tests if t.p_value < SIGNIFICANT]
    better = sum(t.gained > t.lost for t in found)
    return f'{better} better, {len(found) - better} worse of {len(tests)}'


@dataclasses.dataclass(frozen=True)
class Row:
  """One method.

  Attributes:
    method: Its name.
    results: One for each seed.
    paper: The paper's accuracy in per cent, None where it has none.
    to_baseline: Against A; None for A itself.
    to_control: Against the same network without the explanation; None where
      there is nothing to compare.
  """

  method: str
  results: tuple[Result, ...]
  paper: float | None
  to_baseline: Difference | None
  to_control: Difference | None

  @property
  def accuracies(self) -> list[float]:
    """Of each seed, in per cent."""
    return [result.accuracy for result in self.results]

  def mean(self, field: str) -> float | None:
    """The mean of a field over the seeds, None where it has no value."""
    values = [getattr(result, field) for result in self.results]
    return None if None in values else float(np.mean(values))

  def verdict(self) -> str:
    """What the differences allow to say."""
    if self.to_baseline is None:
      return ''
    count = len(self.to_baseline.mcnemar)
    if count < SEEDS_FOR_A_VERDICT:
      return f'no verdict: {count} of {SEEDS_FOR_A_VERDICT} seeds'
    words = {1: 'better than', 0: 'no different from', -1: 'worse than'}
    said = [f'{words[self.to_baseline.sign]} A']
    if self.to_control:
      if len(self.to_control.mcnemar) < SEEDS_FOR_A_VERDICT:
        said.append('too few seeds against lambda = 0')
      else:
        said.append(f'{words[self.to_control.sign]} lambda = 0')
    return ', '.join(said)


@dataclasses.dataclass(frozen=True)
class Table:
  """All rows, A first.

  Attributes:
    rows: Of the methods.
    data: Name of the data set.
    model: Name of the backbone.
    shared: Whether one classifier serves all seeds.
  """

  rows: tuple[Row, ...]
  data: str
  model: str
  shared: bool


def make_table(results: Sequence[Result], *, data: str, model: str) -> Table:
  """Compares methods on the seeds that they share.

  Args:
    results: Of all methods and seeds.
    data: Name of the data set.
    model: Name of the backbone.
  """
  by_method: dict[str, dict[int, Result]] = {}
  for result in results:
    by_method.setdefault(result.method, {})[result.seed] = result

  def against(name: str, other: str) -> Difference | None:
    if name == other or other not in by_method:
      return None
    seeds = sorted(by_method[name].keys() & by_method[other].keys())
    if not seeds:
      return None
    ours, theirs = (
        [by_method[method][seed] for seed in seeds] for method in (name, other)
    )
    return Difference(
        statistics.paired_interval(
            [result.accuracy for result in ours],
            [result.accuracy for result in theirs],
        ),
        {
            a.seed: statistics.mcnemar(a.correct, b.correct)
            for a, b in zip(ours, theirs, strict=True)
        },
    )

  rows = [
      Row(
          method=name,
          results=tuple(found[seed] for seed in sorted(found)),
          paper=paper.accuracy(data, model, name),
          to_baseline=against(name, BASELINE),
          to_control=None if name == BASELINE else against(name, CONTROL),
      )
      for name, found in by_method.items()
  ]
  return Table(tuple(rows), data, model, any(r.shared for r in results))


def _cells(row: Row) -> dict[str, str]:
  """One row as text."""
  accuracies = row.accuracies
  spread = (
      f' ± {np.std(accuracies, ddof=1):.2f}' if len(accuracies) > 1 else ''
  )
  r2, parameters = row.mean('map_r2'), row.mean('parameters')

  def difference(found: Difference | None) -> str:
    if found is None:
      return ''
    interval = found.interval
    reach = (
        ''
        if np.isnan(interval.low)
        else f' [{interval.low:+.2f}, {interval.high:+.2f}]'
    )
    return f'{interval.mean:+.2f}{reach}'

  def tests(found: Difference | None) -> str:
    return found.significant() if found else ''

  return {
      'method': row.method,
      'seeds': str(len(accuracies)),
      'test %': f'{np.mean(accuracies):.2f}{spread}',
      'paper %': '' if row.paper is None else f'{row.paper:.2f}',
      'to A': difference(row.to_baseline),
      'to λ = 0': difference(row.to_control),
      'McNemar to A': tests(row.to_baseline),
      'McNemar to λ = 0': tests(row.to_control),
      'map R²': '' if r2 is None else f'{r2:.3f}',
      'parameters': '' if parameters is None else f'{parameters:,.0f}',
      'training s': f'{row.mean("seconds"):.0f}',
      'evaluations': f'{row.mean("evaluations"):,.0f}',
      'verdict': row.verdict(),
  }


def _notes(table: Table) -> str:
  text = (
      'Test accuracy in per cent, mean ± standard deviation over seeds. '
      'Differences in points, with 95 % intervals of paired seeds (Student). '
      'McNemar: exact, p < 0.05, each seed by itself.'
  )
  if table.shared:
    text += (
        ' All seeds share one classifier A: for the methods around it they are '
        'the seeds of stage two alone.'
    )
  return text


def markdown(table: Table) -> str:
  """Returns the table in Markdown."""
  rows = [_cells(row) for row in table.rows]
  if not rows:
    return 'Nothing is finished yet.\n'
  lines = [
      '| ' + ' | '.join(rows[0]) + ' |',
      '|' + ' --- |' * len(rows[0]),
      *('| ' + ' | '.join(row.values()) + ' |' for row in rows),
  ]
  heading = f'{table.data}, {table.model}\n\n'
  return heading + '\n'.join(lines) + f'\n\n{_notes(table)}\n'


def csv(table: Table) -> str:
  """Returns one line for each method and seed."""
  file = io.StringIO()
  writer = csv_lib.writer(file, lineterminator='\n')
  writer.writerow([
      'data', 'model', 'method', 'seed', 'test_accuracy',
      'validation_accuracy', 'map_r2', 'parameters', 'seconds', 'evaluations',
  ])
  for row in table.rows:
    for result in row.results:
      writer.writerow([
          table.data, table.model, result.method, result.seed,
          result.accuracy / 100, result.validation, result.map_r2,
          result.parameters, result.seconds, result.evaluations,
      ])
  return file.getvalue()


def plain(table: Table) -> str:
  """Returns what ends a run: the columns that fit a terminal."""
  rows = [_cells(row) for row in table.rows]
  if not rows:
    return 'Nothing is finished yet.'
  names = ('method', 'seeds', 'test %', 'to A', 'to λ = 0', 'map R²', 'verdict')
  return tables.table(names, [[row[name] for name in names] for row in rows])


def as_json(table: Table, config: dict[str, Any]) -> dict[str, Any]:
  """Returns everything, JSON-compatible, with the config that made it."""

  def difference(found: Difference | None):
    if found is None:
      return None
    return {
        'mean': found.interval.mean,
        'interval': _finite([found.interval.low, found.interval.high]),
        'mcnemar': {
            str(seed): dataclasses.asdict(test)
            for seed, test in found.mcnemar.items()
        },
    }

  return {
      'data': table.data,
      'model': table.model,
      'shared_classifier': table.shared,
      'config': config,
      'rows': [
          {
              'method': row.method,
              'paper': row.paper,
              'to_baseline': difference(row.to_baseline),
              'to_lambda0': difference(row.to_control),
              'verdict': row.verdict(),
              'runs': [
                  {
                      'seed': result.seed,
                      'test_accuracy': result.accuracy / 100,
                      'validation_accuracy': result.validation,
                      'map_r2': result.map_r2,
                      'parameters': result.parameters,
                      'seconds': result.seconds,
                      'evaluations': result.evaluations,
                  }
                  for result in row.results
              ],
          }
          for row in table.rows
      ],
  }


def _finite(values: list[float]) -> list[float] | None:
  return None if np.isnan(values).any() else values
