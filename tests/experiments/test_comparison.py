"""The table of compared methods, from results whose answer is known."""

import math

from impactx_jax import methods
from impactx_jax.experiments import comparison
from impactx_jax.experiments import table_formats
import numpy as np
import pytest
from tests.experiments.comparison_fixtures import A
from tests.experiments.comparison_fixtures import BETTER
from tests.experiments.comparison_fixtures import EXAMPLES
from tests.experiments.comparison_fixtures import NO_DIFFERENT
from tests.experiments.comparison_fixtures import WORSE
from tests.experiments.comparison_fixtures import cells
from tests.experiments.comparison_fixtures import differing
from tests.experiments.comparison_fixtures import make_table
from tests.experiments.comparison_fixtures import result
from tests.experiments.comparison_fixtures import row_of
from tests.experiments.comparison_fixtures import runs
from tests.experiments.comparison_fixtures import strict
from tests.experiments.comparison_fixtures import verdict


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
    (NO_DIFFERENT, 'not shown to differ from A'),
    ((0,) * 5, 'not shown to differ from A'),
    (WORSE, 'worse than A'),
])
def test_verdict_against_a(differences, expected):
  assert verdict('impactx', differing('impactx', differences)) == expected


@pytest.mark.parametrize(('control', 'expected'), [
    (WORSE, 'better than lambda = 0'),
    (BETTER, 'not shown to differ from lambda = 0'),
    ((20, 22, 21, 22, 20), 'worse than lambda = 0'),
    (WORSE[:4], 'too few seeds against lambda = 0'),
])
def test_verdict_against_lambda_0(control, expected):
  assert verdict(
      'impactx', differing('impactx', BETTER),
      differing('impactx_lambda0', control),
  ) == f'better than A, {expected}'


def test_single_stage_is_compared_with_itself_without_the_explanation():
  table = make_table(
      runs('baseline', A),
      differing('impactx_single_stage', BETTER),
      differing('impactx_single_stage_lambda0', BETTER),
      differing('impactx_lambda0', WORSE),
  )
  row = row_of(table, 'impactx_single_stage')
  assert row.to_control.interval.mean == 0
  assert row.verdict() == 'better than A, not shown to differ from lambda = 0'
  # Another network's lambda = 0 is no control of it.
  table = make_table(
      runs('baseline', A), differing('impactx_single_stage', BETTER),
      differing('impactx_lambda0', WORSE),
  )
  assert row_of(table, 'impactx_single_stage').to_control is None


@pytest.mark.parametrize('name', ['abn', 'wae', 'baseline_matched'])
def test_what_has_no_lambda_has_no_verdict_against_its_0(name):
  control = differing('impactx_lambda0', WORSE)
  table = make_table(runs('baseline', A), differing(name, BETTER), control)
  row = row_of(table, name)
  assert row.to_control.interval.low > 0
  assert row.verdict() == 'better than A'


@pytest.mark.parametrize(('significant', 'expected'), [
    (2, 'not shown to differ from A'), (3, 'better than A'),
])
def test_a_verdict_takes_most_of_mcnemars_tests_as_well(significant, expected):
  ours = [
      swapped('abn', seed, gained=10, lost=1 if seed < significant else 3)
      for seed in range(5)
  ]
  table = make_table(runs('baseline', [100] * 5), ours)
  row = row_of(table, 'abn')
  assert row.to_baseline.interval.low > 0
  assert row.to_baseline.significant() == f'{significant} better, 0 worse of 5'
  assert row.verdict() == expected


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


@pytest.mark.parametrize(('declared', 'control', 'expected'), [
    ({}, 'impactx_lambda0', 'better than A'),
    ({'control': 'impactx_lambda0'}, 'impactx_lambda0',
     'better than A, better than lambda = 0'),
    ({'control': 'impactx_single_stage_lambda0'}, 'impactx_lambda0', ''),
    ({'from_scratch': True}, 'impactx_lambda0', 'better than A'),
])
def test_a_method_of_ones_own_is_compared_as_it_declares(
    declared, control, expected
):
  specs = methods.METHODS | {'mine': methods.Spec(None, 'Mine', **declared)}
  table = make_table(
      runs('baseline', A), differing('mine', BETTER),
      differing(control, WORSE), specs=specs,
  )
  row = row_of(table, 'mine')
  if expected:
    assert row.verdict() == expected
    assert row.to_control.interval.low > 0
  else:  # Another network's lambda = 0 is no control of it.
    assert row.to_control is None
  assert row.paper is None


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


# --- One classifier for all seeds ---------------------------------------------


@pytest.mark.parametrize(('name', 'expected'), [
    ('abn', 'no verdict: one A for all seeds'),
    ('baseline_matched', 'no verdict: one A for all seeds'),
    ('impactx', 'better than A'),
])
def test_one_a_allows_no_verdict_on_what_is_trained_as_it_was(name, expected):
  a = runs('baseline', [144] * 5, shared=True)
  table = make_table(a, runs(name, [154, 155, 153, 154, 156]))
  assert row_of(table, name).verdict() == expected


@pytest.mark.parametrize('shared', [False, True])
def test_a_shared_classifier_is_noted(shared):
  table = make_table(
      runs('baseline', (140, 140), shared=shared), runs('impactx', (150, 148))
  )
  assert table.shared == strict(table)['shared_classifier'] == shared
  text = table_formats.markdown(table)
  assert ('share one classifier' in text) == shared


def test_intervals_against_a_shared_classifier_are_of_ours_alone():
  table = make_table(
      runs('baseline', (140, 140), shared=True), runs('impactx', (150, 148))
  )
  found = row_of(table, 'impactx').to_baseline.interval
  assert found.mean == pytest.approx(4.5)
  # Of 5 and 4: t = 12.706 times the standard error, 0.5.
  assert found.high - found.mean == pytest.approx(12.7062 / 2, abs=1e-4)
  assert not math.isnan(found.low)
