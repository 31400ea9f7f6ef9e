"""One device or four: the same training. Prefetching: the same batches."""

import os
import subprocess
import sys

from attribution.errors import InputError
from impactx_jax import parallel
import jax
import numpy as np
import pytest

# Trains a classifier, and methods that differ in what they do over devices, for
# a few steps on made-up data, explains one, and saves what came of it.
SCRIPT = """
import sys
import attribution
import numpy as np
from etils import epath
import jax
from attribution.maskers import Masker
from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.training import checkpoints, loop

folder = epath.Path(sys.argv[1])
config = common.get_config()
config.method.decoder_filters, config.method.lep_units = 8, 16
config.method.refresh_every = 2
# Whose maps do not hang on the last bit of a score, as a queue's do.
config.attribution.explainer, config.attribution.grid = 'partition_grid', 2
training = config.classifier.training
training.update(epochs=2, batch_size=8, flip=True, crop_padding=2)
generator = np.random.default_rng(0)
columns = {
    'image': generator.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8),
    'label': generator.integers(0, 4, 40).astype(np.int32),
    'map': generator.normal(size=(40, 32, 32, 3)).astype(np.float32),
    'mask': generator.integers(0, 2, (40, 32, 32, 1), dtype=np.uint8),
    'annotated': (generator.random(40) < 0.7).astype(np.float32),
}
parts = {
    'train': {k: v[:27] for k, v in columns.items()},
    'validation': {k: v[27:] for k, v in columns.items()},
}
without = {
    split: {k: v for k, v in part.items() if k != 'map'}
    for split, part in parts.items()
}
problem = methods.Problem(4, (32, 32, 3), examples=27, masker=Masker('blur'))
results, trained = {'devices': jax.device_count()}, {}
for name in (
    'baseline', 'impactx', 'impactx_single_stage', 'abn', 'guided',
    'baseline_augmented',
):
  spec = methods.find(name)
  classifier = None if spec.from_scratch else trained['baseline']
  method = methods.create(name, config, problem)
  history = loop.train(
      method,
      parts if spec.maps(config.method) else without,
      training=training,
      section='classifier',
      seed=0,
      directory=folder / name,
      classifier=classifier,
      scalars=methods.scalars(name, config),
  )
  trained[name] = checkpoints.restore_variables(
      folder / name, history.best_epoch['step'], method.shapes(classifier)
  )
  for path, leaf in jax.tree_util.tree_leaves_with_path(trained[name]):
    results[name + jax.tree_util.keystr(path)] = leaf
  for key, value in history.epochs[-1].items():
    results[name + key] = value
# Ten images: neither device count divides them.
images = columns['image'][:10] / np.float32(255)
method = methods.create('baseline', config, problem)
for name in ('partition', 'partition_grid'):
  results[name] = attribution.explain(
      lambda x: method.predict(trained['baseline'], {'image': x}).logits,
      images, columns['label'][:10], explainer=name, max_evals=60, grid=2,
  )
np.savez(folder / 'results.npz', **results)
"""


def run_on(devices, folder):
  environment = {
      **os.environ,
      'NPROC': '8',  # Else the fake devices' collectives may wait for ever.
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': ' '.join((
          os.environ.get('XLA_FLAGS', ''),
          f'--xla_force_host_platform_device_count={devices}',
      )),
  }
  subprocess.run(
      [sys.executable, '-c', SCRIPT, str(folder)], env=environment, check=True
  )
  return dict(np.load(folder / 'results.npz'))


def test_four_devices_train_and_explain_as_one(tmp_path):
  one, four = (run_on(n, tmp_path / str(n)) for n in (1, 4))
  assert (one.pop('devices'), four.pop('devices')) == (1, 4)
  assert len(one) > 30 and one.keys() == four.keys()
  for name, value in one.items():
    # Adam makes steps of gradients that are 0 but for rounding, of which a
    # gradient of a gradient has more: less than a step of its learning rate.
    guided = name.startswith('guided')
    np.testing.assert_allclose(
        four[name], value, rtol=1e-3, atol=5e-4 if guided else 2e-5,
        err_msg=name,
    )


@pytest.mark.parametrize(
    'batch_size, fits', [(8, True), (6, False), (0, False)]
)
def test_a_batch_must_divide_among_the_devices(monkeypatch, batch_size, fits):
  monkeypatch.setattr(jax, 'device_count', lambda: 4)
  if fits:
    parallel.check_batch_size(batch_size, '--flag')
  else:
    with pytest.raises(InputError, match='4 devices.*--flag=N'):
      parallel.check_batch_size(batch_size, '--flag')


def test_prefetch_yields_all_in_order():
  assert list(parallel.prefetch(iter(range(20)))) == list(range(20))


def test_prefetch_passes_errors_on():
  def failing():
    yield 1
    raise KeyError('broken')

  batches = parallel.prefetch(failing())
  assert next(batches) == 1
  with pytest.raises(KeyError, match='broken'):
    next(batches)


def test_prefetch_stops_when_its_reader_does():
  produced = []

  def endless():
    while True:
      produced.append(len(produced))
      yield produced[-1]

  batches = parallel.prefetch(endless(), size=2)
  next(batches)
  batches.close()
  count = len(produced)
  assert count <= 5
  assert next(parallel.prefetch(iter([1]))) == 1
  assert len(produced) == count
