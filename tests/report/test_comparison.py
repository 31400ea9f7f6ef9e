"""The table of compared methods, from results whose answer is known."""

import csv
import io
import json
import math

from impactx_jax.report import comparison
from impactx_jax.report import paper
import numpy as np
import pytest

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
      'validation': 0.75,
      'map_r2': None,
      'parameters': 1000,
      'seconds': 10.0,
      'evaluations': 0,
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


def make_table(*results, data='digits', model='lenet5'):
  flat = [one for group in results for one in group]
  return comparison.make_table(flat, data=data, model=model)


def row_of(table, method) -> comparison.Row:
  (row,) = (row for row in table.rows if row.method == method)
  return row


def verdict(method, *results) -> str:
  return row_of(make_table(runs('baseline', A), *results), method).verdict()


def strict(table, config=None):
  """The table as JSON, there and back, without NaN."""
  content = comparison.as_json(table, config or {})
  return json.loads(json.dumps(content, allow_nan=False))


def cells(table) -> dict[str, dict[str, str]]:
  """The cells of the Markdown table, by method and column."""
  lines = [
      [cell.strip() for cell in line.strip('|').split('|')]
      for line in comparison.markdown(table).splitlines()
      if line.startswith('| ')
  ]
  names, _, *rows = lines
  return {row[0]: dict(zip(names, row, strict=True)) for row in rows}


# --- Differences --------------------------------------------------------------


def test_accuracy_is_in_per_cent():
  assert result('baseline', 0, 150).accuracy == 75


def test_differences_are_of_shared_seeds_alone():
  table = make_table(
      runs('baseline', (100, 110, 120, 130)),  # Seeds 0 to 3.
      runs('impactx', (124, 138, 0, 0), first_seed=2),  # Seeds 2 to 5.
  )
  found = row_of(table, 'impactx').to_baseline
  assert found.interval.mean == pytest.approx((2 + 4) / 2)
  # Two values, 2 apart: Student's t of one degree of freedom, times 1.
  assert found.interval.high - 3 == pytest.approx(12.7062, abs=1e-4)
  assert list(found.mcnemar) == [2, 3]


def test_seeds_are_paired_in_whatever_order_they_come():
  baseline, impactx = runs('baseline', A), differing('impactx', BETTER)
  expected = row_of(make_table(baseline, impactx), 'impactx')
  found = row_of(make_table(baseline, impactx[::-1]), 'impactx')
  assert found.to_baseline == expected.to_baseline
  assert [one.seed for one in found.results] == [0, 1, 2, 3, 4]


def test_without_shared_seeds_nothing_is_compared():
  table = make_table(runs('baseline', A), runs('abn', A, first_seed=5))
  row = row_of(table, 'abn')
  assert row.to_baseline is None and row.verdict() == ''


def test_without_a_nothing_is_compared_with_it():
  table = make_table(runs('impactx', A), runs('impactx_lambda0', A))
  row = row_of(table, 'impactx')
  assert row.to_baseline is None and row.to_control is not None


def test_a_and_the_control_are_not_compared_with_themselves():
  table = make_table(
      runs('baseline', A), differing('impactx', BETTER),
      differing('impactx_lambda0', BETTER),
  )
  baseline = row_of(table, 'baseline')
  control = row_of(table, 'impactx_lambda0')
  assert (baseline.to_baseline, baseline.to_control) == (None, None)
  assert control.to_control is None and control.to_baseline is not None
  assert row_of(table, 'impactx').to_control.interval.mean == 0


# --- Verdicts -----------------------------------------------------------------


@pytest.mark.parametrize(('differences', 'expected'), [
    (BETTER, 'better than A'),
    (NO_DIFFERENT, 'no different from A'),
    ((0,) * 5, 'no different from A'),
    (WORSE, 'worse than A'),
])
def test_verdict_against_a(differences, expected):
  assert verdict('impactx', differing('impactx', differences)) == expected


@pytest.mark.parametrize(('control', 'expected'), [
    (WORSE, 'better than lambda = 0'),
    (BETTER, 'no different from lambda = 0'),
    ((20, 22, 21, 22, 20), 'worse than lambda = 0'),
    (WORSE[:4], 'too few seeds against lambda = 0'),
])
def test_verdict_against_lambda_0(control, expected):
  assert verdict(
      'impactx', differing('impactx', BETTER),
      differing('impactx_lambda0', control),
  ) == f'better than A, {expected}'


@pytest.mark.parametrize('count', [1, 2, 4])
def test_fewer_than_five_seeds_have_no_verdict(count):
  assert verdict('abn', differing('abn', BETTER[:count])) == (
      f'no verdict: {count} of 5 seeds'
  )


