"""The table of compared methods in its formats."""

import csv as csv_lib
import dataclasses
import io
import textwrap
from typing import Any

from impactx_jax import methods
from impactx_jax.experiments import comparison
from impactx_jax.report import figures
from impactx_jax.report import console
from matplotlib import figure
import numpy as np

# Columns of data with groups.
WORST = ('worst group %', 'worst group to A', 'worst group to λ = 0')


def _rows(table: comparison.Table) -> list[dict[str, str]]:
  """All rows as text; without the columns of groups where there are none."""
  rows = [_cells(row) for row in table.rows]
  if not _has_groups(table):
    for row in rows:
      for name in WORST:
        del row[name]
  return rows


def _has_groups(table: comparison.Table) -> bool:
  return any(
      result.worst_group is not None
      for row in table.rows for result in row.results
  )


def _cells(row: comparison.Row) -> dict[str, str]:
  """One row as text."""
  one_network = row.results[0].shared or len(row.results) == 1
  parameters = row.mean('parameters')

  def share(found: float | None) -> str:
    return '' if found is None else f'{found:.3f}'

  def mean(values: list[float]) -> str:
    spread = '' if one_network else f' ± {np.std(values, ddof=1):.2f}'
    return f'{np.mean(values):.2f}{spread}'

  def difference(
      found: comparison.Difference | None, field: str = 'interval'
  ) -> str:
    interval = getattr(found, field, None)
    if interval is None:
      return ''
    reach = (
        ''
        if np.isnan(interval.low)
        else f' [{interval.low:+.2f}, {interval.high:+.2f}]'
    )
    return f'{interval.mean:+.2f}{reach}'

  def tests(found: comparison.Difference | None) -> str:
    return found.significant() if found else ''

  return {
      'method': row.method,
      'seeds': str(len(row.results)),
      'test %': mean(row.accuracies),
      'paper %': '' if row.paper is None else f'{row.paper:.2f}',
      'to A': difference(row.to_baseline),
      'to λ = 0': difference(row.to_control),
      WORST[0]: '' if row.mean('worst_group') is None else mean(
          [100 * result.worst_group for result in row.results]
      ),
      WORST[1]: difference(row.to_baseline, 'worst_group'),
      WORST[2]: difference(row.to_control, 'worst_group'),
      'McNemar to A': tests(row.to_baseline),
      'McNemar to λ = 0': tests(row.to_control),
      'map R²': share(row.mean('map_r2')),
      'probe R²': share(row.mean('probe_r2')),
      'parameters': '' if parameters is None else f'{parameters:,.0f}',
      'own training s': f'{row.mean("seconds"):.0f}',
      'evaluations': f'{row.mean("evaluations"):,.0f}',
      'verdict': row.verdict(),
  }


def _notes(table: comparison.Table) -> str:
  text = (
      'Test accuracy in per cent, mean ± standard deviation over seeds. '
      'Differences in points, with 95 % intervals of paired seeds (Student). '
      'McNemar: exact, p < 0.05, each seed by itself. A verdict takes an '
      'interval without 0 and most of these tests; it is of one comparison, '
      'whatever the number of rows. '
      f'λ = 0 is the same network without the explanation, and for methods '
      f'that have no λ {methods.CONTROL}, which allows no verdict. Not in the '
      'time of a method around A: the training of A, and the maps, whose cost '
      'is in evaluations of A. Map R²: the share of the variance of the '
      "validation images' maps that the network's own explain; probe R²: that "
      'a ridge regression from its code does, over 8x8 cells.'
  )
  if _has_groups(table):
    text += (
        ' Worst group: the lowest accuracy of a group of the test split, '
        'whichever that is with a seed; differences in points as the others. '
        'Verdicts are of all of the split.'
    )
  if table.shared:
    text += (
        ' All seeds share one classifier A: for the methods around it they are '
        'the seeds of stage two alone.'
    )
  by_seed: dict[int, dict[str, int]] = {}
  for row in table.rows:
    for result in row.results:
      by_seed.setdefault(result.seed, {})[row.method] = result.examples
  for seed, counts in by_seed.items():
    if len({*counts.values()}) > 1:
      numbers = ', '.join(f'{name} {n:,}' for name, n in counts.items())
      return (
          f'{text} The rows are trained on different numbers of images, and so '
          f'cannot be compared as methods; with seed {seed}: {numbers}.'
      )
  return text


