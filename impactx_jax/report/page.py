"""The report as one page that needs no network and no other file."""

from collections.abc import Sequence
import json
import shlex
from typing import Any

from attribution import measured as measured_maps
from attribution import plotting
from impactx_jax.report import console
from impactx_jax.report import figures
import jinja2
from matplotlib import figure

# Images in the gallery, at most: the page stays small enough for a phone.
GALLERY = 100
# Beside those that maps of any model have.
MEASURES = measured_maps.MEASURES | {
    'insertion_area': (
        'insertion area', "higher is better; from SHAP's own hidden image"
    ),
    'swap_difference': (
        "insertion area above another image's map",
        'above 0: about this image; of the same predicted class',
    ),
    'between_images': (
        "rank correlation with another image's map", '1: one map for all'
    ),
    'iou_half': (
        'IoU at half of the largest value', 'higher is better'
    ),
    'epg_true': (
        'energy in the mask, a class that is there', 'higher is better'
    ),
    'iou_true': ('IoU, a class that is there', 'higher is better'),
    'object_in_box': (
        'energy on the object, of that in its box', 'higher is better'
    ),
    'rank_correlation': ('rank correlation with Owen', 'higher: closer'),
    'cosine': ('cosine with Owen', 'higher: closer'),
    'relative_l2': ('distance to Owen', 'lower: closer'),
    'seed_agreement': (
        'rank correlation with another seed', '1: the same order; 0: chance'
    ),
}


def render(
    *,
    metrics: dict[str, Any],
    measured: Any,
    by_class: figure.Figure,
    histories: dict[str, Sequence[dict[str, float]]],
    config: dict[str, Any],
    commands: Sequence[Sequence[str]],
    about_map: str,
) -> str:
  """Returns the page.

  Args:
    metrics: What `metrics.json` has.
    measured: An `evaluation.measured.Measured`; None without maps.
    by_class: A figure of the test accuracy of each class.
    histories: By network, the metrics of each epoch.
    config: Of the run.
    commands: That made the networks and the report, as lists of arguments.
    about_map: What the network's own map is, in a sentence.
  """
  environment = jinja2.Environment(
      loader=jinja2.PackageLoader('impactx_jax.report', ''),
      autoescape=True,
      undefined=jinja2.StrictUndefined,
      trim_blocks=True,
      lstrip_blocks=True,
  )
  class_names = metrics['data']['class_names']
  return environment.get_template('page.html').render(
      title=f'IMPACTX on {metrics["data"]["name"]}',
      metrics=metrics,
      title_of=figures.title_of,
      networks=console.networks(metrics),
      groups=console.groups(metrics),
      front=figures.svg(figures.front(metrics['front'])) if (
          'front' in metrics
      ) else '',
      measures=_measures(metrics.get('maps')),
      curves=measured and figures.svg(figures.perturbation(measured.curves)),
      gallery=_gallery(measured, class_names) if measured else [],
      class_names=class_names,
      about_map=about_map,
      guard=console.guard(metrics),
      verdict=console.verdict(metrics['maps']) if 'maps' in metrics else '',
      training=figures.svg(figures.training(histories)),
      per_class=figures.svg(by_class),
      config=json.dumps(config, indent=2, sort_keys=True),
      commands=[shlex.join(command) for command in commands],
  )


def titles(maps: dict[str, Any]) -> dict[str, tuple[str, str]]:
  """Returns the title of each measure, and which way it is better.

  Args:
    maps: The part of `metrics.json` that is about maps.
  """
  found = dict(MEASURES)
  if (share := maps.get('mask_share')) is not None:
    found['epg'] = (
        MEASURES['epg'][0], f'higher is better; chance: {share:.3f}'
    )
  for measure, accuracy in maps['randomised_accuracy'].items():
    part = measure.partition(' of ')[2] or 'the network'
    found[measure] = (
        f'likeness after randomising {part}',
        f'near 0: it follows {part}; {100 * accuracy:.0f} of '
        f'{100 * maps["accuracy"]:.0f} % of the images are then right',
    )
  return found


def _measures(maps: dict[str, Any] | None) -> list[dict[str, Any]]:
  """A row for each measure, a cell for each map."""
  if maps is None:
    return []
  names = list(maps['measures']['morf_area'])

  def cell(found):
    if found is None or found['mean'] is None:
      return '–', ''
    ends = found['interval']
    reach = f'{ends[0]:.3f} to {ends[1]:.3f}' if ends else ''
    return f'{found["mean"]:.3f}', reach

  return [
      {
          'title': title,
          'hint': hint,
          'images': max(
              found['images'] for found in maps['measures'][measure].values()
          ),
          'cells': [cell(maps['measures'][measure].get(n)) for n in names],
      }
      for measure, (title, hint) in titles(maps).items()
      if maps['measures'].get(measure)
  ]


def _gallery(measured, class_names: Sequence[str]) -> list[dict[str, Any]]:
  """What the page shows of each image."""
  shown = (measured.reference, measured.method)
  rows = []
  for i in range(min(GALLERY, len(measured.images))):
    image, predicted = measured.images[i], int(measured.predicted[i])
    rows.append({
        'image': figures.png(plotting.to_rgb(image)),
        'label': figures.label_text(measured.labels[i], class_names),
        'predicted': class_names[predicted],
        'right': bool(measured.right[i]),
        'score': f'{100 * measured.probabilities[i, predicted]:.0f}',
        'maps': [
            (
                figures.title_of(name),
                figures.png(plotting.relevance_colours(measured.maps[name][i])),
                figures.png(plotting.overlay(image, measured.maps[name][i])),
            )
            for name in shown
        ],
        'curves': figures.svg(figures.sparkline(
            {name: measured.curves[name][i] for name in shown}
        )),
    })
  return rows
