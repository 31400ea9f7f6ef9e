"""LeNet-5, with its convolution and pooling computed in one pass."""

from collections.abc import Callable
import functools

from flax import linen as nn
from impactx_jax.models import b_cos as b_cos_lib
from impactx_jax.models import base
from impactx_jax.models import convolution
from impactx_jax.models import layers
from impactx_jax.models.base import Scores
import jax
import jax.numpy as jnp

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'relu': nn.relu,
    'tanh': jnp.tanh,
    'sigmoid': nn.sigmoid,
}
POOLINGS: dict[str, Callable[..., jax.Array]] = {
    'max': jnp.max,
    'mean': jnp.mean,
}
LAYERS = ('input', 'mid', 'final')


class ConvPool(nn.Module):
  """A VALID convolution, its activation, and a 2x2 pooling of stride 2.

  For sides where it is possible, the three are computed as one: after
  space-to-depth by 2, a convolution of about half the size yields the four
  pixels of each pooling window as four groups of channels. The parameters and
  the result (to rounding) are those of the plain form; on a CPU it is almost
  three times as fast.

  Attributes:
    filters: Number of output channels.
    kernel_size: Side of the square kernel, odd.
    activation: A name in ACTIVATIONS.
    pooling: A name in POOLINGS.
    dtype: Of the computation; parameters are float32.
    use_bias: Whether each filter has one.
  """

  filters: int
  kernel_size: int = 5
  activation: str = 'relu'
  pooling: str = 'max'
  dtype: jnp.dtype = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(
      self, images: jax.Array, *, pool: bool = True, fused: bool = True
  ) -> jax.Array:
    """Applies the stage.

    Args:
      images: [B, H, W, C].
      pool: False stops before the pooling.
      fused: False computes convolution and pooling one after the other.

    Returns:
      [B, (H - k + 1) // 2, (W - k + 1) // 2, filters], or without pooling
      [B, H - k + 1, W - k + 1, filters].
    """
    side = self.kernel_size
    kernel = self.param(
        'kernel',
        nn.initializers.lecun_normal(),
        (side, side, images.shape[-1], self.filters),
    )
    bias = jnp.zeros(self.filters)
    if self.use_bias:
      bias = self.param('bias', nn.initializers.zeros_init(), (self.filters,))
    images, kernel, bias = nn.dtypes.promote_dtype(
        images, kernel, bias, dtype=self.dtype
    )
    activation = ACTIVATIONS[self.activation]
    reduce = POOLINGS[self.pooling]
    _, height, width, _ = images.shape
    if pool and fused and height % 2 == 0 and width % 2 == 0 and side % 2 == 1:
      phases = _convolve(_space_to_depth(images), _phase_kernel(kernel))
      # All that is elementwise comes before the reshape: on a CPU the whole
      # forward pass is then almost three times as fast.
      phases = activation(phases + jnp.tile(bias, 4))
      return reduce(phases.reshape(*phases.shape[:3], 4, self.filters), axis=3)
    features = activation(_convolve(images, kernel) + bias)
    return pool_2x2(features, self.pooling) if pool else features


def pool_2x2(features: jax.Array, pooling: str) -> jax.Array:
  """Pools windows of 2x2: [B, H, W, F] -> [B, H // 2, W // 2, F]."""
  # Not jnp.max: its gradient compares the features with their maximum, and is
  # NaN where a compiler that computes them twice rounds them differently.
  pool = {'max': nn.max_pool, 'mean': nn.avg_pool}[pooling]
  return pool(features, (2, 2), (2, 2))


