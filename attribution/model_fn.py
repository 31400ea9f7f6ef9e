"""Scoring functions: what is known of one, and one as a NumPy callable."""

from collections.abc import Callable
import functools
import math
from typing import Any
from typing import NamedTuple

from attribution import chunks
from attribution import frameworks
from attribution.errors import InputError
import jax
import jax.numpy as jnp
import numpy as np

Variables = Any
# variables, images float32 [B, H, W, C] -> scores [B, K]. Pure: it is compiled
# once, with the variables as arguments.
ScoreFn = Callable[[Variables, jax.Array], jax.Array]
# What is compiled or built of a function is kept for so many functions, those
# used last, and these are kept alive with it.
KEPT = 32


class ScoreOfAny:
  """Any callable, jittable or not hashable, as a scoring function.

  Two of the same callable are equal, so that what was compiled for one serves
  the other. A callable that cannot be hashed, such as an Equinox module, is
  the same as itself alone.
  """

  def __init__(
      self,
      fn: Callable[..., jax.Array],
      takes_variables: bool,
      channels_first: bool = False,
  ):
    """Wraps a function.

    Args:
      fn: Of (variables, images), or of images alone.
      takes_variables: Which of the two.
      channels_first: Whether its images, and features if it gives any, are
        [B, C, H, W].
    """
    self._fn, self._takes_variables = fn, takes_variables
    self._channels_first = channels_first
    try:
      hash(fn)
      own = fn
    except TypeError:  # The wrapper keeps it alive, so the id stays its own.
      own = id(fn)
    self._key = takes_variables, channels_first, own

  @property
  def given(self) -> frozenset[str]:
    """Which of the options `variables` and `channels_first` are set."""
    options = {
        'variables': self._takes_variables,
        'channels_first': self._channels_first,
    }
    return frozenset(name for name, is_set in options.items() if is_set)

  def __call__(self, variables: Variables, images: jax.Array) -> jax.Array:
    """Scores images."""
    if self._channels_first:
      images = jnp.moveaxis(images, 3, 1)
    found = self._fn(*([variables] * self._takes_variables), images)
    if self._channels_first and getattr(found, 'ndim', 0) == 4:
      found = jnp.moveaxis(found, 1, 3)
    return found

  def __eq__(self, other: object) -> bool:
    return isinstance(other, ScoreOfAny) and self._key == other._key

  def __hash__(self) -> int:
    return hash(self._key)


def numpy_callable(
    score_fn: ScoreFn, batch_size: int
) -> Callable[[Variables, np.ndarray], np.ndarray]:
  """Wraps a scoring function so that it is compiled for one batch shape only.

  Explainers ask for any number of evaluations at a time, and each new shape
  would cost a compilation; other variables, or another wrapper of the same
  function, cost none.

  Args:
    score_fn: Jittable and hashable, (variables, images float32 [B, H, W, C])
      -> scores [B, K].
    batch_size: B, the number of images in one call on the device.

  Returns:
    A function of the variables and of NumPy arrays, images [N, H, W, C] of
    any float type and any N >= 1 -> scores float32 [N, K].
  """
  compiled = _compiled(score_fn)

  def call(variables: Variables, images: np.ndarray) -> np.ndarray:
    variables = jax.device_put(variables)  # Once, not for every chunk.
    scores = chunks.in_chunks(
        lambda batch: compiled(variables, batch.astype(np.float32)),
        images,
        size=batch_size,
    )
    return scores.astype(np.float32, copy=False)

  return call


@functools.lru_cache(maxsize=KEPT)
def _compiled(score_fn: ScoreFn) -> ScoreFn:
  return jax.jit(score_fn)


class Known(NamedTuple):
  """What tracing a scoring function tells.

  Attributes:
    num_classes: K, the scores of an image.
    image_bytes: Of the largest array that one image more makes larger.
  """

  num_classes: int
  image_bytes: int


def inspect(
    score_fn: ScoreFn, variables: Variables, shape: tuple[int, int, int]
) -> Known:
  """Traces a scoring function, once for each shape of image and of variables.

  Args:
    score_fn: Hashable, (variables, images [B, H, W, C]) -> scores [B, K].
    variables: Arrays, or tracers.
    shape: (H, W, C) of the images.

  Raises:
    InputError: if it cannot be traced, or gives no scores [B, K].
  """
  try:
    leaves, treedef = jax.tree.flatten(jax.tree.map(jax.typeof, variables))
    return _inspect(score_fn, treedef, tuple(leaves), tuple(shape))
  except InputError:
    raise
  except Exception as error:
    given = getattr(score_fn, 'given', frozenset())
    raise frameworks.untraceable(shape, error, given) from error


@functools.lru_cache(maxsize=KEPT)
def _inspect(score_fn, treedef, leaves, shape) -> Known:
  variables = jax.tree.unflatten(treedef, leaves)
  (one, _), (two, scores) = (
      jax.make_jaxpr(score_fn, return_shape=True)(
          variables, jax.ShapeDtypeStruct((n, *shape), jnp.float32)
      )
      for n in (1, 2)
  )
  # A dict of one array is none, though it has the leaves of one.
  given = getattr(scores, 'shape', None)
  if given is None or len(given) != 2 or given[0] != 2:
    found = jax.tree.map(lambda x: x.shape, scores)
    raise InputError(
        'The scoring function must map images [B, H, W, C] to scores [B, K], '
        f'one array; for B = 2 it returns {found}.'
    )
  # What one image more adds; arrays of weights do not count.
  sizes = zip(_array_sizes(one.jaxpr), _array_sizes(two.jaxpr), strict=False)
  largest = max([4 * math.prod(shape)] + [more - less for less, more in sizes])
  return Known(given[1], largest)


def _array_sizes(jaxpr) -> list[int]:
  """Returns the bytes of every array that is computed, at four a number."""
  sizes = []
  for equation in jaxpr.eqns:
    sizes += [4 * getattr(x.aval, 'size', 0) for x in equation.outvars]
    for inner in jax.tree.leaves(list(equation.params.values())):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns'):
        sizes += _array_sizes(inner)
  return sizes
