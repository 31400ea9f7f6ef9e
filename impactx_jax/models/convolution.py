"""Convolutions in the form that a CPU is fast at.

XLA's convolutions for CPUs are slow where each channel is filtered by itself,
where a filter is one pixel wide, and where the images have few channels. The
second are a product of matrices; the others a sum of shifted images, each times
a weight a channel. What is left is `plain`, whose second gradients are fast.
"""

from collections.abc import Sequence
import functools
import itertools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

# Of a first convolution that is a sum over them: 3x3 pixels of three colours.
MOST_TAPS = 27

Pair = tuple[int, int]
Pairs = Sequence[Pair]
Options = tuple[tuple[str, Any], ...]


def convolve(
    inputs: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Pairs,
    **options: Any,
) -> jax.Array:
  """Convolves as `lax.conv_general_dilated` does; for nn.Conv to call.

  The same values up to rounding, and the same plain form on accelerators:
  which one is compiled is chosen by the platform it is compiled for.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, C / groups, F].
    strides: Down and across.
    padding: Of height and width, or its name.
    **options: As `lax.conv_general_dilated` takes them.
  """
  options |= {'window_strides': strides, 'padding': padding}
  default = functools.partial(plain, options=frozen(**options))
  form = _form(inputs, kernel, options)
  if form is None:
    return default(inputs, kernel)
  return lax.platform_dependent(inputs, kernel, cpu=form, default=default)


def _form(inputs, kernel, options):
  """Returns what a CPU computes instead; None where it has nothing better."""
  strides, padding = options['window_strides'], options['padding']
  if inputs.ndim != 4 or inputs.dtype != jnp.float32:
    return None
  for name in ('lhs_dilation', 'rhs_dilation'):
    if any(n != 1 for n in options.get(name) or ()):
      return None
  sides, channels = kernel.shape[:2], inputs.shape[-1]
  groups = options.get('feature_group_count', 1)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(inputs.shape[1:3], sides, strides, padding)
  if groups == channels == kernel.shape[-1] and channels > 1:
    padding = tuple(map(tuple, padding))
    return lambda *arrays: depthwise(*arrays, tuple(strides), padding)
  if groups == 1 and 1 < sides[0] * sides[1] <= MOST_TAPS // channels:
    return lambda *arrays: of_few_channels(
        *arrays, tuple(strides), tuple(map(tuple, padding))
    )
  plainly = sides == (1, 1) and {*strides} == {1} and not any(map(any, padding))
  return pointwise if plainly and groups == 1 else None


def frozen(**options: Any) -> Options:
  """Returns arguments of `lax.conv_general_dilated` as `plain` takes them."""

  def of(value):
    return tuple(map(of, value)) if isinstance(value, list | tuple) and (
        not isinstance(value, lax.ConvDimensionNumbers)
    ) else value

  return tuple((name, of(value)) for name, value in sorted(options.items()))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def plain(inputs: jax.Array, kernel: jax.Array, options: Options) -> jax.Array:
  """Convolves as `lax.conv_general_dilated` does; in reverse mode alone.

  A convolution and its two gradients are one form, linear in inputs, kernel and
  slopes, so the gradients of each are the other two. Left to JAX, the kernel's
  part in a loss on the gradient of the inputs is a convolution that XLA's CPU
  takes five to thirty times as long for.

  Args:
    inputs: As there.
    kernel: As there.
    options: The other arguments, `frozen`.
  """
  return _convolved(inputs, kernel, options)


def _convolved(inputs, kernel, options):
  return lax.conv_general_dilated(inputs, kernel, **dict(options))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _plain_inputs(slopes, kernel, options, shape):
  """The gradient of the inputs, of a shape."""
  inputs = jax.ShapeDtypeStruct(shape, slopes.dtype)
  of = jax.linear_transpose(lambda x: _convolved(x, kernel, options), inputs)
  return of(slopes)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _plain_kernel(inputs, slopes, options, shape):
  """The gradient of the kernel, of a shape."""
  kernel = jax.ShapeDtypeStruct(shape, slopes.dtype)
  of = jax.linear_transpose(lambda k: _convolved(inputs, k, options), kernel)
  return of(slopes)[0]


def _plain_backward(options, kept, slopes):
  inputs, kernel = kept
  return (
      _plain_inputs(slopes, kernel, options, inputs.shape),
      _plain_kernel(inputs, slopes, options, kernel.shape),
  )


def _plain_inputs_backward(options, shape, kept, moved):
  del shape
  slopes, kernel = kept
  return (
      plain(moved, kernel, options),
      _plain_kernel(moved, slopes, options, kernel.shape),
  )


def _plain_kernel_backward(options, shape, kept, moved):
  del shape
  inputs, slopes = kept
  return (
      _plain_inputs(slopes, moved, options, inputs.shape),
      plain(inputs, moved, options),
  )


def _keeping(form):
  return lambda a, b, *rest: (form(a, b, *rest), (a, b))


