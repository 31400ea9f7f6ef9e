"""The trainable half of IMPACTX: LEP, decoder and final classifier."""

from collections.abc import Callable
import math
from typing import Any

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax.models.layers import flatten
import jax
import jax.numpy as jnp


class LatentExplanationPredictor(nn.Module):
  """LEP: A's trunk, then Dense(units) and a sigmoid (IMPACTX, section 4.3).

  Attributes:
    trunk: Made as A's.
    units: Size of the latent code z.
    pool: The trunk's features -> what the dense layer sees, as A's head does.
  """

  trunk: nn.Module
  units: int = 512
  pool: Callable[[jax.Array], jax.Array] = flatten

  def setup(self):
    self.code = nn.Dense(self.units)

  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Images [B, H, W, C] -> z float32 [B, units] in (0, 1)."""
    return self.encode(self.trunk(images, train))

  def encode(self, features: jax.Array) -> jax.Array:
    """The trunk's features [B, h, w, F] -> z float32 [B, units]."""
    return nn.sigmoid(self.code(self.pool(features).astype(jnp.float32)))


class Decoder(nn.Module):
  """D: from the latent code to an attribution map (IMPACTX, figure 2).

  A dense layer gives a small stack of feature maps; each block of two 3x3
  convolutions and a nearest-neighbour upsampling doubles its side; a last
  convolution gives the map, unbounded. 8 to 32 pixels takes two blocks, 12 to
  96 takes three.

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
  def __call__(self, code: jax.Array) -> jax.Array:
    """z [B, units] -> map [B, H, W, channels]."""
    height, width, channels = self.shape
    blocks = decoder_blocks(height, width, self.start)
    small = (self.start, width >> blocks, self.filters)
    features = nn.relu(nn.Dense(math.prod(small), name='expand')(code))
    features = features.reshape(-1, *small)
    for block in range(blocks):
      filters = max(8, self.filters >> block)
      for i in (1, 2):
        conv = nn.Conv(filters, (3, 3), name=f'block{block + 1}_conv{i}')
        features = nn.relu(conv(features))
      features = jnp.repeat(jnp.repeat(features, 2, axis=1), 2, axis=2)
    return nn.Conv(channels, (3, 3), name='map')(features)


def decoder_blocks(height: int, width: int, start: int) -> int:
  """Returns how many doublings lead from `start` to the map's height.

  Raises:
    InputError: if none do, or if the width cannot be reached with them.
  """
  blocks = 0
  while 0 < start << (blocks + 1) <= height:
    blocks += 1
  if start < 1 or start << blocks != height or width % (1 << blocks):
    reachable = [
        height >> i
        for i in range(1, height.bit_length())
        if height % (1 << i) == 0 and width % (1 << i) == 0
    ]
    advice = (
        f'with --config.method.decoder_start=N; for this size N can be '
        f'{", ".join(map(str, reachable))}'
        if reachable
        else 'by giving --config.data.image_size a size that is divisible by 8'
    )
    raise InputError(
        f'The decoder cannot reach a map of {height}x{width} pixels from '
        f'{start} by doubling. Change it {advice}.'
    )
  return blocks


class ImpactX(nn.Module):
  """LEP, D and C (IMPACTX, section 3.2). M stands outside: it is frozen.

  Attributes:
    lep: The latent explanation predictor.
    decoder: D.
    num_classes: K.
    hidden: Width of one hidden layer of C; 0 for none.
  """

  lep: nn.Module
  decoder: nn.Module
  num_classes: int
  hidden: int = 0

  def setup(self):
    self.classifier = nn.Dense(self.num_classes)
    if self.hidden:
      self.classifier_hidden = nn.Dense(self.hidden)

  def __call__(
      self,
      images: jax.Array,
      m: jax.Array,
      train: bool = False,
      see: Callable[[jax.Array, jax.Array], Any] | None = None,
  ) -> tuple[jax.Array, jax.Array]:
    """Classifies and explains.

    Args:
      images: [B, H, W, C] in [0, 1].
      m: M(images), [B, F].
      train: Whether LEP's normalisation uses the batch.
      see: Logits of C and z -> what D sees; None for z alone.

    Returns:
      Logits [B, K] of C, and the map [B, H, W, channels] of D.
    """
    code = self.lep(images, train)
    logits = self.classify(m, code)
    return logits, self.decoder(see(logits, code) if see else code)

  def classify(self, m: jax.Array, code: jax.Array) -> jax.Array:
    """C: M's output [B, F] and z [B, units] -> logits [B, K]."""
    joint = jnp.concatenate([m, code], axis=-1)
    if self.hidden:
      joint = nn.relu(self.classifier_hidden(joint))
    return self.classifier(joint)
