"""Restored checkpoints, measured: accuracy, MoRF, and what is drawn of it."""

import functools
from typing import Any

from absl import logging
from attribution import files
from etils import epath
from impactx_jax import evaluators
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax import teachers
from impactx_jax.data import batches
from impactx_jax.data import sources
from impactx_jax.metrics import perturbation
from impactx_jax.report import panels
from impactx_jax.report import tables
import jax
import numpy as np

METRICS = 'metrics.json'
Network = tuple[methods.Method, dict[str, Any]]


def evaluate(
    config,
    dataset: sources.Dataset,
    networks: dict[str, Network],
    directory: epath.Path,
) -> dict[str, Any]:
  """Measures trained networks on the test split, and draws the panels.

  Args:
    config: The whole config.
    dataset: The data.
    networks: By the name of their stage: 'classifier' and methods.
    directory: Where panels.png goes.

  Returns:
    The metrics, JSON-compatible.
  """
  metrics = {
      'data': dataset.fingerprint(),
      'accuracy': {},
      'cross_entropy': {},
  }
  for name, (method, variables) in networks.items():
    label = methods.BASELINE if name == 'classifier' else name
    evaluator = evaluators.Evaluator(method, config.evaluation.batch_size)
    for measure, value in evaluator(variables, dataset.test).items():
      metrics[measure][label] = value
  name = config.method.name
  if networks[name][0].uses_maps:
    metrics['morf'], measured = measure_maps(config, dataset, networks[name])
    if parallel.is_main_process():
      panels.draw(
          directory / 'panels.png',
          class_names=dataset.class_names,
          method=name,
          reference=config.attribution.explainer,
          **{
              key: value[: config.evaluation.num_panels]
              for key, value in measured.items()
          },
      )
  return metrics


def measure_maps(
    config, dataset: sources.Dataset, network: Network
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Compares a method's map with an explainer's, by MoRF curves.

  The explainer of the config, SHAP's Partition by default, explains the same
  model. Both maps are of the class that the model predicts on the clean image,
  and both meet the same noise (IMPACTX, section 5.2).

  Args:
    config: The whole config.
    dataset: The data; test images are chosen by their ids.
    network: The method and its variables.

  Returns:
    The means, JSON-compatible, and what `panels.draw` shows of each image.
  """
  options = config.evaluation
  method, variables = network
  priority = rng.uniform_by_id(config.seed, 'evaluation', dataset.test['id'])
  rows = np.argsort(priority, kind='stable')[: options.num_images]
  images = batches.to_float(dataset.test['image'][rows])
  score_fn = functools.partial(
      teachers.scores, method, variables, 'probability'
  )
  prediction = _predict(network, dataset.test, rows, options.batch_size)
  probabilities = np.asarray(jax.nn.softmax(prediction.logits))
  predicted = probabilities.argmax(-1)
  logging.info(
      'Explaining %s with %s on %d test images, for comparison.',
      config.method.name, config.attribution.explainer, len(images),
  )
  explain = teachers.explainer(
      functools.partial(
          teachers.scores,
          method,
          variables,
          config.attribution.explained_output,
      ),
      config.attribution,
      teachers.masking(config.attribution, dataset.train['image']),
  )
  reference = config.attribution.explainer
  maps = {
      reference: explain(images, predicted),
      config.method.name: prediction.attribution,
  }
  region = options.region or max(1, min(images.shape[1:3]) // 8)
  curves = {
      name: perturbation.perturbation_curves(
          score_fn,
          images,
          values,
          predicted,
          rng.stream(config.seed, 'perturbation'),
          region=region,
          draws=options.draws,
      )
      for name, values in maps.items()
  }
  summary = {
      'images': len(images),
      'region': region,
      'draws': options.draws,
      'area': _means(perturbation.area, curves),
      'aopc': _means(perturbation.aopc, curves),
  }
  return summary, {
      'images': images,
      'labels': dataset.test['label'][rows],
      'predicted': predicted,
      'probability': probabilities.max(-1),
      'reference_maps': maps[reference],
      'maps': maps[config.method.name],
      'reference_curves': curves[reference],
      'curves': curves[config.method.name],
  }


def _predict(
    network: Network, columns: sources.Columns, rows: np.ndarray, size: int
) -> methods.Prediction:
  """Returns the prediction for some rows, made in batches of `size`."""
  method, variables = network
  size = -(-size // jax.local_device_count()) * jax.local_device_count()
  predict = parallel.data_parallel_map(
      lambda variables, images: method.predict(variables, images)
  )
  chosen = {name: columns[name][rows] for name in ('image', 'label')}
  parts = [
      predict(variables, batch['image'])
      for batch in batches.evaluation_pass(chosen, batch_size=size)
  ]
  return jax.tree.map(lambda *x: np.concatenate(x)[: len(rows)], *parts)


def _means(measure, curves: dict[str, np.ndarray]) -> dict[str, float]:
  return {name: float(measure(curve).mean()) for name, curve in curves.items()}


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
          name,
          f'{100 * accuracy:.2f}',
          '' if name == 'baseline' else f'{100 * (accuracy - baseline):+.2f}',
      ]
      for name, accuracy in metrics['accuracy'].items()
  ]
  text = f'{metrics["data"]["name"]}, {count} test images\n\n' + tables.table(
      ['', 'accuracy %', 'against baseline'], rows
  )
  if 'morf' in metrics:
    morf = metrics['morf']
    rows = [
        [name, f'{morf["area"][name]:.4f}', f'{morf["aopc"][name]:.4f}']
        for name in morf['area']
    ]
    text += (
        f'\n\nMoRF on {morf["images"]} test images (the smaller the area and '
        'the larger the AOPC,\nthe better the map)\n\n'
    ) + tables.table(['map', 'area', 'AOPC'], rows)
  return text
