"""Results of runs whose table is known."""

import json

from impactx_jax.experiments import comparison
from impactx_jax.experiments import table_formats
import numpy as np

EXAMPLES = 200
A = (140, 144, 142, 146, 148)  # Right of 200, for each of five seeds.
BETTER = (8, 10, 8, 10, 9)
NO_DIFFERENT = (2, -2, 2, -2, 0)
WORSE = (-8, -10, -8, -10, -9)


def result(method, seed, right, **fields) -> comparison.Result:
  """The first `right` of the test examples are classified rightly."""
  fields = {
      'shared': False,
      'correct': np.arange(EXAMPLES) < right,
      'worst_group': None,
      'validation': 0.75,
      'map_r2': None,
      'probe_r2': None,
      'parameters': 1000,
      'seconds': 10.0,
      'evaluations': 0,
      'examples': 1000,
  } | fields
  return comparison.Result(method=method, seed=seed, **fields)


def runs(method, rights, first_seed=0, **fields):
  return [
      result(method, seed, right, **fields)
      for seed, right in enumerate(rights, first_seed)
  ]


def differing(method, differences, **fields):
  """Runs that have so many more examples right than A."""
  return runs(method, np.add(A[: len(differences)], differences), **fields)


def make_table(
    *results, data='digits', model='lenet5', as_published=True, **options
):
  flat = [one for group in results for one in group]
  return comparison.make_table(
      flat, data=data, model=model, as_published=as_published, **options
  )


def row_of(table, method) -> comparison.Row:
  (row,) = (row for row in table.rows if row.method == method)
  return row


def verdict(method, *results) -> str:
  return row_of(make_table(runs('baseline', A), *results), method).verdict()


def strict(table, config=None):
  """The table as JSON, there and back, without NaN."""
  content = table_formats.as_json(table, config or {})
  return json.loads(json.dumps(content, allow_nan=False))


def cells(table) -> dict[str, dict[str, str]]:
  """The cells of the Markdown table, by method and column."""
  lines = [
      [cell.strip() for cell in line.strip('|').split('|')]
      for line in table_formats.markdown(table).splitlines()
      if line.startswith('| ')
  ]
  names, _, *rows = lines
  return {row[0]: dict(zip(names, row, strict=True)) for row in rows}
