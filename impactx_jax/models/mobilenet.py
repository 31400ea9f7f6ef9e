"""MobileNet v1 (Howard et al., 2017), with Keras's names and padding."""

from flax import linen as nn
from impactx_jax.models import base
from impactx_jax.models import layers
from impactx_jax.models.base import Scores
from impactx_jax.models.convolution import convolve
import jax
import jax.numpy as jnp

# Output channels and stride of the 13 blocks.
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1),
    (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)
STEM_BLOCKS = 11  # The last stage begins at a sixteenth of the image's side.
# Below and on the right alone, whatever the size; SAME is this for even ones.
PADDING = ((0, 1), (0, 1))


class Block(nn.Module):
  """A depthwise and a pointwise convolution, both normalised and cut at 6.

  Attributes:
    filters: Of the pointwise convolution.
    stride: Of the depthwise convolution.
    dtype: Of the computation.
  """

  filters: int
  stride: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    channels = x.shape[-1]
    x = nn.Conv(
        channels, (3, 3), self.stride, feature_group_count=channels,
        padding='SAME' if self.stride == 1 else PADDING, use_bias=False,
        dtype=self.dtype, name='dw', conv_general_dilated=convolve,
    )(x)
    x = _activated(x, train, 'dw_bn')
    x = nn.Conv(
        self.filters, (1, 1), use_bias=False, dtype=self.dtype, name='pw',
        conv_general_dilated=convolve,
    )(x)
    return _activated(x, train, 'pw_bn')


def _activated(x: jax.Array, train: bool, name: str) -> jax.Array:
  return nn.relu6(layers.batch_norm(train, x.dtype, name, momentum=0.99)(x))


class MobileNetTrunk(nn.Module):
  """All but the classifier: [B, H, W, 3] in [0, 1] -> [B, h, w, 1024 width].

  Attributes:
    filters: Of the first convolution and of the 13 blocks.
    input_size: Side that images are resized to; 0: they stay as they are.
    dtype: Of the computation.
  """

  filters: tuple[int, ...]
  input_size: int = 0
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.conv1 = Stem(self.filters[0], self.dtype)
    self.blocks = [
        Block(filters, stride, self.dtype)
        for filters, (_, stride) in zip(self.filters[1:], BLOCKS, strict=True)
    ]

  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    return self.last_stage(self.stem(images, train), train)

  def stem(self, images: jax.Array, train: bool = False) -> jax.Array:
    """[B, H, W, 3] -> the output of block 11, [B, 2h, 2w, 512 width]."""
    x = layers.resize(images, self.input_size)
    x = self.conv1(2 * x.astype(self.dtype) - 1, train)
    for block in self.blocks[:STEM_BLOCKS]:
      x = block(x, train)
    return x

  def last_stage(self, stem: jax.Array, train: bool = False) -> jax.Array:
    """[B, 2h, 2w, 512 width] -> [B, h, w, 1024 width]: blocks 12 and 13."""
    for block in self.blocks[STEM_BLOCKS:]:
      stem = block(stem, train)
    return stem


class Stem(nn.Module):
  """The first convolution, of stride 2."""

  filters: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Conv(
        self.filters, (3, 3), 2, padding=PADDING, use_bias=False,
        dtype=self.dtype, name='conv', conv_general_dilated=convolve,
    )(x)
    return _activated(x, train, 'bn')


class AttentionStage(nn.Module):
  """ABN's own copy of blocks 12 and 13, at stride 1."""

  filters: tuple[int, int]
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, stem: jax.Array, train: bool = False) -> jax.Array:
    for i, filters in enumerate(self.filters, start=STEM_BLOCKS + 1):
      stem = Block(filters, 1, self.dtype, name=f'block{i}')(stem, train)
    return stem


class PooledHead(nn.Module):
  """The mean over all places, dropout, and one dense layer.

  Attributes:
    num_classes: K.
    dropout: Share of the features that is dropped in training.
    dtype: Of the computation.
    use_bias: Whether the dense layer has one.
  """

  num_classes: int
  dropout: float = 0.0
  dtype: jnp.dtype = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(self, features: jax.Array, train: bool = False) -> Scores:
    pooled = layers.global_mean(features)
    kept = nn.Dropout(self.dropout, deterministic=not train)(pooled)
    logits = nn.Dense(
        self.num_classes, self.use_bias, self.dtype, name='predictions'
    )
    return Scores(logits(kept).astype(jnp.float32), pooled.astype(jnp.float32))


def _filters(model) -> tuple[int, ...]:
  return tuple(
      base.scaled(model, filters)
      for filters in (32, *(filters for filters, _ in BLOCKS))
  )


def keras_layer(path: tuple[str, ...]) -> str:
  """Names the Keras layer of one of our modules; see `base.Backbone`."""
  part, *module = path
  if part == 'head':
    return 'predictions'
  if module[0] == 'conv1':
    return {'conv': 'conv1', 'bn': 'conv1_bn'}[module[1]]
  number = int(module[0].removeprefix('blocks_').removeprefix('block'))
  number += part == 'trunk'  # It counts its blocks from 0.
  kind, *bn = module[1].split('_')
  return '_'.join(['conv', kind, str(number), *bn])


BACKBONE = base.Backbone(
    trunk=lambda model: MobileNetTrunk(
        _filters(model), model.input_size, base.dtype_of(model)
    ),
    head=lambda model, num_classes: PooledHead(
        num_classes, model.dropout, base.dtype_of(model)
    ),
    min_size=32,
    attention_stage=lambda model: AttentionStage(
        _filters(model)[-2:], base.dtype_of(model)
    ),
    pool=layers.global_mean,
    keras_layer=keras_layer,
    published=(
        'ImageNet weights: mobilenet_1_0_224_tf.h5 or '
        'mobilenet_1_0_224_tf_no_top.h5, which '
        "keras.applications.MobileNet(weights='imagenet') downloads to "
        '~/.keras/models'
    ),
)
