"""Does a map stay what it is where the image changes a little?"""

from collections.abc import Callable

from attribution.metrics import agreement
import numpy as np


def sensitivity(
    explainer: Callable[..., np.ndarray],
    images: np.ndarray,
    maps: np.ndarray,
    labels: np.ndarray,
    *,
    low: float = 0.0,
    high: float = 1.0,
    noise: float = 0.02,
    draws: int = 4,
    seed: int = 0,
) -> dict[str, np.ndarray]:
  """Explains images with a little noise, and compares.

  Args:
    explainer: (images, labels) -> maps.
    images: float32 [N, H, W, C] in [low, high].
    maps: Its maps of these, float [N, H, W, C'].
    labels: int [N].
    low: Of the images' range.
    high: Of the images' range.
    noise: The largest change of a pixel, as a share of the range; it is
      uniform, and the noisy image is cut to the range.
    draws: Of the noise.
    seed: Of the noise.

  Returns:
    float [N]: `stability`, the mean rank correlation with the noisy images'
    maps, and `max_sensitivity` (Yeh et al., 2019), the largest distance of
    these over the length of the map.
  """
  generator = np.random.default_rng([seed, 0])
  likeness, changes = [], []
  for _ in range(draws):
    step = noise * (high - low) * generator.uniform(-1, 1, images.shape)
    noisy = np.clip(images + step, low, high).astype(np.float32)
    others = explainer(noisy, labels)
    likeness.append(agreement.rank_correlation(maps, others))
    changes.append(agreement.relative_change(others, maps))
  return {
      'stability': np.mean(likeness, axis=0),
      'max_sensitivity': np.max(changes, axis=0),
  }
