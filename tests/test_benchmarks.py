"""What the benchmarks stand on goes with the methods as they are."""

import jax
import numpy as np
from tests.benchmarks import common


def test_lenet_is_trained_saved_and_read_again(tmp_path):
  data = common.load_images(npz='', data_dir='')
  images, labels = data['train_images'], data['train_labels']
  before = common.train_lenet(images, labels, steps=0)
  params = common.train_lenet(images, labels, steps=20)

  def accuracy(params):
    scores = common.score_fn(params)(images[:300])
    return (scores.argmax(-1) == labels[:300]).mean()

  assert accuracy(params) > accuracy(before) + 0.2
  common.save_params(tmp_path, params)
  jax.tree.map(
      np.testing.assert_array_equal, common.load_params(tmp_path), params
  )
