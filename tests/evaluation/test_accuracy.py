"""The report of a finished run: its numbers and its picture."""

import json

from impactx_jax.evaluation import accuracy
from impactx_jax.stages import trained
from impactx_jax.stages import artefact
from impactx_jax.data import batches
from impactx_jax.data import sources
from impactx_jax.report import figures
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
    method, variables = trained.network(
        artefact.open_workdir(finished_workdir), folder
    )
    logits = jax.jit(method.predict)(variables, images).logits
    expected = np.mean(np.argmax(logits, -1) == test['label'])
    assert accuracy == pytest.approx(float(expected))


def test_report_compares_the_map_with_shap_on_the_same_model(finished_workdir):
  maps = load_metrics(finished_workdir)['maps']
  assert maps['images'] == 8 and maps['draws'] == 2 and maps['region'] == 4
  assert maps['reference'] == 'partition'
  for name in ('morf_area', 'morf_aopc'):
    means = {
        map_name: found['mean']
        for map_name, found in maps['measures'][name].items()
    }
    assert means.keys() == {'partition', 'impactx', 'random'}
    assert len(set(means.values())) == 3


def test_results_are_those_of_the_test_split_one_by_one(
    finished_workdir, tiny_config
):
  test = sources.load(tiny_config.data, tiny_config.seed).test
  method, variables = trained.network(
      artefact.open_workdir(finished_workdir), 'impactx'
  )
  found = accuracy.test(method, variables, test, batch_size=50)
  logits = np.asarray(
      jax.jit(method.predict)(variables, batches.to_float(test['image'])).logits
  )
  assert found['label'] == test['label'].tolist()
  assert found['predicted'] == logits.argmax(-1).tolist()
  assert found['accuracy'] == pytest.approx(
      np.mean(logits.argmax(-1) == test['label'])
  )
  entropy = np.log(np.exp(logits).sum(-1)) - logits[
      np.arange(len(logits)), test['label']
  ]
  assert found['cross_entropy'] == pytest.approx(entropy.mean(), rel=1e-4)
  json.dumps(found)  # It is kept on disk.


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
  table = accuracy.summary_table(metrics)
  for name, accuracy in metrics['accuracy'].items():
    assert figures.title_of(name) in table and f'{100 * accuracy:.2f}' in table
  assert '360 test images' in table
