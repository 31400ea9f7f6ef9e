"""A small run of the shard loop, for the tests of what it writes."""

from collections.abc import Callable
import dataclasses
import pathlib

from attribution import records
from attribution import service
from etils import epath
import numpy as np
import pytest

SETTINGS = {
    'classifier': 'abc',
    'explainer': {'masker': 'constant', 'max_evals': 7},
    'seed': 0,
}
FACTS = {'provenance': {'device': 'cpu'}}
COUNT = 10
SHARD_SIZE = 4  # So shards of 4, 4 and 2.
NUM_SHARDS = 3
# Calls of the explainer in a whole run: two to estimate, one for each shard.
CALLS = 2 + NUM_SHARDS


class Killed(BaseException):
  """Ends a run as a signal does: nothing in the code catches it."""


def make_examples(count: int = COUNT) -> records.Columns:
  rng = np.random.default_rng(0)
  examples = {
      'id': np.array([f'train/{i:03d}.png' for i in range(count)]),
      'split': np.array(['train', 'train', 'validation'] * count)[:count],
      'image': rng.integers(1, 256, (count, 4, 5, 3), np.uint8),
      'label': rng.integers(0, 3, count, np.int32),
  }
  return {**examples, 'classes': examples['label'][:, None]}


class Linear:
  """A linear classifier and its exact maps, w · x, with black as hidden."""

  weights = np.random.default_rng(1).normal(size=(4, 5, 3, 3))
  bias = np.array([0.5, -1, 2])

  def __init__(self):
    self.explained = []  # The images of each call.
    self.before_call: Callable[[int], None] = lambda call: None

  def explain(self, images, classes):
    self.before_call(len(self.explained))
    assert images.dtype == np.float32, images.dtype
    assert classes.shape == (len(images), classes.shape[1]), classes.shape
    self.explained.append(np.array(images))
    weights = np.moveaxis(self.weights[..., classes], -2, 0)
    return (images[..., None] * weights).astype(np.float32)

  def score(self, images):
    scores = np.tensordot(images, self.weights, axes=3) + self.bias
    return scores.astype(np.float32)

  def maker(self, **changes) -> service.MapMaker:
    maker = service.MapMaker(
        explain=self.explain,
        score=self.score,
        background=np.zeros_like,
        evaluations=7,
        chunk=SHARD_SIZE,
    )
    return dataclasses.replace(maker, **changes)


def write_maps(directory, maker: service.MapMaker | None = None, **changes):
  """A whole run, or what `changes` make of it; returns the manifest."""
  arguments = {
      'examples': make_examples(),
      'settings': SETTINGS,
      'facts': FACTS,
      'shard_size': SHARD_SIZE,
      **changes,
  }
  return service.write_maps(
      directory, arguments.pop('examples'), maker or Linear().maker(),
      **arguments,
  )


def contents(directory) -> dict[str, bytes]:
  """Every file of a directory, hidden ones too."""
  directory = pathlib.Path(directory)
  return {
      str(path.relative_to(directory)): path.read_bytes()
      for path in directory.rglob('*') if path.is_file()
  }


def shard_path(directory, index: int) -> epath.Path:
  return epath.Path(directory) / records.shard_name(index, NUM_SHARDS)


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
  """The directory of an uninterrupted run; tests must not change it."""
  directory = tmp_path_factory.mktemp('finished')
  write_maps(directory)
  return directory


def spoil(explain, change):
  """An explainer whose map of the example 5 (of shard 1) is spoilt."""
  target = make_examples()['image'][5].astype(np.float32) / 255

  def spoilt(images, classes):
    maps = explain(images, classes)
    for i, image in enumerate(images):
      if np.array_equal(image, target):
        maps[i] = change(maps[i])
    return maps

  return spoilt
