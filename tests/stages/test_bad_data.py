"""Tests for data that are not there, too few, or of an unsuitable size."""

import dataclasses
import shutil

from attribution import service
from impactx_jax import stages
from impactx_jax.data import sources
from impactx_jax.evaluation import accuracy
from impactx_jax.evaluation import measure_maps
from impactx_jax.models.impactx import decoder_blocks
from impactx_jax.training import train_step
from PIL import Image
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import case
from tests.pipeline_fixtures import forbid
from tests.pipeline_fixtures import keep_classifier
from tests.pipeline_fixtures import refused

no_work = pipeline_fixtures.no_work
finished = pipeline_fixtures.finished


@pytest.mark.usefixtures('no_work')
def test_unknown_data_set_is_refused(tmp_path, tiny_config):
  tiny_config.data.name = 'cifra10'
  for stage in ('all', 'classifier'):
    with case(stage):
      refused(
          tiny_config, tmp_path / 'run', stage, "'cifra10'",
          "Did you mean 'cifar10'?", 'digits', '--config.data.name=',
      )
      assert not begun(tmp_path / 'run')


@pytest.mark.usefixtures('no_work')
def test_data_set_that_is_not_prepared_is_refused(tmp_path, tiny_config):
  (tmp_path / 'empty').mkdir()
  tiny_config.data.name = 'cifar10'
  tiny_config.data.data_dir = str(tmp_path / 'empty')
  refused(
      tiny_config, tmp_path / 'run', 'all', 'not prepared',
      str(tmp_path / 'empty'),
      '--config.data.download=True', '--config.data.data_dir=',
  )
  assert not begun(tmp_path / 'run')
  assert not list((tmp_path / 'empty').iterdir())


@pytest.mark.usefixtures('no_work')
def test_good_input_gets_as_far_as_training(tmp_path, tiny_config):
  # Without this, a check that refuses everything would pass these tests.
  (tmp_path / 'notes.txt').write_text('not a workdir yet')
  (tmp_path / 'classifier').mkdir()
  with pytest.raises(Reached, match='train'):
    stages.run(tiny_config, tmp_path)
  assert (tmp_path / 'notes.txt').read_text() == 'not a workdir yet'


def test_batch_larger_than_the_training_split_is_refused(
    tmp_path, tiny_config, monkeypatch
):
  forbid(monkeypatch, (train_step, 'initial_state'))
  tiny_config.classifier.training.batch_size = 4096
  refused(
      tiny_config, tmp_path, 'all', '4096', '1292',
      '--config.classifier.training.batch_size',
  )
  assert not begun(tmp_path)
  # What the message advises must be possible in the same workdir.
  tiny_config.classifier.training.batch_size = 1024
  with pytest.raises(Reached, match='initial_state'):
    stages.run(tiny_config, tmp_path)


@pytest.mark.usefixtures('no_work')
def test_batch_larger_than_the_number_of_maps_is_refused_before_stage_one(
    tmp_path, tiny_config
):
  tiny_config.method.name = 'explainer'  # It learns from the mapped alone.
  tiny_config.attribution.num_examples = 20  # 18 of them to train on.
  tiny_config.method.training.batch_size = 19
  refused(
      tiny_config, tmp_path, 'all', '19', '18',
      '--config.method.training.batch_size',
      '--config.attribution.num_examples',
  )
  assert not begun(tmp_path)
  tiny_config.method.training.batch_size = 18
  with pytest.raises(Reached, match='train'):
    stages.run(tiny_config, tmp_path)


def test_data_that_changed_since_stage_one_are_refused(
    finished, tiny_config, monkeypatch
):
  forbid(
      monkeypatch, (service, 'write_maps'), (accuracy, 'test'),
      (measure_maps, 'measure'),
  )
  dataset = sources.load(tiny_config.data, tiny_config.seed)
  fewer = {name: column[:-1] for name, column in dataset.train.items()}
  changed = dataclasses.replace(dataset, train=fewer)
  monkeypatch.setattr(sources, 'load', lambda *_: changed)
  before = (finished / 'report' / 'metrics.json').read_bytes()
  shutil.rmtree(finished / 'maps')
  for stage in ('maps', 'evaluate'):
    with case(stage):
      refused(
          tiny_config, finished, stage, '1292', '1291',
          '--config.data.data_dir=',
      )
  assert not (finished / 'maps').exists()
  assert (finished / 'report' / 'metrics.json').read_bytes() == before


# --- The decoder ------------------------------------------------------------


@pytest.mark.usefixtures('no_work')
def test_size_that_the_decoder_cannot_reach_is_refused(tmp_path, tiny_config):
  for start in (7, 12, 33):
    tiny_config.method.decoder_start = start
    with case(start):
      refused(
          tiny_config, tmp_path, 'all', '32x32', f'from {start} ',
          '16, 8, 4, 2, 1', '--config.method.decoder_start=N',
      )
      assert not begun(tmp_path)


@pytest.mark.usefixtures('no_work')
def test_cells_that_do_not_divide_the_image_are_refused(tmp_path, tiny_config):
  tiny_config.method.map_cell = 5
  for name in ('impactx', 'impactx_single_stage'):
    tiny_config.method.name = name
    with case(name):
      refused(
          tiny_config, tmp_path, 'all', '5', '32x32',
          '--config.method.map_cell=N',
      )
      assert not begun(tmp_path)


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('cell', 'start'), [(2, 7), (8, 3)])
def test_cells_that_the_decoder_cannot_reach_are_refused(
    tmp_path, tiny_config, cell, start
):
  tiny_config.method.map_cell = cell
  tiny_config.method.decoder_start = start
  refused(
      tiny_config, tmp_path, 'all', f'{32 // cell}x{32 // cell}',
      f'from {start} ', '--config.method.decoder_start=N',
  )
  tiny_config.method.decoder_start = 4  # All of the cells, or by doubling.
  with pytest.raises(Reached, match='train'):
    stages.run(tiny_config, tmp_path)


@pytest.mark.usefixtures('no_work')
def test_decoder_is_checked_before_maps_are_made(finished, tiny_config):
  keep_classifier(finished)
  tiny_config.method.decoder_start = 7
  for stage in ('all', 'impactx'):
    refused(
        tiny_config, finished, stage, '--config.method.decoder_start=N'
    )
  assert begun(finished) == {'classifier', 'config.json'}


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('size', 'advice'), [
    ((30, 30), 'N can be 15'),
    ((24, 20), 'N can be 12, 6'),
    ((31, 31), '--config.data.image_size'),
])
def test_size_of_own_pictures_must_suit_the_decoder(
    tmp_path, tiny_config, size, advice
):
  for i in range(40):
    folder = tmp_path / 'pictures' / ('train', 'test')[i % 2] / 'one'
    folder.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (9, 9)).save(folder / f'{i}.png')
  tiny_config.data.name = 'image_folder'
  tiny_config.data.data_dir = str(tmp_path / 'pictures')
  tiny_config.data.image_size = size
  tiny_config.data.validation_fraction = 0.3
  tiny_config.classifier.training.batch_size = 4
  tiny_config.method.training.batch_size = 4
  tiny_config.method.decoder_start = 10 if size == (24, 20) else 8
  refused(
      tiny_config, tmp_path / 'run', 'all', f'{size[0]}x{size[1]}', advice
  )
  assert not begun(tmp_path / 'run')


def test_sizes_that_the_decoder_reaches():
  found = [
      decoder_blocks(*sizes)
      for sizes in ((32, 32, 8), (96, 96, 12), (32, 32, 32), (48, 64, 6))
  ]
  assert found == [2, 3, 0, 3]
