"""Where an explanation should be: the masks that guided training is given."""

from typing import Any

from absl import logging
from attribution.errors import InputError
from impactx_jax import bounds
from impactx_jax import rng
from impactx_jax import tasks
from impactx_jax.data import boxes as box_lib
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

KINDS = ('own', 'other', 'centre', 'random', 'whole')
# Columns that are made here: uint8 [N, H, W, K'], which masks there are; in a
# batch those of the classes that are guided, and which these are, int32 and
# float32 [B, K'].
MASKS, CLASSES, WEIGHTS = (
    'guidance_masks', 'guidance_classes', 'guidance_weights'
)
OPTIONS = {
    # Whose masks: the image's 'own' or, as controls, those of an 'other' image
    # of the class, a box of the same sides in the 'centre' or at a 'random'
    # place, or the 'whole' image.
    'guidance_masks': 'own',
    # Share of the training images that have masks; the others teach the class
    # alone. Those of a small share are among those of a larger one.
    'mask_fraction': 1.0,
    # Whether masks are the data set's boxes, as people draw them, or the
    # object's pixels: 'boxes', where it has them, or 'masks'.
    'mask_source': 'boxes',
    # Makes boxes larger on each side by this share of the side.
    'mask_dilation': 0.0,
}
BOUNDS: bounds.Bounds = {
    'guidance_masks': bounds.Choice('kind of masks', KINDS),
    'mask_fraction': bounds.Range(0, 1, above=True),
    'mask_source': bounds.Choice('source of masks', ('boxes', 'masks')),
    'mask_dilation': bounds.Range(0, 4),
}


def check_data(config: ConfigDict, data: dict[str, Any]) -> None:
  """Raises InputError for data that have neither masks nor boxes."""
  del config
  kinds = {column_lib.kind_of(name) for name in data['columns']}
  if not kinds & {column_lib.MASK, column_lib.BOX}:
    raise InputError(
        f'{data["name"]} has neither masks nor boxes, only '
        f'{", ".join(data["columns"])}; guidance asks for one of the object in '
        'an image. Take data that have some, such as '
        '--config.data.name=shapes/ground, or a data set of your own with a '
        "column 'mask' or 'box'."
    )


def annotate(
    columns: Columns, config: ConfigDict, data: dict[str, Any]
) -> Columns:
  """Adds the masks that `config.method` asks for, and leaves others out.

  Args:
    columns: Of the training split, with boxes or masks.
    config: The whole config.
    data: The fingerprint of the data set.

  Returns:
    The columns with `guidance_masks` uint8 [N, H, W, K or 1], 0 all over for an
    image without a mask.

  Raises:
    InputError: for a share that leaves no image a mask.
  """
  options, seed, images = config.method, config.seed, columns['image']
  task, sides = tasks.TASKS[data['task']], images.shape[1:3]
  found = _masks(columns, options, sides)
  if options.guidance_masks != 'own':
    labels = np.reshape(columns[task.labels], (len(images), -1))
    found = _control(found, labels, options.guidance_masks, seed)
  drawn = rng.uniform_by_id(seed, 'masks', columns['id'])
  keep = np.argsort(drawn, kind='stable')
  keep = keep[: int(options.mask_fraction * len(keep))]
  annotated = np.zeros(len(images), bool)
  annotated[keep] = True
  found = found * annotated[:, None, None, None].astype(np.uint8)
  guided = int(found.any(axis=(1, 2, 3)).sum())
  if not guided:
    raise InputError(
        f'config.method.mask_fraction={options.mask_fraction:g} of '
        f'{len(images)} training images leaves none with a mask. Take a larger '
        'share, with --config.method.mask_fraction=F.'
    )
  logging.info(
      '%d of %d training images have a mask, and guide; the others teach the '
      'class alone.', guided, len(images),
  )
  kinds = column_lib.MASK, column_lib.BOX
  return {
      name: column for name, column in columns.items()
      if column_lib.kind_of(name) not in kinds
  } | {MASKS: found}


