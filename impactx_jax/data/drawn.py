"""What data sets that are made here have in common: their configs and builder.

A builder says what an example holds (`features`) and makes them (`examples`),
each a function of (seed, split, index), and this one writes them for TFDS.
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow_datasets as tfds


@dataclass(eq=False, kw_only=True)
class DrawnConfig(tfds.core.BuilderConfig):
  """A variant of a data set; one with other values needs another name.

  Attributes:
    num_train: Number of train examples.
    num_test: Number of test examples.
    seed: 0 or more; another seed gives other examples.
  """

  num_train: int = 4000
  num_test: int = 1000
  seed: int = 0

  def count(self, split: str) -> int:
    """Returns the number of examples of 'train' or 'test'."""
    return {'train': self.num_train, 'test': self.num_test}[split]


class DrawnBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes the examples of a `DrawnConfig`."""

  VERSION = tfds.core.Version('1.0.0')
  DESCRIPTION: ClassVar[str] = ''

  @abc.abstractmethod
  def features(self) -> dict[str, Any]:
    """Returns the columns, by name, but for `id`."""

  @abc.abstractmethod
  def examples(self, split: str) -> Iterator[dict[str, Any]]:
    """Yields the examples of 'train' or 'test', in order and unencoded."""

  def _info(self) -> tfds.core.DatasetInfo:
    # Not `dataset_info_from_configs`, which would look for a README and a
    # citation file beside this module.
    features = self.features()
    supervised = ('image', 'label') if 'label' in features else None
    return tfds.core.DatasetInfo(
        builder=self,
        description=self.DESCRIPTION,
        features=tfds.features.FeaturesDict(
            features | {'id': tfds.features.Text()}
        ),
        supervised_keys=supervised,
    )

  def _split_generators(
      self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # Everything is made here.
    return {name: self._generate_examples(name) for name in ('train', 'test')}

  def _generate_examples(
      self, split: str
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, example in enumerate(self.examples(split)):
      yield index, example | {'id': f'{split}_{index:05d}'}


def picture(size: int, channels: int) -> tfds.features.Image:
  """Returns the feature of a picture or mask, uint8 [size, size, channels]."""
  return tfds.features.Image(
      shape=(size, size, channels), encoding_format='png'
  )
