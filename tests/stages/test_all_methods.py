"""A table of every method, on a backbone of the user's own."""

import csv

from impactx_jax import methods
from impactx_jax.experiments import over_seeds
import pytest
from tests import own_files_fixtures
from tests import table_fixtures
from tests.table_fixtures import FILES
from tests.table_fixtures import read_files
from tests.table_fixtures import read_json

no_work = table_fixtures.no_work
# The digits have no masks, and no groups.
WITHOUT = (
    'impactx_mask', 'impactx_masked', 'baseline_augmented',
    'baseline_balanced', 'baseline_cropped',
)
METHODS = {
    name: spec for name, spec in methods.METHODS.items()
    if name not in WITHOUT and not name.startswith('guided')
}
NAMES = list(METHODS)


@pytest.fixture(scope='module')
def digits_table(data_dir, tmp_path_factory):
  """A finished table of every method, and the config that made it."""
  folder = tmp_path_factory.mktemp('digits_table')
  (backbone,) = own_files_fixtures.write(folder, 'mynet.py').values()
  config = table_fixtures.digits_config(data_dir)
  config.model.name = backbone
  plan = over_seeds.Plan.parse('1', NAMES)
  over_seeds.run(config, folder / 'table', plan)
  return folder / 'table', config


def test_every_method_trains_on_the_readmes_backbone(digits_table):
  workdir, config = digits_table
  table = read_json(workdir / 'table.json')
  assert [row['method'] for row in table['rows']] == NAMES
  assert (table['data'], table['model']) == ('digits', config.model.name)
  for row in table['rows']:
    (run,) = row['runs']
    assert run['seed'] == 0 and run['parameters'] > 0


def test_methods_of_one_seed_share_the_classifier_and_its_maps(digits_table):
  workdir, _ = digits_table
  assert {path.name for path in workdir.iterdir()} == {'seed0', *FILES}
  assert {path.name for path in (workdir / 'seed0').iterdir()} == {
      'config.json', 'mynet.py', 'classifier', 'maps', 'maps_other_class',
      'maps_weighted', *NAMES,
  } - {'baseline'}


def test_map_r2_is_of_those_that_predict_maps_of_validation_images(
    digits_table
):
  workdir, _ = digits_table
  rows = read_json(workdir / 'table.json')['rows']
  assert {r['method'] for r in rows if r['runs'][0]['map_r2'] is not None} == {
      'impactx', 'impactx_shuffled', 'impactx_random', 'impactx_other_class',
      'impactx_single_stage', 'explainer',
  }


def test_codes_are_probed_where_there_are_codes_and_maps(digits_table):
  workdir, _ = digits_table
  rows = read_json(workdir / 'table.json')['rows']
  names = {name for name in NAMES if name.startswith('impactx')}
  # Of 16 images there is no telling.
  assert {r['runs'][0]['probe_r2'] for r in rows} == {None}
  for name in names:
    assert 'probe_r2' in read_json(workdir / 'seed0' / name / 'summary.json')


def test_the_evaluations_of_each_methods_maps_are_counted(digits_table):
  workdir, config = digits_table
  rows = read_json(workdir / 'table.json')['rows']
  found = {row['method']: row['runs'][0]['evaluations'] for row in rows}
  on_maps = dict.fromkeys(
      (
          name for name, spec in METHODS.items()
          if spec.maps(methods.config_of(name, config).method)
      ),
      160 * 20,
  )
  assert found == dict.fromkeys(NAMES, 0) | on_maps | {
      # They learn nothing from their maps.
      'impactx_lambda0': 0,
      'impactx_edges': 0,
      'impactx_distilled': 0,
      'wae': (160 + 360) * 20,  # It explains the test images as well.
      # 16 steps; at the first and the eleventh, 16 images are explained.
      'impactx_single_stage': 2 * 16 * 10,
  }


def test_the_differences_are_those_of_the_predictions(digits_table):
  workdir, _ = digits_table
  rows = read_json(workdir / 'table.json')['rows']
  accuracies = {r['method']: r['runs'][0]['test_accuracy'] for r in rows}
  for row in rows[1:]:
    found = row['to_baseline']
    difference = accuracies[row['method']] - accuracies['baseline']
    assert found['mean'] == pytest.approx(100 * difference)
    counts = found['mcnemar']['0']
    assert counts['gained'] - counts['lost'] == pytest.approx(360 * difference)
    assert found['interval'] is None
    assert row['verdict'] == 'no verdict: 1 of 5 seeds'


def test_the_csv_has_what_the_json_has(digits_table):
  workdir, _ = digits_table
  with open(workdir / 'table.csv', newline='') as file:
    lines = list(csv.DictReader(file))
  rows = read_json(workdir / 'table.json')['rows']
  assert [
      (line['method'], float(line['test_accuracy'])) for line in lines
  ] == [(row['method'], row['runs'][0]['test_accuracy']) for row in rows]


@pytest.mark.usefixtures('no_work')
def test_a_finished_table_is_written_again_without_any_work(
    digits_table, capsys
):
  workdir, config = digits_table
  before = read_files(workdir)
  plan = over_seeds.Plan.parse('1', NAMES)
  over_seeds.run(config, workdir, plan)
  assert read_files(workdir) == before
  assert f'Table: {workdir}/table.md' in capsys.readouterr().out
