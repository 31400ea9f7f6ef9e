"""Attribution maps as training targets, and which images get one."""

from impactx_jax import losses
from impactx_jax import rng
from impactx_jax.data.sources import Columns
from impactx_jax.data.sources import Dataset
import numpy as np

# What is explained of each image, and the folder of such maps.
KINDS = {
    'true_class': 'maps',
    'other_class': 'maps_other_class',
    'weighted': 'maps_weighted',
}


def select(
    dataset: Dataset, num_examples: int, seed: int, kind: str = 'true_class'
) -> Columns:
  """Chooses the images to explain, and the classes.

  Validation images get maps too, and fewer maps than images are divided
  between the two splits as the images are. More of them include fewer.

  Args:
    dataset: The data.
    num_examples: How many maps; 0 is all.
    seed: Of the run.
    kind: A key of KINDS. The other class is drawn for each image by its id;
      `weighted` explains all classes, and the test images as well, all of
      them, for who classifies with maps needs them there too.

  Returns:
    Columns `id`, `split`, `image`, `label`, and `classes` int32 [N, K'].
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
        'id': columns['id'][rows],
        'split': np.full(wanted, split),
        'image': columns['image'][rows],
        'label': columns['label'][rows],
    })
  examples = {
      name: np.concatenate([part[name] for part in parts])
      for name in parts[0]
  }
  examples['classes'] = _classes(
      examples, len(dataset.class_names), seed, kind
  )
  return examples


def _classes(
    examples: Columns, num_classes: int, seed: int, kind: str
) -> np.ndarray:
  """Returns which classes are explained of each image, int32 [N, K']."""
  labels = examples['label']
  if kind == 'weighted':
    every = np.arange(num_classes, dtype=np.int32)
    return np.broadcast_to(every, (len(labels), num_classes))
  if kind == 'other_class':
    draw = rng.uniform_by_id(seed, 'other_class', examples['id'])
    # The class that is so many places further, never the label itself.
    further = 1 + (draw * (num_classes - 1)).astype(np.int32)
    labels = (labels + further) % num_classes
  return labels[:, None]


def share(num_examples: int, count: int, total: int) -> int:
  """Returns how many maps a split of `count` of `total` images gets."""
  wanted = round(min(num_examples or total, total) * count / total)
  # Rounding must not leave a split with nothing to learn from or check.
  return min(count, max(1, wanted))


def targets(columns: Columns, options, seed: int) -> dict[str, Columns]:
  """Turns the records of the shards into columns to train on.

  Args:
    columns: As `attribution.records.read` gives them: `map` is
      [N, H, W, C, K'] of the explained classes, of which the first is used.
    options: `config.method`: `map_channels`, `map_cell` and `map_scaling` say
      how (see `losses.targets`; `global_std` is that of the training maps),
      and `maps` which control takes the place of the training maps. Those of
      the validation images stay what they are, so that what is measured on
      them is the fit to real maps.
    seed: Of the run.

  Returns:
    A column dict for each split, with `map` [N, H, W, C'].
  """
  maps = losses.targets(
      columns['map'][..., 0],
      channels=options.map_channels,
      cell=options.map_cell,
      scaling=options.map_scaling,
  )
  training = columns['split'] == 'train'
  if options.map_scaling == 'global_std':
    maps = maps / (maps[training].std() or np.float32(1))
  kept = {**{k: columns[k] for k in ('id', 'image', 'label')}, 'map': maps}
  parts = {
      str(split): {
          name: column[columns['split'] == split]
          for name, column in kept.items()
      }
      for split in np.unique(columns['split'])
  }
  train = parts['train']
  if options.maps == 'shuffled':
    train['map'] = shuffled(train['map'], seed)
  if options.maps == 'random':
    # A value a cell, or the average over cells would take the noise away.
    cells = noise(losses.pool(train['map'], options.map_cell), seed)
    train['map'] = losses.spread(cells, options.map_cell)
  return parts


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
