"""ResNet-20 for small images (He et al., 2016, section 4.2)."""

from flax import linen as nn
from impactx_jax.models import b_cos as b_cos_lib
from impactx_jax.models import base
from impactx_jax.models import layers
from impactx_jax.models.convolution import convolve
from impactx_jax.models.mobilenet import PooledHead
import jax
import jax.numpy as jnp

LAYERS = ('input', 'mid1', 'mid2', 'final')
STAGES = (16, 32, 64)
BLOCKS = 3  # A stage.
# One pixel on every side, so that with stride 2 the middle of each patch is
# the pixel that the shortcut takes.
PADDING = ((1, 1), (1, 1))


class Part(nn.Module):
  """What every part of the trunk is told.

  Attributes:
    filters: Number of output channels.
    stride: Of its first convolution, down and across.
    normalise: Whether BatchNorm follows each convolution.
    b_cos: Of a B-cos network.
    dtype: Of the computation.
  """

  filters: int
  stride: int = 1
  normalise: bool = True
  b_cos: b_cos_lib.BCos | None = None
  dtype: jnp.dtype = jnp.float32


class Unit(Part):
  """A 3x3 convolution, as the variant has it."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    if self.b_cos is not None:
      return b_cos_lib.BCosConv(
          self.filters, self.b_cos, 3, self.stride, PADDING, self.dtype,
          name='conv',
      )(x)
    x = nn.Conv(
        self.filters, (3, 3), self.stride, PADDING, use_bias=False,
        dtype=self.dtype, kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=convolve, name='conv',
    )(x)
    return layers.batch_norm(train, self.dtype, 'bn')(x) if (
        self.normalise
    ) else x


class Stage(Part):
  """Three basic blocks, relu(shortcut(x) + unit(relu(unit(x)))).

  Shortcuts have no parameters (option A): every second pixel, and zeros for
  the channels that are new. B-cos blocks have no ReLU. Without normalisation
  each block adds a third of its units, so that nine in a row stay in bounds.
  """

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """[B, H, W, F] -> [B, ceil(H / stride), ceil(W / stride), filters]."""

    def unit(name, stride):
      return Unit(
          self.filters, stride, self.normalise, self.b_cos, self.dtype,
          name=name,
      )

    share = 1.0 if self.normalise else (len(STAGES) * BLOCKS) ** -0.5
    for i in range(BLOCKS):
      stride = self.stride if i == 0 else 1
      y = unit(f'block{i + 1}_conv1', stride)(x, train)
      y = unit(f'block{i + 1}_conv2', 1)(self._activated(y), train)
      x = self._activated(_shortcut(x, self.filters, stride) + share * y)
    return x

  def _activated(self, x):
    return nn.relu(x) if self.b_cos is None else x


def _shortcut(x: jax.Array, filters: int, stride: int) -> jax.Array:
  new = filters - x.shape[-1]
  return jnp.pad(x[:, ::stride, ::stride], ((0, 0),) * 3 + ((0, new),))


class ResNetTrunk(nn.Module):
  """A convolution and three stages: [B, H, W, C] -> [B, h, w, 64 width].

  The second and the third halve the sides.

  Attributes:
    filters: Of the three stages.
    normalise: Whether BatchNorm follows each convolution.
    b_cos: Of a B-cos network.
    input_size: Side that images are resized to; 0: they stay as they are.
    dtype: Of the computation.
  """

  filters: tuple[int, int, int]
  normalise: bool = True
  b_cos: b_cos_lib.BCos | None = None
  input_size: int = 0
  dtype: jnp.dtype = jnp.float32

  def setup(self):
    options = self.normalise, self.b_cos, self.dtype
    self.conv1 = Unit(self.filters[0], 1, *options)
    self.stage1 = Stage(self.filters[0], 1, *options)
    self.stage2 = Stage(self.filters[1], 2, *options)
    self.stage3 = Stage(self.filters[2], 2, *options)

  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    return self.last_stage(self.stem(images, train), train)

  def stem(self, images: jax.Array, train: bool = False) -> jax.Array:
    """[B, H, W, C] -> the output of stage 2, [B, 2h, 2w, 32 width]."""
    return self.stage2(self._first(self._encode(images), train), train)

  def last_stage(self, stem: jax.Array, train: bool = False) -> jax.Array:
    """[B, 2h, 2w, 32 width] -> [B, h, w, 64 width]: stage 3."""
    return self.stage3(stem, train)

  def until(self, images: jax.Array, layer: str) -> jax.Array:
    """[B, H, W, C] -> the features at a layer, [B, h', w', F'].

    Args:
      images: [B, H, W, C].
      layer: 'input' (the images, [x, 1 - x] of a B-cos network), or 'mid1',
        'mid2' and 'final', the outputs of the stages.
    """
    x = self._encode(images)
    for part in self._parts()[: LAYERS.index(layer)]:
      x = part(x)
    return x

  def after(self, features: jax.Array, layer: str) -> jax.Array:
    """The features at a layer, as `until` gives them -> those of the trunk."""
    for part in self._parts()[LAYERS.index(layer) :]:
      features = part(features)
    return features

  def _parts(self):
    return self._first, self.stage2, self.stage3

  def _encode(self, images):
    return images if self.b_cos is None else b_cos_lib.encode(images)

  def _first(self, x, train=False):
    x = self.conv1(layers.resize(x, self.input_size), train)
    return self.stage1(x if self.b_cos else nn.relu(x), train)


def _options(model) -> dict:
  return dict(
      normalise=model.variant == 'plain', b_cos=b_cos_lib.of(model),
      dtype=base.dtype_of(model),
  )


def _trunk(model) -> ResNetTrunk:
  filters = tuple(base.scaled(model, filters) for filters in STAGES)
  return ResNetTrunk(
      filters, input_size=model.input_size, **_options(model)
  )


def _head(model, num_classes: int) -> nn.Module:
  b_cos, dtype = b_cos_lib.of(model), base.dtype_of(model)
  if b_cos is not None:
    return b_cos_lib.BCosHead(num_classes, b_cos, dtype=dtype)
  return PooledHead(
      num_classes, model.dropout, dtype, model.variant == 'plain'
  )


def _attention_stage(model) -> Stage:
  return Stage(base.scaled(model, STAGES[-1]), 1, **_options(model))


BACKBONE = base.Backbone(
    trunk=_trunk,
    head=_head,
    min_size=8,
    attention_stage=_attention_stage,
    pool=layers.global_mean,
    variants=base.VARIANTS,
    layers=LAYERS,
)
