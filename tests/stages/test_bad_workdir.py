"""Tests for workdirs that are another run's, unfinished, or none at all."""

import json
import os

from impactx_jax import stages
import jax
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import case
from tests.pipeline_fixtures import keep_classifier
from tests.pipeline_fixtures import refused
from tests.pipeline_fixtures import set_field
from tests.table_fixtures import read_json
from tests.table_fixtures import without_seconds

no_work = pipeline_fixtures.no_work
no_data = pipeline_fixtures.no_data
finished = pipeline_fixtures.finished


@pytest.mark.usefixtures('no_work', 'no_data')
def test_workdir_of_another_config_is_refused(finished, tiny_config):
  before = (finished / 'config.json').read_bytes()
  set_field(tiny_config, 'seed', 5)
  set_field(tiny_config, 'classifier.training.batch_size', 32)
  for stage in stages.STAGES:
    with case(stage):
      refused(
          tiny_config, finished, stage, str(finished / 'classifier'),
          'seed (there: 0; now: 5)',
          'classifier.training.batch_size (there: 64; now: 32)', '--workdir',
      )
  assert (finished / 'config.json').read_bytes() == before


@pytest.mark.usefixtures('no_work', 'no_data')
def test_workdir_that_cannot_be_a_folder_is_refused(tmp_path, tiny_config):
  (tmp_path / 'file').write_text('mine')
  for below in ('', 'run'):
    with case(below):
      refused(
          tiny_config, tmp_path / 'file' / below, 'all',
          f'{tmp_path / "file"} is a file', '--workdir=',
      )
  assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.usefixtures('no_work', 'no_data')
def test_workdir_without_a_run_needs_a_config(tmp_path):
  for stage in ('all', 'evaluate'):
    with case(stage):
      refused(
          None, tmp_path / 'run', stage, str(tmp_path / 'run'), '--config=NAME'
      )
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
def test_evaluation_of_an_empty_workdir_is_refused(tmp_path, tiny_config):
  refused(
      tiny_config, tmp_path, 'evaluate', str(tmp_path / 'classifier'),
      '--stage=all',
  )
  assert not begun(tmp_path)


@pytest.mark.usefixtures('no_work', 'no_data')
def test_evaluation_without_a_trained_method_is_refused(
    finished, tiny_config
):
  keep_classifier(finished)
  for config in (tiny_config, None):
    refused(
        config, finished, 'evaluate', str(finished / 'impactx'),
        '--config.method.name=',
    )
  assert begun(finished) == {'classifier', 'config.json'}


@pytest.mark.usefixtures('no_work')
def test_evaluation_runs_on_any_number_of_devices(
    finished, tiny_config, monkeypatch
):
  # The batch of a finished training is no reason to refuse a machine.
  monkeypatch.setattr(jax, 'device_count', lambda: 3)
  with pytest.raises(Reached, match='measure'):
    stages.run(tiny_config, finished, 'evaluate')


@pytest.mark.usefixtures('no_work', 'no_data')
def test_record_that_is_truncated_is_named(finished, tiny_config):
  for name in (
      'classifier/config.json', 'classifier/summary.json', 'maps/manifest.json',
      'impactx/summary.json', 'report/metrics.json',
  ):
    content = (finished / name).read_bytes()
    (finished / name).write_bytes(content[: len(content) // 2])
    with case(name):
      refused(tiny_config, finished, 'all', str(finished / name), '--workdir')
    (finished / name).write_bytes(content)


def test_a_record_that_was_deleted_is_made_anew(finished, tiny_config):
  for name, stage in (
      ('config.json', 'classifier'), ('classifier/config.json', 'classifier'),
      ('classifier/summary.json', 'classifier'), ('maps/manifest.json', 'maps'),
      ('impactx/config.json', 'impactx'), ('impactx/summary.json', 'impactx'),
  ):
    before = without_seconds(read_json(finished / name))
    (finished / name).unlink()
    with case(name):
      stages.run(tiny_config, finished, stage)
      after = without_seconds(read_json(finished / name))
      for content in (before, after):
        content.pop('provenance', None)  # It has the time.
      assert after == before


@pytest.mark.usefixtures('no_work')
def test_the_backbones_file_is_kept_and_found_from_any_folder(
    tmp_path, tiny_config, monkeypatch
):
  (tmp_path / 'mine.py').write_text(
      'from impactx_jax.models.lenet import BACKBONE as BACKBONE\n'
  )
  monkeypatch.chdir(tmp_path)
  tiny_config.model.name = 'mine.py'
  (tmp_path / 'elsewhere').mkdir()
  with pytest.raises(Reached, match='train'):
    stages.run(tiny_config, tmp_path / 'run')
  recorded = json.loads((tmp_path / 'run' / 'config.json').read_text())
  assert recorded['model']['name'] == str(tmp_path / 'mine.py')
  (tmp_path / 'mine.py').unlink()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  with pytest.raises(Reached, match='train'):
    stages.run(None, tmp_path / 'run')


@pytest.mark.usefixtures('no_work')
def test_paths_are_recorded_so_that_they_lead_there_from_any_folder(
    tmp_path, tiny_config, data_dir, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  tiny_config.data.data_dir = os.path.relpath(data_dir, tmp_path)
  with pytest.raises(Reached, match='train'):
    stages.run(tiny_config, 'run')
  for folder in ('run', 'run/classifier'):
    config = json.loads((tmp_path / folder / 'config.json').read_text())
    assert config['data']['data_dir'] == data_dir
    assert config['attribution']['classifier'] == ''
