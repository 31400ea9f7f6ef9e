"""Tests for what lies where in a workdir, and whose it is."""

import json
import pathlib

from attribution.errors import InputError
from impactx_jax.stages import configs
from tests.pipeline_fixtures import read_summary
from impactx_jax.stages import artefact
from impactx_jax.configs import common
import pytest

STAGES = ('classifier', 'maps', 'impactx')
# All maps are decided by the same fields, and so are all methods.
LIKE = {'maps_weighted': 'maps', 'maps_other_class': 'maps', 'abn': 'impactx'}


@pytest.fixture
def config():
  return common.get_config()


def _change(config, path: str, value):
  with config.unlocked():
    config.update_from_flattened_dict({path: value})


def test_config_comes_back_with_its_types_and_tuples(tmp_path, config):
  config.data.image_size = (48, 64)
  config.data.download = True
  configs.write(tmp_path / 'new' / 'run', config)
  found = configs.read(tmp_path / 'new' / 'run')
  assert found.to_dict() == config.to_dict()
  assert found.data.image_size == (48, 64)
  assert isinstance(found.data.image_size, tuple)
  assert isinstance(found.method.lambda_, float)


def test_restored_config_refuses_new_fields(tmp_path, config):
  configs.write(tmp_path, config)
  found = configs.read(tmp_path)
  with pytest.raises(AttributeError, match='nmae'):
    found.data.nmae = 'digits'


def test_config_is_plain_json_and_replaces_the_former(tmp_path, config):
  configs.write(tmp_path, config)
  config.seed = 7
  configs.write(tmp_path, config)
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']
  content = json.loads((tmp_path / 'config.json').read_text())
  assert content['seed'] == 7
  assert content['data']['image_size'] == [32, 32]


def test_folder_without_a_config_is_no_workdir_of_a_run(tmp_path):
  with pytest.raises(InputError) as error:
    configs.read(tmp_path)
  for part in (str(tmp_path), 'config.json', '--workdir', '--config'):
    assert part in str(error.value)


@pytest.mark.parametrize('stage', STAGES)
def test_stage_that_was_not_begun_takes_any_config(tmp_path, config, stage):
  artefact.check_stage(tmp_path, stage, config)
  (tmp_path / stage).mkdir()
  (tmp_path / stage / 'notes.txt').write_text('')
  artefact.check_stage(tmp_path, stage, config)


@pytest.mark.parametrize('stage', STAGES)
def test_stage_takes_its_own_config_again(tmp_path, config, stage):
  configs.write(tmp_path / stage, config)
  artefact.check_stage(tmp_path, stage, common.get_config())


# Fields, values other than the default, and the stages that they decide.
FIELDS = (
    ('seed', 1, STAGES),
    ('data.name', 'shapes', STAGES),
    ('data.validation_fraction', 0.2, STAGES),
    ('data.image_size', (16, 16), STAGES),
    ('data.label_fraction', 0.5, STAGES),
    ('data.data_dir', '/elsewhere', ()),
    ('data.download', True, ()),
    ('model.pooling', 'mean', STAGES),
    ('model.width', 2.0, STAGES),
    ('classifier.workdir', '/elsewhere', STAGES),
    ('classifier.training.learning_rate', 0.01, STAGES),
    ('attribution.max_evals', 100, ('maps', 'impactx')),
    ('attribution.workdir', '/elsewhere', ('maps', 'impactx')),
    ('attribution.images_per_step', 4, ()),
    ('method.lambda_', 5.0, ('impactx',)),
    ('method.maps', 'shuffled', ('impactx',)),
    ('method.map_cell', 4, ('impactx',)),
    ('method.training.epochs', 1, ('impactx',)),
    ('evaluation.draws', 1, ()),
)


@pytest.mark.parametrize('stage', [*STAGES, *LIKE])
@pytest.mark.parametrize(('path', 'value', 'decided'), FIELDS)
def test_stage_is_refused_for_the_fields_that_decide_it(
    tmp_path, config, stage, path, value, decided
):
  configs.write(tmp_path / stage, config)
  wanted = common.get_config()
  _change(wanted, path, value)
  if LIKE.get(stage, stage) not in decided:
    artefact.check_stage(tmp_path, stage, wanted)
    return
  with pytest.raises(InputError) as error:
    artefact.check_stage(tmp_path, stage, wanted)
  before = config
  for name in path.split('.'):
    before = before[name]
  message = str(error.value)
  assert f'{path} (there: {before!r}; now: {value!r})' in message
  assert str(tmp_path / stage) in message
  assert '--workdir' in message


