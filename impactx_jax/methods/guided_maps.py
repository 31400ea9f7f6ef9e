"""The maps that guidance is of: made inside a loss, compared with masks."""

from collections.abc import Callable
from typing import Any

from attribution import explainers
from attribution.maskers import Masker
from impactx_jax import losses
from impactx_jax import models
from impactx_jax.data import masks as mask_lib
from impactx_jax.methods import base
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

# Variables, images [B, H, W, C], classes int [B, K'] -> maps [B, h, w, K'].
Maps = Callable[[Any, jax.Array, jax.Array], jax.Array]


def map_program(config: ConfigDict, num_classes: int) -> Maps:
  """Returns what makes the maps, of a layer's own size, summed over channels.

  Args:
    config: `config.model` and `config.method` are read.
    num_classes: K.
  """
  options = config.method
  network = models.create_classifier(config.model, num_classes)
  attribution, layer = options.guidance_attribution, options.guidance_layer
  # What is held fixed is from the layer on: up to there the parameters have all
  # of their gradient.
  explained = network
  if attribution == 'b_cos':
    explained = models.dynamic_linear(network)

  def features(variables, images):
    return network.apply(
        base.flax_variables(variables), images, layer, method='until'
    )

  def scores(variables, values):
    logits = explained.apply(
        base.flax_variables(variables), values, layer, method='after'
    ).logits
    if options.guidance_output == 'logit':
      return logits
    others = logits.sum(axis=-1, keepdims=True) - logits
    return logits - others / max(1, num_classes - 1)

  # Of a network without biases that is Integrated Gradients from black, and of
  # a B-cos network, with its scales held fixed, its own linear map.
  one_pass = attribution == 'b_cos' or (
      attribution == 'integrated_gradients' and config.model.variant == 'x_dnn'
  )
  program = explainers.create_program(
      'input_x_gradient' if one_pass else attribution,
      scores,
      # Cut at its own layer: what Grad-CAM resizes to is that layer's size.
      layers=explainers.Layers(lambda variables, x: x, scores),
      masker=Masker('constant'),
      integration_steps=options.guidance_steps,
  )

  def maps(variables, images, classes):
    values = features(variables, images)
    found = program(variables, values, classes)
    # Summed in float32 also where the network computes in fewer bits.
    precise = jnp.promote_types(found.dtype, jnp.float32)
    return found.astype(precise).sum(axis=3)

  return maps


def localisation(
    options: ConfigDict,
    maps: jax.Array,
    masks: jax.Array,
    sides: tuple[int, int],
) -> jax.Array:
  """Says how much of each map is outside its mask.

  Args:
    options: `config.method`.
    maps: [B, h, w, K'], of a layer's size.
    masks: [B, H, W, K'].
    sides: (H, W).

  Returns:
    float32 [B, K'].
  """
  if options.guidance_sign == 'both':
    maps = jnp.abs(maps)
  # Divided by the largest magnitude before it is resized, as in their code.
  largest = jnp.abs(maps).max(axis=(1, 2), keepdims=True)
  if options.guidance_detached:
    largest = jax.lax.stop_gradient(largest)
  maps = resized(maps / jnp.where(largest < losses.EMPTY, 1, largest), sides)
  loss = losses.LOCALISATION[options.guidance_loss]
  extra = {}
  if options.guidance_loss == 'rrr':
    extra = {'detached': options.guidance_detached}
  flat = [jnp.moveaxis(x, 3, 1).reshape(-1, *sides) for x in (maps, masks)]
  return loss(*flat, **extra).reshape(maps.shape[0], maps.shape[3])


def pointing(
    maps: Callable[[jax.Array, jax.Array], jax.Array],
    batch: base.Batch,
    options: ConfigDict,
    labels: str,
    num_classes: int,
) -> base.Metrics:
  """Measures the guided maps of the classes that are there.

  Args:
    maps: (images, classes int [B, K']) -> [B, h, w, K'].
    batch: With masks or boxes, or without.
    options: `config.method`.
    labels: The task's column.
    num_classes: K.

  Returns:
    `guided_epg` (equation 2; 0 of a map without positive relevance) and
    `guided_iou`, of what is above the middle of each map's positive range, as
    sums over an image's classes and their number; nothing where there are no
    masks.
  """
  if not mask_lib.can_guide(batch):
    return {}
  masks = mask_lib.of_batch(batch, options.mask_source).astype(jnp.float32)
  images, truth = batch['image'], batch[labels]
  if truth.ndim == 1:
    classes, there = truth[:, None], jnp.ones((len(truth), 1))
  else:
    classes = jnp.broadcast_to(jnp.arange(num_classes), truth.shape)
    there = truth > 0
  masks = jnp.broadcast_to(masks, (*masks.shape[:3], classes.shape[1]))
  there = there * masks.any(axis=(1, 2))
  found = jax.lax.map(  # One by one, for the memory of many classes.
      lambda k: maps(images, k[:, None])[..., 0], classes.T
  )
  found = resized(jnp.moveaxis(found, 0, 3), images.shape[1:3])
  found = jnp.maximum(found, 0)
  total = found.sum(axis=(1, 2))
  inside = (found * masks).sum(axis=(1, 2))
  epg = inside / jnp.where(total > losses.EMPTY, total, 1)
  low, high = (f(found, axis=(1, 2), keepdims=True) for f in (jnp.min, jnp.max))
  above = (found - low > (high - low) / 2).astype(jnp.float32)
  either = jnp.maximum(above, masks).sum(axis=(1, 2))
  iou = (above * masks).sum(axis=(1, 2)) / jnp.maximum(either, 1)
  count = there.sum(axis=1)
  return {
      'guided_epg': ((epg * there).sum(axis=1), count),
      'guided_iou': ((iou * there).sum(axis=1), count),
  }


def resized(maps: jax.Array, sides: tuple[int, int]) -> jax.Array:
  """Brings maps [B, h, w, K'] to the image's size, bilinearly."""
  if maps.shape[1:3] == tuple(sides):
    return maps
  return jax.image.resize(
      maps, (maps.shape[0], *sides, maps.shape[3]), 'bilinear'
  )
