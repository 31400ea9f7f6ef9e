"""A run killed in the middle of every stage ends as an undisturbed one."""

import json
import os
import signal
import subprocess
import sys

import numpy as np

# Runs the pipeline and kills its own process, without any clean-up, in the
# middle of the stage that is named; '' is not disturbed.
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
elif stage == 'evaluate':
  panels.draw = die
config = make_tiny_config(data_dir)
config.classifier.training.epochs = 2
config.method.map_cell = 4  # D is small then, and compiles in no time.
config.attribution.max_evals = 20
config.attribution.shard_size = 20
stages.run(config, workdir)
"""


def run(stage, data_dir, workdir) -> subprocess.CompletedProcess:
  """Runs SCRIPT with XLA's optimisations, as users do and other tests do not.

  A continued run must compute what the undisturbed one does also where XLA may
  reorder and fuse.
  """
  return subprocess.run(
      [sys.executable, '-c', SCRIPT, stage, data_dir, str(workdir)],
      capture_output=True,
      text=True,
      env={
          **os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0', 'XLA_FLAGS': '',
      },
      check=False,
  )


def load(folder, name):
  return json.loads((folder / name).read_text())


def test_a_run_killed_in_every_stage_ends_as_an_undisturbed_one(
    data_dir, tmp_path
):
  killed, undisturbed = tmp_path / 'killed', tmp_path / 'undisturbed'
  for stage, begun, last_file in (
      ('classifier', 'classifier/checkpoints', 'classifier/summary.json'),
      ('maps', 'maps/maps-00000-of-00003.tfrecord', 'maps/manifest.json'),
      ('impactx', 'impactx/checkpoints', 'impactx/summary.json'),
      ('evaluate', 'impactx_lambda0/summary.json', 'report/metrics.json'),
  ):
    process = run(stage, data_dir, killed)
    assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
    assert (killed / begun).exists(), stage
    assert not (killed / last_file).exists(), stage
  for workdir in (killed, undisturbed):
    process = run('', data_dir, workdir)
    assert process.returncode == 0, process.stderr[-2000:]
  assert 'Continuing after epoch' not in process.stderr

  for stage in ('classifier', 'impactx', 'impactx_lambda0'):
    ours, theirs = (
        load(folder / stage, 'summary.json') for folder in (killed, undisturbed)
    )
    assert ours['digest'] == theirs['digest']
    assert ours['history'] == theirs['history']
    assert len(ours['history']) == 2
  shards = [
      load(folder / 'maps', 'manifest.json')['shards']
      for folder in (killed, undisturbed)
  ]
  assert len(shards[0]) == 3 and shards[0] == shards[1]
  metrics = [
      load(folder / 'report', 'metrics.json')
      for folder in (killed, undisturbed)
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
  assert not list(killed.rglob('.*.partial'))
