"""A, trained further on images whose surroundings say nothing of the class.

What the same boxes are worth without an explanation: counterfactual images with
the surroundings of others, or painted over.
"""

import dataclasses

from impactx_jax import bounds
from impactx_jax import parallel
from impactx_jax.data import guidance
from impactx_jax.data import masks as mask_lib
from impactx_jax.methods import base
from impactx_jax.methods import baseline_continued
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


OPTIONS = {
    # What is outside of the mask in training: the surroundings of 'others', or
    # the 'mean' colour of the batch.
    'surroundings': 'others',
    **guidance.OPTIONS,
}
BOUNDS: bounds.Bounds = {
    'surroundings': bounds.Choice('surroundings', ('others', 'mean')),
    **guidance.BOUNDS,
}


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds an A that sees its objects in the surroundings of other images.

  In each step an image with a mask keeps what is inside, and has the rest of
  another image of the batch, drawn anew; what is an object there, as far as is
  known, becomes the mean colour of what is around it. Or the rest is of the
  mean colour of all images of the batch.

  Args:
    config: `config.model` and the options of masks are read.
    problem: What is known of the data.
  """
  options = config.method

  def prepare(state, batch, key):
    masks = mask_lib.of_batch(batch, options.mask_source, options.mask_dilation)
    masks = masks.any(axis=-1, keepdims=True)
    masks &= batch[guidance.ANNOTATED][:, None, None, None] > 0
    images, objects = (
        jax.lax.all_gather(x, parallel.AXIS, tiled=True)
        for x in (batch['image'], masks)
    )
    others = jax.vmap(
        lambda i: i + jax.random.randint(
            jax.random.fold_in(key, i), (), 1, max(2, len(images))
        )
    )(batch['position']) % len(images)
    around = ~objects
    colours = (images * around).sum(axis=(1, 2), keepdims=True) / jnp.maximum(
        around.sum(axis=(1, 2), keepdims=True), 1
    )
    grounds = jnp.where(objects, colours, images)[others]
    if options.surroundings == 'mean':
      grounds = images.mean(axis=(0, 1, 2))
    known = masks.any(axis=(1, 2), keepdims=True)
    return state, batch | {
        'image': jnp.where(masks | ~known, batch['image'], grounds)
    }

  return dataclasses.replace(
      baseline_continued.create(config, problem), prepare=prepare
  )


def check(config: ConfigDict) -> None:
  """Raises InputError for options of masks that cannot be met."""
  bounds.check(config.method, BOUNDS, 'config.method')


METHOD = base.Spec(
    create,
    'A, backgrounds of others',
    options=OPTIONS,
    check=check,
    check_data=guidance.check_data,
    columns=guidance.annotate,
    published=lambda options: None,  # A has had them.
)
CONTROLS = {
    'baseline_cropped': METHOD.variant(
        'A, surroundings painted over', surroundings='mean'
    ),
}
