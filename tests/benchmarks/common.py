"""A trained LeNet-5 and images for the benchmarks, without TensorFlow."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from impactx_jax import methods
from impactx_jax.configs import common as recipes
import jax
import jax.numpy as jnp
import numpy as np
import optax

PROBLEM = methods.Problem(num_classes=10, image_shape=(32, 32, 3))


def parser(doc: str) -> argparse.ArgumentParser:
  """Returns a parser of what every benchmark with a LeNet-5 asks."""
  made = argparse.ArgumentParser(
      description=doc, formatter_class=argparse.RawTextHelpFormatter
  )
  made.add_argument('--data_dir', default='', help='where TFDS has CIFAR-10')
  made.add_argument('--npz', default='', help='images instead of TFDS')
  return made


def load_images(npz: str, data_dir: str) -> dict[str, np.ndarray]:
  """Loads float32 images [N, 32, 32, 3] in [0, 1] and labels.

  Args:
    npz: File with `train_images`, `train_labels`, `test_images` and
      `test_labels`, the images uint8; or ''.
    data_dir: Where TFDS has CIFAR-10; or ''. With neither, scikit-learn's
      digits are used, four pixels a side for each of theirs.
  """
  if npz:
    data = dict(np.load(npz))
  elif data_dir:
    from impactx_jax.data import sources

    config = recipes.get_config().data
    config.update(name='cifar10', data_dir=data_dir)
    dataset = sources.load(config, seed=0)
    data = {
        f'{split}_{name}s': columns[name]
        for split, columns in (('train', dataset.train), ('test', dataset.test))
        for name in ('image', 'label')
    }
  else:
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.kron(digits.images * 255 / 16, np.ones((1, 4, 4)))
    images = np.repeat(images[..., None], 3, axis=-1).astype(np.uint8)
    data = {
        'train_images': images[:1400],
        'train_labels': digits.target[:1400],
        'test_images': images[1400:],
        'test_labels': digits.target[1400:],
    }
  return {
      name: (x / 255).astype(np.float32) if 'images' in name else x
      for name, x in data.items()
  }


def train_lenet(images: np.ndarray, labels: np.ndarray, *, steps: int):
  """Trains a LeNet-5 with Adam in batches of 64; returns its parameters."""
  method = methods.create(methods.BASELINE, recipes.get_config(), PROBLEM)
  params, collections = method.init(jax.random.key(0), None)
  optimizer = optax.adam(1e-3)

  @jax.jit
  def step(params, opt_state, batch):
    gradients, _ = jax.grad(method.loss, has_aux=True)(
        params, collections, batch, jax.random.key(0)
    )
    updates, opt_state = optimizer.update(gradients, opt_state)
    return optax.apply_updates(params, updates), opt_state

  opt_state = optimizer.init(params)
  generator = np.random.default_rng(0)
  for _ in range(steps):
    rows = generator.integers(0, len(labels), 64)
    batch = {'image': images[rows], 'label': jnp.asarray(labels[rows])}
    params, opt_state = step(params, opt_state, batch)
  return params


def score_fn(params, images):
  """Returns the class probabilities of images."""
  method = methods.create(methods.BASELINE, recipes.get_config(), PROBLEM)
  variables = {'params': params, 'collections': {}}
  return jax.nn.softmax(method.predict(variables, {'image': images}).logits)


def save_params(folder: str, params) -> None:
  leaves = {
      jax.tree_util.keystr(path): np.asarray(leaf)
      for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  }
  np.savez(pathlib.Path(folder) / 'params.npz', **leaves)


def load_params(folder: str):
  """Reads what `save_params` wrote."""
  method = methods.create(methods.BASELINE, recipes.get_config(), PROBLEM)
  shapes = method.shapes()['params']
  stored = np.load(pathlib.Path(folder) / 'params.npz')
  return jax.tree_util.tree_map_with_path(
      lambda path, _: stored[jax.tree_util.keystr(path)], shapes
  )


def ask_captum(
    python: str, params, data: dict[str, np.ndarray], asked: dict
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """Runs `captum_process` on a network and images.

  Args:
    python: Of an environment with captum; '' to make one.
    params: Of the network.
    data: Arrays, by name.
    asked: What to do; see there.

  Returns:
    The arrays that it found, and seconds, by name.
  """
  with tempfile.TemporaryDirectory() as folder:
    if not python:
      make = [sys.executable, '-m', 'venv', f'{folder}/env']
      subprocess.run(make, check=True)
      python = f'{folder}/env/bin/python'
      install = [python, '-m', 'pip', 'install', '-q', 'torch', 'captum']
      subprocess.run(install, check=True)
    folder = pathlib.Path(folder)
    save_params(str(folder), params)
    np.savez(folder / 'data.npz', **data)
    asked = asked | {'threads': len(os.sched_getaffinity(0))}
    (folder / 'asked.json').write_text(json.dumps(asked))
    script = pathlib.Path(__file__).with_name('captum_process.py')
    subprocess.run([python, script, folder], check=True)
    seconds = json.loads((folder / 'seconds.json').read_text())
    return dict(np.load(folder / 'values.npz')), seconds


def check_scores(values: dict[str, np.ndarray], scores: np.ndarray) -> None:
  """Raises RuntimeError if the network there is not the one here."""
  gap = np.abs(values['scores'] - scores).max()
  if gap > 1e-4:
    raise RuntimeError(f'The scores of the two networks differ by {gap:.1e}.')
