"""A learned explainer as a program: what its network sees, and its maps."""

from collections.abc import Callable
import functools
from typing import Any

from attribution import model_fn
from attribution.decoder import MapDecoder
from attribution.decoder import Views
from attribution.explainers import fastshap
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
import jax
import jax.numpy as jnp

# Variables of the model, images [B, H, W, C], classes int32 [B] -> Views.
See = Callable[[Any, jax.Array, jax.Array], Views]


def build(
    score: ScoreFn,
    masker: Masker,
    shape: tuple[int, int, int],
    *,
    cell: int,
    filters: int,
    num_classes: int,
) -> tuple[MapDecoder, See]:
  """Returns the network, and what it sees.

  Args:
    score: (variables, images [B, H, W, C]) -> scores [B, K].
    masker: One that has a background.
    shape: (H, W, C) of the images.
    cell: Side of the map's cells in pixels.
    filters: Width of the network.
    num_classes: K.
  """
  height, width = shape[0] // cell, shape[1] // cell
  start = height
  while start > 4 and start % 2 == 0 and width % (2 * height // start) == 0:
    start //= 2

  def see(variables, images, classes):
    background = masker.background(images)
    missing = images - background
    variables = jax.lax.stop_gradient(variables)
    slope = jax.grad(
        lambda x: at(score(variables, x), classes).sum()
    )(background + missing / 2)
    slope = (slope * missing).sum(axis=-1, keepdims=True)
    scores = score(variables, images).astype(jnp.float32)
    return Views(
        scores=jnp.concatenate([
            jax.nn.one_hot(classes, num_classes), jnp.tanh(scores)
        ], axis=-1),
        gradient=_unit(slope),
        cells=_unit(pool(slope, cell)),
        pixels=missing,
    )

  return MapDecoder((height, width, 1), start, filters), see


def _unit(x: jax.Array) -> jax.Array:
  """Scales each map by its largest magnitude; one of zeros stays."""
  largest = abs(x).max(axis=(1, 2, 3), keepdims=True)
  return x / jnp.where(largest > 0, largest, 1)


def at(scores: jax.Array, classes: jax.Array) -> jax.Array:
  """Scores [B, K], classes int [B] -> the scores of these, [B]."""
  return jnp.take_along_axis(scores, classes[:, None], axis=-1)[:, 0]


def pool(x: Any, cell: int) -> Any:
  """Averages cells of pixels: [N, H, W, C] -> [N, H / cell, W / cell, C]."""
  count, height, width, channels = x.shape
  return x.reshape(
      count, height // cell, cell, width // cell, cell, channels
  ).mean(axis=(2, 4))


@functools.lru_cache(maxsize=model_fn.KEPT)
def of_model(score: ScoreFn) -> ScoreFn:
  """Returns the score as a function of the variables of `program`."""
  return lambda variables, images: score(variables['model'], images)


def program(
    network: MapDecoder,
    see: See,
    score: ScoreFn,
    masker: Masker,
    cell: int,
    *,
    complete: bool,
) -> Program:
  """Returns (variables, images, classes [N, K']) -> maps [N, H, W, 1, K'].

  Args:
    network: From `build`.
    see: From `build`.
    score: Of the model; the variables are {'model', 'decoder'}.
    masker: As for `build`.
    cell: Side of the map's cells in pixels.
    complete: Whether the cells are values that are to sum to f(x) - f(hidden).
  """

  def of_class(variables, images, classes):
    cells = network.apply(
        variables['decoder'], see(variables['model'], images, classes)
    )
    if complete:
      ends = (
          at(score(variables['model'], x), classes)
          for x in (images, masker.background(images))
      )
      cells = fastshap.complete(cells[..., 0], *ends)[..., None] / cell**2
    return cells.repeat(cell, axis=1).repeat(cell, axis=2)

  def all_classes(variables, images, classes):
    return jnp.stack([
        of_class(variables, images, classes[:, i])
        for i in range(classes.shape[1])
    ], axis=-1)

  return all_classes
