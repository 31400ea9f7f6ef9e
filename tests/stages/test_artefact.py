"""Tests for what lies where in a workdir, and whose it is."""

import json
import pathlib

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
import pytest
from tests.pipeline_fixtures import case
from tests.pipeline_fixtures import set_field

# Artefacts, and how they are called in FIELDS: all maps are decided by the
# same fields, and so are all methods.
ARTEFACTS = {
    'classifier': 'classifier', 'maps': 'maps', 'maps_weighted': 'maps',
    'maps_other_class': 'maps', 'impactx': 'method', 'abn': 'method',
}
KINDS = {
    'maps': 'true_class', 'maps_weighted': 'weighted',
    'maps_other_class': 'other_class',
}
ALL = ('classifier', 'maps', 'method')


@pytest.fixture
def config():
  return common.get_config()


def artefact_of(folder: pathlib.Path, name: str, config) -> artefact.Artefact:
  """An artefact of a workdir by the name of its folder."""
  workdir = artefact.open_workdir(folder)
  if name in KINDS:
    return artefact.maps(workdir, KINDS[name], config)
  method = methods.BASELINE if name == artefact.CLASSIFIER else name
  return artefact.trained(workdir, method, config)


# --- Configs as files ---------------------------------------------------------


def test_config_comes_back_with_its_types_and_tuples(tmp_path, config):
  config.data.image_size = (48, 64)
  config.data.download = True
  configs.write(tmp_path / 'new' / 'run', config)
  found = configs.read(tmp_path / 'new' / 'run')
  assert found.to_dict() == config.to_dict()
  assert found.data.image_size == (48, 64)
  assert isinstance(found.data.image_size, tuple)
  assert isinstance(found.method.lambda_, float)
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


def test_fields_that_an_old_config_lacks_get_their_defaults(tmp_path, config):
  content = config.to_dict()
  content['seed'] = 7
  del content['data']['task'], content['evaluation']
  del content['method']['training']['select']
  (tmp_path / 'config.json').write_text(json.dumps(content))
  config.seed = 7
  assert configs.read(tmp_path).to_dict() == config.to_dict()


def test_folder_without_a_config_is_no_workdir_of_a_run(tmp_path):
  with pytest.raises(InputError) as error:
    configs.read(tmp_path)
  for part in (str(tmp_path), 'config.json', '--workdir', '--config'):
    assert part in str(error.value)


# --- What decides an artefact -------------------------------------------------


@pytest.mark.parametrize('name', ARTEFACTS)
def test_artefact_takes_any_config_until_it_is_begun_and_then_its_own(
    tmp_path, config, name
):
  artefact_of(tmp_path, name, config).check()
  (tmp_path / name).mkdir()
  (tmp_path / name / 'notes.txt').write_text('')
  artefact_of(tmp_path, name, config).check()
  artefact_of(tmp_path, name, config).begin(config)
  artefact_of(tmp_path, name, common.get_config()).check()
  assert configs.read(tmp_path).to_dict() == config.to_dict()


# Fields, values other than the default, and the artefacts that they decide.
FIELDS = (
    ('seed', 1, ALL),
    ('data.name', 'shapes', ALL),
    ('data.task', 'multi_label', ALL),
    ('data.validation_fraction', 0.2, ALL),
    ('data.image_size', (16, 16), ALL),
    ('data.label_fraction', 0.5, ALL),
    ('data.data_dir', '/elsewhere', ()),
    ('data.download', True, ()),
    ('model.pooling', 'mean', ALL),
    ('model.width', 2.0, ALL),
    ('classifier.workdir', '/elsewhere', ALL),
    ('classifier.training.learning_rate', 0.01, ALL),
    ('classifier.training.select', 'min cross_entropy', ALL),
    ('attribution.max_evals', 100, ('maps', 'method')),
    ('attribution.workdir', '/elsewhere', ('maps', 'method')),
    ('attribution.images_per_step', 4, ()),
    ('method.lambda_', 5.0, ('method',)),
    ('method.maps', 'shuffled', ('method',)),
    ('method.map_cell', 4, ('method',)),
    ('method.training.epochs', 1, ('method',)),
    ('evaluation.draws', 1, ()),
)


@pytest.mark.parametrize('name', ARTEFACTS)
def test_artefact_is_refused_for_the_fields_that_decide_it(
    tmp_path, config, name
):
  configs.write(tmp_path / name, config)
  for path, value, decided in FIELDS:
    with case(path):
      wanted = common.get_config()
      set_field(wanted, path, value)
      found = artefact_of(tmp_path, name, wanted)
      if ARTEFACTS[name] not in decided:
        found.check()
        continue
      with pytest.raises(InputError) as error:
        found.check()
      before = config
      for part in path.split('.'):
        before = before[part]
      message = str(error.value)
      assert f'{path} (there: {before!r}; now: {value!r})' in message
      assert message.count('(there:') == 1
      assert str(tmp_path / name) in message and '--workdir' in message


