"""Batches: every example once, in an order that (seed, epoch) decides."""

from impactx_jax.data import batches
import numpy as np
import pytest
import functools
import operator


def make_columns(count):
  return {
      'id': np.array([f'e{i}' for i in range(count)]),
      'image': np.arange(count, dtype=np.uint8)[:, None, None, None]
      * np.ones((1, 2, 2, 3), np.uint8),
      'label': np.arange(count, dtype=np.int32),
  }


def labels(columns, **options):
  epoch = batches.training_epoch(columns, **options)
  return [batch['label'].tolist() for batch in epoch]


def test_order_is_a_function_of_seed_and_epoch():
  columns = make_columns(50)
  options = dict(batch_size=10, seed=1, epoch=2)
  first = labels(columns, **options)
  assert first == labels(columns, **options)
  assert first != labels(columns, **{**options, 'epoch': 3})
  assert first != labels(columns, **{**options, 'seed': 2})
  assert sorted(functools.reduce(operator.iadd, first, [])) == list(range(50))


def test_what_does_not_fill_a_training_batch_is_left_out():
  seen = labels(make_columns(23), batch_size=10, seed=0, epoch=0)
  assert [len(batch) for batch in seen] == [10, 10]
  assert len(set(functools.reduce(operator.iadd, seen, []))) == 20


def test_images_are_float_in_0_1_and_stay_with_their_labels():
  columns = make_columns(12)
  columns['image'] *= 20
  for batch in batches.training_epoch(columns, batch_size=4, seed=0, epoch=0):
    assert batch['image'].dtype == np.float32
    np.testing.assert_allclose(
        batch['image'][:, 0, 0, 0], batch['label'] * 20 / 255, rtol=1e-6
    )
    np.testing.assert_array_equal(batch['position'], np.arange(4))


@pytest.mark.parametrize('drawn', [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize('share', [1.0, 0.1, 3.7])
@pytest.mark.parametrize('count', [5, 7, 3600])
def test_equal_shares_are_all_rows_however_they_are_rounded(
    drawn, share, count
):
  class Generator:
    def random(self):
      return drawn

  found = batches.drawn(np.full(count, share), Generator())
  np.testing.assert_allclose(found, np.arange(count), atol=drawn > 0.9)
  assert found.max() < count


@pytest.mark.parametrize(
    ('shares', 'least', 'most'),
    [
        ([1, 1, 1, 1, 1, 1], [1] * 6, [1] * 6),
        ([0, 3, 1, 1, 1, 0], [0, 3, 1, 1, 1, 0], [0, 3, 1, 1, 1, 0]),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 1], [0] * 5 + [4], [1] * 5 + [4]),
    ],
)
def test_an_epoch_has_each_row_as_often_as_its_share(shares, least, most):
  columns = make_columns(6) | {'sampling_share': np.array(shares, np.float32)}
  counts = []
  for epoch in range(40):
    (batch,) = batches.training_epoch(
        columns, batch_size=6, seed=0, epoch=epoch
    )
    assert 'sampling_share' not in batch
    counts.append(np.bincount(batch['label'], minlength=6))
  counts = np.array(counts)
  assert (counts >= least).all() and (counts <= most).all()
  wanted = 6 * np.array(shares) / np.sum(shares)
  np.testing.assert_allclose(counts.mean(axis=0), wanted, atol=0.25)
  orders = {tuple(labels(columns, batch_size=6, seed=0, epoch=e)[0])
            for e in range(10)}
  assert len(orders) > 3  # Shuffled as well.


@pytest.mark.parametrize('batch_size', [1, 7, 10, 23, 64])
def test_evaluation_weighs_every_example_once(batch_size):
  columns = make_columns(23)
  counts = np.zeros(23)
  for batch in batches.evaluation_pass(columns, batch_size=batch_size):
    assert len(batch['label']) == batch_size
    np.add.at(counts, batch['label'], batch['weight'])
  np.testing.assert_array_equal(counts, 1)
