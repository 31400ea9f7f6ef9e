"""Perturbation curves: does hiding what a map calls relevant matter?

MoRF, most relevant first (IMPACTX, section 4.4; Samek et al., 2017): the
regions of an image are ordered by the relevance that a map gives them and
replaced, one after another, by uniform noise; a good map makes the score of
the explained class fall fast. Deletion and insertion (Petsiuk et al., 2018)
replace regions by another image's instead of by noise.
"""

from collections.abc import Callable
import functools

from attribution import chunks
from attribution.metrics.checks import check_fit
from attribution.model_fn import ScoreFn
import jax
import jax.numpy as jnp
import numpy as np

ORDERS = ('morf', 'lerf')


def region_index(height: int, width: int, region: int) -> np.ndarray:
  """Numbers the square regions of an image, int32 [H, W], row by row."""
  columns = -(-width // region)
  y, x = np.mgrid[:height, :width] // region
  return (y * columns + x).astype(np.int32)


def region_ranks(
    relevance: jax.Array, key: jax.Array, *, region: int, order: str
) -> jax.Array:
  """Returns when each pixel is perturbed.

  Args:
    relevance: One map, [H, W, C].
    key: Of the order of ties: SHAP gives all of a large region one value, and
      by position its upper left corner would always go first.
    region: Side of the square regions in pixels.
    order: One of ORDERS.

  Returns:
    int32 [H, W] in 0..R-1: the place of the pixel's region in the order.
  """
  index = region_index(*relevance.shape[:2], region)
  regions = int(index.max()) + 1
  tie = jax.random.uniform(key, (regions,))
  total = jax.ops.segment_sum(
      relevance.sum(-1).ravel(), index.ravel(), regions
  )
  sign = -1.0 if order == 'morf' else 1.0
  sequence = jnp.lexsort((tie, sign * total))
  return jnp.argsort(sequence).astype(jnp.int32)[index]


@functools.lru_cache(maxsize=32)
def perturbation_curves(
    score_fn: ScoreFn,
    *,
    region: int,
    draws: int = 10,
    order: str = 'morf',
    batch_size: int = 256,
    low: float = 0.0,
    high: float = 1.0,
) -> Callable[..., np.ndarray]:
  """Makes the function that replaces region after region, and looks.

  Noise is uniform over [low, high) and drawn once for each image and draw, from
  `key` and the image's place: maps that are compared with the same key meet the
  same noise.

  Args:
    score_fn: Jittable, (variables, images [B, H, W, C]) -> scores [B, K].
    region: Side of the square regions in pixels.
    draws: Draws of the noise, over which the curve is the mean.
    order: 'morf', or 'lerf' (least relevant first).
    batch_size: Perturbed images a forward pass, at most, or the draws of one.
    low: Of the noise; with `high` the range of the data.
    high: Of the noise.

  Returns:
    A function, compiled once for equal arguments whatever the variables, of
      variables: of the scoring function;
      images: float32 [N, H, W, C], in the range of the noise;
      maps: [N, H, W, C'];
      classes: int [N], the class whose score is recorded: as SHAP explains
        it, the class that the model predicts on the clean image;
      key: of noise and ties;
      replacement: float32 [N, H, W, C], what regions are replaced by instead
        of noise. Deletion gives the images with everything hidden here;
        insertion gives these as `images`, and the images as `replacement`.
    It returns the score after each step, float32 [N, R + 1] for R regions:
    step 0 is the clean image, the last step all noise or all replacement.

  Raises:
    ValueError: for an unknown order.
  """
  if order not in ORDERS:
    raise ValueError(f'Unknown order {order!r}; allowed: {", ".join(ORDERS)}.')

  @jax.jit
  def curve_fn(variables, images, maps, classes, keys, replacement):
    return _curves(
        functools.partial(score_fn, variables), images, maps, classes, keys,
        replacement, region=region, draws=draws if replacement is None else 1,
        order=order, low=low, high=high,
    )

  def call(variables, images, maps, classes, key, replacement=None):
    check_fit(images=images, maps=maps)
    variables = jax.device_put(variables)
    together = batch_size // (draws if replacement is None else 1)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
        np.arange(len(images))
    )
    return chunks.in_chunks(
        functools.partial(_with_keys, curve_fn, variables),
        images, maps, classes, jax.random.key_data(keys),
        *(() if replacement is None else (replacement,)),
        size=max(1, min(together, len(images))),
    )

  return call


def _with_keys(
    curve_fn, variables, images, maps, classes, key_data, replacement=None
):
  keys = jax.random.wrap_key_data(key_data)
  return curve_fn(variables, images, maps, classes, keys, replacement)


def _curves(
    score_fn, images, maps, classes, keys, replacement, *, region, draws, order,
    low, high,
):
  count = len(images)
  split = jax.vmap(lambda k: jax.random.split(k, 2))(keys)
  ranks = jax.vmap(
      functools.partial(region_ranks, region=region, order=order)
  )(maps, split[:, 0])
  if replacement is None:
    noise = jax.vmap(
        lambda k: jax.random.uniform(
            k, (draws, *images.shape[1:]), minval=low, maxval=high
        )
    )(split[:, 1])
  else:
    noise = replacement[:, None]
  regions = int(region_index(*images.shape[1:3], region).max()) + 1

  def step(k):
    hidden = (ranks < k)[:, None, :, :, None]
    perturbed = jnp.where(hidden, noise, images[:, None])
    scores = score_fn(perturbed.reshape(-1, *images.shape[1:]))
    scores = scores.reshape(count, draws, -1)
    chosen = jnp.take_along_axis(scores, classes[:, None, None], axis=2)
    return chosen.mean(axis=(1, 2))

  return jax.lax.map(step, jnp.arange(regions + 1)).T


def area(curves: np.ndarray) -> np.ndarray:
  """Area under each curve by trapezoids, the steps spanning 0..1; [N]."""
  middle = (curves[:, 1:] + curves[:, :-1]) / 2
  return middle.mean(axis=1)


def aopc(curves: np.ndarray) -> np.ndarray:
  """Area over the perturbation curve: mean over steps of f(x0) - f(xk); [N].

  Step 0, where the difference is 0, counts as a step (Samek et al., 2017).
  """
  return (curves[:, :1] - curves).mean(axis=1)
