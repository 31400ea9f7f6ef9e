"""Restored checkpoints, measured: accuracy, MoRF, and what is drawn of it."""

from typing import Any

from attribution import files
from etils import epath
from impactx_jax import evaluators
from impactx_jax import losses
from impactx_jax import measure_maps
from impactx_jax import methods
from impactx_jax.data import sources
from impactx_jax.report import figures
from impactx_jax.report import page
from impactx_jax.report import panels
from impactx_jax.report import tables
import jax
import numpy as np

METRICS = 'metrics.json'
Network = tuple[methods.Method, dict[str, Any]]


def test(
    method: methods.Method,
    variables: Any,
    columns: sources.Columns,
    batch_size: int,
) -> dict[str, Any]:
  """Classifies a test split.

  Args:
    method: With its variables.
    variables: Of the method.
    columns: Of the test split.
    batch_size: Examples a forward pass.

  Returns:
    `accuracy` (0 to 1), `cross_entropy` (in nats), and of each example
    `label` and `predicted`; JSON-compatible.
  """
  logits = evaluators.predict(
      method, variables, columns, batch_size, attribution=False
  ).logits
  predicted = logits.argmax(-1)
  return {
      'accuracy': float((predicted == columns['label']).mean()),
      'cross_entropy': float(
          losses.cross_entropy(logits, columns['label']).mean()
      ),
      'label': columns['label'].tolist(),
      'predicted': predicted.tolist(),
  }


def evaluate(
    config,
    dataset: sources.Dataset,
    tests: dict[str, dict[str, Any]],
    network: Network,
    other: Network | None = None,
) -> tuple[dict[str, Any], measure_maps.Measured | None]:
  """Gathers what trained networks say of the test split; measures their maps.

  Args:
    config: The whole config.
    dataset: The data.
    tests: What `test` gave, by the name of the method.
    network: Of `config.method.name`, whose maps are measured.
    other: The same, trained with another seed.

  Returns:
    The metrics, JSON-compatible, and what was measured of the maps, None for
    a method that has none.
  """
  metrics = {'data': dataset.fingerprint()} | {
      measure: {name: result[measure] for name, result in tests.items()}
      for measure in ('accuracy', 'cross_entropy', 'map_r2')
  }
  if not has_maps(network, dataset):
    return metrics, None
  measured = measure_maps.measure(config, dataset, network, other)
  metrics['maps'] = measured.summary(config.evaluation, config.seed)
  return metrics, measured


def write_report(
    directory: epath.Path,
    config,
    metrics: dict[str, Any],
    measured: measure_maps.Measured | None,
    tests: dict[str, dict[str, Any]],
    summaries: dict[str, dict[str, Any]],
) -> None:
  """Writes panels.png, index.html and, last, metrics.json.

  Args:
    directory: Of the report.
    config: The whole config.
    metrics: With `provenance`.
    measured: From `evaluate`.
    tests: What `test` gave, by the name of the method.
    summaries: Of the training runs, by the name of the method.
  """
  if measured:
    panels.draw(
        directory / 'panels.png',
        measured,
        class_names=metrics['data']['class_names'],
        count=config.evaluation.num_panels,
    )
  commands = [s['provenance']['command'] for s in summaries.values()]
  commands.append(metrics['provenance']['command'])
  files.write_text(directory / 'index.html', page.render(
      metrics=metrics,
      measured=measured,
      tests=tests,
      histories={name: s['history'] for name, s in summaries.items()},
      config=config.to_dict(),
      commands=list(dict.fromkeys(map(tuple, commands))),
      about_map=methods.about_map(config.method.name, config),
  ))
  files.write_json(directory / METRICS, metrics)


def has_maps(network: Network, dataset: sources.Dataset) -> bool:
  """Whether a network predicts an attribution map from the image alone."""
  method, variables = network
  if method.predicts_from_maps:
    return False
  image = jax.ShapeDtypeStruct((1, *dataset.image_shape), np.float32)
  prediction = jax.eval_shape(method.predict, variables, image)
  return prediction.attribution is not None


def read_metrics(directory: epath.Path) -> dict[str, Any] | None:
  """Returns the metrics of a finished evaluation, or None."""
  path = directory / METRICS
  return files.read_json(path) if path.exists() else None


def summary_table(metrics: dict[str, Any]) -> str:
  """Returns the plain table that ends a run."""
  baseline = metrics['accuracy']['baseline']
  count = metrics['data']['examples']['test']
  rows = [
      [
          figures.title_of(name),
          f'{100 * accuracy:.2f}',
          '' if name == 'baseline' else f'{100 * (accuracy - baseline):+.2f}',
          '' if metrics['map_r2'][name] is None
          else f'{metrics["map_r2"][name]:.3f}',
      ]
      for name, accuracy in metrics['accuracy'].items()
  ]
  text = f'{metrics["data"]["name"]}, {count} test images\n\n' + tables.table(
      ['', 'accuracy %', 'against baseline', 'map R2'], rows
  )
  if 'maps' in metrics:
    found = metrics['maps']
    names = ('morf_area', 'morf_aopc', 'insertion_area', 'rank_correlation')
    rows = [
        [
            figures.title_of(name),
            *(_interval(found['measures'][measure][name]) for measure in names),
        ]
        for name in found['names']
    ]
    close = found['measures']['rank_correlation'][found['reference']]['images']
    text += (
        f'\n\nMaps of {found["images"]} test images, 95 % intervals over '
        'images. MoRF: the smaller the area and the\nlarger the AOPC, the '
        f'better; rank correlation with Owen values, of {close} images\n\n'
    ) + tables.table(
        ['map', 'MoRF area', 'MoRF AOPC', 'insertion area', 'rank corr.'], rows
    )
  return text


def _interval(found: dict[str, Any]) -> str:
  if found['interval'] is None:
    return f'{found["mean"]:.3f}'
  low, high = found['interval']
  return f'{found["mean"]:.3f} [{low:.3f}, {high:.3f}]'
