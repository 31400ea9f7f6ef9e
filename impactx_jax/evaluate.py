"""Restored checkpoints, measured: accuracy, MoRF, and what is drawn of it."""

import functools
from typing import Any

from absl import logging
from attribution import files
from etils import epath
from impactx_jax import evaluators
from impactx_jax import losses
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
    directory: epath.Path,
) -> dict[str, Any]:
  """Gathers what trained networks say of the test split; draws the panels.

  Args:
    config: The whole config.
    dataset: The data.
    tests: What `test` gave, by the name of the method.
    network: Of `config.method.name`, whose maps are measured.
    directory: Where panels.png goes.

  Returns:
    The metrics, JSON-compatible.
  """
  metrics = {'data': dataset.fingerprint()} | {
      measure: {name: result[measure] for name, result in tests.items()}
      for measure in ('accuracy', 'cross_entropy', 'map_r2')
  }
  if has_maps(network, dataset):
    metrics['morf'], measured = measure_maps(config, dataset, network)
    if parallel.is_main_process():
      panels.draw(
          directory / 'panels.png',
          class_names=dataset.class_names,
          method=config.method.name,
          reference=config.attribution.explainer,
          **{
              key: value[: config.evaluation.num_panels]
              for key, value in measured.items()
          },
      )
  return metrics


def has_maps(network: Network, dataset: sources.Dataset) -> bool:
  """Whether a network predicts an attribution map from the image alone."""
  method, variables = network
  if method.predicts_from_maps:
    return False
  image = jax.ShapeDtypeStruct((1, *dataset.image_shape), np.float32)
  prediction = jax.eval_shape(method.predict, variables, image)
  return prediction.attribution is not None


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
  chosen = {name: dataset.test[name][rows] for name in ('image', 'label')}
  prediction = evaluators.predict(
      method, variables, chosen, options.batch_size
  )
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
          '' if metrics['map_r2'][name] is None
          else f'{metrics["map_r2"][name]:.3f}',
      ]
      for name, accuracy in metrics['accuracy'].items()
  ]
  text = f'{metrics["data"]["name"]}, {count} test images\n\n' + tables.table(
      ['', 'accuracy %', 'against baseline', 'map R2'], rows
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
