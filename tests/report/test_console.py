"""The tables that end a command."""

from impactx_jax.report import console
import pytest


def metrics(**changes):
  """Of a network that was measured on 360 images."""
  return {
      'data': {'name': 'digits/1.0.0', 'examples': {'test': 360}},
      'accuracy': {'baseline': 0.5, 'impactx': 0.625},
      'map_r2': {'baseline': None, 'impactx': 0.25},
      'probe_r2': {'baseline': None, 'impactx': 0.375},
  } | changes


def test_the_first_column_is_on_the_left_and_others_on_the_right():
  assert console.table(['', 'a', 'long'], [['one', 1, 2], ['b', 100, '']]) == (
      '       a  long\n'
      '---  ---  ----\n'
      'one    1     2\n'
      'b    100'
  )


def test_accuracy_is_compared_with_as():
  assert console.summary(metrics()) == (
      'digits/1.0.0, 360 test images\n'
      '\n'
      '         accuracy %  against baseline  map R2  probe R2\n'
      '-------  ----------  ----------------  ------  --------\n'
      'A             50.00\n'
      'IMPACTX       62.50            +12.50   0.250     0.375'
  )


@pytest.mark.parametrize('probes', [{}, {'baseline': None, 'impactx': None}])
def test_where_no_code_was_probed_there_is_no_column(probes):
  text = console.summary(metrics(probe_r2=probes))
  assert text.splitlines()[2].endswith('map R2')


def test_what_else_a_task_measures_has_columns_of_its_own():
  text = console.summary(metrics(
      f1={'baseline': 0.5, 'impactx': 0.75},
      mean_average_precision={'baseline': 0.25, 'impactx': 0.125},
  ))
  header, _, a, impactx = text.splitlines()[2:]
  assert header.split()[-6:-2] == ['F1', 'mAP', 'map', 'R2']
  assert a.split() == ['A', '50.00', '0.500', '0.250']
  assert impactx.split()[-4:] == ['0.750', '0.125', '0.250', '0.375']


def test_groups_have_a_table_and_the_worst_a_column():
  text = console.summary(metrics(
      worst_group_accuracy={'baseline': 0.25, 'impactx': 0.375},
      group_accuracy={
          'baseline': {'on land': 0.75, 'on water': 0.25},
          'impactx': {'on land': 0.875, 'on water': 0.375},
      },
  ))
  assert 'worst group %' in text.splitlines()[2]
  assert text.splitlines()[4].split() == ['A', '50.00', '25.00']
  assert text.endswith(
      'Accuracy % of each group\n'
      '\n'
      '         on land  on water\n'
      '-------  -------  --------\n'
      'A          75.00     25.00\n'
      'IMPACTX    87.50     37.50'
  )


def test_a_front_has_a_row_for_each_of_its_networks():
  point = {
      'epoch': 3, 'step': 12, 'validation/accuracy': 0.5, 'test/accuracy': 0.25,
      'validation/guided_epg': 0.75, 'test/guided_epg': 0.7,
      'validation/map_mse': 0.2, 'test/map_mse': 1.304,
  }
  header, rows = console.front({'guided': [point, point | {'epoch': 4}]})
  assert header == [
      '', 'epoch', 'accuracy, %', 'EPG of the guided map, %', 'map_mse'
  ]
  assert rows == [
      ['guided', epoch, '25.0 (50.0)', '70.0 (75.0)', '1.30 (0.20)']
      for epoch in (3, 4)
  ]
  assert '70.0 (75.0)' in console.summary(metrics(front={'guided': [point]}))


def test_maps_have_their_measures_with_intervals():
  def found(mean, interval):
    return {'mean': mean, 'interval': interval, 'images': 2}

  maps = {
      'names': ['partition', 'impactx'], 'images': 8, 'reference': 'partition',
      'method': 'impactx',
      'measures': {
          name: {
              'partition': found(0.5, [0.25, 0.75]), 'impactx': found(1.0, None)
          }
          for name in (
              'morf_area', 'insertion_area', 'swap_difference',
              'rank_correlation', 'between_images',
          )
      },
  }
  text = console.summary(metrics(maps=maps))
  assert 'Maps of 8 test images' in text
  assert 'Owen values, of 2 images' in text
  assert text.endswith('1.000                 1.000')
  assert text.count('0.500 [0.250, 0.750]') == 4


@pytest.mark.parametrize(('interval', 'alike', 'parts'), [
    ([0.01, 0.03], 0.2, ('is about its image', '0.020 [0.010, 0.030]')),
    ([-0.01, 0.05], 0.2, ('does not count', '0.020 [-0.010')),
    ([-0.01, 0.05], 0.9, ('does not count', 'one map for all', '0.90')),
    (None, 0.9, ()),
])
def test_whether_the_map_is_about_its_image(interval, alike, parts):
  text = console.verdict({'method': 'impactx', 'measures': {
      'swap_difference': {'impactx': {'mean': 0.02, 'interval': interval}},
      'between_images': {'impactx': {'mean': alike, 'interval': None}},
  }})
  for part in parts:
    assert part in text
  assert bool(text) == bool(parts)
  assert ('one map for all' in text) == ('one map for all' in parts)


def test_what_the_guard_found():
  found = {'grid': 4, 'alarms': 0.125, 'images': 143, 'false_alarms': 0.05}
  text = console.guard({'guard': found})
  for part in ('4x4', '12.5 %', '143', ' 5 %'):
    assert part in text
  assert console.guard({'guard': None}) == console.guard({}) == ''
