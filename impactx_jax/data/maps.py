"""Attribution maps as training targets, and which images get one."""

import hashlib
from typing import Any

from attribution import explainers
from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import rng
from impactx_jax import tasks
from impactx_jax.data import columns as column_lib
from impactx_jax.data import masks
from impactx_jax.data.columns import Columns
from impactx_jax.data.sources import Dataset
from ml_collections import ConfigDict
import numpy as np

# What is explained of each image, and the folder of such maps.
KINDS = {
    'true_class': 'maps',
    'other_class': 'maps_other_class',
    'weighted': 'maps_weighted',
}

# Of `config.method.maps`, what is asked of no network.
OF_PICTURES = ('edges', 'mask')
# What needs to know where the object is.
OF_MASKS = ('masked', 'mask')


def select(
    dataset: Dataset,
    num_examples: int,
    seed: int,
    kind: str = 'true_class',
    classes_per_image: int = 1,
) -> Columns:
  """Chooses the images to explain, and the classes.

  Validation images get maps too, and fewer maps than images are divided
  between the two splits as the images are. More of them include fewer.

  Args:
    dataset: The data.
    num_examples: How many maps; 0 is all.
    seed: Of the run.
    kind: A key of KINDS. The other class is drawn for each image by its id, and
      is not the class that `true_class` explains;
      `weighted` explains all classes, and the test images as well, all of
      them, for who classifies with maps needs them there too.
    classes_per_image: N for that class and N - 1 others, drawn for each image
      by its id, of the kind `true_class`. More of them include fewer.

  Returns:
    All columns of the data, `split`, and `classes` int32 [N, K'].
  """
  splits = ['train', 'validation']
  total = sum(len(getattr(dataset, split)['id']) for split in splits)
  if kind == 'weighted':
    splits.append('test')
  parts = []
  for split in splits:
    columns = getattr(dataset, split)
    count = len(columns['id'])
    wanted = count if split == 'test' else share(num_examples, count, total)
    priority = rng.uniform_by_id(seed, 'maps', columns['id'])
    rows = np.sort(np.argsort(priority, kind='stable')[:wanted])
    parts.append({
        **column_lib.rows(columns, rows), 'split': np.full(wanted, split)
    })
  # Shards hold what can be trained on; and what one split lacks, none has.
  examples = {
      name: np.concatenate([part[name] for part in parts])
      for name in set.intersection(*map(set, parts))
      if name in ('id', 'split')
      or column_lib.kind_of(name) != column_lib.TEXT
  }
  examples['classes'] = _classes(
      examples, dataset, seed, kind, classes_per_image
  )
  return examples


def _classes(
    examples: Columns, dataset: Dataset, seed: int, kind: str, count: int
) -> np.ndarray:
  """Returns which classes are explained of each image, int32 [N, K']."""
  num_classes = len(dataset.class_names)
  if kind == 'weighted':
    every = np.arange(num_classes, dtype=np.int32)
    return np.broadcast_to(every, (len(examples['id']), num_classes))
  classes = tasks.TASKS[dataset.task].explained(examples, seed)
  if kind == 'other_class':
    draw = rng.uniform_by_id(seed, 'other_class', examples['id'])
    # The class that is so many places further, never the label itself.
    further = 1 + (draw * (num_classes - 1)).astype(np.int32)
    classes = (classes + further) % num_classes
  if kind != 'true_class' or count == 1:
    return classes[:, None]
  order = np.stack([
      rng.uniform_by_id(seed, f'class {k}', examples['id'])
      for k in range(num_classes)
  ], axis=1)
  np.put_along_axis(order, classes[:, None], -1, axis=1)  # It comes first.
  return order.argsort(axis=1, kind='stable')[:, :count].astype(np.int32)


def share(num_examples: int, count: int, total: int) -> int:
  """Returns how many maps a split of `count` of `total` images gets."""
  wanted = round(min(num_examples or total, total) * count / total)
  # Rounding must not leave a split with nothing to learn from or check.
  return min(count, max(1, wanted))


