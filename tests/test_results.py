"""What the pages of results print is what was measured."""

import json
import pathlib
import re

import pytest

RESULTS = pathlib.Path(__file__).parents[1] / 'docs' / 'results'
FILES = sorted(RESULTS.glob('*.json'))
NUMBER = re.compile(r'[-+]?\d[\d,]*(?:\.\d+)?')


def numbers_of(content) -> list[float]:
  """All numbers of a JSON file, those in its texts as well."""
  if isinstance(content, dict):
    content = list(content.values())
  if isinstance(content, list):
    return [x for part in content for x in numbers_of(part)]
  if isinstance(content, str):
    return [float(x.replace(',', '')) for x in NUMBER.findall(content)]
  if isinstance(content, bool) or content is None:
    return []
  return [float(content)]


def records_of(content) -> list[dict]:
  """The innermost dicts of a JSON file: those without another one inside."""
  if isinstance(content, list):
    return [found for part in content for found in records_of(part)]
  if not isinstance(content, dict):
    return []
  inner = records_of(list(content.values()))
  return inner or [content]


def rows_of(page: str) -> list[str]:
  """The rows of a page's tables, without the first cell of each."""
  lines = [line for line in page.splitlines() if line.startswith('| ')]
  return [line.strip('| ').partition(' | ')[2] for line in lines]


def is_printed_of(text: str, values: list[float]) -> bool:
  """Whether a printed number is one of these, rounded; also in per cent."""
  printed = text.replace(',', '')
  places = len(printed.partition('.')[2])
  wanted = f'{float(printed):.{places}f}'.replace('-0.', '0.')
  return any(
      f'{scale * value:.{places}f}'.replace('-0.', '0.') == wanted
      for value in values for scale in (1, 100)
  )


def is_row_of(row: str, records: list[dict]) -> bool:
  """Whether all numbers of a row are of one record."""
  numbers = NUMBER.findall(row)
  return any(
      all(is_printed_of(number, numbers_of(record)) for number in numbers)
      for record in records
  )


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_each_row_of_a_table_is_in_the_file_beside_its_page(path):
  records = records_of(json.loads(path.read_text()))
  rows = rows_of(path.with_suffix('.md').read_text())
  assert rows
  assert not [row for row in rows if not is_row_of(row, records)]


@pytest.mark.parametrize(('text', 'found'), [
    ('0.455', True), ('45.5', True), ('+0.46', True), ('0.454', False),
    ('1,737', True), ('1,738', False), ('12', True), ('13', False),
])
def test_a_wrong_number_would_be_noticed(text, found):
  values = numbers_of({'r2': 0.4553, 's': ['1,737 s'], 'n': 12, 'x': None})
  assert is_printed_of(text, values) == found


def test_numbers_of_two_rows_are_no_row():
  records = records_of({'rows': [{'a': 1.5, 'b': ['2 of 3']}, {'a': 4.25}]})
  assert len(records) == 2
  for row, found in (
      ('1.5 | 2', True), ('2 | 3 | 150', True), ('4.2', True), ('', True),
      ('1.5 | 4.25', False), ('5', False),
  ):
    assert is_row_of(row, records) == found
