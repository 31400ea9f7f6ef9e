"""A, trained further on as many images of each group.

What it is worth to know the groups, where some of each are in train: no boxes,
and no explanation.
"""

from typing import Any

from attribution.errors import InputError
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
from impactx_jax.methods import base
from impactx_jax.methods import baseline_continued
from ml_collections import ConfigDict
import numpy as np


def check_data(config: ConfigDict, data: dict[str, Any]) -> None:
  """Raises InputError for data without groups."""
  if column_lib.GROUP not in data['columns']:
    raise InputError(
        f'{data["name"]} has no column {column_lib.GROUP!r}, whose groups '
        f'{config.method.name} shows equally often. Take a data set that has '
        'one, such as --config.data.name=shapes/ground_95, or another method.'
    )


def balance(
    columns: Columns, config: ConfigDict, data: dict[str, Any]
) -> Columns:
  """Adds `sampling_share`, so that an epoch has as many images of each group.

  Args:
    columns: Of the training split, with `group` int [N].
    config: Of the run.
    data: The fingerprint of the data set.

  Raises:
    InputError: if the smallest has nine tenths of its share already.
  """
  _, rows, counts = np.unique(
      columns[column_lib.GROUP], return_inverse=True, return_counts=True
  )
  if counts.min() >= 0.9 * counts.mean():
    raise InputError(
        f'The training images of {data["name"]} are of {len(counts)} groups, '
        f'of {counts.min()} to {counts.max()} images each: there is nothing '
        f'for {config.method.name} to balance. Take data with some of the rare '
        'groups in train, such as --config.data.name=shapes/ground_95, or '
        'another method.'
    )
  return columns | {column_lib.SHARE: 1 / counts[rows]}


METHOD = base.Spec(
    baseline_continued.create,
    'A, groups balanced',
    check_data=check_data,
    columns=balance,
    published=lambda options: None,  # A has had them.
)
