"""A finished workdir to spoil, and what a run that is refused looks like."""

import contextlib
import json
import pathlib
import shutil

from attribution import service
from attribution.errors import InputError
from impactx_jax import stages
from impactx_jax.data import sources
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import evaluate
from impactx_jax.stages import trained
from impactx_jax.training import loop
import pytest


class Reached(Exception):
  """Work that bad input must not reach, and that good input does."""


def forbid(monkeypatch, *functions):
  for module, name in functions:

    def reached(*_, name=name, **__):
      raise Reached(name)

    monkeypatch.setattr(module, name, reached)


@pytest.fixture
def no_work(monkeypatch):
  """Raises Reached where training, explaining or measuring would begin."""
  forbid(
      monkeypatch, (loop, 'train'), (service, 'write_maps'),
      (evaluate, 'measure'),
  )


@pytest.fixture
def no_data(monkeypatch):
  forbid(monkeypatch, (sources, 'load'))


@pytest.fixture
def finished(finished_workdir, tmp_path) -> pathlib.Path:
  """A copy of the finished workdir, to be spoilt."""
  return pathlib.Path(
      shutil.copytree(finished_workdir, tmp_path / 'finished')
  )


@contextlib.contextmanager
def case(*names):
  """Says which case of a table it is that fails."""
  try:
    yield
  except (Exception, pytest.fail.Exception) as error:
    error.add_note(f'The case is {names}.')
    raise


def set_field(config, path: str, value) -> None:
  with config.unlocked():
    config.update_from_flattened_dict({path: value})


def refused(config, workdir, stage='all', *parts: str) -> str:
  """Runs, and returns the message, which must contain `parts`."""
  with pytest.raises(InputError) as error:
    stages.run(config, workdir, stage)
  message = str(error.value)
  assert '\n' not in message, 'more than one paragraph'
  for part in parts:
    assert part in message, message
  return message


def read_summary(directory):
  """What completes a training run, None where it is not complete."""
  path = directory / artefact.SUMMARY
  return json.loads(path.read_text()) if path.exists() else None


def restored(workdir, name: str):
  """A trained network of a workdir, and its variables."""
  home = artefact.open_workdir(workdir)
  config = configs.read(home)
  return trained.restore(artefact.trained(home, name, config))


def keep_classifier(workdir: pathlib.Path) -> None:
  """Leaves of a finished workdir what stage one wrote."""
  for name in ('maps', 'impactx', 'impactx_lambda0', 'report'):
    shutil.rmtree(workdir / name)


def begun(workdir: pathlib.Path) -> set[str]:
  """What a refused run has left."""
  return {path.name for path in workdir.glob('*')}


def edit_json(path: pathlib.Path, **entries) -> None:
  content = json.loads(path.read_text())
  assert entries.keys() <= content.keys(), content.keys()
  path.write_text(json.dumps(content | entries))


@pytest.fixture
def sharing(tiny_config, finished_workdir):
  """Another seed, with the classifier and the maps of the finished run."""
  tiny_config.seed = 1
  tiny_config.classifier.workdir = str(finished_workdir)
  tiny_config.attribution.workdir = str(finished_workdir)
  return tiny_config