def _convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
  return convolution.plain(images, kernel, convolution.frozen(
      window_strides=(1, 1),
      padding='VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  ))


def _space_to_depth(images: jax.Array) -> jax.Array:
  """Moves 2x2 blocks into channels: [B, H, W, C] -> [B, H/2, W/2, 4C]."""
  batch, height, width, channels = images.shape
  blocks = images.reshape(batch, height // 2, 2, width // 2, 2, channels)
  blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
  return blocks.reshape(batch, height // 2, width // 2, 4 * channels)


def _phase_kernel(kernel: jax.Array) -> jax.Array:
  """The kernel that yields all four phases of a 2x2 window at once.

  Phase (p, q) of a window is the convolution moved by p rows and q columns,
  so its kernel is the original one, embedded at offset (p, q) in a kernel one
  pixel larger, whose even side divides into 2x2 blocks.
  """
  side, _, channels, filters = kernel.shape
  blocks = (side + 1) // 2
  phases = [
      jnp.pad(kernel, ((p, 1 - p), (q, 1 - q), (0, 0), (0, 0)))
      for p in (0, 1)
      for q in (0, 1)
  ]
  stacked = jnp.stack(phases, axis=3)  # [k+1, k+1, C, 4, F]
  stacked = stacked.reshape(blocks, 2, blocks, 2, channels, 4, filters)
  stacked = stacked.transpose(0, 2, 1, 3, 4, 5, 6)
  return stacked.reshape(blocks, blocks, 4 * channels, 4 * filters)


class BCosConvPool(nn.Module):
  """A VALID B-cos convolution, and the mean of windows of 2x2.

  Computed as one for even sides, as `ConvPool` is.

  Attributes:
    filters: Number of output channels.
    b_cos: Of the network.
    kernel_size: Side of the square kernel, odd.
    dtype: Of the computation.
  """

  filters: int
  b_cos: b_cos_lib.BCos
  kernel_size: int = 5
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
      self, images: jax.Array, *, pool: bool = True, fused: bool = True
  ) -> jax.Array:
    """As `ConvPool`."""
    side, (_, height, width, channels) = self.kernel_size, images.shape
    kernel = self.param(
        'kernel', *b_cos_lib.kernel_of(side, channels, self.filters)
    )
    images, kernel = nn.dtypes.promote_dtype(
        images, b_cos_lib.unit(kernel), dtype=self.dtype
    )
    norms = b_cos_lib.patch_norms(images, side)
    phases = pool and fused and height % 2 == 0 and width % 2 == 0
    if phases:
      units = _convolve(_space_to_depth(images), _phase_kernel(kernel))
      units = units.reshape(*units.shape[:3], 4, -1)
      norms = _space_to_depth(norms)[..., None]
    else:
      units = _convolve(images, kernel)
    features = b_cos_lib.respond(units, norms, self.b_cos)
    features *= b_cos_lib.scale_of(kernel)
    if phases:
      return features.mean(axis=3)
    return pool_2x2(features, 'mean') if pool else features


class LeNet5Trunk(nn.Module):
  """The two convolution stages: [B, H, W, C] -> [B, h, w, 16 width].

  Its last stage, as ABN divides it, is the second pooling.

  Attributes:
    filters: Of the two convolutions.
    activation: A name in ACTIVATIONS.
    pooling: A name in POOLINGS.
    dtype: Of the computation.
    use_bias: Whether the convolutions have biases.
    b_cos: Of a B-cos network, which heeds neither activation nor use_bias.
  """

  filters: tuple[int, int] = (6, 16)
  activation: str = 'relu'
  pooling: str = 'max'
  dtype: jnp.dtype = jnp.float32
  use_bias: bool = True
  b_cos: b_cos_lib.BCos | None = None

  def setup(self):
    if self.b_cos is None:
      stage = functools.partial(
          ConvPool, activation=self.activation, pooling=self.pooling,
          dtype=self.dtype, use_bias=self.use_bias,
      )
    else:
      stage = functools.partial(
          BCosConvPool, b_cos=self.b_cos, dtype=self.dtype
      )
    self.conv1 = stage(self.filters[0])
    self.conv2 = stage(self.filters[1])

  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    del train  # Nothing here behaves differently in training.
    return self.after(self.until(images, 'input'), 'input')

  def until(self, images: jax.Array, layer: str) -> jax.Array:
    """[B, H, W, C] -> the features at a layer, [B, h', w', F'].

    Args:
      images: [B, H, W, C].
      layer: 'input' (the images, [x, 1 - x] of a B-cos network), 'mid' (conv1,
        pooled) or 'final' (conv2, before the pooling).
    """
    index = LAYERS.index(layer)
    x = images if self.b_cos is None else b_cos_lib.encode(images)
    if index >= 1:
      x = self.conv1(x)
    return self.conv2(x, pool=False) if index == 2 else x

  def after(self, features: jax.Array, layer: str) -> jax.Array:
    """The features at a layer, as `until` gives them -> those of the trunk."""
    index = LAYERS.index(layer)
    if index == 2:
      return self.last_stage(features)
    return self.conv2(self.conv1(features) if index == 0 else features)

  def stem(self, images: jax.Array, train: bool = False) -> jax.Array:
    """[B, H, W, C] -> [B, 2h, 2w, 16 width], before the last pooling."""
    del train
    return self.until(images, 'final')

  def last_stage(self, stem: jax.Array, train: bool = False) -> jax.Array:
    """[B, 2h, 2w, 16 width] -> [B, h, w, 16 width]."""
    del train
    return pool_2x2(stem, self.pooling)


class LeNet5Head(nn.Module):
  """The three fully connected layers, 120-84-K.

  Attributes:
    num_classes: K.
    widths: Of the two hidden layers.
    activation: A name in ACTIVATIONS.
    dtype: Of the computation.
    use_bias: Whether the layers have biases.
  """

  num_classes: int
  widths: tuple[int, int] = (120, 84)
  activation: str = 'relu'
  dtype: jnp.dtype = jnp.float32
  use_bias: bool = True

  @nn.compact
  def __call__(self, features: jax.Array, train: bool = False) -> Scores:
    del train
    activation = ACTIVATIONS[self.activation]
    features = features.reshape(features.shape[0], -1)
    dense = functools.partial(
        nn.Dense, use_bias=self.use_bias, dtype=self.dtype
    )
    for i, width in enumerate(self.widths, start=1):
      features = activation(dense(width, name=f'dense{i}')(features))
    logits = dense(self.num_classes, name='dense3')
    return Scores(logits(features).astype(jnp.float32), features)


class AttentionStage(nn.Module):
  """ABN's attention stage for LeNet-5: twice Conv3x3, BatchNorm, ReLU.

  Attributes:
    filters: Of each convolution.
    dtype: Of the computation.
  """

  filters: int = 32
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, stem: jax.Array, train: bool = False) -> jax.Array:
    for i in (1, 2):
      stem = nn.Conv(
          self.filters, (3, 3), use_bias=False, dtype=self.dtype,
          name=f'conv{i}',
      )(stem)
      stem = nn.relu(layers.batch_norm(train, self.dtype, name=f'bn{i}')(stem))
    return stem


def _trunk(model) -> LeNet5Trunk:
  return LeNet5Trunk(
      filters=(base.scaled(model, 6), base.scaled(model, 16)),
      activation=model.activation,
      pooling=model.pooling,
      dtype=base.dtype_of(model),
      use_bias=model.variant == 'plain',
      b_cos=b_cos_lib.of(model),
  )


def _head(model, num_classes: int) -> nn.Module:
  widths = base.scaled(model, 120), base.scaled(model, 84)
  b_cos, dtype = b_cos_lib.of(model), base.dtype_of(model)
  if b_cos is not None:
    return b_cos_lib.BCosHead(num_classes, b_cos, widths, dtype)
  return LeNet5Head(
      num_classes, widths, model.activation, dtype, model.variant == 'plain'
  )


def _attention_stage(model) -> AttentionStage:
  return AttentionStage(base.scaled(model, 32), base.dtype_of(model))


BACKBONE = base.Backbone(
    trunk=_trunk,
    head=_head,
    min_size=16,
    attention_stage=_attention_stage,
    variants=base.VARIANTS,
    layers=LAYERS,
)
