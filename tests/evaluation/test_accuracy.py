"""What a trained network says of the test split."""

import json

from impactx_jax import methods
from impactx_jax import tasks
from impactx_jax.data import sources
from impactx_jax.data.columns import to_float
from impactx_jax.evaluation import accuracy
import jax
import numpy as np
import pytest
from tests.pipeline_fixtures import restored


def load_metrics(workdir):
  return json.loads((workdir / 'report' / 'metrics.json').read_text())


def logits_of(network, test):
  method, variables = network
  batch = {'image': to_float(test['image'])}
  return np.asarray(jax.jit(method.predict)(variables, batch).logits)


def test_accuracy_is_that_of_the_restored_networks(
    finished_workdir, tiny_config
):
  metrics = load_metrics(finished_workdir)
  test = sources.load(tiny_config.data, tiny_config.seed).test
  assert metrics['accuracy'].keys() == {
      'baseline', 'impactx', 'impactx_lambda0'
  }
  for name, found in metrics['accuracy'].items():
    logits = logits_of(restored(finished_workdir, name), test)
    expected = np.mean(np.argmax(logits, -1) == test['label'])
    assert found == pytest.approx(float(expected))


def test_results_are_those_of_the_test_split_one_by_one(
    finished_workdir, tiny_config
):
  test = sources.load(tiny_config.data, tiny_config.seed).test
  network = restored(finished_workdir, 'impactx')
  found = accuracy.test(*network, test, batch_size=50)
  logits = logits_of(network, test)
  assert found['label'] == test['label'].tolist()
  assert found['predicted'] == logits.argmax(-1).tolist()
  assert found['correct'] == (logits.argmax(-1) == test['label']).tolist()
  assert found['accuracy'] == pytest.approx(np.mean(found['correct']))
  entropy = np.log(np.exp(logits).sum(-1)) - logits[
      np.arange(len(logits)), test['label']
  ]
  assert found['cross_entropy'] == pytest.approx(entropy.mean(), rel=1e-4)
  assert json.loads(json.dumps(found)) == found  # It is kept on disk.


def test_of_several_labels_by_hand():
  """The logits are the first pixel, less a half, and the other way round."""
  method = methods.Method(
      tasks.TASKS['multi_label'], None, None,
      lambda variables, batch: methods.Prediction(
          (batch['image'][:, 0, 0] - 0.5) * variables['sign']
      ),
  )
  image = np.array([255, 204, 0, 255], np.uint8)[:, None, None, None]
  columns = {
      'image': np.repeat(image, 2, axis=-1),
      'labels': np.array([[1, 0], [0, 1], [0, 1], [1, 1]], np.int32),
  }
  variables = {'sign': np.float32([1, -1])}
  found = accuracy.test(method, variables, columns, batch_size=3)
  assert found['predicted'] == [[1, 0], [1, 0], [0, 1], [1, 0]]
  assert found['label'] == columns['labels'].tolist()
  assert found['correct'] == [True, False, True, False]
  assert found['accuracy'] == 0.5
  # Three ones are right, one is wrong, and two are missed.
  assert found['f1'] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
  # The first class ranks its images 1, 1, (0.8,) and misses none; the second
  # has the third image first, the second one next, and one among the last two.
  second = (1 / 3) * (1 + 1 + 3 / 4)
  assert found['mean_average_precision'] == pytest.approx((1 + second) / 2)
  assert json.loads(json.dumps(found)) == found
  np.testing.assert_allclose(
      accuracy.by_class(found, 'multi_label', 2), [1, 1 / 3]
  )


def test_accuracy_by_class_by_hand():
  test = {'label': [0, 0, 1, 3], 'predicted': [0, 1, 1, 0]}
  np.testing.assert_allclose(
      accuracy.by_class(test, 'classification', 4), [0.5, 1, np.nan, 0]
  )


@pytest.mark.parametrize(('names', 'expected'), [
    (('a', 'b', 'c'), {'a': 0.5, 'c': 1.0}),
    (('a',), {'a': 0.5, '2': 1.0}),
    ((), {'0': 0.5, '2': 1.0}),
])
def test_accuracy_by_group_by_hand(names, expected):
  right = np.array([True, False, True, True])
  groups = np.array([0, 0, 2, 2])
  assert accuracy.by_group(right, groups, names) == expected


def test_groups_stand_beside_the_measures_where_there_are_some():
  method = methods.Method(
      tasks.TASKS['classification'], None, None,
      lambda variables, batch: methods.Prediction(
          batch['image'][:, 0, 0] * variables['sign']
      ),
  )
  images = np.array([[255, 0], [0, 255], [255, 0]], np.uint8)[:, None, None]
  columns = {'image': images, 'label': np.array([0, 0, 0], np.int32)}
  variables = {'sign': np.float32(1)}
  found = accuracy.test(method, variables, columns, 2)
  assert not [name for name in found if 'group' in name]
  columns['group'] = np.array([1, 0, 0])
  found = accuracy.test(method, variables, columns, 2, ('x', 'y'))
  assert found['group_accuracy'] == {'x': 0.5, 'y': 1.0}
  assert found['worst_group_accuracy'] == 0.5
  assert json.loads(json.dumps(found)) == found
