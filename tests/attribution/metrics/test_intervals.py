"""Bootstrap intervals, and what is paired."""

from attribution.metrics import intervals
import numpy as np
import pytest


def test_the_interval_is_about_the_mean_and_narrows_with_the_images():
  rng = np.random.default_rng(0)
  widths = []
  for count in (25, 400):
    values = rng.normal(3, 1, count)
    found = intervals.bootstrap_interval(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.low < found.mean < found.high
    # As Student's: 1.96 standard errors either way.
    widths.append((found.high - found.low) * np.sqrt(count) / values.std())
  np.testing.assert_allclose(widths, 2 * 1.96, rtol=0.1)


@pytest.mark.parametrize('values', [[2.0], [np.nan, 2.0]])
def test_one_value_has_no_interval(values):
  found = intervals.bootstrap_interval(np.array(values))
  assert found.mean == 2 and np.isnan(found.low) and np.isnan(found.high)


def test_nothing_has_no_mean():
  assert np.isnan(intervals.bootstrap_interval(np.array([np.nan])).mean)


def test_a_seed_gives_the_same_interval_and_a_level_another():
  values = np.random.default_rng(0).random(30)
  wide = intervals.bootstrap_interval(values, seed=1)
  assert wide == intervals.bootstrap_interval(values, seed=1)
  narrow = intervals.bootstrap_interval(values, seed=1, level=0.5)
  assert narrow.low > wide.low and narrow.high < wide.high


def test_differences_are_of_each_image_and_of_what_the_reference_has():
  values = {
      'epg': {'a': np.array([1.0, 2]), 'b': np.array([3.0, 7])},
      'stability': {'b': np.array([1.0, 2])},
  }
  found = intervals.differences(values, 'a')
  assert list(found) == ['epg'] and list(found['epg']) == ['b']
  assert found['epg']['b'].tolist() == [2, 5]
