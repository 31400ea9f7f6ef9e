"""Classifiers and maps of another workdir that cannot be taken."""

import json

from attribution.errors import InputError
from impactx_jax import stages
from impactx_jax.experiments import over_seeds
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import case
from tests.pipeline_fixtures import edit_json
from tests.pipeline_fixtures import refused
from tests.pipeline_fixtures import set_field

no_work = pipeline_fixtures.no_work
finished = pipeline_fixtures.finished
config = pipeline_fixtures.sharing


pytestmark = pytest.mark.usefixtures('no_work')


def test_a_classifier_of_other_data_or_another_model_is_refused(
    config, finished_workdir, tmp_path
):
  for path, value, there in (
      ('data.validation_fraction', 0.2, 0.1),
      ('data.label_fraction', 0.5, 1.0),
      ('data.name', 'shapes', 'digits'),
      ('model.width', 2.0, 1.0),
      ('model.pooling', 'mean', 'max'),
  ):
    other = config.copy_and_resolve_references()
    set_field(other, path, value)
    for stage in ('all', 'impactx', 'evaluate'):
      with case(path, stage):
        refused(
            other, tmp_path / 'run', stage, str(finished_workdir),
            f'{path} (there: {there!r}; now: {value!r})',
            '--config.classifier.workdir=',
        )
        assert not begun(tmp_path)


def test_how_the_classifier_was_trained_need_not_agree(config, tmp_path):
  # It says how a method that starts from scratch is trained here.
  config.classifier.training.epochs = 99
  config.method.name = 'abn'
  with pytest.raises(Reached, match='train'):
    stages.run(config, tmp_path)


def test_a_home_without_a_classifier_is_refused(finished, config, tmp_path):
  (finished / 'classifier' / 'summary.json').unlink()
  config.classifier.workdir = str(finished)
  config.attribution.workdir = ''
  for stage in ('all', 'classifier', 'maps', 'impactx'):
    with case(stage):
      refused(
          config, tmp_path / 'run', stage, str(finished),
          'no trained classifier', '--config.classifier.workdir=',
      )
      assert not begun(tmp_path / 'run')


def test_a_workdir_that_is_none_is_refused(config, tmp_path):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'file').write_text('mine')
  for section in ('classifier', 'attribution'):
    for kind in ('missing', 'empty', 'file'):
      other = config.copy_and_resolve_references()
      other[section].workdir = str(tmp_path / kind)
      with case(section, kind):
        refused(
            other, tmp_path / 'run', 'all', str(tmp_path / kind),
            f'--config.{section}.workdir=',
        )
        assert begun(tmp_path) == {'empty', 'file'}


def test_shared_maps_of_another_classifier_are_refused(
    finished, config, tmp_path
):
  summary = json.loads((finished / 'classifier' / 'summary.json').read_text())
  edit_json(
      finished / 'classifier' / 'summary.json', digest=summary['digest'][::-1]
  )
  config.classifier.workdir = str(finished)
  refused(
      config, tmp_path / 'run', 'impactx', config.attribution.workdir,
      'another classifier_digest', '--config.attribution.workdir=',
  )
  assert not begun(tmp_path / 'run')


def test_shared_maps_without_their_classifier_are_refused_before_stage_one(
    config, finished_workdir, tmp_path
):
  config.classifier.workdir = ''
  for stage in ('all', 'maps', 'impactx'):
    with case(stage):
      refused(
          config, tmp_path / 'run', stage, str(finished_workdir),
          '--config.classifier.workdir=',
      )
      assert not begun(tmp_path)


def test_shared_maps_of_other_settings_are_refused(config, tmp_path):
  config.attribution.max_evals = 50
  for stage in ('all', 'impactx'):
    with case(stage):
      refused(
          config, tmp_path / 'run', stage, config.attribution.workdir,
          'another attribution', '50', '--config.attribution.workdir=',
      )
      assert not begun(tmp_path)


def test_a_teachers_maps_of_another_split_are_refused_before_stage_one(
    config, finished_workdir, tmp_path
):
  config.seed = 0
  config.classifier.workdir = ''
  config.attribution.classifier = str(finished_workdir)
  for path, value in (('seed', 8), ('data.validation_fraction', 0.2)):
    other = config.copy_and_resolve_references()
    set_field(other, path, value)
    with case(path):
      refused(
          other, tmp_path / 'run', 'all', config.attribution.workdir,
          f'another {path.rpartition(".")[2]}',
      )
      assert not begun(tmp_path)


def test_a_table_refuses_shared_maps_before_its_first_training(
    config, tmp_path
):
  config.attribution.max_evals = 50
  plan = over_seeds.Plan.parse('1', ['abn', 'impactx'])
  with pytest.raises(InputError, match='another attribution'):
    over_seeds.run(config, tmp_path / 'table', plan)
  assert not (tmp_path / 'table').exists()


def test_paths_to_other_workdirs_are_recorded_as_absolute(
    config, tmp_path, finished_workdir, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'home').symlink_to(finished_workdir)
  config.classifier.workdir = 'home'
  config.attribution.workdir = '../' + tmp_path.name + '/home'
  with pytest.raises(Reached, match='train'):
    stages.run(config, 'run')
  recorded = json.loads((tmp_path / 'run' / 'config.json').read_text())
  for section in ('classifier', 'attribution'):
    assert recorded[section]['workdir'] == str(tmp_path / 'home')
