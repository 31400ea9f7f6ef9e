"""Decoders that see the classifier they explain."""

from typing import NamedTuple

from flax import linen as nn
from impactx_jax.models import impactx
import jax
import jax.numpy as jnp


class Views(NamedTuple):
  """What a decoder sees of a classifier and an image.

  Attributes:
    stem: The input of the trunk's last stage, [B, h, w, F].
    features: The trunk's output, [B, h', w', F'].
    scores: The head's penultimate features and its probabilities, [B, F''].
    gradient: One backward pass, laid over the image, [B, H, W, 1]; None where
      it is not wanted.
    cells: The same averaged over the cells of the map, [B, H', W', 1], or None.
    stem_gradient: The same pass at the stem, [B, h, w, F], or None.
  """

  stem: jax.Array
  features: jax.Array
  scores: jax.Array
  gradient: jax.Array | None = None
  cells: jax.Array | None = None
  stem_gradient: jax.Array | None = None


class FeatureDecoder(nn.Module):
  """A small U-Net from a classifier's features to attribution maps.

  It begins at `start` places a side with the trunk's output and the scores, and
  doubles up to the map's side as D of the paper does; at each size the stem's
  features join, and the gradient where there is one. It sees the image only
  through the classifier, so that another classifier has other maps.

  Attributes:
    shape: (H, W, channels) of the map.
    start: Height of the smallest feature maps.
    filters: Channels of the first block; each next block has half as many,
      and at least 8.
  """

  shape: tuple[int, int, int]
  start: int = 8
  filters: int = 64

  @nn.compact
  def __call__(self, views: Views) -> jax.Array:
    """Views of a batch -> maps [B, H, W, channels]."""
    height, width, channels = self.shape
    blocks = impactx.decoder_blocks(height, width, self.start)
    size = self.start, width >> blocks
    scores = nn.relu(nn.Dense(self.filters, name='scores')(views.scores))
    half = tuple(max(1, side // 2) for side in size)
    x = jnp.concatenate([
        _resize(views.features, half),
        jnp.broadcast_to(
            scores[:, None, None], (len(scores), *half, self.filters)
        ),
    ], axis=-1)
    x = nn.relu(nn.Conv(self.filters, (3, 3), name='deep_conv1')(x))
    x = nn.relu(nn.Conv(self.filters, (3, 3), name='deep_conv2')(x))
    for block in range(blocks + 1):
      filters = max(8, self.filters >> block)
      joined = [_resize(x, size), _resize(views.stem, size)]
      joined += [
          _resize(slope, size)
          for slope in (views.cells, views.stem_gradient)
          if slope is not None
      ]
      if block == blocks and views.gradient is not None:
        joined.append(self._finer(views.gradient, size, filters))
      x = jnp.concatenate(joined, axis=-1)
      for i in (1, 2):
        conv = nn.Conv(filters, (3, 3), name=f'block{block + 1}_conv{i}')
        x = nn.relu(conv(x))
      conv = nn.Conv(filters, (3, 3), name=f'block{block + 1}_conv3')
      x += nn.relu(conv(x))
      if block < blocks:
        size = 2 * size[0], 2 * size[1]
    if views.cells is not None:  # What is there already need not be learned.
      x = jnp.concatenate([x, _resize(views.cells, size)], axis=-1)
    return nn.Conv(channels, (3, 3), name='map')(x)

  def _finer(self, x, size, filters):
    """What of [B, H, W, 1] is lost in the average over cells."""
    stage = 0
    while x.shape[1] >= 2 * size[0] and x.shape[2] >= 2 * size[1]:
      stage += 1
      conv = nn.Conv(filters, (3, 3), strides=2, name=f'finer_conv{stage}')
      x = nn.relu(conv(x))
    return _resize(x, size)


def _resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Brings [B, h, w, F] to a size, bilinearly, averaging where it shrinks."""
  if x.shape[1:3] == size:
    return x
  return jax.image.resize(x, (len(x), *size, x.shape[-1]), 'bilinear')