def _masks(columns, options, sides) -> np.ndarray:
  """Returns the data's own masks, uint8 [N, H, W, K or 1]."""
  boxes = _of_kind(columns, column_lib.BOX)
  masks = _of_kind(columns, column_lib.MASK)
  if boxes is not None and (options.mask_source == 'boxes' or masks is None):
    boxes = boxes.reshape(len(boxes), -1, 4)
    boxes = box_lib.dilate(boxes, options.mask_dilation, sides)
    return box_lib.boxes_to_masks(boxes, sides).astype(np.uint8)
  return (masks != 0).astype(np.uint8)


def _of_kind(columns: Columns, kind: str) -> np.ndarray | None:
  return next(
      (c for name, c in columns.items() if column_lib.kind_of(name) == kind),
      None,
  )


def _control(masks, labels, kind, seed) -> np.ndarray:
  """Replaces each mask [N, H, W, K] by what knows less of its image."""
  *sides, channels = masks.shape[1:]
  generator = rng.numpy_stream(seed, 'control_masks')
  found = np.zeros_like(masks)
  for k in range(channels):
    rows = np.flatnonzero(masks[..., k].any(axis=(1, 2)))
    if kind == 'whole':
      found[rows, ..., k] = 1
    elif kind == 'other':
      # Of one label the images of the class; of several those that have it.
      groups = labels[rows, 0] if channels == 1 else np.zeros(len(rows))
      for group in np.unique(groups):
        own = generator.permutation(rows[groups == group])
        found[own, ..., k] = masks[np.roll(own, 1), ..., k]
    else:
      boxes = box_lib.boxes_of(masks[rows][..., [k]])[:, 0]
      low, high = boxes[:, :2], boxes[:, 2:]
      room = 1 - (high - low)
      share = 0.5 if kind == 'centre' else generator.random(room.shape)
      low = np.round(room * share * sides) / sides
      boxes = np.concatenate([low, low + high - boxes[:, :2]], axis=1)
      boxes = boxes.astype(np.float32)[:, None]
      found[rows, ..., k] = box_lib.boxes_to_masks(boxes, sides)[..., 0]
  return found


def choose(
    batch: dict[str, jax.Array], key: jax.Array, *, task: tasks.Task,
    num_classes: int, several: bool,
) -> dict[str, jax.Array]:
  """Chooses the classes whose maps are guided in a step.

  Args:
    batch: With `guidance_masks` [B, H, W, K or 1] and the labels.
    key: Of the step, the same on every device.
    task: Of the data.
    num_classes: K.
    several: Whether all that have a mask, or one of those present.

  Returns:
    The batch with `guidance_classes` int32 [B, K'], `guidance_masks` float32
    [B, H, W, K'], and `guidance_weights` float32 [B, K'], 0 where a mask is
    empty.
  """
  masks, labels = batch[MASKS], batch[task.labels]
  count = len(masks)
  if several:
    classes = jnp.broadcast_to(jnp.arange(num_classes), (count, num_classes))
    masks = jnp.broadcast_to(masks, (*masks.shape[:3], num_classes))
  elif labels.ndim == 1:
    classes = labels[:, None]
    if masks.shape[-1] > 1:
      masks = _of_class(masks, classes)
  else:
    # Uniform among the classes with a mask, of each image by itself.
    there = masks.any(axis=(1, 2))
    draws = jax.vmap(
        lambda i: jax.random.uniform(jax.random.fold_in(key, i), (num_classes,))
    )(batch['position'])
    classes = jnp.where(there, draws, -1).argmax(axis=1)[:, None]
    masks = _of_class(masks, classes)
  return batch | {
      MASKS: masks,
      CLASSES: classes.astype(jnp.int32),
      WEIGHTS: masks.any(axis=(1, 2)).astype(jnp.float32),
  }


def _of_class(masks: jax.Array, classes: jax.Array) -> jax.Array:
  return jnp.take_along_axis(masks, classes[:, None, None], axis=3)
