"""Data, backbone, explainer and method of a user's own, by one command.

The files are the documented ones: several labels an image, and masks that the
method's loss uses. Nothing in the loop, the shards or the report knows them.
"""

import json
import shutil

from attribution import records
import impactx_jax
from impactx_jax import main
from impactx_jax import stages
from impactx_jax import user_files
from impactx_jax.data import sources
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
import numpy as np
import pytest
from tests import cli_fixtures
from tests import own_files_fixtures
from tests.pipeline_fixtures import refused

RECIPE = """
from tests import conftest

def get_config():
  config = conftest.make_tiny_config({data_dir!r})
  config.classifier.training.epochs = 6
  config.data.label_fraction = 0.5
  return config
"""


@pytest.fixture(scope='module')
def folder(data_dir, tmp_path_factory):
  """A folder with the files, the recipe, and what the command has made."""
  folder = tmp_path_factory.mktemp('own_files')
  paths = own_files_fixtures.write(folder)
  recipe = folder / 'recipe.py'
  recipe.write_text(RECIPE.format(data_dir=data_dir))
  with (
      pytest.MonkeyPatch.context() as monkeypatch,
      cli_fixtures.running(monkeypatch) as run,
  ):
    run(
        main, f'--config={recipe}', f'--workdir={folder / "run"}',
        f'--config.data.name={paths["pairs.py"]}',
        f'--config.model.name={paths["mynet.py"]}',
        f'--config.attribution.explainer={paths["saliency.py"]}',
        f'--config.method.name={paths["tidy.py"]}',
        '--config.method.tidiness=0.25',
        '--config.evaluation.explainers=("random","grad_cam")',
    )
  return folder


@pytest.fixture
def workdir(folder):
  return folder / 'run'


@pytest.fixture
def metrics(workdir):
  return json.loads((workdir / 'report' / 'metrics.json').read_text())


def test_every_file_is_documented_and_kept_beside_the_run(workdir):
  files = own_files_fixtures.documented()
  # Pictures of the last are to be downloaded.
  assert files.pop('fruit.py')
  assert files.keys() == {'mynet.py', 'pairs.py', 'saliency.py', 'tidy.py'}
  for name, content in files.items():
    assert (workdir / name).read_text() == content


def test_the_option_that_the_method_declares_is_in_the_config(workdir):
  for home in (workdir, workdir / 'tidy'):
    assert configs.read(home).method.tidiness == 0.25


def test_the_shards_keep_the_masks_and_the_labels(workdir):
  columns, _ = records.read(workdir / 'maps')
  masks, labels = columns['masks'], columns['labels']
  assert masks.shape[1:] == (32, 32, 4) and labels.shape[1:] == (4,)
  assert (labels.sum(axis=1) == 2).all()
  # A mask is where a class is, and nowhere else.
  np.testing.assert_array_equal(masks.any(axis=(1, 2)), labels.astype(bool))


def test_the_masks_reach_the_loss(workdir):
  summary = json.loads((workdir / 'tidy' / artefact.SUMMARY).read_text())
  outside = [line['train/outside'] for line in summary['history']]
  assert len(outside) == 2 and all(value > 0 for value in outside)
  assert outside[-1] < outside[0]


def test_all_is_measured_of_several_labels(metrics):
  assert metrics['data']['task'] == 'multi_label'
  for measure in ('accuracy', 'f1', 'mean_average_precision'):
    # Not every image has a map, so there is the fair control as well.
    assert metrics[measure].keys() == {'baseline', 'tidy', 'impactx_lambda0'}
  # Half of the labels are 1: chance.
  assert metrics['mean_average_precision']['baseline'] > 0.6
  maps = metrics['maps']
  assert maps['names'] == [
      'saliency', 'tidy', 'random', 'grad_cam', 'class_mean', 'mean',
      'mean_mask', 'swapped', 'saliency_of_a',
  ]
  # The masks of the classes that are explained are the objects.
  for measure in ('morf_area', 'epg', 'iou'):
    assert maps['measures'][measure].keys() == set(maps['names'])


def test_the_page_names_them(workdir):
  page = (workdir / 'report' / 'index.html').read_text()
  for part in ('saliency', 'tidy', 'mynet.py', 'square', 'F1', 'mAP'):
    assert part in page


def test_it_is_loaded_and_classifies(workdir, data_dir):
  model = impactx_jax.load(workdir)
  assert (model.method, model.class_names) == (
      'tidy', ('square', 'cross', 'ring', 'bar')
  )
  config = configs.read(workdir)
  assert config.data.data_dir == data_dir
  images = sources.load(config.data, seed=0).test['image'][:5]
  found = model.predict(images)
  np.testing.assert_array_equal(found.classes, found.probabilities > 0.5)
  assert found.attribution.shape == images.shape


def test_nothing_is_left_to_do_wherever_the_files_lie(
    folder, tmp_path, capsys
):
  moved = shutil.copytree(folder / 'run', tmp_path / 'run')
  config = configs.read(folder / 'run')
  for section, field in configs.USER_FILES:
    assert user_files.is_file(config[section][field])
  before = (moved / 'report' / 'metrics.json').read_bytes()
  stages.run(config, moved)
  assert (moved / 'report' / 'metrics.json').read_bytes() == before
  assert 'Report: ' in capsys.readouterr().out


@pytest.mark.parametrize(('name', 'section', 'field'), [
    ('pairs.py', 'data', 'name'),
    ('mynet.py', 'model', 'name'),
    ('saliency.py', 'attribution', 'explainer'),
    ('tidy.py', 'method', 'name'),
])
def test_a_file_that_has_changed_is_refused(
    folder, tmp_path, name, section, field
):
  config = configs.read(folder / 'run')
  changed = tmp_path / name
  changed.write_text(own_files_fixtures.documented()[name] + '\n# More.\n')
  config[section][field] = str(changed)
  refused(
      config, folder / 'run', 'all', f'{section}.{field}',
      f'what is in {str(changed)!r} has changed since', '--workdir',
  )
