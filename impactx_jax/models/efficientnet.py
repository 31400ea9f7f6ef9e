"""EfficientNet-B2 (Tan and Le, 2019), with the names of its Keras version."""

import math

from flax import linen as nn
from impactx_jax.models import base
from impactx_jax.models import layers
from impactx_jax.models import mobilenet
from impactx_jax.models.convolution import convolve
import jax
import jax.numpy as jnp

# Of B0: kernel, repeats, output channels, expansion, stride of each stage.
STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
WIDTH, DEPTH = 1.1, 1.2  # Of B2.
STEM_STAGES = 5  # The last stage begins at a sixteenth of the image's side.
SQUEEZE = 0.25
# Of ImageNet's pixels in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def channels_of(filters: float) -> int:
  """Rounds to a multiple of 8, never down by more than a tenth."""
  rounded = max(8, int(filters + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * filters else rounded


class SqueezeExcite(nn.Module):
  """Weighs channels by what all places say together.

  Attributes:
    squeezed: Channels in between.
    dtype: Of the computation.
  """

  squeezed: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    weights = x.mean(axis=(1, 2), keepdims=True)

    def conv(filters, name):
      return nn.Conv(
          filters, (1, 1), dtype=self.dtype, name=name,
          conv_general_dilated=convolve,
      )

    reduce, expand = conv(self.squeezed, 'reduce'), conv(x.shape[-1], 'expand')
    return x * nn.sigmoid(expand(nn.swish(reduce(weights))))


class Block(nn.Module):
  """An inverted bottleneck (MBConv).

  Attributes:
    kernel: Side of the depthwise convolution.
    filters: Output channels.
    expansion: Of the channels, in between.
    stride: Of the depthwise convolution.
    drop_path: Probability that training skips the block for an example, where
      it has a way around.
    dtype: Of the computation.
  """

  kernel: int
  filters: int
  expansion: int
  stride: int
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
    x, channels = inputs, inputs.shape[-1]

    def conv(filters, side, name, **options):
      return nn.Conv(
          filters, (side, side), use_bias=False, dtype=self.dtype, name=name,
          conv_general_dilated=convolve, **options,
      )

    def normalised(x, name):
      return layers.batch_norm(train, x.dtype, name, momentum=0.99)(x)

    if self.expansion != 1:
      x = conv(channels * self.expansion, 1, 'expand')(x)
      x = nn.swish(normalised(x, 'expand_bn'))
    x = conv(
        x.shape[-1], self.kernel, 'dw', strides=self.stride,
        feature_group_count=x.shape[-1],
    )(x)
    x = nn.swish(normalised(x, 'dw_bn'))
    squeezed = max(1, int(SQUEEZE * channels))
    x = SqueezeExcite(squeezed, self.dtype, name='se')(x)
    x = normalised(conv(self.filters, 1, 'project')(x), 'project_bn')
    if self.stride != 1 or self.filters != channels:
      return x
    # One draw an example: the same mask for all its places and channels.
    drop = nn.Dropout(
        self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train
    )
    return inputs + drop(x)


class ConvBn(nn.Module):
  """A convolution, its normalisation and swish: the first and the last.

  Attributes:
    filters: Output channels.
    kernel: Side.
    stride: Of the convolution.
    dtype: Of the computation.
  """

  filters: int
  kernel: int
  stride: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.Conv(
        self.filters, (self.kernel, self.kernel), self.stride, use_bias=False,
        dtype=self.dtype, name='conv', conv_general_dilated=convolve,
    )(x)
    return nn.swish(
        layers.batch_norm(train, x.dtype, 'bn', momentum=0.99)(x)
    )


class EfficientNetTrunk(nn.Module):
  """All but the classifier: [B, H, W, 3] in [0, 1] -> [B, h, w, 1408 width].

  Attributes:
    width: Multiplies the channels, 1.1 times 1 for B2.
    input_size: Side that images are resized to; 0: they stay as they are.
    drop_path: Of the last block; earlier ones have less.
    dtype: Of the computation.
  """

  width: float = 1.0
  input_size: int = 0
  drop_path: float = 0.0
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    self.stem_conv = ConvBn(self._channels(32), 3, 2, self.dtype)
    self.blocks = [
        Block(**options, dtype=self.dtype)
        for options in block_options(self.width, self.drop_path)
    ]
    self.top = ConvBn(self._channels(1280), 1, 1, self.dtype)

  def _channels(self, filters: int) -> int:
    return channels_of(filters * WIDTH * self.width)

  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    return self.last_stage(self.stem(images, train), train)

  def stem(self, images: jax.Array, train: bool = False) -> jax.Array:
    """[B, H, W, 3] -> the end of stage 5, [B, 2h, 2w, 120 width]."""
    x = layers.resize(images, self.input_size)
    x = (x - jnp.asarray(MEAN)) / jnp.asarray(STD)
    x = self.stem_conv(x.astype(self.dtype), train)
    for block in self.blocks[: num_blocks(STEM_STAGES)]:
      x = block(x, train)
    return x

  def last_stage(self, stem: jax.Array, train: bool = False) -> jax.Array:
    """[B, 2h, 2w, 120 width] -> [B, h, w, 1408 width]: 6, 7 and the last."""
    for block in self.blocks[num_blocks(STEM_STAGES) :]:
      stem = block(stem, train)
    return self.top(stem, train)


def num_blocks(stages: int) -> int:
  """Counts the blocks of the first stages of B2."""
  return sum(math.ceil(DEPTH * repeats) for _, repeats, *_ in STAGES[:stages])


def block_name(stage: int, index: int) -> str:
  """Names a block as Keras does: the second of stage 0 is block1b."""
  return f'block{stage + 1}{chr(ord("a") + index)}'


# Of all blocks in order, and of those without an expansion.
BLOCK_NAMES = tuple(
    block_name(stage, i)
    for stage, (_, repeats, *_) in enumerate(STAGES)
    for i in range(math.ceil(DEPTH * repeats))
)
UNEXPANDED = frozenset(BLOCK_NAMES[: num_blocks(1)])
_KERAS_CONVS = {
    'expand': 'expand_conv', 'expand_bn': 'expand_bn', 'dw': 'dwconv',
    'dw_bn': 'bn', 'se_reduce': 'se_reduce', 'se_expand': 'se_expand',
    'project': 'project_conv', 'project_bn': 'project_bn',
}


def keras_layer(path: tuple[str, ...]) -> str:
  """Names the Keras layer of one of our modules; see `base.Backbone`."""
  part, *module = path
  if part == 'head':
    return 'predictions'
  if module[0] in ('stem_conv', 'top'):
    return f'{module[0].partition("_")[0]}_{module[1]}'
  index = int(module[0].removeprefix('blocks_').removeprefix('block'))
  if part == 'attention_stage':
    index += num_blocks(STEM_STAGES)
  return f'{BLOCK_NAMES[index]}_{_KERAS_CONVS["_".join(module[1:])]}'


def block_options(
    width: float, drop_path: float, *, first: int = 0, strided: bool = True
) -> list[dict]:
  """Lists the attributes of the blocks of B2, from stage `first` on.

  Args:
    width: Multiplies the channels.
    drop_path: Of the last block; it grows from 0 with the block's place.
    first: Stages to leave out.
    strided: False for stride 1 everywhere.
  """
  options, count = [], num_blocks(len(STAGES))
  for kernel, repeats, filters, expansion, stride in STAGES:
    for i in range(math.ceil(DEPTH * repeats)):
      options.append(dict(
          kernel=kernel,
          filters=channels_of(filters * WIDTH * width),
          expansion=expansion,
          stride=stride if strided and i == 0 else 1,
          drop_path=drop_path * len(options) / count,
      ))
  return options[num_blocks(first) :]


class AttentionStage(nn.Module):
  """ABN's own copy of stages 6 and 7 and the last convolution, at stride 1."""

  width: float = 1.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, stem: jax.Array, train: bool = False) -> jax.Array:
    blocks = block_options(self.width, 0.0, first=STEM_STAGES, strided=False)
    for i, options in enumerate(blocks):
      stem = Block(**options, dtype=self.dtype, name=f'block{i}')(stem, train)
    filters = channels_of(1280 * WIDTH * self.width)
    return ConvBn(filters, 1, 1, self.dtype, name='top')(stem, train)


BACKBONE = base.Backbone(
    trunk=lambda model: EfficientNetTrunk(
        model.width, model.input_size, model.drop_path, base.dtype_of(model)
    ),
    head=lambda model, num_classes: mobilenet.PooledHead(
        num_classes, model.dropout, base.dtype_of(model)
    ),
    min_size=32,
    attention_stage=lambda model: AttentionStage(
        model.width, base.dtype_of(model)
    ),
    pool=layers.global_mean,
    keras_layer=keras_layer,
    published=(
        'Noisy Student weights: noisy_student_efficientnet-b2.tar.gz of the '
        "TensorFlow TPU models' EfficientNet, an h5 made of it, or "
        'model.safetensors of timm/tf_efficientnet_b2.ns_jft_in1k'
    ),
)
