"""How the table of compared methods is written, and the paper's numbers."""

import csv
import io

from etils import epath
from impactx_jax.experiments import paper
from impactx_jax.experiments import table_formats
from impactx_jax.report import figures
import numpy as np
import pytest
from tests.experiments.comparison_fixtures import cells
from tests.experiments.comparison_fixtures import make_table
from tests.experiments.comparison_fixtures import result
from tests.experiments.comparison_fixtures import runs
from tests.experiments.comparison_fixtures import strict


# --- Formats ------------------------------------------------------------------


def mixed_table(**names):
  """A with two seeds, IMPACTX with maps, ABN with one seed."""
  return make_table(
      runs('baseline', (140, 144)),
      runs('impactx', (150, 150), map_r2=0.5, evaluations=2000),
      runs('abn', (140,), parameters=None, seconds=3.6),
      **names,
  )


def test_markdown_has_a_row_a_method_under_a_heading():
  text = table_formats.markdown(mixed_table())
  assert text.startswith('digits, lenet5\n\n| method | seeds |')
  assert list(cells(mixed_table())) == ['baseline', 'impactx', 'abn']
  assert '95 %' in text and 'McNemar' in text


def test_markdown_rounds_what_is_measured():
  found = cells(mixed_table())
  # Deviation of 70 and 72 with one degree of freedom: the root of 2.
  assert found['baseline']['test %'] == '71.00 ± 1.41'
  assert found['impactx']['map R²'] == '0.500'
  assert found['impactx']['evaluations'] == '2,000'
  # Of 5 and 3: t = 12.706 times the standard error, 1.
  assert found['impactx']['to A'] == '+4.00 [-8.71, +16.71]'
  assert found['abn']['own training s'] == '4'


def test_markdown_leaves_blank_what_is_not_there():
  found = cells(mixed_table())
  assert found['abn']['test %'] == '70.00'  # One seed has no deviation,
  assert found['abn']['to A'] == '+0.00'  # and no interval.
  for method, column in (
      ('baseline', 'to A'), ('baseline', 'verdict'), ('baseline', 'map R²'),
      ('impactx', 'to λ = 0'), ('impactx', 'McNemar to λ = 0'),
      ('abn', 'parameters'),
  ):
    assert found[method][column] == ''


def test_rows_trained_on_different_numbers_of_images_are_noted():
  few = make_table(runs('baseline', (140,)), runs('abn', (150,), examples=500))
  for text in (
      table_formats.markdown(few), table_formats.plain(few)
  ):
    text = ' '.join(text.split())
    assert 'different numbers of images' in text
    assert 'baseline 1,000, abn 500' in text
  # Seeds may differ, for each splits the data in its own way.
  same = make_table(
      runs('baseline', (140,)), runs('baseline', (140,), 1, examples=990),
      runs('abn', (140,)),
  )
  assert 'numbers of images' not in table_formats.markdown(same)


def test_one_network_for_all_seeds_has_no_deviation():
  table = make_table(runs('baseline', (140, 140), shared=True))
  assert cells(table)['baseline']['test %'] == '70.00'


def test_a_field_that_one_seed_lacks_has_no_mean():
  table = make_table(
      [result('abn', 0, 140, map_r2=0.5), result('abn', 1, 140)]
  )
  assert cells(table)['abn']['map R²'] == ''


def grouped_table():
  """Two seeds, of data whose test split has groups."""
  found = {
      'baseline': ((110, 0.12), (112, 0.14)),
      'guided': ((170, 0.7), (170, 0.74)),
  }
  return make_table(*(
      [
          result(name, seed, right, worst_group=worst)
          for seed, (right, worst) in enumerate(values)
      ]
      for name, values in found.items()
  ))


def test_data_with_groups_have_the_worst_of_them_in_every_format(monkeypatch):
  table, drawn = grouped_table(), {}
  found = cells(table)
  assert found['guided']['worst group %'] == '72.00 ± 2.83'
  # Of 58 and 60: t = 12.706 times the standard error, 1.
  worst = '+59.00 [+46.29, +71.71]'
  assert found['guided']['worst group to A'] == worst
  assert found['baseline']['worst group to A'] == ''
  assert 'worst group %' in table_formats.plain(table)
  lines = list(csv.DictReader(io.StringIO(table_formats.csv(table))))
  assert [line['worst_group_accuracy'] for line in lines] == [
      '0.12', '0.14', '0.7', '0.74'
  ]
  baseline, guided = strict(table)['rows']
  assert baseline['runs'][1]['worst_group_accuracy'] == 0.14
  assert guided['to_baseline']['worst_group']['mean'] == pytest.approx(59)
  monkeypatch.setattr(
      figures, 'differences', lambda rows, panels: drawn.update(panels)
  )
  table_formats.draw(table)
  assert drawn['worst group to A'][0][0] == pytest.approx(59)


def test_data_without_groups_have_no_column_of_them():
  assert 'worst group %' not in cells(mixed_table())['baseline']
  assert 'orst group' not in table_formats.markdown(mixed_table())
  assert 'orst group' not in table_formats.plain(mixed_table())


def test_csv_has_a_line_a_run():
  text = table_formats.csv(mixed_table())
  lines = list(csv.DictReader(io.StringIO(text)))
  assert [(line['method'], line['seed']) for line in lines] == [
      ('baseline', '0'), ('baseline', '1'), ('impactx', '0'),
      ('impactx', '1'), ('abn', '0'),
  ]
  assert {(line['data'], line['model']) for line in lines} == {
      ('digits', 'lenet5')
  }
  assert [float(line['test_accuracy']) for line in lines] == [
      0.7, 0.72, 0.75, 0.75, 0.7
  ]
  assert (lines[2]['map_r2'], lines[2]['evaluations']) == ('0.5', '2000')
  assert (lines[4]['map_r2'], lines[4]['parameters']) == ('', '')


