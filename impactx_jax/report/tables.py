"""Plain-text tables for the console."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
  """Returns a table with its first column left-aligned, the others right."""
  cells = [[str(cell) for cell in row] for row in (header, *rows)]
  widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

  def line(row):
    first = row[0].ljust(widths[0])
    rest = [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
    return '  '.join([first, *rest]).rstrip()

  rule = '  '.join('-' * width for width in widths)
  return '\n'.join([line(cells[0]), rule, *map(line, cells[1:])])
