"""The masks of objects, where a data set has them, or boxes.

Where to look for a class is said by a column `masks` [N, H, W, K] (or `mask`
[N, H, W, 1], for the one object) of pixels, by `boxes` [N, K, 4] (or `box` [N,
4]), or by several boxes a class, [N, K, R, 4], whose union it is.
"""

from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from attribution.errors import InputError
from impactx_jax import tasks
from impactx_jax.data import boxes as box_lib
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
from impactx_jax.data.sources import Dataset
import numpy as np


_BOXES, _MASKS = ('boxes', 'box'), ('masks', 'mask')


def mean_mask(dataset: Dataset, seed: int) -> np.ndarray | None:
  """Returns the mean mask of the training objects, float32 [H, W, 1].

  Args:
    dataset: The data.
    seed: Of the run.

  Returns:
    None where the data have no masks.
  """
  classes = tasks.TASKS[dataset.task].explained(dataset.train, seed)
  masks = masks_of(dataset.train, classes, len(dataset.class_names))
  if masks is None:
    return None
  return masks.mean(axis=0, dtype=np.float32)[..., None]


def masks_of(
    columns: Columns, classes: np.ndarray, num_classes: int
) -> np.ndarray | None:
  """Returns the masks bool [N, H, W] of the explained classes, where known.

  Args:
    columns: The first of them that is a mask is taken: one for each class,
      [N, H, W, num_classes], or of the object, in one channel or several. Of
      data with boxes alone, `boxes` are.
    classes: int [N].
    num_classes: K.
  """
  for name, column in columns.items():
    if column_lib.kind_of(name) == column_lib.MASK:
      masks = column != 0
      if num_classes > 1 and masks.shape[-1] == num_classes:
        chosen = classes[:, None, None, None]
        return np.take_along_axis(masks, chosen, axis=-1)[..., 0]
      return masks.any(axis=-1)
  if 'box' in columns:
    boxes = columns['box'][:, None]
    return box_lib.boxes_to_masks(boxes, columns['image'].shape[1:3])[..., 0]
  if 'boxes' in columns:
    boxes = columns['boxes'][np.arange(len(classes)), classes]
    boxes = boxes.reshape(len(classes), -1, 4)  # One of the class, or several.
    sides = columns['image'].shape[1:3]
    return np.stack([  # One by one, for the memory.
        box_lib.boxes_to_masks(mine, sides).any(axis=-1) for mine in boxes
    ])
  return None


def of_batch(batch: dict[str, Any], by: str, dilation: float = 0.0) -> Any:
  """Returns the pixels in which a map may have its relevance.

  Args:
    batch: With `image` [B, H, W, C], and columns as above, from `check_masks`.
    by: 'boxes' or 'masks'; of data that have only one of them, that.
    dilation: For training, see `boxes.dilate`; boxes alone can be dilated.

  Returns:
    bool [B, H, W, K], or [B, H, W, 1] of the one object; nowhere True for what
    is not in the image, or was moved out of it.
  """
  name = column_of(batch, by)
  if column_lib.kind_of(name) == column_lib.MASK:
    return batch[name] != 0
  sides, boxes = batch['image'].shape[1:3], batch[name]
  boxes = box_lib.dilate(boxes, dilation, sides) if dilation else boxes
  if name == 'box':
    boxes = boxes[:, None]
  if boxes.ndim == 3:
    return box_lib.boxes_to_masks(boxes, sides)
  # [B, K, R, 4] -> for each of R [B, H, W, K], joined one by one.
  found = box_lib.boxes_to_masks(boxes[:, :, 0], sides)
  for i in range(1, boxes.shape[2]):
    found |= box_lib.boxes_to_masks(boxes[:, :, i], sides)
  return found


def has_masks(columns: Iterable[str]) -> bool:
  """Whether there are masks among columns, and not boxes alone."""
  return any(column_lib.kind_of(n) == column_lib.MASK for n in columns)


def has_objects(columns: Iterable[str]) -> bool:
  """Whether `masks_of` finds objects in columns: by masks, or boxes."""
  return has_masks(columns) or not {*columns}.isdisjoint(_BOXES)