def test_any_config_makes_the_report_anew(tmp_path, config):
  workdir = artefact.open_workdir(tmp_path)
  artefact.report(workdir, config).begin(config)
  for path, value, _ in FIELDS:
    set_field(config, path, value)
  artefact.report(workdir, config).check()


def test_all_differing_fields_are_named_and_no_other(tmp_path, config):
  configs.write(tmp_path / 'impactx', config)
  changed = ('seed', 'attribution.max_evals', 'method.lambda_')
  for path in changed:
    set_field(config, path, 9)
  with pytest.raises(InputError) as error:
    artefact_of(tmp_path, 'impactx', config).check()
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
    config.model.another = 2
  there, now = (config, plain) if newer == 'there' else (plain, config)
  configs.write(tmp_path / 'classifier', there)
  with pytest.raises(InputError, match=r'model\.another \(there: '):
    artefact_of(tmp_path, 'classifier', now).check()


# --- When it is complete, and what it is made from ----------------------------


def test_artefact_is_done_when_its_last_file_is_there(tmp_path, config):
  found = artefact_of(tmp_path, 'impactx', config)
  assert found.load() is None and not found.is_done(config)
  found.begin(config)
  assert found.load() is None and not found.is_done(config)
  found.finish({'best_step': 3, 'made_from': {'maps': 'abc'}})
  assert found.load() == {'best_step': 3, 'made_from': {'maps': 'abc'}}
  assert found.is_done(config)
  # Configs that were lost are written again.
  for folder in (tmp_path, tmp_path / 'impactx'):
    (folder / 'config.json').unlink()
    assert found.is_done(config) and (folder / 'config.json').exists()


def test_maps_are_done_when_every_shard_is_there(tmp_path, config):
  found = artefact_of(tmp_path, 'maps', config)
  found.begin(config)
  found.finish({'shards': [{'name': 'one'}, {'name': 'other'}]})
  (tmp_path / 'maps' / 'one').touch()
  assert not found.is_done(config)
  (tmp_path / 'maps' / 'other').touch()
  assert found.is_done(config)


def test_what_it_is_made_from_is_compared_as_json_keeps_it(tmp_path, config):
  found = artefact_of(tmp_path, 'impactx', config)
  (tmp_path / 'impactx').mkdir()
  assert "maps (there: None; now: 'abc')" in found.differing({'maps': 'abc'})
  found.finish({'size': [32, 32], 'maps': 'abc'})
  assert found.differing({'size': (32, 32), 'maps': 'abc'}) == ''
  assert found.differing({'size': (32, 31), 'maps': 'abc'}) == (
      'size (there: [32, 32]; now: [32, 31])'
  )


# --- Workdirs -----------------------------------------------------------------


def test_workdir_becomes_absolute_and_is_not_created(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  assert str(artefact.open_workdir('a/../run')) == str(tmp_path / 'run')
  assert str(artefact.open_workdir('~/run')) == str(tmp_path / 'home' / 'run')
  assert not list(tmp_path.iterdir())


def test_workdir_cannot_be_a_file_nor_lie_below_one(tmp_path):
  (tmp_path / 'file').write_text('mine')
  for below in ('', 'run', 'runs/first'):
    with case(below), pytest.raises(InputError) as error:
      artefact.open_workdir(tmp_path / 'file' / below)
    assert f'{tmp_path / "file"} is a file' in str(error.value)
    assert '--workdir=DIR' in str(error.value)
  assert (tmp_path / 'file').read_text() == 'mine'


# --- A backbone of one's own --------------------------------------------------


@pytest.fixture
def begun_with_own(tmp_path, config):
  """A classifier begun with a backbone in a file, and that file."""
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
  assert found.model.name == str(workdir / 'classifier' / 'mynet.py')
  assert pathlib.Path(found.model.name).read_text() == 'BACKBONE = 1'
  artefact_of(workdir, 'classifier', found).check()
  config.model.name = str(file.with_name('moved.py'))
  artefact_of(workdir, 'classifier', config).check()


def test_a_backbone_that_changed_since_is_refused(begun_with_own, config):
  workdir, file = begun_with_own
  file.write_text('BACKBONE = 2')
  with pytest.raises(InputError, match=r'model\.name') as error:
    artefact_of(workdir, 'classifier', config).check()
  for path in (workdir / 'classifier' / 'mynet.py', file):
    assert repr(str(path)) in str(error.value)
  found = configs.read(workdir / 'classifier')
  assert 'model.name' in configs.differences(found, config, ('model',))


def test_weights_may_move_but_not_be_left_out(tmp_path, config):
  config.model.pretrained = '/here/weights.h5'
  configs.write(tmp_path / 'classifier', config)
  config.model.pretrained = '/there/weights.h5'
  artefact_of(tmp_path, 'classifier', config).check()
  for value in ('', 'random'):
    config.model.pretrained = value
    with case(value), pytest.raises(InputError, match=r'model\.pretrained'):
      artefact_of(tmp_path, 'classifier', config).check()
