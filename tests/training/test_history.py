"""Which epoch is the best, and when training is over; by hand."""

from attribution.errors import InputError
from impactx_jax.training import history
from ml_collections import ConfigDict
import numpy as np
import pytest

FLAG = '--config.method.training.select'
MAX = history.Select('accuracy', 1)
MIN = history.Select('cross_entropy', -1)
LAST = history.Select('', 0)


def record(select, values):
  """A history of epochs with these values of the measure."""
  found = history.History()
  for i, value in enumerate(values, 1):
    metrics = {f'validation/{select.measure}': value}
    found = found.with_epoch(10 * i, metrics, 2.0, select)
  return found


@pytest.mark.parametrize(('text', 'expected'), [
    ('max accuracy', MAX),
    ('last', LAST),
    ('min cross_entropy', MIN),
    ('  max   map_r2 ', history.Select('map_r2', 1)),
])
def test_what_is_selected_by_is_read(text, expected):
  assert history.Select.parse(text, FLAG) == expected


@pytest.mark.parametrize('text', [
    '', 'max', 'accuracy', 'best accuracy', 'max accuracy f1', 'Max accuracy',
    'maxaccuracy',
    'last accuracy', 'max last epoch',
])
def test_what_cannot_be_read_is_refused(text):
  with pytest.raises(InputError) as error:
    history.Select.parse(text, FLAG)
  for part in (repr(text), 'config.method.training.select is', f'{FLAG}='):
    assert part in str(error.value)


def test_a_measure_that_validation_has_not_is_refused():
  measures = {'accuracy', 'cross_entropy'}
  MAX.check(measures, FLAG)
  LAST.check(measures, FLAG)
  with pytest.raises(InputError) as error:
    history.Select('f1', 1).check(measures, FLAG)
  for part in ("'f1'", 'accuracy, cross_entropy', f'{FLAG}='):
    assert part in str(error.value)


@pytest.mark.parametrize(('select', 'values', 'best'), [
    (MAX, [0.5], 0),
    (MAX, [0.5, 0.75, 0.7, 0.75], 1),  # The earliest of equals.
    (MAX, [0.9, 0.1, 0.95], 2),
    (MIN, [2.0, 1.0, 1.5, 1.0], 1),
    (MIN, [-1.0, -2.0], 1),
    (LAST, [0.9, 0.5, 0.1], 2),
])
def test_the_best_epoch(select, values, best):
  found = record(select, values)
  assert found.best == best
  assert found.best_epoch == {
      'step': 10 * (best + 1), f'validation/{select.measure}': values[best]
  }
  assert found.seconds == 2 * len(values)


@pytest.mark.parametrize(('points', 'kept'), [
    ([(0.5, 0.5)], [0]),
    ([(0.5, 0.5), (0.6, 0.6)], [1]),
    ([(0.5, 0.6), (0.6, 0.5)], [0, 1]),
    ([(0.5, 0.6), (0.6, 0.5), (0.6, 0.6)], [2]),
    ([(0.5, 0.6), (0.5, 0.5), (0.6, 0.5), (0.4, 0.9)], [0, 2, 3]),
    ([(0.5, 0.5), (0.5, 0.5), (0.5, 0.5)], [0]),  # The first of equals.
    # Alike when they are rounded to 0.005, and not.
    ([(0.501, 0.5), (0.502, 0.5)], [0]), ([(0.500, 0.5), (0.504, 0.5)], [1]),
    ([(0.1, 0.2, 0.3), (0.1, 0.3, 0.2), (0.1, 0.2, 0.2)], [0, 1]),
])
def test_the_front_is_what_nothing_is_better_than(points, kept):
  found = history.non_dominated(np.array(points))
  assert np.flatnonzero(found).tolist() == kept


def test_a_front_looks_the_way_its_measures_are_better():
  selects = history.parse_front('max f1,min cross_entropy', FLAG)
  epochs = [
      {'step': 4 * i, 'validation/f1': f1, 'validation/cross_entropy': loss}
      for i, (f1, loss) in enumerate([(0.5, 1.0), (0.6, 1.2), (0.5, 1.1)], 1)
  ]
  assert history.front(epochs, selects) == [0, 1]
  assert history.front(epochs, ()) == []
  assert history.History(tuple(epochs), 2).steps_to_keep(selects) == {4, 8, 12}
  assert history.History(tuple(epochs), 0).steps_to_keep(()) == {4}


@pytest.mark.parametrize('text', [
    'max accuracy', 'last, max accuracy', 'max f1, max f1', 'f1, epg', ',',
    'max f1; max epg', ' ',
])
def test_a_front_of_less_than_two_measures_is_refused(text):
  with pytest.raises(InputError) as error:
    history.parse_front(text, FLAG)
  assert f'{FLAG}=' in str(error.value)


def test_a_history_is_the_same_however_long_it_took():
  one = record(MAX, [0.5])
  assert one == history.History(one.epochs, one.best, seconds=99.0)
  assert one != record(MAX, [0.6])


@pytest.mark.parametrize(('values', 'epochs', 'patience', 'over'), [
    ([], 3, 0, False),
    ([0.5, 0.4], 3, 0, False),
    ([0.5, 0.4, 0.3], 3, 0, True),
    ([0.5, 0.4, 0.3], 9, 3, False),
    ([0.5, 0.4, 0.3, 0.2], 9, 3, True),
    ([0.5, 0.4, 0.6, 0.5, 0.5], 9, 3, False),
    ([0.5, 0.5, 0.5, 0.5], 9, 3, True),  # As good is no better.
])
def test_when_training_is_over(values, epochs, patience, over):
  training = ConfigDict({'epochs': epochs, 'patience': patience})
  assert record(MAX, values).is_over(training) == over


def test_an_epochs_line_has_what_there_is():
  metrics = {'train/loss': 0.123456, 'validation/accuracy': 0.5}
  assert history.epoch_line('abn', 3, metrics) == (
      'abn: epoch 3, loss 0.1235, validation 50.00 %'
  )
  metrics |= {'train/accuracy': 0.25, 'validation/map_r2': -0.5}
  assert history.epoch_line('abn', 3, metrics) == (
      'abn: epoch 3, loss 0.1235, accuracy 25.00 %, validation 50.00 %, '
      'map R2 -0.500'
  )
