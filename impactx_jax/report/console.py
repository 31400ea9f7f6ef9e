"""What a command prints at its end: plain-text tables."""

from collections.abc import Sequence
import textwrap
from typing import Any

from impactx_jax import methods
from impactx_jax.report import figures


# Rank correlation of the maps of different images, above which they are one.
ONE_FOR_ALL = 0.8


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


def summary(metrics: dict[str, Any]) -> str:
  """Returns the tables that end an evaluation.

  Args:
    metrics: What `metrics.json` has.
  """
  count = metrics['data']['examples']['test']
  text = f'{metrics["data"]["name"]}, {count} test images\n\n' + table(
      *networks(metrics)
  )
  if 'group_accuracy' in metrics:
    text += '\n\nAccuracy % of each group\n\n' + table(*groups(metrics))
  if 'front' in metrics:
    text += '\n\nThe front, chosen on validation: test (validation)\n\n'
    text += table(*front(metrics['front']))
  if 'maps' not in metrics:
    return text
  said = [verdict(metrics['maps']), guard(metrics)]
  said = [textwrap.fill(part, 88) for part in said if part]
  return '\n\n'.join([text + _maps(metrics['maps']), *said])


def verdict(found: dict[str, Any]) -> str:
  """Says whether the method's own map is about its image at all.

  Args:
    found: The part of `metrics.json` that is about maps.
  """
  name, measures = found['method'], found['measures']
  swap = measures['swap_difference'][name]
  alike = measures['between_images'][name]['mean']
  title = figures.title_of(name)
  if swap['interval'] is None:
    return ''
  low, high = swap['interval']
  number = f'{swap["mean"]:.3f} [{low:.3f}, {high:.3f}]'
  if low > 0:
    text = (
        f"{title}'s map is about its image: it beats that of another image of "
        f'the same predicted class by {number} of insertion area.'
    )
  else:
    text = (
        f"{title}'s map does not count as an explanation of its image: it does "
        f'not beat that of another image of the same predicted class ({number} '
        'of insertion area).'
    )
  if alike is not None and alike > ONE_FOR_ALL:
    text += (
        f' It is nearly one map for all images (rank correlation {alike:.2f} '
        'between them).'
    )
  return text


def guard(metrics: dict[str, Any]) -> str:
  """Says what the guard does and finds; '' where there is none.

  Args:
    metrics: What `metrics.json` has.
  """
  found = metrics.get('guard')
  if not found:
    return ''
  return (
      f'A check on a grid of {found["grid"]}x{found["grid"]} cells warns of '
      f'{100 * found["alarms"]:.1f} % of the predicted maps of these test '
      f'images; of {found["images"]} validation images it is set to warn of '
      f'{100 * found["false_alarms"]:g} %.'
  )


def networks(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
  """Returns what each network comes to on the test split: header and rows.

  Args:
    metrics: What `metrics.json` has; what the task measures beside accuracy
      has a column of its own.
  """
  titles = {'f1': 'F1', 'mean_average_precision': 'mAP'}
  further = [measure for measure in titles if measure in metrics]
  worst = metrics.get('worst_group_accuracy', {})
  fits = {'map_r2': 'map R2'}
  if any(metrics.get('probe_r2', {}).values()):
    fits['probe_r2'] = 'probe R2'
  baseline = metrics['accuracy'][methods.BASELINE]
  rows = []
  for name, accuracy in metrics['accuracy'].items():
    difference = accuracy - baseline
    fit = [metrics[measure][name] for measure in fits]
    rows.append([
        figures.title_of(name),
        f'{100 * accuracy:.2f}',
        '' if name == methods.BASELINE else f'{100 * difference:+.2f}',
        *([f'{100 * worst[name]:.2f}'] if worst else []),
        *(f'{metrics[measure][name]:.3f}' for measure in further),
        *('' if r2 is None else f'{r2:.3f}' for r2 in fit),
    ])
  measures = [titles[measure] for measure in further]
  header = ['', 'accuracy %', 'against baseline']
  header += ['worst group %'] if worst else []
  return [*header, *measures, *fits.values()], rows


def groups(metrics: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
  """Returns the accuracy of each group, by network: header and rows.

  Args:
    metrics: What `metrics.json` has; there are no rows without groups.
  """
  found = metrics.get('group_accuracy', {})
  names = list(dict.fromkeys(name for x in found.values() for name in x))
  rows = [
      [figures.title_of(network), *(f'{100 * x[name]:.2f}' for name in names)]
      for network, x in found.items()
  ]
  return ['', *names], rows


def front(
    fronts: dict[str, Sequence[dict[str, float]]]
) -> tuple[list[str], list[list[str]]]:
  """Returns what the networks of fronts come to: header and rows.

  Args:
    fronts: By network, its points, with `epoch` and the same 'validation/NAME'
      and 'test/NAME'.
  """
  measures = figures.front_measures(next(iter(fronts.values()))[0])
  rows = [
      [
          figures.title_of(network), point['epoch'],
          *(
              f'{scale * point[f"test/{name}"]:.{2 - (scale > 1)}f} '
              f'({scale * point[f"validation/{name}"]:.{2 - (scale > 1)}f})'
              for name, (_, scale) in measures.items()
          ),
      ]
      for network, points in fronts.items() for point in points
  ]
  return ['', 'epoch', *(title for title, _ in measures.values())], rows


def _maps(found: dict[str, Any]) -> str:
  names = (
      'morf_area', 'insertion_area', 'swap_difference', 'rank_correlation'
  )
  measures = [found['measures'][measure] for measure in names]
  rows = [
      [figures.title_of(name), *(_interval(x.get(name)) for x in measures)]
      for name in found['names']
  ]
  close = found['measures']['rank_correlation'][found['reference']]['images']
  return (
      f'\n\nMaps of {found["images"]} test images, 95 % intervals over '
      'images. MoRF area: the smaller the\nbetter; insertion: the larger; own '
      '- other: insertion area above that of another\nimage\'s map of the same '
      'predicted class, without which a map is not about its\nimage; rank '
      f'correlation with Owen values, of {close} images\n\n'
  ) + table(
      ['map', 'MoRF area', 'insertion area', 'own - other', 'rank corr.'], rows
  )


def _interval(found: dict[str, Any] | None) -> str:
  if found is None or found['mean'] is None:
    return ''
  if found['interval'] is None:
    return f'{found["mean"]:.3f}'
  low, high = found['interval']
  return f'{found["mean"]:.3f} [{low:.3f}, {high:.3f}]'
