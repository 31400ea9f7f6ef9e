"""Agreement of maps, against scipy and by hand."""

from attribution.errors import InputError
from attribution.metrics import agreement
import numpy as np
import pytest
from scipy import stats

RNG = np.random.default_rng(0)
MAPS = RNG.normal(size=(5, 6, 4, 3))
OTHERS = RNG.normal(size=(5, 6, 4, 1))


def test_rank_correlation_is_spearmans():
  found = agreement.rank_correlation(MAPS, OTHERS)
  for value, a, b in zip(found, MAPS, OTHERS, strict=True):
    expected = stats.spearmanr(a.sum(-1).ravel(), b.sum(-1).ravel()).statistic
    assert value == pytest.approx(expected)


def test_rank_correlation_with_ties_is_spearmans():
  tied = np.round(OTHERS)
  found = agreement.rank_correlation(MAPS, tied)
  expected = stats.spearmanr(MAPS[0].sum(-1).ravel(), tied[0].ravel())
  assert found[0] == pytest.approx(expected.statistic)


def test_a_map_agrees_with_itself_at_any_scale():
  np.testing.assert_allclose(agreement.rank_correlation(MAPS, 3 * MAPS), 1)
  np.testing.assert_allclose(agreement.cosine(MAPS, 3 * MAPS), 1)
  np.testing.assert_allclose(
      agreement.relative_l2(MAPS, 3 * MAPS), 0, atol=1e-12
  )
  np.testing.assert_allclose(agreement.rank_correlation(MAPS, -MAPS), -1)
  np.testing.assert_allclose(agreement.cosine(MAPS, -MAPS), -1)


def test_by_hand():
  ours, theirs = np.array([[[[3.0], [4.0]]]]), np.array([[[[4.0], [0.0]]]])
  assert agreement.cosine(ours, theirs) == pytest.approx(0.6)
  # Scaled to (0.75, 1) and (1, 0): the distance is |(-0.25, 1)|.
  assert agreement.relative_l2(ours, theirs) == pytest.approx(np.sqrt(17) / 4)


@pytest.mark.parametrize(
    'measure', [agreement.rank_correlation, agreement.cosine]
)
def test_a_constant_or_empty_map_agrees_with_nothing(measure):
  np.testing.assert_array_equal(measure(np.zeros_like(MAPS), OTHERS), 0)


def test_the_relative_change_is_of_the_maps_as_they_are():
  ours, theirs = np.array([[[[3.0], [0.0]]]]), np.array([[[[0.0], [4.0]]]])
  assert agreement.relative_change(ours, theirs) == pytest.approx(5 / 4)
  assert agreement.relative_change(2 * ours, 2 * theirs) == pytest.approx(5 / 4)
  assert np.isnan(agreement.relative_change(ours, 0 * theirs))[0]


def test_maps_of_another_size_are_refused():
  with pytest.raises(InputError, match=r'maps \(5, 6, 4, 3\) and others'):
    agreement.cosine(MAPS, OTHERS[:, :3])