def test_seeds_that_a_lacks_do_not_count_for_the_verdict():
  found = verdict('abn', runs('abn', [170] * 9, first_seed=1))
  assert found == 'no verdict: 4 of 5 seeds'


def test_a_itself_has_no_verdict():
  assert verdict('baseline') == ''


# --- McNemar ------------------------------------------------------------------


def swapped(method, seed, *, gained, lost) -> comparison.Result:
  """A result against one with 100 right: so many gained, so many lost."""
  correct = np.arange(EXAMPLES) < 100
  correct[:lost] = False
  correct[100 : 100 + gained] = True
  return result(method, seed, 0, correct=correct)


def mcnemar_table():
  return make_table(
      runs('baseline', (100, 100, 100)),
      [
          swapped('abn', 0, gained=1, lost=9),
          swapped('abn', 1, gained=9, lost=1),
          swapped('abn', 2, gained=40, lost=41),
      ],
  )


def test_mcnemar_counts_each_seed_by_itself():
  found = row_of(mcnemar_table(), 'abn').to_baseline
  counts = {s: (test.gained, test.lost) for s, test in found.mcnemar.items()}
  assert counts == {0: (1, 9), 1: (9, 1), 2: (40, 41)}
  assert found.mcnemar[0].p_value == pytest.approx(22 / 1024)
  assert found.mcnemar[2].p_value > 0.9
  assert found.significant() == '1 better, 1 worse of 3'


def test_mcnemar_is_printed_and_kept():
  table = mcnemar_table()
  assert cells(table)['abn']['McNemar to A'] == '1 better, 1 worse of 3'
  assert cells(table)['baseline']['McNemar to A'] == ''
  kept = strict(table)['rows'][1]['to_baseline']['mcnemar']
  assert kept.keys() == {'0', '1', '2'}
  assert kept['0'] == {
      'gained': 1, 'lost': 9, 'p_value': pytest.approx(22 / 1024)
  }


# --- Formats ------------------------------------------------------------------


def mixed_table(**names):
  """A with two seeds, IMPACTX with maps, ABN with one seed."""
  return make_table(
      runs('baseline', (140, 144)),
      runs('impactx', (150, 150), map_r2=0.5, evaluations=2000),
      runs('abn', (140,), parameters=None, seconds=3.6),
      **names,
  )


def test_markdown_has_a_row_a_method_under_a_heading():
  text = comparison.markdown(mixed_table())
  assert text.startswith('digits, lenet5\n\n| method | seeds |')
  assert list(cells(mixed_table())) == ['baseline', 'impactx', 'abn']
  assert '95 %' in text and 'McNemar' in text


def test_markdown_rounds_what_is_measured():
  found = cells(mixed_table())
  # Deviation of 70 and 72 with one degree of freedom: the root of 2.
  assert found['baseline']['test %'] == '71.00 ± 1.41'
  assert found['impactx']['map R²'] == '0.500'
  assert found['impactx']['evaluations'] == '2,000'
  # Of 5 and 3: t = 12.706 times the standard error, 1.
  assert found['impactx']['to A'] == '+4.00 [-8.71, +16.71]'
  assert found['abn']['training s'] == '4'


def test_markdown_leaves_blank_what_is_not_there():
  found = cells(mixed_table())
  assert found['abn']['test %'] == '70.00'  # One seed has no deviation,
  assert found['abn']['to A'] == '+0.00'  # and no interval.
  for method, column in (
      ('baseline', 'to A'), ('baseline', 'verdict'), ('baseline', 'map R²'),
      ('impactx', 'to λ = 0'), ('impactx', 'McNemar to λ = 0'),
      ('abn', 'parameters'),
  ):
    assert found[method][column] == ''


def test_a_field_that_one_seed_lacks_has_no_mean():
  table = make_table(
      [result('abn', 0, 140, map_r2=0.5), result('abn', 1, 140)]
  )
  assert cells(table)['abn']['map R²'] == ''


def test_csv_has_a_line_a_run():
  lines = list(csv.DictReader(io.StringIO(comparison.csv(mixed_table()))))
  assert [(line['method'], line['seed']) for line in lines] == [
      ('baseline', '0'), ('baseline', '1'), ('impactx', '0'),
      ('impactx', '1'), ('abn', '0'),
  ]
  assert {(line['data'], line['model']) for line in lines} == {
      ('digits', 'lenet5')
  }
  assert [float(line['test_accuracy']) for line in lines] == [
      0.7, 0.72, 0.75, 0.75, 0.7
  ]
  assert (lines[2]['map_r2'], lines[2]['evaluations']) == ('0.5', '2000')
  assert (lines[4]['map_r2'], lines[4]['parameters']) == ('', '')


