"""Attribution maps as training targets, and which images get one."""

from impactx_jax import losses
from impactx_jax import rng
from impactx_jax.data.sources import Columns
from impactx_jax.data.sources import Dataset
import numpy as np


def select(dataset: Dataset, num_examples: int, seed: int) -> Columns:
  """Chooses the images to explain.

  Validation images get maps too, and fewer maps than images are divided
  between the two splits as the images are. More of them include fewer.

  Args:
    dataset: The data.
    num_examples: How many maps; 0 is all.
    seed: Of the run.

  Returns:
    Columns `id`, `split` ('train' or 'validation'), `image`, `label`.
  """
  total = len(dataset.train['id']) + len(dataset.validation['id'])
  parts = []
  for split in ('train', 'validation'):
    columns = getattr(dataset, split)
    count = len(columns['id'])
    wanted = share(num_examples, count, total)
    priority = rng.uniform_by_id(seed, 'maps', columns['id'])
    rows = np.sort(np.argsort(priority, kind='stable')[:wanted])
    parts.append({
        'id': columns['id'][rows],
        'split': np.full(wanted, split),
        'image': columns['image'][rows],
        'label': columns['label'][rows],
    })
  return {
      name: np.concatenate([part[name] for part in parts])
      for name in parts[0]
  }


def share(num_examples: int, count: int, total: int) -> int:
  """Returns how many maps a split of `count` of `total` images gets."""
  wanted = round(min(num_examples or total, total) * count / total)
  # Rounding must not leave a split with nothing to learn from or check.
  return min(count, max(1, wanted))


def targets(columns: Columns, *, scaling: str, channels: int) -> dict[
    str, Columns
]:
  """Turns the records of the shards into columns to train on.

  Args:
    columns: As `attribution.records.read` gives them: `map` is
      [N, H, W, C, K'] of the explained classes, of which the first is used.
    scaling: See `losses.scale_maps`; `global_std` is that of the training
      maps alone.
    channels: 1 sums the map over the image's channels; 0 keeps them.

  Returns:
    {'train': columns, 'validation': columns} with `map` [N, H, W, C'].
  """
  maps = columns['map'][..., 0]
  if channels == 1:
    maps = maps.sum(axis=-1, keepdims=True)
  training = columns['split'] == 'train'
  std = float(maps[training].std())
  maps = losses.scale_maps(maps, scaling, global_std=std)
  kept = {**{k: columns[k] for k in ('id', 'image', 'label')}, 'map': maps}
  return {
      'train': {name: column[training] for name, column in kept.items()},
      'validation': {name: column[~training] for name, column in kept.items()},
  }
