"""The report of a finished run: its numbers and its picture."""

import json

from attribution import maskers
from impactx_jax import evaluate
from impactx_jax import restore
from impactx_jax import workdirs
from impactx_jax.data import batches
from impactx_jax.data import sources
import jax
import matplotlib.image
import numpy as np
import pytest


def load_metrics(workdir):
  return json.loads((workdir / 'report' / 'metrics.json').read_text())


def test_accuracy_is_that_of_the_restored_networks(
    finished_workdir, tiny_config
):
  metrics = load_metrics(finished_workdir)
  test = sources.load(tiny_config.data, tiny_config.seed).test
  images = batches.to_float(test['image'])
  assert metrics['accuracy'].keys() == {
      'baseline', 'impactx', 'impactx_lambda0'
  }
  for name, accuracy in metrics['accuracy'].items():
    folder = 'classifier' if name == 'baseline' else name
    method, variables = restore.network(
        workdirs.open_workdir(finished_workdir), folder
    )
    logits = jax.jit(method.predict)(variables, images).logits
    expected = np.mean(np.argmax(logits, -1) == test['label'])
    assert accuracy == pytest.approx(float(expected))


def test_report_compares_the_map_with_shap_on_the_same_model(finished_workdir):
  morf = load_metrics(finished_workdir)['morf']
  assert morf['images'] == 8 and morf['draws'] == 2 and morf['region'] == 4
  for name in ('area', 'aopc'):
    assert morf[name].keys() == {'partition', 'impactx'}
    assert len(set(morf[name].values())) == 2


def test_measured_maps_share_model_images_and_noise(
    finished_workdir, tiny_config
):
  dataset = sources.load(tiny_config.data, tiny_config.seed)
  network = restore.network(workdirs.open_workdir(finished_workdir), 'impactx')
  summary, measured = evaluate.measure_maps(tiny_config, dataset, network)
  assert summary['images'] == len(measured['images']) == 8
  ends = [0, -1]  # The clean image, and all noise: no map matters there.
  np.testing.assert_allclose(
      measured['curves'][:, ends],
      measured['reference_curves'][:, ends],
      atol=1e-6,
  )
  np.testing.assert_allclose(
      measured['curves'][:, 0], measured['probability'], atol=1e-6
  )
  # SHAP's maps are of the class that IMPACTX predicts, on IMPACTX itself.
  method, variables = network
  probability = jax.nn.softmax(
      method.predict(variables, measured['images']).logits
  )
  hidden = maskers.background(measured['images'], 'blur')
  masked = jax.nn.softmax(method.predict(variables, hidden).logits)
  rows = np.arange(8), measured['predicted']
  np.testing.assert_allclose(
      measured['reference_maps'].sum(axis=(1, 2, 3)),
      np.asarray(probability)[rows] - np.asarray(masked)[rows],
      atol=1e-4,
  )


def test_panels_are_a_picture_with_a_row_an_image(finished_workdir):
  picture = matplotlib.image.imread(finished_workdir / 'report' / 'panels.png')
  height, width = picture.shape[:2]
  assert width == 960 and height == round(100 * (2 * 2.1 + 0.6))
  assert picture.std() > 0.05


def test_results_say_what_made_them(finished_workdir):
  provenance = load_metrics(finished_workdir)['provenance']
  assert provenance['versions']['jax'] == jax.__version__
  assert provenance['device_count'] == jax.device_count()
  for stage in ('classifier', 'maps', 'impactx', 'report'):
    assert (finished_workdir / stage / 'config.json').exists()


def test_summary_table_lists_what_was_measured(finished_workdir):
  metrics = load_metrics(finished_workdir)
  table = evaluate.summary_table(metrics)
  for name, accuracy in metrics['accuracy'].items():
    assert name in table and f'{100 * accuracy:.2f}' in table
  assert '360 test images' in table
