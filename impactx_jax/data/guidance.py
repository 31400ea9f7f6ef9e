"""Where an explanation should be: the masks that guided training is given."""

from typing import Any

from absl import logging
from attribution.errors import InputError
from impactx_jax import bounds
from impactx_jax import rng
from impactx_jax import tasks
from impactx_jax.data import boxes as box_lib
from impactx_jax.data import columns as column_lib
from impactx_jax.data import masks as mask_lib
from impactx_jax.data.columns import Columns
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

KINDS = ('own', 'other', 'centre', 'random', 'whole')
# The column of the training split that says which images have a mask, 0 or 1.
ANNOTATED = 'annotated'
# What a step is given: the masks of the classes that are guided, float32 [B, H,
# W, K'], which these are, int32 [B, K'], and whether each counts, 0 or 1.
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
    # How much more often an image with a mask is seen in an epoch than one
    # without, of which it takes the place.
    'mask_oversampling': 1.0,
    # Whether a mask is the data set's 'boxes', as people draw them, or its
    # 'masks' of the object's pixels; of data that have one of them, that.
    'mask_source': 'boxes',
    # Makes boxes larger on each side by this share of the side.
    'mask_dilation': 0.0,
}
BOUNDS: bounds.Bounds = {
    'guidance_masks': bounds.Choice('kind of masks', KINDS),
    'mask_fraction': bounds.Range(0, 1, above=True),
    'mask_oversampling': bounds.Range(0, above=True),
    'mask_source': bounds.Choice('source of masks', ('boxes', 'masks')),
    'mask_dilation': bounds.Range(0, 4),
}


def check_data(config: ConfigDict, data: dict[str, Any]) -> None:
  """Raises InputError for data that have nothing of what is asked for."""
  options = config.method
  name = mask_lib.column_of(data['columns'], options.mask_source, data['name'])
  if options.mask_dilation and column_lib.kind_of(name) == column_lib.MASK:
    raise InputError(
        f'config.method.mask_dilation is {options.mask_dilation:g}, which '
        f'makes boxes larger, and what guides is the column {name!r} of '
        f'{data["name"]}. Leave it out, or take the boxes of data that have '
        'some, with --config.method.mask_source=boxes.'
    )


def annotate(
    columns: Columns, config: ConfigDict, data: dict[str, Any]
) -> Columns:
  """Leaves the masks or boxes that `config.method` asks for.

  Args:
    columns: Of the training split, with boxes or masks.
    config: The whole config.
    data: The fingerprint of the data set.

  Returns:
    The columns without other boxes and masks, and with `annotated` float32
    [N]; of a control, what is in the place of each mask or box. With
    `sampling_share` where images with a mask are to be seen more often.

  Raises:
    InputError: for masks or boxes that do not fit, or a share that leaves no
      image one.
  """
  options, count = config.method, column_lib.count(columns)
  mask_lib.check_masks(
      columns, options.mask_source, data['class_names'], data['name']
  )
  name = mask_lib.column_of(columns, options.mask_source, data['name'])
  found = columns[name]
  drawn = rng.uniform_by_id(config.seed, 'masks', columns['id'])
  chosen = np.argsort(drawn, kind='stable')
  # A product that is whole but for rounding is not rounded down.
  chosen = chosen[: int(options.mask_fraction * count + 1e-6)]
  annotated = np.zeros(count, np.float32)
  annotated[chosen] = found[chosen].any(axis=(*range(1, found.ndim),))
  if not annotated.any():
    raise InputError(
        f'config.method.mask_fraction={options.mask_fraction:g} of {count} '
        'training images leaves none with a mask. Take a larger share, with '
        '--config.method.mask_fraction=F.'
    )
  logging.info(
      'Of %d training images %d have a mask and guide; the others teach the '
      'class alone.', count, annotated.sum(),
  )
  if options.guidance_masks != 'own':
    labels = columns[tasks.TASKS[data['task']].labels]
    # Of those that have one: what is not annotated is not known.
    known = annotated.astype(found.dtype)
    found = control(
        found * known.reshape(-1, *[1] * (found.ndim - 1)),
        column_lib.kind_of(name), labels, options.guidance_masks,
        columns['image'].shape[1:3], config.seed,
    )
  others = column_lib.MASK, column_lib.BOX
  kept = {
      n: c for n, c in columns.items() if column_lib.kind_of(n) not in others
  } | {name: found, ANNOTATED: annotated}
  if options.mask_oversampling != 1:
    kept[column_lib.SHARE] = np.where(
        annotated > 0, options.mask_oversampling, 1.0
    )
  return kept


