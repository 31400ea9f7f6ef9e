"""The masks of objects, where a data set has them."""

from impactx_jax import tasks
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
from impactx_jax.data.sources import Dataset
import numpy as np


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
      [N, H, W, num_classes], or of the object, in one channel or several.
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
  return None
