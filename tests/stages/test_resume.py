"""A run killed in the middle of every stage ends as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys

from impactx_jax import stages
import numpy as np
from tests.conftest import make_tiny_config

# Runs the pipeline and kills its own process, without any clean-up, in the
# middle of the stage that is named.
SCRIPT = """
import os, signal, sys
from attribution import files
from attribution import records
from impactx_jax import stages
from impactx_jax.data import batches
from impactx_jax.report import panels
from tests.conftest import make_tiny_config

stage, data_dir, workdir = sys.argv[1:]

def die(*_, **__):
  os.kill(os.getpid(), signal.SIGKILL)

def die_in_second_epoch(columns, *, epoch, **options):
  for i, batch in enumerate(original_epoch(columns, epoch=epoch, **options)):
    if epoch == 1 and i == 1:
      die()
    yield batch

def die_with_half_of_the_second_shard(path, write):
  def half(name):
    write(name)
    os.truncate(name, os.path.getsize(name) // 2)
    die()
  original_write(path, half if '00001-of' in path.name else write)

original_epoch = batches.training_epoch
original_write = files.write_atomically
if stage in ('classifier', 'impactx'):
  batches.training_epoch = die_in_second_epoch
elif stage == 'maps':
  files.write_atomically = die_with_half_of_the_second_shard
else:
  panels.draw = die
stages.run(make_tiny_config(data_dir), workdir)
"""


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(
    finished_workdir, data_dir, tmp_path
):
  workdir = tmp_path / 'killed'
  for stage, begun in (
      ('classifier', 'classifier/checkpoints'),
      ('maps', 'maps/maps-00000-of-00003.tfrecord'),
      ('impactx', 'impactx/checkpoints'),
      ('evaluate', 'impactx_lambda0/summary.json'),
  ):
    process = subprocess.run(
        [sys.executable, '-c', SCRIPT, stage, data_dir, str(workdir)],
        capture_output=True,
        text=True,
        env=dict(os.environ),
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    assert (workdir / begun).exists()
    last_file = {'maps': 'manifest.json', 'evaluate': 'metrics.json'}
    folder = 'report' if stage == 'evaluate' else stage
    last_file = last_file.get(stage, 'summary.json')
    assert not (workdir / folder / last_file).exists()
  stages.run(make_tiny_config(data_dir), workdir)

  def load(folder, name):
    return json.loads((folder / name).read_text())

  for stage in ('classifier', 'impactx', 'impactx_lambda0'):
    ours, theirs = (
        load(folder / stage, 'summary.json')
        for folder in (workdir, finished_workdir)
    )
    assert ours['digest'] == theirs['digest']
    assert ours['history'] == theirs['history']
  shards = [
      load(folder / 'maps', 'manifest.json')['shards']
      for folder in (workdir, finished_workdir)
  ]
  assert len(shards[0]) == 3 and shards[0] == shards[1]
  metrics = [
      load(folder / 'report', 'metrics.json')
      for folder in (workdir, finished_workdir)
  ]
  for name in ('accuracy', 'cross_entropy', 'inputs', 'data'):
    assert metrics[0][name] == metrics[1][name]
  ours, theirs = (found['maps']['measures'] for found in metrics)
  assert ours.keys() == theirs.keys()
  for name, by_map in ours.items():
    for map_name, value in by_map.items():
      np.testing.assert_allclose(
          value['mean'], theirs[name][map_name]['mean']
      )
  assert not list(workdir.rglob('.*.partial'))
