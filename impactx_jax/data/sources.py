"""Data sets, all through tensorflow-datasets, as columns in memory.

Images are kept as the uint8 the data set holds (CIFAR-10: 184 MB), which
makes every epoch's order a permutation of row numbers.
"""

import dataclasses
import functools
import hashlib
import json
from typing import Any

from absl import logging
from attribution.errors import InputError
from impactx_jax import rng
from impactx_jax import tasks
from impactx_jax import user_files
from impactx_jax.data import builders
from impactx_jax.data import columns as column_lib
from impactx_jax.data import reading
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import GROUP
from ml_collections import ConfigDict
import numpy as np

SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A data set, split.

  Attributes:
    name: With its builder config and version, such as 'cifar10/3.0.2'.
    class_names: [K].
    train: Columns `id` (str [N]), `image` (uint8 [N, H, W, C]), the task's
      labels, and further ones the data set may have; see `data.columns`.
    validation: The part of the training split held out by `split_by_id`.
    test: The same columns of the test split.
    task: A name in `tasks.TASKS`.
    group_names: Of the values of a column `group`; () where they have none.
  """

  name: str
  class_names: tuple[str, ...]
  train: Columns
  validation: Columns
  test: Columns
  task: str = 'classification'
  group_names: tuple[str, ...] = ()

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """(H, W, C)."""
    return self.train['image'].shape[1:]

  def columns(self) -> dict[str, Columns]:
    """What is trained on: {'train', 'validation'}."""
    return {'train': self.train, 'validation': self.validation}

  def fingerprint(self) -> dict[str, Any]:
    """What must agree between the stages, JSON-compatible."""
    return {
        'name': self.name,
        'task': self.task,
        'class_names': list(self.class_names),
        'image_shape': list(self.image_shape),
        'columns': sorted(
            name for name in self.train
            if column_lib.kind_of(name) != column_lib.TEXT
        ),
        'examples': {
            split: len(getattr(self, split)['id'])
            for split in SPLITS
        },
        'digest': self._digest,
    }

  @functools.cached_property
  def _digest(self) -> str:
    """SHA-256 of all ids and labels, and of picture files what is in them."""
    rows = []
    for split in SPLITS:
      columns = getattr(self, split)
      labels = tasks.TASKS[self.task].labels
      names = [n for n in ('id', labels, 'file_digest') if n in columns]
      rows += zip(*(columns[name].tolist() for name in names), strict=True)
    return hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def load(data: ConfigDict, seed: int) -> Dataset:
  """Loads what `config.data` names, and keeps the latest for the next call.

  Args:
    data: The config's section.
    seed: Of the run; it decides which examples are held out.

  Returns:
    The data set.

  Raises:
    InputError: if it is unknown, not prepared, or lacks what is needed.
  """
  return _load(data.to_json(), user_files.text(data.name), seed)


@functools.lru_cache(maxsize=1)
def _load(data_json: str, own: str, seed: int) -> Dataset:
  del own  # What is in a file of the user's: another one, other data.
  data = ConfigDict(json.loads(data_json))
  logging.info('Loading %s.', data.name)
  builder = builders.find(data)
  task = tasks.TASKS[builders.task_of(builder, data)]
  splits = set(builder.info.splits)
  if data.train_split not in splits:
    raise _missing_split(builder, data.train_split, 'train_split', splits)
  training = reading.read(builder, data.train_split, data)
  if data.test_split in splits:
    test = reading.read(builder, data.test_split, data)
  elif data.name == 'image_folder' or splits == {data.train_split}:
    # The split depends on each id (the file's name) alone, not on the run's
    # seed: what was once a test image stays one.
    held_out = rng.uniform_by_id(0, 'test', training['id']) < data.test_fraction
    test = column_lib.rows(training, held_out)
    training = column_lib.rows(training, ~held_out)
    logging.warning(
        'There is no split %r, so %d of the training images '
        '(--config.data.test_fraction=%g, chosen by their ids) are the test '
        'split and take no part in training.',
        data.test_split, held_out.sum(), data.test_fraction,
    )
  else:
    raise _missing_split(builder, data.test_split, 'test_split', splits)
  training = column_lib.rows(
      training,
      labelled(
          training['id'], task.strata(training[task.labels]), seed,
          data.label_fraction,
      ),
  )
  held_out = split_by_id(training['id'], seed, data.validation_fraction)
  dataset = Dataset(
      name=_name(builder, data),
      class_names=builders.classes_of(
          builders.labels_feature(builder.info.features, task.labels)
      ),
      train=column_lib.rows(training, ~held_out),
      validation=column_lib.rows(training, held_out),
      test=test,
      task=task.name,
      group_names=_group_names(builder),
  )
  for split in SPLITS:
    for column in getattr(dataset, split).values():
      column.setflags(write=False)  # All who ask get the same arrays.
    if not len(getattr(dataset, split)['id']):
      raise InputError(
          f'The {split} split of {dataset.name} is empty. The validation '
          'split is the part of the training split set by '
          '--config.data.validation_fraction=F, the test split of data '
          'without one by --config.data.test_fraction=F.'
      )
  return dataset


def split_by_id(ids: np.ndarray, seed: int, fraction: float) -> np.ndarray:
  """Returns which examples are held out for validation, bool [N].

  A function of (seed, fraction, id) and nothing else, so that every stage,
  subset and machine agrees.
  """
  return rng.uniform_by_id(seed, 'validation', ids) < fraction


def labelled(
    ids: np.ndarray, strata: np.ndarray, seed: int, fraction: float
) -> np.ndarray:
  """Returns which examples a share of the labels leaves, bool [N].

  As large a share of each stratum, and at least one example of it; those of a
  small share are among those of a larger one.

  Args:
    ids: str [N].
    strata: int [N], such as the class.
    seed: Of the run.
    fraction: The share, above 0 and at most 1.
  """
  if fraction == 1:
    return np.ones(len(ids), bool)
  chosen = np.zeros(len(ids), bool)
  priority = rng.uniform_by_id(seed, 'labels', ids)
  for stratum in np.unique(strata):
    rows = np.flatnonzero(strata == stratum)
    rows = rows[np.argsort(priority[rows], kind='stable')]
    chosen[rows[: max(1, round(fraction * len(rows)))]] = True
  return chosen


def _name(builder, data) -> str:
  if data.name == 'image_folder':
    return 'image_folder'
  return builder.info.full_name


def _group_names(builder) -> tuple[str, ...]:
  features = builder.info.features
  return builders.classes_of(features[GROUP]) if GROUP in features else ()


def _missing_split(builder, given, field, splits) -> InputError:
  return InputError(
      f'{builder.name} has no split {given!r}; it has '
      f'{", ".join(sorted(splits))}. Change it with --config.data.{field}=NAME.'
  )
