"""The guard: is a predicted map to be trusted for this picture?"""

import dataclasses
import json
import shutil

from absl import flags
from absl.testing import flagsaver
from attribution.errors import InputError
import impactx_jax
from impactx_jax import inference
from impactx_jax.commands import explain
from impactx_jax.configs import common
from impactx_jax.data import sources
from impactx_jax.evaluation import guard
from impactx_jax.stages import artefact
from impactx_jax.stages import checks
from impactx_jax.stages import configs
import numpy as np
from PIL import Image
import pytest
from tests.pipeline_fixtures import restored

IMAGES = np.random.default_rng(0).random((6, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize(('change', 'expected'), [
    (lambda x: x, 0),
    (lambda x: 7 * x, 0),
    (lambda x: -x, 2),
    (lambda x: 0 * x, 1),
    # Only the cells' means are compared, of all channels together.
    (lambda x: x + np.tile([[0.5], [-0.5]], (3, 1))[None, ..., None], 0),
])
def test_the_disagreement(change, expected):
  generator = np.random.default_rng(1)
  cells = generator.normal(size=(4, 3, 3, 1))
  maps = cells.repeat(2, axis=1).repeat(2, axis=2)
  found = guard.disagreement(change(maps), maps.repeat(3, axis=-1), 3)
  np.testing.assert_allclose(found, expected, atol=1e-9)


def test_sides_need_not_divide_evenly():
  maps = np.arange(35.0).reshape(1, 5, 7, 1)
  found = guard._cells(maps, 2).reshape(2, 2)
  rows, columns = [slice(0, 2), slice(2, 5)], [slice(0, 4), slice(4, 7)]
  expected = [[maps[0, r, c].mean() for c in columns] for r in rows]
  np.testing.assert_allclose(found, expected)


@pytest.fixture(scope='module')
def model(finished_workdir):
  return impactx_jax.load(finished_workdir)


def test_it_is_calibrated_on_the_validation_images(
    finished_workdir, model
):
  config = configs.read(artefact.open_workdir(finished_workdir))
  dataset = sources.load(config.data, config.seed)
  found = model.predict(dataset.validation['image'], check=True)
  assert model.guard.images == len(found.trusted)
  # As many alarms as were asked for, to an image.
  alarms = (~found.trusted).sum()
  assert abs(alarms - config.evaluation.guard_false_alarms * len(
      found.trusted
  )) < 1
  # By hand: the coarse map of the class that is predicted.
  network = restored(finished_workdir, 'impactx')
  images = dataset.validation['image'][:3].astype(np.float32) / 255
  coarse = model.guard.checker(network)(network[1], images, found.classes[:3])
  np.testing.assert_allclose(
      found.disagreement[:3],
      guard.disagreement(found.attribution[:3], coarse, model.guard.grid),
      atol=1e-5,
  )


@pytest.mark.parametrize(('sign', 'trusted'), [(1, True), (-1, False)])
def test_a_map_that_is_not_the_networks_raises_an_alarm(model, sign, trusted):
  def call(images, classes):
    answer, probabilities, _, explained = model.call(images, classes)
    coarse = model.coarse(images, np.asarray(explained))
    return answer, probabilities, sign * coarse, explained

  found = dataclasses.replace(model, call=call).predict(IMAGES, check=True)
  np.testing.assert_allclose(found.disagreement, 1 - sign, atol=1e-5)
  assert (found.trusted == trusted).all()


def test_without_a_guard_there_is_no_check(model):
  unguarded = dataclasses.replace(model, guard=None, coarse=None)
  assert unguarded.predict(IMAGES).trusted is None
  with pytest.raises(InputError, match='no guard.*--stage=evaluate'):
    unguarded.predict(IMAGES, check=True)


def test_the_guard_of_another_network_is_not_taken(finished_workdir, tmp_path):
  home = tmp_path / 'copy'
  shutil.copytree(finished_workdir, home)
  path = home / 'impactx' / artefact.GUARD
  content = json.loads(path.read_text())
  path.write_text(json.dumps(content | {'digest': 'another'}))
  assert impactx_jax.load(home).guard is None


@pytest.mark.parametrize('grid', [1, 0, 3, 12])
def test_a_grid_that_there_is_not_is_refused(grid):
  config = common.get_config()
  config.evaluation.guard_grid = grid
  with pytest.raises(InputError, match='--config.evaluation.guard_grid=N'):
    checks.check(config)


@pytest.mark.parametrize('threshold', [-1.0, 3.0])
def test_the_command_names_doubtful_maps(
    finished_workdir, tmp_path, capsys, monkeypatch, threshold
):
  path = tmp_path / 'picture.png'
  Image.fromarray((255 * IMAGES[0]).astype(np.uint8)).save(path)
  load = inference.load

  def loaded(*arguments):
    found = load(*arguments)
    return dataclasses.replace(found, guard=dataclasses.replace(
        found.guard, threshold=threshold
    ))

  monkeypatch.setattr(inference, 'load', loaded)
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(check=True, out=str(tmp_path)):
    explain._explain(None, str(finished_workdir), str(path))
  text = capsys.readouterr().out
  assert ('DOUBTFUL' in text) == (threshold < 0)
  assert '172 evaluations' in text
