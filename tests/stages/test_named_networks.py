"""A method's network in the place of A, and as the teacher."""

from attribution.errors import InputError
from impactx_jax import stages
from impactx_jax.stages import evaluate
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
import jax
import numpy as np
import pytest
from tests import table_fixtures
from tests.table_fixtures import read_json


@pytest.fixture(scope='module')
def config(data_dir):
  config = table_fixtures.small_config(data_dir)
  config.data.name, config.method.name = 'shapes/tiny', 'guided'
  config.method.training.front = 'max accuracy, max guided_epg'
  with table_fixtures.tiny_shapes():
    yield config


@pytest.fixture(scope='module')
def guided(config, tmp_path_factory):
  """The folder of a guided network, in a finished run."""
  workdir = tmp_path_factory.mktemp('guided') / 'run'
  stages.train(run_lib.resolve(config, workdir), 'guided')
  return workdir / 'guided'


def second(config, tmp_path, **changes):
  config = config.copy_and_resolve_references()
  config.method.name = 'impactx_lambda0'
  config.method.training.front = ''
  for path, value in changes.items():
    section, _, field = path.partition('_')
    config[section][field] = str(value)
  return run_lib.resolve(config, tmp_path / 'second')


def test_a_guided_network_takes_the_place_of_a(config, guided, tmp_path):
  one = second(config, tmp_path, classifier_workdir=guided)
  stages.train(one, 'impactx_lambda0')
  _, wanted = trained.restore(run_lib.resolve(None, guided.parent).trained(
      'guided'
  ))
  _, found = trained.restore(one.trained('impactx_lambda0'))
  jax.tree.map(
      np.testing.assert_array_equal,
      found['collections']['classifier']['params'], wanted['params'],
  )
  summary = read_json(tmp_path / 'second' / 'impactx_lambda0' / 'summary.json')
  assert summary['made_from']['classifier'] == (
      read_json(guided / 'summary.json')['digest']
  )
  assert not (tmp_path / 'second' / 'classifier').exists()


def test_as_a_it_is_tested_by_the_measures_of_its_own_front(
    config, guided, tmp_path
):
  one = second(config, tmp_path, classifier_workdir=guided)
  found = evaluate.test(one, 'baseline')['front']
  assert found and all('test/guided_epg' in point for point in found)
  own = run_lib.resolve(None, guided.parent)
  assert evaluate.test(own, 'guided')['front'] == found


def test_a_guided_network_is_the_teacher(config, guided, tmp_path):
  one = second(config, tmp_path, attribution_classifier=guided)
  assert one.explained.directory.name == 'guided' and one.trains_classifier
  stages.train_classifier(one)
  stages.make_maps(one)
  manifest = read_json(tmp_path / 'second' / 'maps' / 'manifest.json')
  assert read_json(guided / 'summary.json')['digest'] in str(manifest)


def test_another_network_is_not_a(config, guided, tmp_path):
  one = second(config, tmp_path, classifier_workdir=guided.parent)
  stages.train(one, 'impactx_lambda0')
  with pytest.raises(InputError, match='impactx_lambda0, which has other'):
    run_lib.resolve(
        second(
            config, tmp_path / 'third',
            classifier_workdir=tmp_path / 'second' / 'impactx_lambda0',
        ).config,
        tmp_path / 'third',
    )


def test_a_folder_where_nothing_was_run_is_refused(config, tmp_path):
  with pytest.raises(InputError, match='Nothing was run in .*folder of a meth'):
    second(config, tmp_path, classifier_workdir=tmp_path / 'nothing')
