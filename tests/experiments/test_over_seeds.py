"""Methods compared over seeds: the plan, whole tables, and interruptions."""

import pathlib
import shutil

from attribution import service
from attribution.errors import InputError
from impactx_jax.stages import configs
from impactx_jax.experiments import over_seeds
from impactx_jax import methods
from impactx_jax.training import loop
from impactx_jax.stages import artefact
import pytest
from tests import table_fixtures
from tests.pipeline_fixtures import forbid
from tests.table_fixtures import FILES
from tests.table_fixtures import count_trainings
from tests.table_fixtures import read_files
from tests.table_fixtures import read_json
from tests.table_fixtures import without_seconds

no_work = table_fixtures.no_work
PLAN = over_seeds.Plan.parse('2', ['impactx', methods.CONTROL])
# In this order; the maps of each seed are made before its second one.
TRAININGS = [
    f'seed{seed}/{name}'
    for seed in (0, 1)
    for name in ('classifier', 'impactx', methods.CONTROL)
]


# --- Seeds, interruptions -----------------------------------------------------


@pytest.fixture(scope='module')
def shapes_config(data_dir):
  with table_fixtures.tiny_shapes():
    config = table_fixtures.small_config(data_dir)
    config.data.name = 'shapes/tiny'
    yield config


@pytest.fixture(scope='module')
def shapes_table(shapes_config, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('shapes_table')
  with pytest.MonkeyPatch.context() as monkeypatch:
    begun = count_trainings(monkeypatch)
    over_seeds.run(shapes_config, workdir, PLAN)
  assert begun == TRAININGS
  return workdir


def runs_of(workdir: pathlib.Path) -> dict[str, list[int]]:
  """The seeds of each method in a table."""
  rows = read_json(workdir / 'table.json')['rows']
  return {row['method']: [r['seed'] for r in row['runs']] for row in rows}


def test_seeds_differ_and_are_compared_in_pairs(shapes_table):
  table = read_json(shapes_table / 'table.json')
  assert not table['shared_classifier']
  assert {row['method']: len(row['runs']) for row in table['rows']} == {
      'baseline': 2, 'impactx': 2, methods.CONTROL: 2
  }
  digests = {
      read_json(shapes_table / name / 'summary.json')['digest']
      for name in TRAININGS
  }
  assert len(digests) == len(TRAININGS)
  impactx = table['rows'][1]
  assert impactx['to_baseline']['mcnemar'].keys() == {'0', '1'}
  low, high = impactx['to_lambda0']['interval']
  assert low <= impactx['to_lambda0']['mean'] <= high


def interrupt(config, workdir, monkeypatch, stop_at: int) -> list[str]:
  """Runs until a training would begin; returns those that did."""
  with monkeypatch.context() as patch:
    begun = count_trainings(patch, stop_at)
    with pytest.raises(table_fixtures.Interrupted):
      over_seeds.run(config, workdir, PLAN)
  return begun


def test_an_interrupted_table_ends_as_an_undisturbed_one(
    shapes_table, shapes_config, tmp_path, monkeypatch
):
  assert interrupt(shapes_config, tmp_path, monkeypatch, 1) == []
  assert not (tmp_path / 'table.json').exists()
  assert interrupt(shapes_config, tmp_path, monkeypatch, 5) == TRAININGS[:4]
  assert runs_of(tmp_path) == {
      'baseline': [0, 1], 'impactx': [0], methods.CONTROL: [0]
  }
  begun = count_trainings(monkeypatch)
  over_seeds.run(shapes_config, tmp_path, PLAN)
  assert begun == TRAININGS[4:]
  ours, theirs = (
      read_json(folder / 'table.json') for folder in (tmp_path, shapes_table)
  )
  assert without_seconds(ours['rows']) == without_seconds(theirs['rows'])


def test_fewer_seeds_of_a_method_are_reported_as_such(
    shapes_table, shapes_config, tmp_path, monkeypatch
):
  workdir = shutil.copytree(shapes_table, tmp_path / 'table')
  forbid(monkeypatch, (loop, 'train'))
  plan = over_seeds.Plan.parse('2', ['impactx:1'])
  over_seeds.run(shapes_config, workdir, plan)
  assert runs_of(workdir) == {'baseline': [0, 1], 'impactx': [0]}


# --- Reports alone ------------------------------------------------------------


@pytest.mark.usefixtures('no_work')
def test_a_report_of_nothing_finished_says_so(shapes_config, tmp_path, capsys):
  over_seeds.run(shapes_config, tmp_path, PLAN, report_only=True)
  assert read_json(tmp_path / 'table.json')['rows'] == []
  for text in ((tmp_path / 'table.md').read_text(), capsys.readouterr().out):
    assert 'Nothing is finished yet.' in text
  assert {path.name for path in tmp_path.iterdir()} == set(FILES)


@pytest.mark.usefixtures('no_work')
def test_a_report_is_of_what_is_finished(
    shapes_table, shapes_config, tmp_path
):
  workdir = shutil.copytree(shapes_table, tmp_path / 'table')
  # Trained, and not yet tested; not trained to the end.
  (workdir / 'seed1' / 'impactx' / 'test.json').unlink()
  (workdir / 'seed0' / methods.CONTROL / 'summary.json').unlink()
  over_seeds.run(shapes_config, workdir, PLAN, report_only=True)
  assert runs_of(workdir) == {
      'baseline': [0, 1], 'impactx': [0], methods.CONTROL: [1]
  }


# --- What is refused before any work ------------------------------------------


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('folder', 'section', 'field', 'value'), [
    ('classifier', 'data', 'validation_fraction', 0.2),
    ('maps', 'attribution', 'max_evals', 21),
    (methods.CONTROL, 'method', 'lep_units', 31),
])
def test_a_seed_made_with_another_config_is_refused(
    shapes_config, tmp_path, folder, section, field, value
):
  other = shapes_config.copy_and_resolve_references()
  other.seed = 1
  other[section][field] = value
  if folder == methods.CONTROL:
    other = methods.config_of(folder, other)
  epath = artefact.open_workdir(tmp_path)
  configs.write(epath / 'seed1' / folder, other)
  with pytest.raises(InputError) as error:
    over_seeds.run(shapes_config, tmp_path, PLAN)
  for part in (f'{section}.{field}', f'seed1/{folder}', '--workdir'):
    assert part in str(error.value)
  assert [path.name for path in tmp_path.iterdir()] == ['seed1']


