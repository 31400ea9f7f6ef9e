"""A trained on with as many images of each group."""

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax.data import batches
import numpy as np
import pytest
from tests.methods.methods_fixtures import make_config

DATA = {'name': 'mine', 'columns': ['image', 'label', 'group']}


def balanced(groups):
  spec = methods.find('baseline_balanced')
  columns = {
      'image': np.zeros((len(groups), 2, 2, 3), np.uint8),
      'group': np.array(groups, np.int32),
  }
  return spec.columns(columns, make_config('baseline_balanced'), DATA)


def test_an_epoch_has_as_many_images_of_each_group():
  columns = balanced([0] * 60 + [2] * 3 + [3] * 57)
  (batch,) = batches.training_epoch(columns, batch_size=120, seed=0, epoch=0)
  counts = np.bincount(batch['group'], minlength=4)
  assert counts[1] == 0
  np.testing.assert_allclose(counts[[0, 2, 3]], 40, atol=1)


@pytest.mark.parametrize('groups', [[0] * 50 + [3] * 50, [1] * 48 + [2] * 52])
def test_where_there_is_nothing_to_balance_it_says_so(groups):
  with pytest.raises(InputError, match='nothing for .* to balance'):
    balanced(groups)


def test_data_without_groups_are_refused():
  spec = methods.find('baseline_balanced')
  with pytest.raises(InputError, match="no column 'group'.*shapes/ground_95"):
    spec.check_data(
        make_config('baseline_balanced'),
        {'name': 'cifar10', 'columns': ['image', 'label']},
    )
