"""The `digits` TFDS data set: real handwritten digits without a download.

scikit-learn carries 1,797 handwritten digits of 8x8 pixels inside its package.
This builder writes them in TFDS format at 32x32x3, so that the whole pipeline
can be tried on real data within seconds and without network:

  builder = Digits(data_dir=...)
  builder.download_and_prepare()
  train = builder.as_dataset(split='train')
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

# Side in pixels of the block that shows one source pixel.
BLOCK = 4
# Largest value of a source pixel.
MAX_VALUE = 16

_TEST_FRACTION = 0.2
# Part of the data set's definition: changing it means a new VERSION.
_SPLIT_SEED = 0

_DESCRIPTION = """
1,797 handwritten digits in ten classes, the copy of the test set of the UCI
data set "Optical Recognition of Handwritten Digits" that comes with
scikit-learn (`sklearn.datasets.load_digits`). Each source pixel, an integer
from 0 to 16, counts the ink in one 4x4 block of a 32x32 bitmap. It is shown
here as a 4x4 block of the grey value round(value * 255 / 16), repeated over
three channels, so that images have 32x32 pixels again. The split into 1,437
train and 360 test images is fixed and stratified by class. `id` is the index of
the example in the source, as four digits.
"""

_CITATION = """
@misc{alpaydin1998optical,
  title = {Optical Recognition of Handwritten Digits},
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  year = {1998},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49}
}
"""


def enlarge(digit: np.ndarray) -> np.ndarray:
  """Shows a source digit as an RGB image, one block per source pixel.

  Args:
    digit: [H, W] values in 0..16 of any real dtype.

  Returns:
    [4 H, 4 W, 3] uint8, the grey image with equal channels.
  """
  grey = np.round(digit * (255 / MAX_VALUE)).astype(np.uint8)
  blocks = np.kron(grey, np.ones((BLOCK, BLOCK), np.uint8))
  return np.repeat(blocks[..., None], 3, axis=-1)


class Digits(tfds.core.GeneratorBasedBuilder):
  """scikit-learn's 8x8 handwritten digits as 32x32x3 images."""

  VERSION = tfds.core.Version('1.0.0')

  def _info(self) -> tfds.core.DatasetInfo:
    # Not `dataset_info_from_configs`, which would look for a README and a
    # citation file beside this module.
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict({
        'image': tfds.features.Image(shape=(32, 32, 3), encoding_format='png'),
        'label': tfds.features.ClassLabel(num_classes=10),
        'id': tfds.features.Text(),
      }),
      supervised_keys=('image', 'label'),
      homepage=(
        'https://archive.ics.uci.edu/dataset/80/'
        'optical+recognition+of+handwritten+digits'
      ),
      citation=_CITATION,
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # The images come with scikit-learn.
    # Imported here because reading a prepared data set does not need it.
    from sklearn import datasets, model_selection

    source = datasets.load_digits()
    train, test = model_selection.train_test_split(
      np.arange(len(source.target)),
      test_size=_TEST_FRACTION,
      stratify=source.target,
      random_state=_SPLIT_SEED,
    )
    return {
      'train': self._generate_examples(source.images, source.target, train),
      'test': self._generate_examples(source.images, source.target, test),
    }

  def _generate_examples(
    self, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the examples of one split, keyed by their index in the source.

    Args:
      images: [N, 8, 8] all source images.
      labels: int [N] all source labels.
      indices: int [M] positions in the source of the examples of the split.

    Yields:
      (key, example) pairs.
    """
    for index in indices.tolist():
      yield index, {
        'image': enlarge(images[index]),
        'label': int(labels[index]),
        'id': f'{index:04d}',
      }
