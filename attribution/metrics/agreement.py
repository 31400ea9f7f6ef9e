"""Are two sets of maps alike? One value an image."""

from attribution.metrics.checks import check_fit
import numpy as np


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Spearman's correlation of the pixels' relevance, ties by mean rank.

  Args:
    maps: float [N, H, W, C]; summed over its channels, as are the others.
    others: float [N, H, W, C'].

  Returns:
    float64 [N], -1 to 1; 0 where either map is constant.
  """
  from scipy import stats  # pylint: disable=g-import-not-at-top

  ours, theirs = _relevance(maps, others)
  return _correlation(
      *(stats.rankdata(x.reshape(len(x), -1), axis=1) for x in (ours, theirs))
  )


def cosine(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Cosine of the angle between two maps, float64 [N]; 0 for a zero map."""
  ours, theirs = (x.reshape(len(x), -1) for x in _relevance(maps, others))
  product = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
  return np.divide(
      (ours * theirs).sum(axis=1), product,
      out=np.zeros(len(ours)), where=product > 0,
  )


def relative_l2(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Distance of two maps over the length of the other, float64 [N].

  Both are first brought to a largest magnitude of 1, since methods give maps
  of different scales.
  """
  ours, theirs = (_unit(x) for x in _relevance(maps, others))
  distance = np.linalg.norm((ours - theirs).reshape(len(ours), -1), axis=1)
  length = np.linalg.norm(theirs.reshape(len(theirs), -1), axis=1)
  return distance / np.where(length > 0, length, 1)


def relative_change(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Distance of two maps over the length of the other, as they are; [N].

  The largest of these over small changes of the image is the max-sensitivity of
  Yeh et al., 2019. NaN where the other is zero everywhere.
  """
  ours, theirs = (x.reshape(len(x), -1) for x in _relevance(maps, others))
  length = np.linalg.norm(theirs, axis=1)
  return np.divide(
      np.linalg.norm(ours - theirs, axis=1), length,
      out=np.full(len(ours), np.nan), where=length > 0,
  )


def _relevance(maps, others):
  check_fit(maps=maps, others=others)
  return (np.asarray(x, np.float64).sum(axis=-1) for x in (maps, others))


def _unit(relevance: np.ndarray) -> np.ndarray:
  largest = np.abs(relevance).max(axis=(1, 2), keepdims=True)
  return relevance / np.where(largest > 0, largest, 1)


def _correlation(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
  """Pearson's correlation of the rows of [N, P] arrays."""
  ours = ours - ours.mean(axis=1, keepdims=True)
  theirs = theirs - theirs.mean(axis=1, keepdims=True)
  scale = np.sqrt((ours**2).sum(axis=1) * (theirs**2).sum(axis=1))
  return np.divide(
      (ours * theirs).sum(axis=1), scale,
      out=np.zeros(len(ours)), where=scale > 0,
  )