def test_csv_quotes_a_name_with_a_comma():
  text = comparison.csv(mixed_table(model='my, "net".py'))
  (first, *_) = csv.DictReader(io.StringIO(text))
  assert first['model'] == 'my, "net".py'


def test_json_is_strict_and_holds_every_run():
  content = strict(mixed_table(), {'seed': 0, 'size': (32, 32)})
  assert content['config'] == {'seed': 0, 'size': [32, 32]}
  assert (content['data'], content['model']) == ('digits', 'lenet5')
  baseline, impactx, abn = content['rows']
  assert [run['test_accuracy'] for run in baseline['runs']] == [0.7, 0.72]
  assert [run['map_r2'] for run in impactx['runs']] == [0.5, 0.5]
  assert impactx['to_baseline']['mean'] == pytest.approx(4)
  assert impactx['to_baseline']['interval'] == pytest.approx(
      [4 - 12.7062, 4 + 12.7062], abs=1e-4
  )
  assert impactx['to_lambda0'] is None and baseline['to_baseline'] is None
  # One seed has a difference and no interval.
  assert abn['to_baseline']['mean'] == 0
  assert abn['to_baseline']['interval'] is None
  assert abn['verdict'] == 'no verdict: 1 of 5 seeds'


def test_the_terminal_shows_a_line_a_method():
  text = comparison.plain(mixed_table())
  assert all(len(line) <= 120 for line in text.splitlines())
  for part in ('baseline', 'impactx', 'abn', '71.00 ± 1.41', 'verdict'):
    assert part in text


def test_nothing_finished_is_said_in_every_format():
  table = make_table()
  assert 'Nothing is finished yet.' in comparison.markdown(table)
  assert 'Nothing is finished yet.' in comparison.plain(table)
  assert len(comparison.csv(table).splitlines()) == 1
  assert strict(table)['rows'] == []


# --- The paper's numbers ------------------------------------------------------


def all_methods(**names):
  return make_table(
      *(runs(method, (140,)) for method in (
          'baseline', 'impactx', 'abn', 'wae', 'impactx_lambda0'
      )),
      **names,
  )


def test_the_papers_numbers_are_beside_its_own_methods():
  table = all_methods(data='cifar10', model='lenet5')
  expected = {'baseline': 67.96, 'impactx': 70.65, 'abn': 68.49, 'wae': 68.1}
  assert {row.method: row.paper for row in table.rows} == (
      expected | {'impactx_lambda0': None}
  )
  found = cells(table)
  for method, value in expected.items():
    assert found[method]['paper %'] == f'{value:.2f}'
  assert found['impactx_lambda0']['paper %'] == ''
  kept = [row['paper'] for row in strict(table)['rows']]
  assert kept == [*expected.values(), None]


@pytest.mark.parametrize('names', [
    {'data': 'digits', 'model': 'lenet5'},
    {'data': 'cifar10', 'model': '/home/me/mynet.py'},
    {'data': 'shapes/easy', 'model': 'lenet5'},
])
def test_what_the_paper_has_not_measured_is_blank(names):
  table = all_methods(**names)
  assert {row.paper for row in table.rows} == {None}
  assert {row['paper %'] for row in cells(table).values()} == {''}


def test_the_paper_has_an_accuracy_for_each_of_its_methods():
  for (data, model), row in paper.TABLE_2.items():
    found = [paper.accuracy(data, model, name) for name in paper.METHODS]
    assert found == list(row)
    assert all(0 < value < 100 for value in found)
    # What the paper claims: IMPACTX is above the others.
    assert max(found) == paper.accuracy(data, model, 'impactx')


# --- One classifier for all seeds ---------------------------------------------


@pytest.mark.parametrize('shared', [False, True])
def test_a_shared_classifier_is_noted(shared):
  table = make_table(
      runs('baseline', (140, 140), shared=shared), runs('impactx', (150, 148))
  )
  assert table.shared == strict(table)['shared_classifier'] == shared
  assert ('share one classifier' in comparison.markdown(table)) == shared


def test_intervals_against_a_shared_classifier_are_of_ours_alone():
  table = make_table(
      runs('baseline', (140, 140), shared=True), runs('impactx', (150, 148))
  )
  found = row_of(table, 'impactx').to_baseline.interval
  assert found.mean == pytest.approx(4.5)
  # Of 5 and 4: t = 12.706 times the standard error, 0.5.
  assert found.high - found.mean == pytest.approx(12.7062 / 2, abs=1e-4)
  assert not math.isnan(found.low)
