"""The fronts of several runs, joined on validation and tested."""

import json
import shutil

from attribution.errors import InputError
from impactx_jax import stages
from impactx_jax.evaluation import accuracy
from impactx_jax.experiments import fronts
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
from impactx_jax.training import history
import pytest
from tests import table_fixtures
from tests.table_fixtures import read_json

no_work = table_fixtures.no_work
FRONT = 'max accuracy, max guided_epg, max guided_iou'


@pytest.fixture(scope='module')
def trials(data_dir, tmp_path_factory):
  """Two guided runs of one A, with other λ', in folders as a sweep has them."""
  folder = tmp_path_factory.mktemp('fronts')
  config = table_fixtures.small_config(data_dir)
  config.data.name, config.method.name = 'shapes/tiny', 'guided'
  config.method.training.epochs = 3
  config.method.training.front = FRONT
  with table_fixtures.tiny_shapes():
    for i, weight in enumerate((0.1, 10.0)):
      config.method.guidance_lambda = weight
      if i:
        config.classifier.workdir = str(folder / 'trials' / '0')
      one = run_lib.resolve(config, folder / 'trials' / str(i))
      stages.train(one, 'guided')
    yield folder


def measures(point, split):
  names = ('accuracy', 'guided_epg', 'guided_iou')
  return [point[f'{split}/{name}'] for name in names]


def test_what_is_left_of_all_runs_is_tested_and_nothing_else(trials, capsys):
  fronts.run(trials)
  (found,) = read_json(trials / 'front.json').values()
  all_points = [
      point
      for i in (0, 1)
      for point in read_json(
          trials / 'trials' / str(i) / 'guided' / 'summary.json'
      )['front']
  ]
  wanted = [
      all_points[i]
      for i in history.front(all_points, history.parse_front(FRONT, ''))
  ]
  assert [measures(p, 'validation') for p in found] == [
      measures(p, 'validation') for p in wanted
  ]
  for point in found:
    assert all(0 <= x <= 1 for x in measures(point, 'test'))
    assert point['run'] in ('trials/0/guided', 'trials/1/guided')
    assert 'guidance_lambda=' in point['fields']
  assert (trials / 'front.png').stat().st_size > 5000
  printed = capsys.readouterr().out
  assert 'guidance_lambda=' in printed and 'EPG of the guided map' in printed
  # No run was tested that is not asked for.
  assert not [*trials.glob('trials/*/*/test.json')]


def test_each_value_of_a_field_has_a_front_of_its_own(trials):
  fronts.run(trials, 'method.guidance_lambda')
  found = read_json(trials / 'front.json')
  assert [*found] == ['guided, 0.1', 'guided, 10.0']
  for i, points in enumerate(found.values()):
    path = trials / 'trials' / str(i) / 'guided' / 'summary.json'
    assert [p['step'] for p in points] == [
        p['step'] for p in read_json(path)['front']
    ]


def test_a_trained_network_is_a_folder_of_runs_too(trials):
  fronts.run(trials / 'trials' / '0' / 'guided')
  folder = trials / 'trials' / '0' / 'guided'
  (found,) = read_json(folder / 'front.json').values()
  assert {point['run'] for point in found} == {'.'}


def test_as_front_is_tested_as_a(data_dir, tmp_path):
  """And a front of what A does not measure is its method's alone."""
  config = table_fixtures.small_config(data_dir)
  config.data.name, config.method.name = 'shapes/tiny', 'guided_from_scratch'
  config.classifier.training.epochs = 2
  with table_fixtures.tiny_shapes():
    config.classifier.training.front = FRONT
    one = run_lib.resolve(config, tmp_path / 'own')
    stages.train(one, 'guided_from_scratch')
    fronts.run(tmp_path / 'own')
    assert [*read_json(tmp_path / 'own' / 'front.json')] == [
        'guided_from_scratch'
    ]
    config.classifier.training.front = 'max accuracy, min cross_entropy'
    config.method.name = 'guided'
    one = run_lib.resolve(config, tmp_path / 'of_a')
    stages.train_classifier(one)
    fronts.run(tmp_path / 'of_a')
    (name, points), = read_json(tmp_path / 'of_a' / 'front.json').items()
    assert name == 'baseline'
    method, variables = trained.restore(one.classifier, points[0]['step'])
    assert points[0]['test/accuracy'] == pytest.approx(accuracy.test(
        method, variables, run_lib.dataset(one).test, 16
    )['accuracy'])


def test_fronts_of_other_measures_are_not_joined(trials, tmp_path):
  shutil.copytree(trials / 'trials' / '0', tmp_path / '0')
  shutil.copytree(trials / 'trials' / '0', tmp_path / '1')
  path = tmp_path / '1' / 'guided' / 'config.json'
  content = read_json(path)
  content['method']['training']['front'] = 'max accuracy, max guided_iou'
  path.write_text(json.dumps(content))
  with pytest.raises(InputError, match='fronts of other measures: max acc'):
    fronts.run(tmp_path)


def test_a_run_of_which_something_is_gone_is_left_out(trials, tmp_path, caplog):
  for name in ('0', '1'):
    shutil.copytree(trials / 'trials' / name, tmp_path / name)
  path = tmp_path / '1' / 'guided' / 'config.json'
  content = read_json(path)
  content['classifier']['workdir'] = str(tmp_path / 'gone')
  path.write_text(json.dumps(content))
  with caplog.at_level('WARNING'):
    fronts.run(tmp_path)
  assert f'{tmp_path}/1/guided is left out' in caplog.text
  (found,) = read_json(tmp_path / 'front.json').values()
  assert {point['run'] for point in found} == {'0/guided'}


def test_what_cannot_be_joined_is_refused(trials, tmp_path):
  with pytest.raises(InputError, match="has no run with a front.*front='max"):
    fronts.run(tmp_path)
  with pytest.raises(InputError, match="Did you mean 'method.guidance_loss'"):
    fronts.run(trials, 'method.guidance_los')
