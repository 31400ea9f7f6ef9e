"""Stages: one by one as all at once, and the control beside the method."""

import json

from impactx_jax import methods
from impactx_jax import stages
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import runs as run_lib
import pytest
from tests.pipeline_fixtures import restored


def read(folder, name):
  return json.loads((folder / name).read_text())


def test_stages_one_by_one_make_what_all_makes(
    finished_workdir, tiny_config, tmp_path
):
  for stage in ('classifier', 'maps', 'impactx', 'evaluate'):
    stages.run(tiny_config, tmp_path, stage)
  for name in ('classifier', 'impactx', methods.CONTROL):
    assert (
        read(tmp_path / name, 'summary.json')['digest']
        == read(finished_workdir / name, 'summary.json')['digest']
    )
  ours, theirs = (
      read(folder / 'report', 'metrics.json')
      for folder in (tmp_path, finished_workdir)
  )
  assert ours['accuracy'] == theirs['accuracy']
  assert ours['maps'] == theirs['maps']


def test_the_control_records_that_it_saw_no_explanation(finished_workdir):
  workdir = artefact.open_workdir(finished_workdir)
  recorded = configs.read(workdir / methods.CONTROL).method
  assert (recorded.name, recorded.lambda_) == (methods.CONTROL, 0.0)
  method = configs.read(workdir / 'impactx').method
  assert (method.name, method.lambda_) == ('impactx', 1.0)


def test_the_control_can_be_named_in_a_finished_workdir(
    finished_workdir, tiny_config
):
  tiny_config.method.name = methods.CONTROL
  workdir = artefact.open_workdir(finished_workdir)
  run = run_lib.resolve(tiny_config, workdir)
  assert run.method_names() == (methods.CONTROL,)


def test_both_were_trained_on_all_images_mapped_or_not(finished_workdir):
  examples = [
      read(finished_workdir / name, 'summary.json')['examples']
      for name in ('classifier', 'impactx', methods.CONTROL)
  ]
  assert examples[0] == examples[1] == examples[2]
  manifest = read(finished_workdir / 'maps', 'manifest.json')
  assert sum(manifest['examples'].values()) == 48 < sum(examples[0].values())


@pytest.mark.parametrize(('name', 'folder'), [
    ('baseline', 'classifier'), ('impactx', 'impactx'),
    (methods.CONTROL, methods.CONTROL),
])
def test_a_restored_network_is_the_one_that_was_recorded(
    finished_workdir, name, folder
):
  from impactx_jax.training import checkpoints

  _, variables = restored(finished_workdir, name)
  recorded = read(finished_workdir / folder, 'summary.json')['digest']
  assert checkpoints.digest(variables) == recorded
