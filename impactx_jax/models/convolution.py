"""Depthwise and pointwise convolutions in the form that a CPU is fast at.

XLA's convolutions for CPUs are slow where each channel is filtered by itself,
and where a filter is one pixel wide. The first are a sum of shifted images,
each times a weight a channel, and the second a product of matrices.
"""

from collections.abc import Sequence
import functools
import itertools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

Pairs = Sequence[tuple[int, int]]


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
  plain = functools.partial(
      lax.conv_general_dilated, window_strides=strides, padding=padding,
      **options,
  )
  form = _form(inputs, kernel, strides, padding, options)
  if form is None:
    return plain(inputs, kernel)
  return lax.platform_dependent(inputs, kernel, cpu=form, default=plain)


def _form(inputs, kernel, strides, padding, options):
  """Returns what a CPU computes instead; None where it has nothing better."""
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
    return functools.partial(depthwise, strides=strides, padding=padding)
  plainly = sides == (1, 1) and {*strides} == {1} and not any(map(any, padding))
  return pointwise if plainly and groups == 1 else None


def depthwise(
    inputs: jax.Array, kernel: jax.Array, *, strides: Sequence[int],
    padding: Pairs,
) -> jax.Array:
  """Filters each channel by itself: a sum over the kernel's places.

  Args:
    inputs: [B, H, W, C].
    kernel: [kh, kw, 1, C].
    strides: Down and across.
    padding: Of height and width, before and after.

  Returns:
    [B, h, w, C].
  """
  inputs = jnp.pad(inputs, ((0, 0), *padding, (0, 0)))
  batch, *sizes, channels = inputs.shape
  sides = kernel.shape[:2]
  # How far the windows reach, from the first place of one to that of the last.
  reach = [
      (size - side) // stride * stride + 1
      for size, side, stride in zip(sizes, sides, strides, strict=True)
  ]
  return sum(
      lax.slice(
          inputs, (0, i, j, 0), (batch, i + reach[0], j + reach[1], channels),
          (1, *strides, 1),
      ) * kernel[i, j, 0]
      for i, j in itertools.product(*map(range, sides))
  )


def pointwise(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
  """Mixes the channels of each place: [B, h, w, C], [1, 1, C, F] -> [.., F]."""
  return inputs @ kernel[0, 0]
