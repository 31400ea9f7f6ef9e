"""Values by measure and map: their intervals, differences, and the table."""

from attribution import measured
from attribution.errors import InputError
from attribution.metrics.intervals import bootstrap_interval
import numpy as np
import pytest

VALUES = {
    'morf_area': {
        'SHAP': np.array([0.1, 0.2, 0.3]),
        'longer name': np.array([0.3, 0.2, 1]),
    },
    'completeness_gap': {'SHAP': np.array([1e-6, 2e-6, 0])},
    'epg': {
        'SHAP': np.array([np.nan, np.nan, np.nan]),
        'longer name': np.array([0.25, np.nan, np.nan]),
    },
}


def make():
  return measured.MeasuredMaps(
      values=VALUES, labels=np.zeros(3, int), names=('SHAP', 'longer name'),
      region=2, seed=5,
  )


def test_intervals_are_bootstrap_intervals_of_its_seed():
  found = make().intervals()
  assert found.keys() == VALUES.keys()
  assert found['morf_area']['SHAP'] == bootstrap_interval(
      VALUES['morf_area']['SHAP'], seed=5
  )
  narrow = make().intervals(level=0.5)['morf_area']['SHAP']
  assert narrow.high < found['morf_area']['SHAP'].high


def test_differences_are_paired():
  found = make().differences('SHAP')
  assert found.keys() == VALUES.keys()
  assert found['morf_area'].keys() == {'longer name'}
  assert found['morf_area']['longer name'] == bootstrap_interval(
      np.array([0.2, 0, 0.7]), seed=5
  )


def test_an_unknown_reference_is_refused():
  for ask in (make().differences, make().table):
    with pytest.raises(InputError, match='Allowed: SHAP, longer name'):
      ask('shap')


def test_the_table_is_aligned_and_says_what_is_better():
  text = str(make())
  lines = text.splitlines()
  assert text == make().table() and len(lines) == 5
  column = lines[0].index('longer name')
  assert lines[1].startswith('MoRF area') and lines[1].endswith(
      'lower is better'
  )
  assert lines[1][column:].startswith('0.500 [0.200, 1.000]')
  assert '1.0e-06 [0.000, 2.0e-06]' in lines[2]
  assert lines[2].endswith('0: complete') and lines[2][column] == '–'
  # Of no image, and of one.
  assert lines[3][column:].startswith('0.250  ')
  assert lines[3][lines[0].index('SHAP')] == '–'
  assert '3 images; means' in lines[4] and '2x2 pixels' in lines[4]


def test_the_table_of_differences_leaves_the_reference_out():
  lines = make().table('SHAP').splitlines()
  assert 'SHAP' not in lines[0] and 'differences to SHAP' in lines[-1]
  assert '0.300 [0.000, 0.700]' in lines[1]
  # What is said of values is not said of differences.
  assert 'lower is better' in lines[1] and 'complete' not in lines[2][20:]


def test_every_measure_has_a_title_and_a_direction():
  assert all(len(words) == 2 for words in measured.MEASURES.values())
