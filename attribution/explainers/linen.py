"""A layer of a Flax Linen model, by its path, from outside of the model."""

from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from attribution.model_fn import ScoreFn
from attribution.model_fn import Variables
import jax


def tap(
    score_fn: ScoreFn,
    layer: str,
    variables: Variables,
    images: jax.Array,
    output: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Scores images, and looks at what a layer gives, or puts something there.

  Args:
    score_fn: (variables, images) -> scores [B, K], which calls a Flax Linen
      module, however deep inside.
    layer: The path of the layer in it, such as 'block_4/conv'.
    variables: Of the scoring function.
    images: [B, H, W, C].
    output: What the layer shall give; None for what it does.

  Returns:
    Scores [B, K], and the layer's output.

  Raises:
    InputError: for a layer that is not called, or several times.
  """
  from flax import linen as nn  # pylint: disable=g-import-not-at-top

  given: list[jax.Array] = []
  called = []

  def look(next_function: Any, arguments: Any, options: Any, context: Any):
    if context.method_name != '__call__':
      return next_function(*arguments, **options)
    path = '/'.join(context.module.path)
    called.append(path)
    found = next_function(*arguments, **options)
    if path == layer:
      if not isinstance(found, jax.Array):
        raise InputError(
            f'The layer {layer!r} gives a {type(found).__name__}, not one '
            'array. Name a layer inside it.', 'layer', 'NAME',
        )
      if output is not None:
        found = output.astype(found.dtype)
      given.append(found)
    return found

  # What is jitted inside may have been traced before: without this look.
  with nn.intercept_methods(look), jax.disable_jit():
    scores = score_fn(variables, images)
  if len(given) > 1:
    raise InputError(
        f'The layer {layer!r} is called more than once, and an explanation is '
        'of one call. Name a layer around it or after it.', 'layer', 'NAME',
    )
  if not any(called):
    raise InputError(
        f'There is no layer {layer!r}, for the scoring function calls no Flax '
        'Linen module that can be seen (one inside jax.checkpoint cannot). '
        'Give the model cut after the convolution, layers=Layers(features, '
        'scores).', 'layers',
    )
  if not given:
    raise unknown_choice('layer', layer, filter(None, called), 'layer')
  # JAX says so itself only when all is traced, and not of which layer.
  if output is None and _trace_of(given[0]) is not _trace_of(scores):
    raise InputError(
        f'The layer {layer!r} lies inside nn.remat, vmap or a scan, which it '
        'cannot be seen through. Name a layer outside, or give the model cut '
        'after the convolution, layers=Layers(features, scores).', 'layer',
        'NAME',
    )
  return scores, given[0]


def _trace_of(array: jax.Array) -> object:
  return getattr(array, '_trace', None)