def control(
    found: np.ndarray, kind: str, labels: np.ndarray, name: str,
    sides: tuple[int, int], seed: int,
) -> np.ndarray:
  """Puts what knows less of its image in the place of each mask or box.

  Args:
    found: Masks [N, H, W, K], or boxes [N, 4], [N, K, 4] or [N, K, R, 4].
    kind: `columns.MASK` or `columns.BOX`.
    labels: int [N], or [N, K].
    name: One of KINDS, but 'own'.
    sides: (H, W).
    seed: Of the run.

  Returns:
    The same shape; what was empty is empty.
  """
  generator = rng.numpy_stream(seed, 'control_masks')
  masks, shape = kind == column_lib.MASK, found.shape
  if not masks:  # To [N, K, R, 4].
    found = found.reshape(len(found), shape[1] if len(shape) > 2 else 1, -1, 4)
  if name == 'other':
    there = found.any(axis=(1, 2) if masks else (2, 3))
    # Of one label the images of the class; of several those that have it.
    groups = labels if labels.ndim == 1 else np.zeros(len(labels), int)
    axis = 3 if masks else 1
    for k in range(there.shape[1]):
      source = _others(there[:, k], groups, generator)
      part = np.take(found, k, axis=axis)
      if k == 0:
        found = found.copy()
      found[(slice(None),) * axis + (k,)] = part[source]
    return found.reshape(shape)
  boxes = box_lib.boxes_of(found)[:, :, None] if masks else found
  filled = boxes.any(axis=-1, keepdims=True)
  if name == 'whole':
    boxes = filled * np.array([0, 0, 1, 1], np.float32)
  else:
    extent = boxes[..., 2:] - boxes[..., :2]
    room = 1 - extent
    share = 0.5 if name == 'centre' else generator.random(room.shape)
    low = np.round(room * share * sides) / sides
    boxes = filled * np.concatenate([low, low + extent], axis=-1)
  boxes = boxes.astype(np.float32)
  if masks:
    return box_lib.boxes_to_masks(boxes[:, :, 0], sides).astype(np.uint8)
  return boxes.reshape(shape)


def _others(
    there: np.ndarray, groups: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
  """Returns, for each row that is there, another one of its group, int [N]."""
  source = np.arange(len(there))
  for group in np.unique(groups[there]):
    rows = generator.permutation(np.flatnonzero(there & (groups == group)))
    if len(rows) == 1:
      logging.warning(
          'Image %d is the only one of its class with a mask: of another image '
          'it has its own.', rows[0],
      )
    source[rows] = np.roll(rows, 1)
  return source


def choose(
    batch: dict[str, jax.Array], key: jax.Array, options: ConfigDict, *,
    task: tasks.Task, num_classes: int,
) -> dict[str, jax.Array]:
  """Chooses the classes whose maps are guided in a step, and their masks.

  Args:
    batch: With `annotated`, the labels, and masks or boxes.
    key: Of the step, the same on every device.
    options: `config.method`.
    task: Of the data.
    num_classes: K.

  Returns:
    The batch with `guidance_masks`, `guidance_classes` and `guidance_weights`,
    see above.
  """
  masks = mask_lib.of_batch(batch, options.mask_source, options.mask_dilation)
  masks, labels = masks.astype(jnp.float32), batch[task.labels]
  count = len(masks)
  if options.guidance_classes == 'all':
    classes = jnp.broadcast_to(jnp.arange(num_classes), (count, num_classes))
    masks = jnp.broadcast_to(masks, (*masks.shape[:3], num_classes))
  else:
    if labels.ndim == 1:
      classes = labels[:, None]
    else:  # Uniform among those with a mask, of each image by itself.
      draws = jax.vmap(lambda i: jax.random.uniform(
          jax.random.fold_in(key, i), (num_classes,)
      ))(batch['position'])
      there = masks.any(axis=(1, 2)) & (labels > 0)
      classes = jnp.where(there, draws, -1).argmax(axis=1)[:, None]
    if masks.shape[-1] > 1:
      masks = jnp.take_along_axis(masks, classes[:, None, None], axis=3)
  counts = masks.any(axis=(1, 2)) * batch[ANNOTATED][:, None]
  if labels.ndim == 2:  # What is not in the image has no map to be guided.
    counts *= jnp.take_along_axis(labels, classes, axis=1) > 0
  return batch | {
      MASKS: masks,
      CLASSES: classes.astype(jnp.int32),
      WEIGHTS: counts.astype(jnp.float32),
  }