def targets(
    columns: Columns, options: ConfigDict, seed: int, num_classes: int = 0
) -> dict[str, Columns]:
  """Turns the records of the shards into columns to train on.

  Args:
    columns: As `attribution.records.read` gives them: `map` is
      [N, H, W, C, K'] of the explained classes. Each is a row of the training
      columns; validation has the first, as if there were no others.
    options: `config.method`: `map_channels`, `map_cell` and `map_scaling` say
      how (see `losses.targets`; `global_std` is that of the training maps),
      and `maps` which control takes the place of the training maps. Those of
      the validation images stay what they are, so that what is measured on
      them is the fit to real maps.
    seed: Of the run.
    num_classes: K, where masks may be of each class.

  Returns:
    A column dict for each split, with `map` [N, H, W, C'], and `explained`
    int32 [N], the class whose map it is.
  """
  columns = _row_a_class(columns)
  training, spread = columns['split'] == 'train', np.float32(1)

  def scaled(values):
    return losses.targets(
        values, channels=options.map_channels, cell=options.map_cell,
        scaling=options.map_scaling,
    ) / spread

  maps = scaled(columns['map'][..., 0])
  if options.map_scaling == 'global_std':
    spread = maps[training].std() or np.float32(1)
    maps = maps / spread
  about_maps = ('split', 'classes', 'base_value', 'full_value')
  kept = {k: v for k, v in columns.items() if k not in about_maps}
  parts = {
      str(split): column_lib.rows(
          {**kept, 'map': maps, 'explained': columns['classes'][:, 0]},
          columns['split'] == split,
      )
      for split in np.unique(columns['split'])
  }
  train = parts['train']
  if options.maps == 'masked':
    real = columns['map'][training, ..., 0]
    train['map'] = scaled(real * masks_of(train, real.shape[3], num_classes))
  if options.maps == 'shuffled':
    train['map'] = shuffled(train['map'], seed)
  if options.maps in OF_PICTURES:
    if options.maps == 'edges':
      shown = edges_of(train)
    else:
      shown = masks_of(train, columns['map'].shape[3], num_classes)
    train['map'] = losses.targets(
        shown, channels=options.map_channels, cell=options.map_cell,
        scaling='max_abs',
    )
  if options.maps == 'random':
    # A value a cell, or the average over cells would take the noise away.
    cells = noise(losses.pool(train['map'], options.map_cell), seed)
    train['map'] = losses.spread(cells, options.map_cell)
  return parts


def _row_a_class(columns: Columns) -> Columns:
  """Repeats training images for each explained class, whose `map` they get."""
  count = columns['map'].shape[-1]
  if count == 1:
    return columns
  repeats = np.where(columns['split'] == 'train', count, 1)
  rows = np.repeat(np.arange(len(repeats)), repeats)
  which = np.arange(len(rows)) - np.repeat(repeats.cumsum() - repeats, repeats)
  one = {
      'map': columns['map'][rows, ..., which][..., None],
      'classes': columns['classes'][rows, which][:, None],
  }
  others = {name: x for name, x in columns.items() if name not in one}
  return column_lib.rows(others, rows) | one


def with_unmapped(
    columns: dict[str, Columns], dataset: Dataset, seed: int
) -> dict[str, Columns]:
  """Adds the images that have no map, for their classes alone.

  Args:
    columns: As `targets` gives them.
    dataset: The data.
    seed: Of the run.

  Returns:
    The same for 'train' and 'validation' with all images of the split, those
    without a map last, and `mapped` float32 [N], 1 where there is a map; the
    map of the others is 0.
  """
  found = {}
  for split in ('train', 'validation'):
    part, whole = columns[split], getattr(dataset, split)
    rest = column_lib.rows(whole, ~np.isin(whole['id'], part['id']))
    count = column_lib.count(rest)
    rest['map'] = np.zeros((count, *part['map'].shape[1:]), np.float32)
    rest['explained'] = tasks.TASKS[dataset.task].explained(rest, seed)
    part, rest = (
        {**p, 'mapped': np.full(column_lib.count(p), mapped, np.float32)}
        for p, mapped in ((part, 1), (rest, 0))
    )
    found[split] = {
        name: np.concatenate([part[name], rest[name]])
        for name in part if name in rest
    }
  return found


def edges_of(columns: Columns) -> np.ndarray:
  """Returns the pictures' edges as maps, float32 [N, H, W, C]."""
  find = explainers.create('edges', None)
  return find(None, column_lib.to_float(columns['image']), columns['explained'])


def masks_of(columns: Columns, channels: int, num_classes: int) -> np.ndarray:
  """Returns the explained objects' masks as maps, float32 [N, H, W, C]."""
  found = masks.masks_of(columns, columns['explained'], num_classes)
  if found is None:
    raise InputError(
        "config.method.maps is 'mask' or 'masked', and the data have neither "
        'masks nor boxes. Take --config.method.maps=true_class.'
    )
  return np.repeat(found[..., None].astype(np.float32), channels, axis=-1)


def shuffled(maps: np.ndarray, seed: int) -> np.ndarray:
  """Gives each example the map of another; none keeps its own."""
  order = rng.numpy_stream(seed, 'shuffled').permutation(len(maps))
  others = np.empty_like(maps)
  others[order] = maps[np.roll(order, 1)]
  return others


def noise(maps: np.ndarray, seed: int) -> np.ndarray:
  """Gives each example noise with its map's mean and standard deviation."""
  stream = rng.numpy_stream(seed, 'noise')
  axes = (1, 2, 3)
  values = stream.standard_normal(maps.shape, np.float32)
  return maps.mean(axes, keepdims=True) + values * maps.std(axes, keepdims=True)


def digest(manifest: dict[str, Any]) -> str:
  """Returns one SHA-256 for all shards of a manifest."""
  sums = ''.join(shard['sha256'] for shard in manifest['shards'])
  return hashlib.sha256(sums.encode()).hexdigest()