def test_csv_quotes_a_name_with_a_comma():
  text = table_formats.csv(mixed_table(model='my, "net".py'))
  (first, *_) = csv.DictReader(io.StringIO(text))
  assert first['model'] == 'my, "net".py'


def test_json_is_strict_and_holds_every_run():
  content = strict(mixed_table(), {'seed': 0, 'size': (32, 32)})
  assert content['config'] == {'seed': 0, 'size': [32, 32]}
  printed = {row['method']: row for row in content['printed']}
  assert printed == cells(mixed_table())
  assert (content['data'], content['model']) == ('digits', 'lenet5')
  baseline, impactx, abn = content['rows']
  assert [run['test_accuracy'] for run in baseline['runs']] == [0.7, 0.72]
  assert [run['map_r2'] for run in impactx['runs']] == [0.5, 0.5]
  assert impactx['to_baseline']['mean'] == pytest.approx(4)
  assert impactx['to_baseline']['interval'] == pytest.approx(
      [4 - 12.7062, 4 + 12.7062], abs=1e-4
  )
  assert impactx['to_lambda0'] is None and baseline['to_baseline'] is None
  # One seed has a difference and no interval.
  assert abn['to_baseline']['mean'] == 0
  assert abn['to_baseline']['interval'] is None
  assert abn['verdict'] == 'no verdict: 1 of 5 seeds'


def test_the_picture_has_each_difference_with_its_interval(monkeypatch):
  drawn = {}
  monkeypatch.setattr(
      figures, 'differences', lambda rows, panels: drawn.update(
          panels, rows=rows
      )
  )
  table = make_table(
      runs('baseline', (140, 144)), runs('impactx', (150, 150)),
      runs('impactx_lambda0', (148,)), runs('abn', (1,), first_seed=7),
  )
  table_formats.draw(table)
  assert drawn['rows'] == ['impactx', 'impactx_lambda0', 'abn']
  to_a, alone, none = drawn['to A']
  # Of 5 and 3: t = 12.706 times the standard error, 1.
  np.testing.assert_allclose(to_a, [4, 4 - 12.7062, 4 + 12.7062], atol=1e-4)
  np.testing.assert_equal(alone, (4, np.nan, np.nan))
  assert none is None  # It has no seed in common with A.
  np.testing.assert_equal(drawn['to λ = 0'][0], (1, np.nan, np.nan))
  assert drawn['to λ = 0'][1:] == [None, None]


@pytest.mark.parametrize('groups', [
    [], [('baseline', (140,))], [('baseline', (140,)), ('abn', (150,))],
])
def test_a_picture_is_drawn_of_whatever_is_finished(groups, tmp_path):
  table = make_table(*(runs(*group) for group in groups))
  path = epath.Path(tmp_path / 'table.png')
  figures.save(path, table_formats.draw(table))
  assert path.read_bytes().startswith(b'\x89PNG')


def test_the_terminal_shows_a_line_a_method():
  text = table_formats.plain(mixed_table())
  assert all(len(line) <= 120 for line in text.splitlines())
  for part in ('baseline', 'impactx', 'abn', '71.00 ± 1.41', 'verdict'):
    assert part in text


def test_nothing_finished_is_said_in_every_format():
  table = make_table()
  assert 'Nothing is finished yet.' in table_formats.markdown(table)
  assert 'Nothing is finished yet.' in table_formats.plain(table)
  assert len(table_formats.csv(table).splitlines()) == 1
  assert strict(table)['rows'] == []


# --- The paper's numbers ------------------------------------------------------


def all_methods(**names):
  return make_table(
      *(runs(method, (140,)) for method in (
          'baseline', 'impactx', 'abn', 'wae', 'impactx_lambda0'
      )),
      **names,
  )


def test_the_papers_numbers_are_beside_its_own_methods():
  table = all_methods(data='cifar10', model='lenet5')
  expected = {'baseline': 67.96, 'impactx': 70.65, 'abn': 68.49, 'wae': 68.1}
  assert {row.method: row.paper for row in table.rows} == (
      expected | {'impactx_lambda0': None}
  )
  found = cells(table)
  for method, value in expected.items():
    assert found[method]['paper %'] == f'{value:.2f}'
  assert found['impactx_lambda0']['paper %'] == ''
  kept = [row['paper'] for row in strict(table)['rows']]
  assert kept == [*expected.values(), None]


@pytest.mark.parametrize('names', [
    {'data': 'digits', 'model': 'lenet5'},
    {'data': 'cifar10', 'model': '/home/me/mynet.py'},
    {'data': 'shapes/easy', 'model': 'lenet5'},
    {'data': 'cifar10', 'model': 'lenet5', 'as_published': False},
])
def test_what_the_paper_has_not_measured_is_blank(names):
  table = all_methods(**names)
  assert {row.paper for row in table.rows} == {None}
  assert {row['paper %'] for row in cells(table).values()} == {''}


def test_the_paper_has_an_accuracy_for_each_of_its_methods():
  for (data, model), row in paper.TABLE_2.items():
    found = [paper.accuracy(data, model, name) for name in paper.METHODS]
    assert found == list(row)
    # What the paper claims: IMPACTX is above the others.
    assert max(found) == paper.accuracy(data, model, 'impactx')