plain.defvjp(_keeping(plain), _plain_backward)
_plain_inputs.defvjp(_keeping(_plain_inputs), _plain_inputs_backward)
_plain_kernel.defvjp(_keeping(_plain_kernel), _plain_kernel_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    inputs: jax.Array, kernel: jax.Array, strides: Pair, padding: Pairs
) -> jax.Array:
  """Filters each channel by itself: a sum over the kernel's places.

  Its gradients are written down, so it has no forward mode: left to JAX, that
  of the kernel keeps and reads a shifted copy of the inputs for each place.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, 1, C].
    strides: Down and across.
    padding: Of height and width, before and after.

  Returns:
    [B, h, w, C].
  """
  inputs = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  sides = kernel.shape[:2]
  sizes = _sizes(inputs, sides, strides)
  return sum(
      _shifted(inputs, place, sizes, strides) * kernel[*place, 0]
      for place in itertools.product(*map(range, sides))
  )


def _depthwise_forward(inputs, kernel, strides, padding):
  return depthwise(inputs, kernel, strides, padding), (inputs, kernel)


def _depthwise_backward(strides, padding, kept, slopes):
  inputs, kernel = kept
  return (
      _slopes_of_inputs(slopes, kernel, strides, padding, inputs.shape),
      _slopes_of_kernel(slopes, inputs, strides, padding, kernel.shape),
  )


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _sizes(images, sides, strides):
  """How often a window fits in [B, H, W, C], down and across."""
  return [
      (size - side) // stride + 1
      for size, side, stride in zip(
          images.shape[1:3], sides, strides, strict=True
      )
  ]


def _shifted(images, start, sizes, strides=(1, 1)):
  """The places of [B, H, W, C] from `start` on, `sizes` of them."""
  batch, _, _, channels = images.shape
  stop = [
      i + (size - 1) * stride + 1
      for i, size, stride in zip(start, sizes, strides, strict=True)
  ]
  return lax.slice(
      images, (0, *start, 0), (batch, *stop, channels), (1, *strides, 1)
  )


def _slopes_of_inputs(slopes, kernel, strides, padding, shape):
  """The same sum the other way: [B, h, w, C] -> [B, H, W, C]."""
  batch, *sizes, channels = shape
  sides = kernel.shape[:2]
  # Rows and columns of the inputs in groups of a stride, which share what they
  # are made of.
  groups = [
      -(-(size + sum(pads)) // stride)
      for size, pads, stride in zip(sizes, padding, strides, strict=True)
  ]
  before = [(k - 1) // stride for k, stride in zip(sides, strides, strict=True)]
  slopes = jnp.pad(slopes, (
      (0, 0),
      *(
          (low, count - size)
          for low, count, size in zip(
              before, groups, slopes.shape[1:3], strict=True
          )
      ),
      (0, 0),
  ))

  def phase(*first):
    places = itertools.product(*map(range, first, sides, strides))
    return sum(
        (
            _shifted(
                slopes,
                [
                    low - i // stride
                    for low, i, stride in zip(
                        before, place, strides, strict=True
                    )
                ],
                groups,
            ) * kernel[*place, 0]
            for place in places
        ),
        start=jnp.zeros((batch, *groups, channels)),
    )

  found = jnp.stack([
      jnp.stack([phase(i, j) for j in range(strides[1])], axis=3)
      for i in range(strides[0])
  ], axis=2)
  found = found.reshape(
      batch, groups[0] * strides[0], groups[1] * strides[1], channels
  )
  return _shifted(found, [low for low, _ in padding], sizes)


def _slopes_of_kernel(slopes, inputs, strides, padding, shape):
  """Sums over the places of the images: [kh, kw, 1, C].

  An image after the other: its shifted slices and the sums stay in the cache,
  where a sum at once over all images writes each place's products to memory.
  """
  inputs = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  places = [*itertools.product(*map(range, shape[:2]))]

  def add(sums, image):
    inputs, slopes = (x[None] for x in image)
    return [
        total
        + (_shifted(inputs, place, slopes.shape[1:3], strides) * slopes)[0]
        for total, place in zip(sums, places, strict=True)
    ], None

  zeros = jnp.zeros(slopes.shape[1:], slopes.dtype)
  sums, _ = lax.scan(add, [zeros] * len(places), (inputs, slopes))
  return jnp.stack(sums).sum((1, 2)).reshape(shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def of_few_channels(
    inputs: jax.Array, kernel: jax.Array, strides: Pair, padding: Pairs
) -> jax.Array:
  """Convolves images of a few colours: a sum over places and colours.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, C, F].
    strides: Down and across.
    padding: Of height and width, before and after.

  Returns:
    [B, h, w, F].
  """
  inputs = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  *sides, channels, _ = kernel.shape
  sizes = _sizes(inputs, sides, strides)
  return sum(
      _shifted(inputs, place, sizes, strides)[..., i : i + 1]
      * kernel[*place, i]
      for place in itertools.product(*map(range, sides))
      for i in range(channels)
  )


def _of_few_channels_forward(inputs, kernel, strides, padding):
  found = of_few_channels(inputs, kernel, strides, padding)
  return found, (inputs, kernel)


def _of_few_channels_backward(strides, padding, kept, slopes):
  options = frozen(
      window_strides=strides, padding=padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return _plain_backward(options, kept, slopes)


of_few_channels.defvjp(_of_few_channels_forward, _of_few_channels_backward)


def pointwise(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
  """Mixes the channels of each place: [B, h, w, C], [1, 1, C, F] -> [.., F]."""
  # Of matrices: XLA copies more axes to another order for the gradient.
  rows = inputs.reshape(-1, inputs.shape[-1]) @ kernel[0, 0]
  return rows.reshape(*inputs.shape[:-1], -1)