def markdown(table: comparison.Table) -> str:
  """Returns the table in Markdown."""
  rows = _rows(table)
  if not rows:
    return 'Nothing is finished yet.\n'
  lines = [
      '| ' + ' | '.join(rows[0]) + ' |',
      '|' + ' --- |' * len(rows[0]),
      *('| ' + ' | '.join(row.values()) + ' |' for row in rows),
  ]
  heading = f'{table.data}, {table.model}\n\n'
  return heading + '\n'.join(lines) + f'\n\n{_notes(table)}\n'


def csv(table: comparison.Table) -> str:
  """Returns one line for each method and seed."""
  file = io.StringIO()
  writer = csv_lib.writer(file, lineterminator='\n')
  writer.writerow([
      'data', 'model', 'method', 'seed', 'test_accuracy',
      'worst_group_accuracy', 'validation_accuracy', 'map_r2', 'probe_r2',
      'parameters', 'seconds', 'evaluations', 'examples',
  ])
  for row in table.rows:
    for result in row.results:
      writer.writerow([
          table.data, table.model, result.method, result.seed,
          result.accuracy / 100, result.worst_group, result.validation,
          result.map_r2, result.probe_r2, result.parameters, result.seconds,
          result.evaluations, result.examples,
      ])
  return file.getvalue()


def plain(table: comparison.Table) -> str:
  """Returns what ends a run: the columns that fit a terminal."""
  rows = _rows(table)
  if not rows:
    return 'Nothing is finished yet.'
  names = (
      'method', 'seeds', 'test %', 'to A', 'to λ = 0', 'map R²', 'probe R²',
      'verdict',
  )
  if _has_groups(table):  # In the place of what few methods have.
    names = (*names[:5], WORST[0], WORST[2], 'verdict')
  text = console.table(names, [[row[name] for name in names] for row in rows])
  return f'{text}\n\n{textwrap.fill(_notes(table), 79)}'


def draw(table: comparison.Table) -> figure.Figure:
  """Draws the differences to A and to λ = 0, a row for each method."""
  rows = [row for row in table.rows if row.method != methods.BASELINE]

  def values(found: comparison.Difference | None, field: str):
    interval = getattr(found, field, None)
    if interval is None:
      return None
    return interval.mean, interval.low, interval.high

  fields = {'': 'interval'}
  if _has_groups(table):
    fields['worst group '] = 'worst_group'
  return figures.differences(
      [row.method for row in rows],
      {
          f'{title}{to}': [values(found(row), field) for row in rows]
          for title, field in fields.items()
          for to, found in (
              ('to A', lambda row: row.to_baseline),
              ('to λ = 0', lambda row: row.to_control),
          )
      },
  )


def as_json(table: comparison.Table, config: dict[str, Any]) -> dict[str, Any]:
  """Returns everything, JSON-compatible, with the config that made it.

  Args:
    table: The rows, which are also in `printed` as the Markdown has them.
    config: Of the runs.
  """

  def difference(found: comparison.Difference | None):
    if found is None:
      return None
    return {
        'mean': found.interval.mean,
        'interval': _finite([found.interval.low, found.interval.high]),
        'worst_group': found.worst_group and {
            'mean': found.worst_group.mean,
            'interval': _finite(
                [found.worst_group.low, found.worst_group.high]
            ),
        },
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
                      'worst_group_accuracy': result.worst_group,
                      'validation_accuracy': result.validation,
                      'map_r2': result.map_r2,
                      'probe_r2': result.probe_r2,
                      'parameters': result.parameters,
                      'seconds': result.seconds,
                      'evaluations': result.evaluations,
                      'examples': result.examples,
                  }
                  for result in row.results
              ],
          }
          for row in table.rows
      ],
      'printed': _rows(table),
  }


def _finite(values: list[float]) -> list[float] | None:
  return None if np.isnan(values).any() else values
