"""Losses, one value an example, and the scaling of the maps they see."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

MAP_SCALINGS = ('max_abs', 'global_std', 'none')


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """CE of IMPACTX's equation 1.

  Args:
    logits: float [B, K].
    labels: int [B] in 0..K-1.

  Returns:
    float [B], in nats.
  """
  chex.assert_rank([logits, labels], [2, 1])
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def map_mse(predicted: jax.Array, target: jax.Array) -> jax.Array:
  """MSE of IMPACTX's equation 1: the mean over a map's values.

  Args:
    predicted: D(LEP(x)), [B, H, W, C].
    target: The attribution map r, [B, H, W, C], scaled as `scale_maps` does.

  Returns:
    float [B].
  """
  chex.assert_equal_shape([predicted, target])
  return jnp.mean(jnp.square(predicted - target), axis=(1, 2, 3))


def scale_maps(
    maps: np.ndarray, scaling: str, *, global_std: float = 1.0
) -> np.ndarray:
  """Scales maps before the MSE sees them.

  SHAP values of a probability sum to at most 1 over thousands of pixels, so
  unscaled their MSE is about 1e-7 and no usual weight makes it count.

  Args:
    maps: float32 [N, H, W, C].
    scaling: `max_abs` brings each map to [-1, 1] by its largest magnitude (a
      map of zeros stays); `global_std` divides all by one number; `none`.
    global_std: That number: the standard deviation of the training maps.

  Returns:
    float32 [N, H, W, C].
  """
  if scaling == 'max_abs':
    largest = np.abs(maps).max(axis=(1, 2, 3), keepdims=True)
    return maps / np.where(largest > 0, largest, 1)
  if scaling == 'global_std':
    return maps / np.float32(global_std or 1.0)
  return maps
