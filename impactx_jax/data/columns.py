"""What a column holds: its kind is the last word of its name.

A split is a dict of arrays with one row an example. Reading, batching,
augmentation and shards go by the kind, so that a column of a data set of the
user's own reaches the method's loss without a line changed in between:

| kind | names | arrays |
| --- | --- | --- |
| pixels | image | uint8 [N, H, W, C]; float32 in [0, 1] in a batch |
| map | map | float32 [N, H, W, C'] |
| mask | mask, masks, … | [N, H, W, K]; 0 or 1, float32, in a batch |
| box | box, boxes, … | float32 [N, …, 4], ymin, xmin, ymax, xmax in [0, 1] |
| label | label, labels | int32 [N], or [N, K] of 0 and 1 |
| text | id, split, file_digest, as they are | str [N]; never on a device |
| scalar | any other, such as group | numbers [N] |
"""

from impactx_jax import rng
import numpy as np

Columns = dict[str, np.ndarray]
PIXELS, MAP, MASK, BOX = 'pixels', 'map', 'mask', 'box'
LABEL, TEXT, SCALAR = 'label', 'text', 'scalar'
_KINDS = {
    'image': PIXELS,
    'map': MAP,
    'mask': MASK,
    'masks': MASK,
    'box': BOX,
    'boxes': BOX,
    'label': LABEL,
    'labels': LABEL,
}
GROUP = 'group'  # Of which every group's accuracy is measured.
# How often an example is seen in an epoch, to the others: see `batches`.
SHARE = 'sampling_share'
_TEXT = ('id', 'split', 'file_digest')
# What batches and shards have of their own.
RESERVED = (
    'position', 'row', 'weight', 'split', 'classes', 'explained', 'mapped',
    'teacher', 'base_value', 'full_value', 'file_digest', SHARE,
)


def kind_of(name: str) -> str:
  """Returns the kind of a column, by its name."""
  if name in _TEXT:
    return TEXT
  return _KINDS.get(name.rpartition('_')[2], SCALAR)


def to_float(images: np.ndarray) -> np.ndarray:
  """uint8 pixels -> float32 in [0, 1], the convention; floats stay."""
  if images.dtype != np.uint8:
    return images
  return images.astype(np.float32) / 255


def for_device(name: str, values: np.ndarray) -> np.ndarray:
  """Brings rows of a column to what a step takes: see the table above."""
  kind = kind_of(name)
  if kind == PIXELS:
    return to_float(values)
  if kind == MASK:
    return (values != 0).astype(np.float32)
  return values


def rows(columns: Columns, chosen: np.ndarray) -> Columns:
  """Returns the chosen rows, by number or bool [N], of every column."""
  return {name: column[chosen] for name, column in columns.items()}


def sample(columns: Columns, count: int, seed: int) -> Columns:
  """Draws examples to evaluate, by their ids; more of them include fewer.

  Args:
    columns: With `id`.
    count: How many, at most.
    seed: Of the run.
  """
  priority = rng.uniform_by_id(seed, 'evaluation', columns['id'])
  return rows(columns, np.argsort(priority, kind='stable')[:count])


def count(columns: Columns) -> int:
  """Returns the number of examples."""
  return len(columns['image'])
