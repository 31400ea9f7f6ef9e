"""A JAX scoring function as the NumPy callable that SHAP expects."""

from collections.abc import Callable

import jax
import numpy as np

ScoreFn = Callable[[jax.Array], jax.Array]


def numpy_callable(
    score_fn: ScoreFn, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
  """Wraps a scoring function so that it is compiled for one batch shape only.

  Explainers ask for any number of evaluations at a time, and each new shape
  would cost a compilation. The wrapper pads the last batch by repeating its
  first image, and drops what the padding scored.

  Args:
    score_fn: Jittable, images float32 [B, H, W, C] -> scores [B, K].
    batch_size: B, the number of images in one call on the device.

  Returns:
    A function of NumPy arrays, images [N, H, W, C] of any float type and any
    N >= 1 -> scores float32 [N, K].
  """
  jitted = jax.jit(score_fn)

  def call(images: np.ndarray) -> np.ndarray:
    scores = []
    for start in range(0, len(images), batch_size):
      batch = np.asarray(images[start : start + batch_size], np.float32)
      count = len(batch)
      if count < batch_size:
        padding = np.broadcast_to(
            batch[:1], (batch_size - count, *batch.shape[1:])
        )
        batch = np.concatenate([batch, padding])
      scores.append(np.asarray(jitted(batch), np.float32)[:count])
    return np.concatenate(scores)

  return call
