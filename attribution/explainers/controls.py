"""What looks like an explanation and knows nothing of the model."""

from collections.abc import Callable
import zlib

from attribution.explainers.batched import Explain
from attribution.model_fn import ScoreFn
from attribution.model_fn import Variables
import numpy as np
from scipy import ndimage


def random_map(score_fn: ScoreFn) -> Explain:
  """Builds noise, uniform in [0, 1), the same for the same image and class."""
  del score_fn

  def noise(image: np.ndarray, label: int) -> np.ndarray:
    seed = zlib.crc32(image.tobytes()), int(label)
    return np.random.default_rng(seed).random(image.shape, np.float32)

  return _each(noise)


def edges(score_fn: ScoreFn) -> Explain:
  """Builds an edge filter: the magnitude of Sobel's gradient of each channel.

  Of the image alone; what a map has in common with it is no explanation.
  """
  del score_fn

  def magnitude(image: np.ndarray, label: int) -> np.ndarray:
    del label
    channels = np.moveaxis(image, -1, 0)  # The filter would blur across them.
    found = [np.hypot(*(ndimage.sobel(c, i) for i in (0, 1))) for c in channels]
    return np.stack(found, axis=-1)

  return _each(magnitude)


def disc(score_fn: ScoreFn) -> Explain:
  """Builds a centred disc: 1 up to 9/32 of the shorter side, 0 beyond.

  Objects are mostly in the middle; what is no better than this says no more.
  """
  del score_fn

  def inside(image: np.ndarray, label: int) -> np.ndarray:
    del label
    height, width, channels = image.shape
    y, x = np.mgrid[:height, :width]
    far = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    found = far <= 9 / 32 * min(height, width)
    return np.repeat(found[..., None], channels, -1).astype(np.float32)

  return _each(inside)


def _each(one: Callable[[np.ndarray, int], np.ndarray]) -> Explain:
  """Makes an explainer from a function of one image and one class."""

  def explain(
      variables: Variables, images: np.ndarray, labels: np.ndarray
  ) -> np.ndarray:
    del variables
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    classes = labels if labels.ndim == 2 else labels[:, None]
    maps = np.empty((*images.shape, classes.shape[1]), np.float32)
    for i, image in enumerate(images):
      for k, label in enumerate(classes[i]):
        maps[i, ..., k] = one(image, label)
    return maps.reshape(*images.shape, *labels.shape[1:])

  return explain
