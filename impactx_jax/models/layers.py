"""What the backbones are made of."""

from flax import linen as nn
from impactx_jax import parallel
import jax
import jax.numpy as jnp


def flatten(features: jax.Array) -> jax.Array:
  """[B, …] -> [B, F]."""
  return features.reshape(features.shape[0], -1)


def global_mean(features: jax.Array) -> jax.Array:
  """The mean over all places: [B, h, w, F] -> [B, F]."""
  return features.mean(axis=(1, 2))


def resize(images: jax.Array, side: int) -> jax.Array:
  """Brings images [B, H, W, C] to side x side pixels, bilinearly; 0: as is."""
  batch, height, width, channels = images.shape
  if not side or (height, width) == (side, side):
    return images
  return jax.image.resize(images, (batch, side, side, channels), 'bilinear')


def batch_norm(
    train: bool,
    dtype: jnp.dtype,
    name: str,
    momentum: float = 0.9,
    use_bias: bool = True,
) -> nn.BatchNorm:
  """Normalises with the whole batch's statistics, of all devices together.

  Args:
    train: Whether the batch's statistics are used, and remembered.
    dtype: Of the computation.
    name: Of the layer.
    momentum: Share of the old statistics that each batch leaves.
    use_bias: False where another normalisation would take it away again.
  """
  return nn.BatchNorm(
      use_running_average=not train,
      momentum=momentum,
      epsilon=1e-3,
      use_bias=use_bias,
      axis_name=parallel.AXIS if train else None,
      dtype=dtype,
      name=name,
  )
