"""Networks with shuffled parameters, as a whole and a part at a time."""

from attribution.maskers import Masker
from impactx_jax.data import columns as column_lib
from impactx_jax.data import sources
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import randomisation
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
import jax
import numpy as np
import pytest
from tests.pipeline_fixtures import restored


@pytest.fixture(scope='module')
def network(finished_workdir):
  return restored(finished_workdir, 'impactx')


def test_random_parameters_are_the_trained_ones_in_another_order(network):
  scrambled = randomisation.randomised(network[1], 0)
  for old, new in zip(
      jax.tree.leaves(network[1]), jax.tree.leaves(scrambled), strict=True
  ):
    np.testing.assert_array_equal(np.sort(old, None), np.sort(new, None))
  kernel = network[1]['collections']['classifier']['params']['trunk']['conv1']
  other = scrambled['collections']['classifier']['params']['trunk']['conv1']
  assert np.any(kernel['kernel'] != other['kernel'])  # Of M as well.


def test_each_part_is_shuffled_alone(network):
  method, variables = network
  for places in method.parts.values():
    scrambled = randomisation.randomised(variables, 0, places)
    moved = [
        jax.tree_util.keystr(path)
        for (path, old), new in zip(
            jax.tree_util.tree_leaves_with_path(variables),
            jax.tree.leaves(scrambled), strict=True,
        ) if not np.array_equal(old, new)
    ]
    starts = tuple(''.join(f"['{key}']" for key in p) for p in places)
    assert moved and all(path.startswith(starts) for path in moved)
  # No part is forgotten, and none is in two.
  for path, _ in jax.tree_util.tree_leaves_with_path(variables):
    keys = tuple(key.key for key in path)
    assert sum(
        keys[:len(place)] == place
        for places in method.parts.values() for place in places
    ) == 1


def test_a_map_follows_the_parts_that_it_is_made_of(finished_workdir, network):
  method, variables = network
  config = configs.read(artefact.open_workdir(finished_workdir))
  with config.unlocked():
    config.evaluation.explainers = ('random',)
  dataset = sources.load(config.data, config.seed)
  columns = column_lib.sample(dataset.test, 8, config.seed)
  images = column_lib.to_float(columns['image'])
  logits = np.asarray(method.predict(variables, {'image': images}).logits)
  classes = logits.argmax(-1)
  makers = explaining.compared(config, method, Masker('blur'))
  maps = {
      name: make(variables, images, classes) for name, make in makers.items()
  }
  likeness, accuracies = randomisation.measure(
      config, network, columns, classes, maps, makers
  )
  parts = ('M', 'LEP and D', 'C')
  own = {
      part: likeness[f'randomisation of {part}']['impactx']
      for part in parts
  }
  # The paper's decoder does not see M, nor C; only LEP and D make its map.
  for part in ('M', 'C'):
    np.testing.assert_allclose(own[part], 1, atol=1e-6)
  assert own['LEP and D'].max() < 0.9
  # What is computed from the network follows each part that classifies.
  for part in ('M', 'C'):
    shap = likeness[f'randomisation of {part}']['partition']
    assert shap.max() < 0.9
  assert likeness.keys() == accuracies.keys() == {
      'randomisation', *(f'randomisation of {part}' for part in parts)
  }
  # What does not know the network is the same, whatever is shuffled.
  for by_name in likeness.values():
    np.testing.assert_allclose(by_name['random'], 1)
  # By hand: what is still answered rightly without M.
  scrambled = randomisation.randomised(
      variables, config.seed, method.parts['M']
  )
  logits = method.predict(scrambled, {'image': images}).logits
  right = np.mean(logits.argmax(-1) == columns['label'])
  assert accuracies['randomisation of M'] == pytest.approx(right)


def test_statistics_of_normalisations_are_not_shuffled():
  variables = {
      'params': {'kernel': np.arange(100)},
      'collections': {
          'batch_stats': {'var': np.arange(100)},
          'classifier': {
              'params': {'kernel': np.arange(100)},
              'collections': {'batch_stats': {'var': np.arange(100)}},
          },
      },
  }
  found = jax.tree_util.tree_leaves_with_path(
      randomisation.randomised(variables, 0)
  )
  for path, leaf in found:
    kept = np.array_equal(leaf, np.arange(100))
    assert kept == ('var' in jax.tree_util.keystr(path))
