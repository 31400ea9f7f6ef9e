"""Tests for calls of one number of rows, by hand."""

from attribution.chunks import in_chunks
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize(
    ('count', 'calls'),
    [
        (1, [[0, 0, 0]]),
        (2, [[0, 1, 1]]),
        (3, [[0, 1, 2]]),
        (4, [[0, 1, 2], [3, 3, 3]]),
        (6, [[0, 1, 2], [3, 4, 5]]),
        (8, [[0, 1, 2], [3, 4, 5], [6, 7, 7]]),
    ],
)
def test_the_last_row_fills_the_last_chunk_and_is_cut_off(count, calls):
  seen = []

  def double(rows):
    seen.append(rows.tolist())
    return 2 * rows

  result = in_chunks(double, np.arange(count), size=3)
  assert seen == calls
  assert result.tolist() == [2 * i for i in range(count)]


def test_arrays_and_results_may_be_trees():
  def fn(columns, scale, nothing):
    assert nothing is None
    return {'sum': columns['a'].sum(1) * scale, 'both': (columns['b'], scale)}

  columns = {'a': np.arange(10).reshape(5, 2), 'b': np.array(list('vwxyz'))}
  scale = np.float32([1, 10, 100, 1000, 10000])
  result = in_chunks(fn, columns, scale, None, size=2)
  assert result['sum'].tolist() == [1, 50, 900, 13000, 170000]
  assert result['both'][0].tolist() == list('vwxyz')
  assert result['both'][1].dtype == np.float32


def test_results_of_the_device_come_back_as_numpy():
  result = in_chunks(jnp.sqrt, np.float32([1, 4, 9]), size=2)
  assert isinstance(result, np.ndarray)
  assert result.tolist() == [1, 2, 3]


def test_a_chunk_is_dispatched_before_the_last_result_is_fetched():
  events = []

  class Result:
    """What a device computes, and the host waits for."""

    def __init__(self, rows):
      events.append(f'call {rows[0]}')
      self.rows = rows

    def __array__(self, dtype=None, copy=None):
      events.append(f'fetch {self.rows[0]}')
      return np.asarray(self.rows, dtype)

  assert in_chunks(Result, np.arange(3), size=1).tolist() == [0, 1, 2]
  order = [events.index(e) for e in (
      'call 0', 'call 1', 'fetch 0', 'call 2', 'fetch 1', 'fetch 2'
  )]
  assert order == sorted(order)


@pytest.mark.parametrize('arrays', [
    [np.zeros(0)], [np.zeros(2), np.zeros(3)], [None],
])
def test_one_number_of_rows_that_is_not_0(arrays):
  with pytest.raises(ValueError, match='rows'):
    in_chunks(lambda *x: x, *arrays, size=2)
