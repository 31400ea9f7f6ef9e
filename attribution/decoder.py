"""A small network that turns what is seen of a model into a map."""

from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp


class Views(NamedTuple):
  """What a decoder sees of a model and an image; None for what it does not.

  Attributes:
    scores: What is known of the image as a whole, such as the probabilities,
      [B, F''].
    stem: Features inside the model, such as the input of the last stage,
      [B, h, w, F].
    features: The features after it, [B, h', w', F'].
    gradient: One backward pass, laid over the image, [B, H, W, 1].
    cells: The same averaged over the cells of the map, [B, H', W', 1].
    stem_gradient: The same pass at the stem, [B, h, w, F].
    pixels: Of the image, [B, H, W, C].
  """

  scores: jax.Array
  stem: jax.Array | None = None
  features: jax.Array | None = None
  gradient: jax.Array | None = None
  cells: jax.Array | None = None
  stem_gradient: jax.Array | None = None
  pixels: jax.Array | None = None


class MapDecoder(nn.Module):
  """A small U-Net from what is seen of a model to attribution maps.

  It begins at half of `start` places a side with the features and the scores,
  and doubles up to the map's side; at each size the stem joins, and the
  gradient where there is one. What is as fine as the image joins at the end.

  Attributes:
    shape: (H', W', channels) of the map; the sides are `start` times a power of
      two.
    start: Height of the smallest feature maps.
    filters: Channels of the first block; each next block has half as many,
      and at least 8.
  """

  shape: tuple[int, int, int]
  start: int = 8
  filters: int = 64

  @nn.compact
  def __call__(self, views: Views) -> jax.Array:
    """Views of a batch -> maps [B, H', W', channels]."""
    height, width, channels = self.shape
    blocks = max(0, (height // self.start).bit_length() - 1)
    if self.start << blocks != height or width % (1 << blocks):
      raise ValueError(
          f'A map of {height}x{width} cannot be reached from {self.start} rows '
          'by doubling.'
      )
    size = self.start, width >> blocks
    x = self._deep(views, tuple(max(1, side // 2) for side in size))
    for block in range(blocks + 1):
      filters = max(8, self.filters >> block)
      joined = [x, views.stem, views.cells, views.stem_gradient]
      if block == blocks:
        joined += self._finer(views, size, filters)
      x = jnp.concatenate(
          [_resize(y, size) for y in joined if y is not None], axis=-1
      )
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

  def _deep(self, views: Views, size: tuple[int, int]) -> jax.Array:
    """What is known of the image as a whole."""
    scores = nn.relu(nn.Dense(self.filters, name='scores')(views.scores))
    joined = [jnp.broadcast_to(
        scores[:, None, None], (len(scores), *size, self.filters)
    )]
    if views.features is not None:
      joined.insert(0, _resize(views.features, size))
    x = jnp.concatenate(joined, axis=-1)
    for i in (1, 2):
      x = nn.relu(nn.Conv(self.filters, (3, 3), name=f'deep_conv{i}')(x))
    return x

  def _finer(
      self, views: Views, size: tuple[int, int], filters: int
  ) -> list[jax.Array]:
    """What is lost in the average over cells."""
    fine = [x for x in (views.gradient, views.pixels) if x is not None]
    if not fine:
      return []
    x, stage = jnp.concatenate(fine, axis=-1), 0
    while x.shape[1] >= 2 * size[0] and x.shape[2] >= 2 * size[1]:
      stage += 1
      conv = nn.Conv(filters, (3, 3), strides=2, name=f'finer_conv{stage}')
      x = nn.relu(conv(x))
    return [x]


def _resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Brings [B, h, w, F] to a size, bilinearly, averaging where it shrinks."""
  if x.shape[1:3] == size:
    return x
  return jax.image.resize(x, (len(x), *size, x.shape[-1]), 'bilinear')
