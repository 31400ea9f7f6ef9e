"""Ranges and choices of a config's fields, and what is said of others."""

from attribution.errors import InputError
from impactx_jax import bounds
from impactx_jax.bounds import Choice
from impactx_jax.bounds import Range
from ml_collections import ConfigDict
import pytest

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(('bound', 'inside', 'outside', 'words'), [
    (Range(0), (0, 0.0, 5, INF), (-1, -1e-9, NAN), '0 or more'),
    (Range(0, above=True), (1e-9, 3), (0, -1, NAN), 'above 0'),
    (Range(0, 1), (0, 1, 0.5), (-0.1, 1.1, NAN, INF),
     'at least 0 and at most 1'),
    (Range(0, 1, above=True), (0.1, 1), (0, 1.1), 'above 0 and at most 1'),
    (Range(0, 1, below=True), (0, 0.9), (1, -0.1), 'at least 0 and below 1'),
    (Range(0, 1, above=True, below=True), (0.5,), (0, 1),
     'above 0 and below 1'),
])
def test_a_range_has_what_it_says(bound, inside, outside, words):
  assert all(value in bound for value in inside)
  assert not any(value in bound for value in outside)
  assert str(bound) == words


TABLE = {
    'rate': Range(0, 1, above=True), 'schedule': Choice('plan', ('a', 'b'))
}


def check(**fields):
  section = ConfigDict({'rate': 0.5, 'schedule': 'a', 'other': -1} | fields)
  bounds.check(section, TABLE, 'config.my.section')


def test_what_is_inside_its_bounds_is_taken():
  check()
  check(rate=1.0, schedule='b', other='whatever')


@pytest.mark.parametrize(('fields', 'message'), [
    ({'rate': 2.0}, (
        'config.my.section.rate is 2.0; it must be above 0 and at most 1. '
        'Change it with --config.my.section.rate=N.'
    )),
    ({'schedule': 'c'}, (
        "Unknown plan 'c'. Allowed: a, b. "
        'Change it with --config.my.section.schedule=NAME.'
    )),
    # The first of the table.
    ({'schedule': 'c', 'rate': 0.0}, (
        'config.my.section.rate is 0.0; it must be above 0 and at most 1. '
        'Change it with --config.my.section.rate=N.'
    )),
])
def test_what_is_outside_is_refused(fields, message):
  with pytest.raises(InputError) as error:
    check(**fields)
  assert str(error.value) == message
