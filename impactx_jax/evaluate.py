"""Restored checkpoints, measured: accuracy, MoRF, and what is drawn of it."""

import functools
from typing import Any

from absl import logging
from attribution import records
from etils import epath
from impactx_jax import evaluators
from impactx_jax import methods
from impactx_jax import rng
from impactx_jax import teachers
from impactx_jax.data import batches
from impactx_jax.data import sources
from impactx_jax.metrics import perturbation
from impactx_jax.report import panels
from impactx_jax.report import tables
import jax
import jax.numpy as jnp
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
      'test': {},
  }
  for name, (method, variables) in networks.items():
    label = 'baseline' if name == 'classifier' else name
    evaluator = evaluators.Evaluator(method, config.evaluation.batch_size)
    metrics['test'][label] = evaluator(variables, dataset.test)
    metrics['accuracy'][label] = metrics['test'][label]['accuracy']
  name = config.method.name
  if networks[name][0].uses_maps:
    measured = measure_maps(config, dataset, networks[name])
    metrics['morf'] = measured.pop('summary')
    panels.draw(
        directory / 'panels.png',
        class_names=dataset.class_names,
        method=name,
        **{
            key: value[: config.evaluation.num_panels]
            for key, value in measured.items()
        },
    )
  return metrics


def measure_maps(
    config, dataset: sources.Dataset, network: Network
) -> dict[str, Any]:
  """Compares a method's map with SHAP on the same model, by MoRF curves.

  Both maps are of the class that the model predicts on the clean image, and
  both meet the same noise (IMPACTX, section 5.2).

  Args:
    config: The whole config.
    dataset: The data; test images are chosen by their ids.
    network: The method and its variables.

  Returns:
    Arrays with one row an image (images, labels, predicted, probability,
    maps and curves by name are dicts of them), and a 'summary' of means.
  """
  options = config.evaluation
  method, variables = network
  priority = rng.uniform_by_id(config.seed, 'evaluation', dataset.test['id'])
  rows = np.argsort(priority, kind='stable')[: options.num_images]
  images = batches.to_float(dataset.test['image'][rows])
  score_fn = functools.partial(
      teachers.scores, method, variables, 'probability'
  )
  prediction = jax.jit(method.predict)(variables, jnp.asarray(images))
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
  maps = {
      'shap': explain(images, predicted),
      config.method.name: np.asarray(prediction.attribution),
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
  return {
      'summary': summary,
      'images': images,
      'labels': dataset.test['label'][rows],
      'predicted': predicted,
      'probability': probabilities.max(-1),
      'shap_maps': maps['shap'],
      'maps': maps[config.method.name],
      'shap_curves': curves['shap'],
      'curves': curves[config.method.name],
  }


def _means(measure, curves: dict[str, np.ndarray]) -> dict[str, float]:
  return {name: float(measure(curve).mean()) for name, curve in curves.items()}


def read_metrics(directory: epath.Path) -> dict[str, Any] | None:
  """Returns the metrics of a finished evaluation, or None."""
  path = directory / METRICS
  return records.read_json(path) if path.exists() else None


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
