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


def cells_of(page: str) -> list[str]:
  """The cells of a page's tables, but for the first of each row."""
  rows = [line for line in page.splitlines() if line.startswith('| ')]
  return [
      cell for row in rows for cell in row.strip('| ').split(' | ')[1:]
      if set(cell) - set('-: ')
  ]


def is_printed_of(text: str, values: list[float]) -> bool:
  """Whether a printed number is one of these, rounded; also in per cent."""
  printed = text.replace(',', '')
  places = len(printed.partition('.')[2])
  wanted = {f'{float(printed):.{places}f}'.replace('-0.', '0.')}
  return any(
      f'{scale * value:.{places}f}'.replace('-0.', '0.') in wanted
      or f'{-scale * value:.{places}f}' in wanted
      for value in values for scale in (1, 100, 1000)
  )


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_each_number_of_a_table_is_in_the_file_beside_its_page(path):
  values = numbers_of(json.loads(path.read_text()))
  page = path.with_suffix('.md').read_text()
  strange = [
      f'{number} of {cell!r}'
      for cell in cells_of(page) for number in NUMBER.findall(cell)
      if not is_printed_of(number, values)
  ]
  assert not strange


@pytest.mark.parametrize(('text', 'found'), [
    ('0.455', True), ('45.5', True), ('+0.46', True), ('0.454', False),
    ('1,737', True), ('1,738', False), ('12', True), ('13', False),
])
def test_a_wrong_number_would_be_noticed(text, found):
  values = numbers_of({'r2': 0.4553, 's': ['1,737 s'], 'n': 12, 'x': None})
  assert is_printed_of(text, values) == found
