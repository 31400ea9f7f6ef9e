"""What the tests of tables and sweeps share: tiny runs."""

import contextlib
import json
import pathlib
from unittest import mock

from attribution import service
from attribution.errors import InputError
from impactx_jax.data import shapes
from impactx_jax.evaluation import accuracy
from impactx_jax.training import loop
import pytest
from tests.conftest import make_tiny_config
from tests.pipeline_fixtures import forbid

TINY_SHAPES = shapes.ShapesConfig(name='tiny', num_train=160, num_test=48)


class Interrupted(Exception):
  """Stands for what ends a run from outside."""


def small_config(data_dir):
  """One epoch of each training, on a few images."""
  config = make_tiny_config(data_dir)
  for training in (config.classifier.training, config.method.training):
    training.epochs = 1
    training.batch_size = 16
  config.method.map_cell = 4  # D is small then, and compiles in no time.
  config.method.refresh_evals = 10
  config.attribution.num_examples = 160
  config.attribution.max_evals = 20
  config.attribution.shard_size = 256
  return config


def digits_config(data_dir):
  """A fifth of the digits: 287 labelled images, 160 of them with maps."""
  config = small_config(data_dir)
  config.data.label_fraction = 0.2
  return config


@contextlib.contextmanager
def tiny_shapes():
  """Adds shapes/tiny, which is drawn in a moment."""
  configs = shapes.Shapes.builder_configs
  with mock.patch.dict(configs, {TINY_SHAPES.name: TINY_SHAPES}):
    yield


def count_trainings(monkeypatch, stop_at: int = 0) -> list[str]:
  """Notes which trainings begin, and interrupts before one of them.

  Args:
    monkeypatch: Of the test.
    stop_at: Which raises `Interrupted`, counted from 1; 0: none.

  Returns:
    The folders of the trainings that began, which grows as they do.
  """
  begun = []
  fit = loop.train

  def counted(*args, directory, **options):
    if len(begun) + 1 == stop_at:
      raise Interrupted
    begun.append(f'{directory.parent.name}/{directory.name}')
    return fit(*args, directory=directory, **options)

  monkeypatch.setattr(loop, 'train', counted)
  return begun


def read_json(path: pathlib.Path):
  """Reads strict JSON: NaN and infinities are refused."""

  def refuse(constant):
    raise ValueError(f'{constant} in {path}')

  return json.loads(path.read_text(), parse_constant=refuse)


def without_seconds(content):
  """A copy without what differs from one time to the next."""
  if isinstance(content, dict):
    return {
        name: without_seconds(value)
        for name, value in content.items()
        if name != 'seconds'
    }
  if isinstance(content, list):
    return [without_seconds(value) for value in content]
  return content


SWEEP = 'def get_sweep():\n  return {sweep}\n'


def write_sweep(folder, grid, stage='impactx') -> str:
  path = pathlib.Path(folder) / 'mine.py'
  path.write_text(SWEEP.format(sweep={'stage': stage, 'grid': grid}))
  return str(path)


def refused(call, *parts: str) -> None:
  """Checks for an InputError of one paragraph that names `parts`."""
  with pytest.raises(InputError) as error:
    call()
  message = str(error.value)
  assert '\n' not in message
  for part in parts:
    assert part in message, message


FILES = ('table.json', 'table.csv', 'table.md', 'table.png')


@pytest.fixture
def no_work(monkeypatch):
  forbid(
      monkeypatch, (loop, 'train'), (service, 'write_maps'), (accuracy, 'test')
  )


def read_files(workdir: pathlib.Path) -> dict[str, bytes]:
  return {name: (workdir / name).read_bytes() for name in FILES}
