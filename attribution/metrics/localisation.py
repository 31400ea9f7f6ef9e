"""Does a map point at the object? Against masks, exact or drawn by hand."""

from collections.abc import Sequence

from attribution.metrics.checks import check_fit
import numpy as np

THRESHOLDS = tuple(i / 20 for i in range(1, 20))


def epg(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """Energy pointing game (Rao et al., 2023, equation 2).

  Args:
    maps: float [N, H, W, C]; summed over its channels.
    masks: bool [N, H, W], true on the object.

  Returns:
    float64 [N], the share of all positive attribution that lies inside the
    mask, 0 to 1; NaN for a map without any.
  """
  relevance = _positive(maps, masks)
  total = relevance.sum(axis=(1, 2))
  inside = (relevance * masks).sum(axis=(1, 2))
  return np.divide(
      inside, total, out=np.full(len(maps), np.nan), where=total > 0
  )


def iou(maps: np.ndarray, masks: np.ndarray, threshold: float) -> np.ndarray:
  """Intersection over union of a thresholded map with the mask.

  Args:
    maps: float [N, H, W, C]; summed over its channels.
    masks: bool [N, H, W].
    threshold: Share of each map's largest value from which on a pixel counts,
      above 0 and at most 1.

  Returns:
    float64 [N], 0 to 1.
  """
  relevance = _positive(maps, masks)
  largest = relevance.max(axis=(1, 2), keepdims=True)
  found = (relevance >= threshold * largest) & (relevance > 0)
  union = (found | masks).sum(axis=(1, 2))
  return (found & masks).sum(axis=(1, 2)) / np.maximum(union, 1)


def best_threshold(
    maps: np.ndarray,
    masks: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
) -> float:
  """Returns the threshold of the highest mean IoU; for held-out images."""
  means = [iou(maps, masks, threshold).mean() for threshold in thresholds]
  return thresholds[int(np.argmax(means))]


def held_out_iou(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
  """IoU where there are no other images to choose the threshold on.

  The images at even places are cut at the best threshold of those at odd
  places, and the other way round, so that no image chooses its own.

  Args:
    maps: float [N, H, W, C]; summed over its channels.
    masks: bool [N, H, W].

  Returns:
    float64 [N], 0 to 1; NaN for a single image, which has no others.
  """
  check_fit(maps=maps, masks=masks)
  values = np.full(len(maps), np.nan)
  for here, there in ((0, 1), (1, 0)):
    if len(maps) > 1:
      threshold = best_threshold(maps[there::2], masks[there::2])
      values[here::2] = iou(maps[here::2], masks[here::2], threshold)
  return values


def _positive(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
  check_fit(maps=maps, masks=masks)
  return np.maximum(np.asarray(maps, np.float64).sum(axis=-1), 0)