def test_all_differing_fields_are_named_and_no_other(tmp_path, config):
  configs.write(tmp_path / 'impactx', config)
  changed = ('seed', 'attribution.max_evals', 'method.lambda_')
  for path in changed:
    _change(config, path, 9)
  with pytest.raises(InputError) as error:
    artefact.check_stage(tmp_path, 'impactx', config)
  message = str(error.value)
  for path in changed:
    assert f'{path} (there' in message
  assert message.count('(there:') == len(changed)


@pytest.mark.parametrize('newer', ['there', 'now'])
def test_field_that_one_side_lacks_counts_as_different(
    tmp_path, config, newer
):
  plain = common.get_config()
  with config.unlocked():
    config.model.width = 2
  there, now = (config, plain) if newer == 'there' else (plain, config)
  configs.write(tmp_path / 'classifier', there)
  with pytest.raises(InputError, match=r'model\.width'):
    artefact.check_stage(tmp_path, 'classifier', now)


def test_summary_is_none_until_it_is_written(tmp_path):
  assert read_summary(tmp_path) is None
  (tmp_path / artefact.SUMMARY).write_text('{"best_step": 3}')
  assert read_summary(tmp_path) == {'best_step': 3}


def test_workdir_becomes_absolute_and_is_not_created(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  assert str(artefact.open_workdir('a/../run')) == str(tmp_path / 'run')
  assert str(artefact.open_workdir('~/run')) == str(tmp_path / 'home' / 'run')
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('below', ['', 'run', 'runs/first'])
def test_workdir_cannot_be_a_file_nor_lie_below_one(tmp_path, below):
  (tmp_path / 'file').write_text('mine')
  with pytest.raises(InputError) as error:
    artefact.open_workdir(tmp_path / 'file' / below)
  assert f'{tmp_path / "file"} is a file' in str(error.value)
  assert '--workdir=DIR' in str(error.value)
  assert (tmp_path / 'file').read_text() == 'mine'


# --- A backbone of one's own --------------------------------------------------


@pytest.fixture
def begun_with_own(tmp_path, config):
  """A stage begun with a backbone in a file, and that file."""
  file = tmp_path / 'mynet.py'
  file.write_text('BACKBONE = 1')
  config.model.name = str(file)
  workdir = artefact.open_workdir(tmp_path / 'run')
  configs.write(workdir / 'classifier', config)
  return workdir, file


def test_a_backbone_of_ones_own_is_kept_with_the_run(begun_with_own, config):
  workdir, file = begun_with_own
  file.rename(file.with_name('moved.py'))
  found = configs.read(workdir / 'classifier')
  assert found.model.name == str(workdir / 'classifier' / 'backbone.py')
  assert pathlib.Path(found.model.name).read_text() == 'BACKBONE = 1'
  config.model.name = str(file.with_name('moved.py'))
  artefact.check_stage(workdir, 'classifier', config)
  artefact.check_stage(workdir, 'classifier', found)


def test_a_backbone_that_changed_since_is_refused(begun_with_own, config):
  workdir, file = begun_with_own
  file.write_text('BACKBONE = 2')
  with pytest.raises(InputError, match=r'model\.name') as error:
    artefact.check_stage(workdir, 'classifier', config)
  assert 'backbone.py' in str(error.value) and 'mynet.py' in str(error.value)
  found = configs.read(workdir / 'classifier')
  with pytest.raises(InputError, match=r'model\.name'):
    artefact.check_same(found, config, ('model',), workdir)


def test_weights_may_move_but_not_be_left_out(tmp_path, config):
  workdir = artefact.open_workdir(tmp_path)
  config.model.pretrained = '/here/weights.h5'
  configs.write(workdir / 'classifier', config)
  config.model.pretrained = '/there/weights.h5'
  artefact.check_stage(workdir, 'classifier', config)
  for value in ('', 'random'):
    config.model.pretrained = value
    with pytest.raises(InputError, match=r'model\.pretrained'):
      artefact.check_stage(workdir, 'classifier', config)
