"""Intervals and tests against hand-computed values, and scipy's."""

import math

from impactx_jax.evaluation import statistics
import numpy as np
import pytest
from scipy import stats

OURS = (3.0, 5.0, 7.0)
THEIRS = (1.0, 4.0, 4.0)  # The differences are 2, 1 and 3.
# Of Student's distribution with two degrees of freedom, from a table.
T_975, T_950 = 4.302653, 2.919986


def classified(*, gained=0, lost=0, both=0, neither=0):
  """Which examples ours, and theirs, has right."""
  ours = [True] * gained + [False] * lost + [True] * both + [False] * neither
  theirs = [False] * gained + [True] * lost + [True] * both + [False] * neither
  return np.array(ours), np.array(theirs)


def mcnemar(**counts):
  return statistics.mcnemar(*classified(**counts))


# --- Paired intervals ---------------------------------------------------------


@pytest.mark.parametrize(('level', 't'), [(0.95, T_975), (0.9, T_950)])
def test_interval_by_hand(level, t):
  found = statistics.paired_interval(OURS, THEIRS, level)
  assert found.mean == 2
  # The differences' deviation is 1, and there are three of them.
  assert found.low == pytest.approx(2 - t / math.sqrt(3), abs=1e-5)
  assert found.high == pytest.approx(2 + t / math.sqrt(3), abs=1e-5)


def test_the_default_level_is_95_per_cent():
  assert statistics.paired_interval(OURS, THEIRS) == (
      statistics.paired_interval(OURS, THEIRS, 0.95)
  )


@pytest.mark.parametrize('shift', [-1.0, 0.0, 0.3, 2.0])
@pytest.mark.parametrize('count', [2, 5, 20])
def test_interval_is_that_of_scipys_t_test(count, shift):
  ours, theirs = np.random.default_rng(count).normal(70, 1, (2, count))
  found = statistics.paired_interval(ours + shift, theirs)
  test = stats.ttest_1samp(ours + shift - theirs, 0)
  expected = test.confidence_interval(0.95)
  np.testing.assert_allclose((found.low, found.high), expected)
  assert (found.low <= 0 <= found.high) == (test.pvalue >= 0.05)


def test_pairing_takes_out_what_the_seeds_have_in_common():
  seeds = np.array([60.0, 70.0, 80.0])
  found = statistics.paired_interval(seeds + 1, seeds)
  assert (found.mean, found.low, found.high) == (1, 1, 1)


def test_swapping_the_methods_mirrors_the_interval():
  one = statistics.paired_interval(OURS, THEIRS)
  other = statistics.paired_interval(THEIRS, OURS)
  assert (other.mean, other.low, other.high) == (-one.mean, -one.high, -one.low)


def test_one_value_has_a_mean_and_no_interval():
  found = statistics.paired_interval([71.0], [70.5])
  assert found.mean == 0.5
  assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.parametrize(('ours', 'theirs'), [
    ([1.0, 2.0], [1.0]),
    ([1.0], [1.0, 2.0]),
    ([1.0, 2.0, 3.0], [1.0, 2.0]),
    (1.0, [1.0, 2.0]),
    (1.0, 2.0),
    ([[1.0, 2.0]], [[1.0, 2.0]]),
])
def test_values_that_are_not_paired_are_refused(ours, theirs):
  with pytest.raises(ValueError):
    statistics.paired_interval(ours, theirs)


# --- McNemar ------------------------------------------------------------------


@pytest.mark.parametrize(('gained', 'lost', 'p_value'), [
    (1, 9, 2 * (1 + 10) / 2**10),
    (0, 5, 2 / 2**5),
    (2, 8, 2 * (1 + 10 + 45) / 2**10),
    (0, 1, 1.0),
    (5, 5, 1.0),
])
def test_mcnemar_by_hand(gained, lost, p_value):
  found = mcnemar(gained=gained, lost=lost)
  assert (found.gained, found.lost) == (gained, lost)
  assert found.p_value == pytest.approx(p_value)


def test_mcnemar_is_symmetric():
  one, other = mcnemar(gained=3, lost=14), mcnemar(gained=14, lost=3)
  assert one.p_value == pytest.approx(other.p_value)
  assert (one.gained, one.lost) == (other.lost, other.gained)


def test_what_both_have_right_or_wrong_does_not_count():
  assert mcnemar(gained=1, lost=9, both=70, neither=20) == (
      mcnemar(gained=1, lost=9)
  )


def test_identical_classifiers_do_not_differ():
  assert mcnemar(both=8, neither=2) == statistics.McNemar(0, 0, 1.0)


def test_zeros_and_ones_are_taken_as_bools():
  ours, theirs = classified(gained=2, lost=6, both=5, neither=4)
  assert statistics.mcnemar(ours.astype(int), theirs.astype(int)) == (
      statistics.mcnemar(ours, theirs)
  )