def can_guide(columns: Iterable[str]) -> bool:
  """Whether `of_batch` finds where to look in columns."""
  return not {*columns}.isdisjoint(_BOXES + _MASKS)


def column_of(columns: Iterable[str], by: str, data_name: str = '') -> str:
  """Names the column that is guided by.

  Args:
    columns: Names of those there are.
    by: 'boxes' or 'masks'; of data that have only one of them, that.
    data_name: Said in the message.

  Raises:
    InputError: if there are neither.
  """
  order = _BOXES + _MASKS if by == 'boxes' else _MASKS + _BOXES
  names = {*columns}
  for name in order:
    if name in names:
      return name
  raise InputError(
      f'{data_name} has neither masks nor boxes to be guided by; it has the '
      f'columns {", ".join(sorted(names))}. Take a data set with masks, mask, '
      'boxes or box, such as shapes/multi, with --config.data.name=NAME.'
  )


def check_masks(
    columns: Columns, by: str, class_names: Sequence[str], data_name: str
) -> None:
  """Checks what a method is to be guided by, before anything is compiled.

  Args:
    columns: Of the training split.
    by: 'boxes' or 'masks', as in `of_batch`.
    class_names: [K].
    data_name: Said in the message.

  Raises:
    InputError: without masks and boxes, or with ones that do not fit the
      images or the classes.
  """
  name = column_of(columns, by, data_name)
  count, found = len(class_names), columns[name]
  advice = f'Mend the column {name!r} of {data_name}.'
  if column_lib.kind_of(name) == column_lib.MASK:
    allowed = [1] if name == 'mask' else [count]
    shape, sides = found.shape[1:], columns['image'].shape[1:3]
    if shape[:2] != sides or shape[2:] not in [(n,) for n in allowed]:
      raise InputError(
          f'The {name} of {data_name} are {_by(shape)}, and its images '
          f'{_by(sides)}: they must be {_by(sides)}x{allowed[0]}, a channel '
          f'for {"the object" if name == "mask" else "each class"}. {advice}'
      )
  else:
    _check_boxes(found, name, count, data_name, advice)
  if name in ('boxes', 'masks') and 'labels' in columns:
    axes = (1, 2) if name == 'masks' else (*range(2, found.ndim),)
    there = (found != 0).any(axis=axes) & (columns['labels'] > 0)
    missing = [
        class_names[k] for k in np.flatnonzero(~there.any(axis=0))
    ]
    if missing:
      raise InputError(
          f'No training image of {data_name} has {name} of the class '
          f'{", ".join(missing)} and its label, so that nothing can guide it. '
          f'Each class needs at least one. {advice}'
      )
  elif not found.any():
    raise InputError(
        f'The {name} of all training images of {data_name} are empty, so that '
        f'nothing is guided. At least one must be filled. {advice}'
    )


def _check_boxes(
    boxes: np.ndarray, name: str, count: int, data_name: str, advice: str
) -> None:
  shape, several = boxes.shape[1:], boxes.ndim == 4 and name == 'boxes'
  wanted = (4,) if name == 'box' else (count, *shape[1:2], 4) if several else (
      count, 4
  )
  if shape != wanted:
    raise InputError(
        f'The {name} of {data_name} are {_by(shape)} an image: they must be '
        f'{_by(wanted)}, ymin, xmin, ymax, xmax'
        f'{"" if name == "box" else " of each class"}. {advice}'
    )
  inside = ((boxes >= -1e-6) & (boxes <= 1 + 1e-6)).all(axis=-1)
  filled = (boxes[..., 2:] - boxes[..., :2] > 0).all(axis=-1)
  wrong = ~inside | ~(filled | (boxes == 0).all(axis=-1))
  if wrong.any():
    at = tuple(np.argwhere(wrong)[0])
    raise InputError(
        f'A box of {data_name}, of its training image {at[0]}, is '
        f'{[round(float(x), 4) for x in boxes[at]]}: allowed are ymin, xmin, '
        'ymax, xmax as shares of the sides, from 0 to 1, with ymin < ymax and '
        f'xmin < xmax, or zeros for what is not there. {advice}'
    )


def _by(shape: Sequence[int]) -> str:
  return 'x'.join(map(str, shape))