@pytest.mark.usefixtures('no_work')
def test_another_config_for_a_finished_table_is_refused(
    shapes_table, shapes_config
):
  before = read_files(shapes_table)
  config = shapes_config.copy_and_resolve_references()
  config.method.lambda_ = 0.5
  with pytest.raises(InputError, match=r'method\.lambda_'):
    over_seeds.run(config, shapes_table, PLAN)
  assert read_files(shapes_table) == before


@pytest.mark.usefixtures('no_work')
def test_the_workdir_of_a_single_run_is_refused(
    shapes_table, shapes_config, tmp_path
):
  single = shutil.copytree(shapes_table / 'seed0', tmp_path / 'single')
  before = {path.name for path in single.iterdir()}
  with pytest.raises(InputError, match='single run.*--workdir'):
    over_seeds.run(shapes_config, single, PLAN)
  assert {path.name for path in single.iterdir()} == before


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(
    'name',  # Shapes have no groups.
    [n for n in methods.METHODS if n != 'baseline_balanced'],
)
def test_a_batch_larger_than_the_data_is_refused_before_any_work(
    shapes_config, tmp_path, name
):
  config = shapes_config.copy_and_resolve_references()
  config[methods.find(name).section].training.batch_size = 1000
  with pytest.raises(InputError, match=r'training\.batch_size=N'):
    over_seeds.run(config, tmp_path, over_seeds.Plan.parse('2', [name]))
  assert not list(tmp_path.iterdir())


# --- One classifier for all seeds ---------------------------------------------


@pytest.fixture(scope='module')
def shared_table(shapes_table, shapes_config, tmp_path_factory):
  """A table of two seeds around the classifier of another one's seed 0."""
  workdir = tmp_path_factory.mktemp('shared_table')
  config = shapes_config.copy_and_resolve_references()
  config.classifier.workdir = str(shapes_table / 'seed0')
  config.attribution.workdir = str(shapes_table / 'seed0')
  with pytest.MonkeyPatch.context() as monkeypatch:
    forbid(monkeypatch, (service, 'write_maps'))
    begun = count_trainings(monkeypatch)
    plan = over_seeds.Plan.parse('2', [methods.CONTROL])
    over_seeds.run(config, workdir, plan)
  return workdir, begun


def test_a_shared_classifier_and_its_maps_are_not_made_again(shared_table):
  workdir, begun = shared_table
  assert begun == [f'seed{seed}/{methods.CONTROL}' for seed in (0, 1)]
  for seed in ('seed0', 'seed1'):
    assert not (workdir / seed / 'classifier').exists()
    assert not (workdir / seed / 'maps').exists()


def test_all_seeds_have_the_shared_classifier_as_a(shared_table, shapes_table):
  workdir, _ = shared_table
  first, second = read_json(workdir / 'table.json')['rows'][0]['runs']
  theirs, _ = read_json(shapes_table / 'table.json')['rows'][0]['runs']
  assert first == theirs
  assert second == theirs | {'seed': 1}


def test_what_is_trained_around_it_differs_from_seed_to_seed(
    shared_table, shapes_table
):
  workdir, begun = shared_table
  first, second = (
      read_json(workdir / name / 'summary.json')['digest'] for name in begun
  )
  # Its first seed is that of the table that it has the classifier of.
  theirs = read_json(shapes_table / 'seed0' / methods.CONTROL / 'summary.json')
  assert first == theirs['digest'] != second


def test_a_shared_classifier_is_noted_in_the_table(shared_table, shapes_table):
  workdir, _ = shared_table
  assert read_json(workdir / 'table.json')['shared_classifier']
  note = 'share one classifier'
  assert note in (workdir / 'table.md').read_text()
  assert note not in (shapes_table / 'table.md').read_text()


@pytest.mark.usefixtures('no_work')
def test_each_seed_has_its_own_where_a_path_says_so(
    shapes_config, shapes_table, tmp_path
):
  config = shapes_config.copy_and_resolve_references()
  config.classifier.workdir = f'{shapes_table}/seed{{seed}}'
  over_seeds.run(config, tmp_path, over_seeds.Plan.parse('2', []))
  table, theirs = (
      read_json(path / 'table.json') for path in (tmp_path, shapes_table)
  )
  assert table['rows'][0]['runs'] == theirs['rows'][0]['runs']
  assert not table['shared_classifier']
