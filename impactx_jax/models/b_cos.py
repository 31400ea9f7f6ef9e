"""B-cos layers (Böhle et al., 2022): linear maps that follow their input.

Each unit is u = ŵᵀx with a weight of norm 1, times |cos(x, w)|^(B-1), so that
it is large only where the weight points as its input does. With these factors
held fixed a network is one linear map of its input, f_k(x) = W_k(x)ᵀ x, and
W_k(x) ⊙ x says what each pixel adds.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any

from flax import linen as nn
from impactx_jax.models import convolution
from impactx_jax.models import layers
from impactx_jax.models.base import Scores
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

# Units of which a layer keeps the largest, before it is scaled (MaxOut).
MAX_OUT = 2
# What the logits are divided by.
TEMPERATURE = 100.0
Pairs = Sequence[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class BCos:
  """What the B-cos layers of a network have in common.

  Attributes:
    exponent: B; with 1, layers are linear but for MaxOut.
    explain: Whether gradients by features hold every |cos|^(B-1) fixed. The
      values are the same.
  """

  exponent: float = 2.0
  explain: bool = False


def of(model: ConfigDict) -> BCos | None:
  """Returns what `config.model` says of B-cos layers; None for other nets."""
  return BCos(model.b_cos_exponent) if model.variant == 'b_cos' else None


def encode(images: jax.Array) -> jax.Array:
  """Images [B, H, W, C] in [0, 1] -> [x, 1 - x], [B, H, W, 2 C].

  A dark pixel is seen as well as a light one, and colours are directions.
  """
  return jnp.concatenate([images, 1 - images], axis=-1)


class BCosConv(nn.Module):
  """A B-cos convolution: no bias, no activation, MaxOut of two units.

  out = |u / n|^(B-1) u / s, where u is the larger of two ŵ ∗ x, n is the norm
  of the patch, and s = k √C / 100 for a kernel of side k.

  Attributes:
    filters: Number of output channels.
    b_cos: Of the network.
    kernel_size: k.
    stride: Down and across.
    padding: Of height and width, before and after.
    dtype: Of the computation; parameters are float32.
  """

  filters: int
  b_cos: BCos
  kernel_size: int = 1
  stride: int = 1
  padding: Pairs = ((0, 0), (0, 0))
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, h, w, filters]."""
    kernel = self.param(
        'kernel', *kernel_of(self.kernel_size, x.shape[-1], self.filters)
    )
    x, kernel = nn.dtypes.promote_dtype(x, unit(kernel), dtype=self.dtype)
    units = convolution.plain(x, kernel, convolution.frozen(
        window_strides=(self.stride, self.stride), padding=self.padding,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    ))
    norms = patch_norms(x, self.kernel_size, self.stride, self.padding)
    return respond(units, norms, self.b_cos) * scale_of(kernel)


def kernel_of(side: int, channels: int, filters: int) -> tuple[Any, ...]:
  """The initialiser and the shape of a layer's kernel, [k, k, C, 2 filters]."""
  return nn.initializers.lecun_normal(), (
      side, side, channels, MAX_OUT * filters
  )


def unit(kernel: jax.Array) -> jax.Array:
  """Each filter of a kernel [k, k, C, F], divided by its norm."""
  return kernel / jnp.sqrt((kernel**2).sum(axis=(0, 1, 2)))


def scale_of(kernel: jax.Array) -> float:
  """100 / (k √C), which the outputs of a layer are multiplied by."""
  return 100 / math.sqrt(math.prod(kernel.shape[:3]))


def patch_norms(
    x: jax.Array,
    side: int,
    stride: int = 1,
    padding: Pairs = ((0, 0), (0, 0)),
) -> jax.Array:
  """The norm of what each place of a convolution sees.

  Args:
    x: [B, H, W, C].
    side: Of the square kernel.
    stride: Down and across.
    padding: Of height and width, before and after.

  Returns:
    √(Σ x² + 1e-6), [B, h, w, 1].
  """
  squares = (x**2).sum(axis=-1, dtype=jnp.promote_types(x.dtype, 'float32'))
  squares = jnp.pad(squares, ((0, 0), *padding))
  # Rows, then columns: a convolution of one channel is slow on a CPU.
  for axis in (1, 2):
    end = squares.shape[axis] - side + 1
    squares = sum(
        jax.lax.slice_in_dim(squares, i, end + i, stride, axis)
        for i in range(side)
    )
  return jnp.sqrt(squares + 1e-6)[..., None].astype(x.dtype)


def respond(units: jax.Array, norms: jax.Array, b_cos: BCos) -> jax.Array:
  """Keeps the larger of two units u, and gives |u / n|^(B-1) u.

  Args:
    units: ŵ ∗ x, [..., 2 F], the second of each pair F after the first.
    norms: Of their patches, n, [..., 1].
    b_cos: Of the network.

  Returns:
    [..., F].
  """
  units = jnp.maximum(*jnp.split(units, MAX_OUT, axis=-1))
  if b_cos.exponent == 1:
    return units
  factors = jnp.abs(units) / norms
  if b_cos.exponent != 2:
    factors = (factors + 1e-6) ** (b_cos.exponent - 1)
  return _held(factors, units) if b_cos.explain else factors * units


@jax.custom_vjp
def _held(factors: jax.Array, units: jax.Array) -> jax.Array:
  """Their product, whose gradient knows of no change of the factors.

  The gradient of that gradient does: the map W(x) ⊙ x depends on the
  parameters through its factors, which `lax.stop_gradient` would cut as well.
  """
  return factors * units


def _held_forward(factors, units):
  return factors * units, factors


def _held_backward(factors, slopes):
  return jnp.zeros_like(factors), factors * slopes


_held.defvjp(_held_forward, _held_backward)


def prior(num_classes: int) -> float:
  """What is added to each logit: that of a probability of 1 / K."""
  return -math.log(max(1, num_classes - 1))


class BCosHead(nn.Module):
  """Hidden layers, and a 1x1 B-cos convolution averaged over all places.

  Attributes:
    num_classes: K.
    b_cos: Of the network.
    widths: Of the hidden layers, which see all places at once.
    dtype: Of the computation.
  """

  num_classes: int
  b_cos: BCos
  widths: tuple[int, ...] = ()
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array, train: bool = False) -> Scores:
    """[B, h, w, F] -> Scores, logits / T + b."""
    del train
    if self.widths:
      features = layers.flatten(features)[:, None, None]
    for i, width in enumerate(self.widths, start=1):
      dense = BCosConv(width, self.b_cos, dtype=self.dtype, name=f'dense{i}')
      features = dense(features)
    places = BCosConv(
        self.num_classes, self.b_cos, dtype=self.dtype, name='logits'
    )(features)
    logits, pooled = map(layers.global_mean, (places, features))
    return Scores(
        logits.astype(jnp.float32) / TEMPERATURE + prior(self.num_classes),
        pooled.astype(jnp.float32),
    )
