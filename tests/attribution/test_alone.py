"""Tests that `attribution` works without `impactx_jax`, and on any devices."""

import os
import subprocess
import sys

import attribution
from attribution import records
import jax.numpy as jnp
import numpy as np
import pytest

# Explains five images on three devices, and writes and reads shards.
_SCRIPT = """
import sys
sys.modules['impactx_jax'] = None  # Whatever imports it fails.
import attribution
from attribution import explainers, records, service
import jax
import jax.numpy as jnp
import numpy as np

folder = sys.argv[1]
given = dict(np.load(folder + '/given.npz'))
images, labels, weights = given['images'], given['labels'], given['weights']
score = lambda w, x: jnp.tanh(x.reshape(len(x), -1) @ w)
assert jax.local_device_count() == 3
maps = {}
for name in explainers.EXPLAINERS:
  if name not in explainers.NEED_LAYERS:
    maps[name] = attribution.explain(
        score, images, labels, variables=weights, explainer=name,
        max_evals=30, grid=2, integration_steps=2,
    )
np.savez(folder + '/maps.npz', **maps)

explain = explainers.create('partition_grid', score, grid=2)
maker = service.MapMaker(
    explain=lambda images, classes: explain(weights, images, classes),
    score=lambda images: np.asarray(score(weights, images)),
    background=attribution.maskers.BLUR.background,
    evaluations=12,
)
examples = {
    'id': np.array(list('abcde')),
    'split': np.array(['train'] * 5),
    'image': (255 * images).astype(np.uint8),
    'labels': np.eye(5, 3, dtype=np.int8),
    'classes': labels[:, None],
}
service.write_maps(
    folder + '/maps', examples, maker, settings={}, facts={}, shard_size=2
)
columns, _ = records.read(folder + '/maps')
np.testing.assert_array_equal(columns['labels'], examples['labels'])

explainer = attribution.Explainer(
    score, variables=weights, explainer='partition_grid', grid=2
)
attribution.write_maps(
    explainer, {'image': images, 'label': labels}, folder + '/public',
    shard_size=2,
)
columns, _ = attribution.read_maps(folder + '/public')
attribution.plot(columns['image'], columns['map'])
print(attribution.measure(
    score, columns['image'], columns['map'], variables=weights, draws=1,
    explainers=explainer, noise_draws=1,
))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where the script has left its maps and shards."""
  folder = tmp_path_factory.mktemp('alone')
  rng = np.random.default_rng(0)
  np.savez(
      folder / 'given.npz',
      images=rng.random((5, 8, 8, 1), np.float32),
      labels=np.array([0, 1, 2, 1, 0]),
      weights=rng.normal(size=(64, 3)).astype(np.float32),
  )
  environment = {
      **os.environ,
      'PYTHONPATH': os.pathsep.join(sys.path),
      'XLA_FLAGS': ' '.join((
          os.environ.get('XLA_FLAGS', ''),
          '--xla_force_host_platform_device_count=3',
      )),
  }
  process = subprocess.run(
      [sys.executable, '-c', _SCRIPT, str(folder)],
      env=environment, capture_output=True, text=True, check=False,
  )
  assert process.returncode == 0, process.stderr
  return folder


def _score(weights, images):
  return jnp.tanh(images.reshape(len(images), -1) @ weights)


def test_the_maps_of_three_devices_are_those_of_one(folder):
  given, maps = np.load(folder / 'given.npz'), np.load(folder / 'maps.npz')
  assert len(maps) > 5
  for name, found in maps.items():
    expected = attribution.explain(
        _score, given['images'], given['labels'], variables=given['weights'],
        explainer=name, max_evals=30, grid=2, integration_steps=2,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_the_shards_of_three_devices_hold_the_maps_of_one(folder):
  columns, _ = attribution.read_maps(folder / 'public')
  given = np.load(folder / 'given.npz')
  expected = attribution.explain(
      _score, given['images'], given['labels'], variables=given['weights'],
      explainer='partition_grid', grid=2,
  )
  np.testing.assert_allclose(columns['map'], expected, rtol=1e-4, atol=1e-6)


def test_shards_are_read_where_others_wrote_them(folder):
  columns, manifest = records.read(folder / 'maps')
  assert columns['id'].tolist() == list('abcde')
  assert manifest['completeness']['largest_gap'] < 1e-4
