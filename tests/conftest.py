"""Shared fixtures: a tiny data directory, config and finished workdir."""

import gc
from importlib import metadata
import os
import pathlib

# Before JAX starts: fake devices need threads of their own (see README), and
# several test processes cannot share an accelerator.
os.environ.setdefault('NPROC', '8')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Tests compile far more than they compute: the same few networks over and over,
# in several processes. A second run of the suite compiles nearly nothing.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR',
    str(pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'),
)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
# Small programs compile in half the time, with the older of XLA's two ways to
# make kernels and in one piece. Others than 0.10 may not know these flags, and
# end the process then.
if metadata.version('jaxlib').startswith('0.10.'):
  os.environ.setdefault(
      'XLA_FLAGS',
      '--xla_cpu_use_fusion_emitters=false '
      '--xla_cpu_parallel_codegen_split_count=1',
  )

# pylint: disable=g-import-not-at-top
import filelock
from impactx_jax import stages
from impactx_jax.configs import common
import pytest

# Tracing makes many objects, and each collection goes through all that the
# libraries have made.
gc.set_threshold(50_000, 20, 100)
# A file is one worker's; one that begins late ends when all others have.
LONG = (
    'test_parallel', 'test_resume', 'test_all_methods', 'test_published',
    'test_over_seeds',
)


def pytest_collection_modifyitems(items):
  """Begins with the files that take longest."""
  items.sort(key=lambda item: item.path.stem not in LONG)


def for_all_workers(tmp_path_factory) -> pathlib.Path:
  """A folder of this run of the tests, the same in every process of it."""
  base = tmp_path_factory.getbasetemp()
  return base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """Where the tests' own TFDS data sets are prepared, once."""
  return str(for_all_workers(tmp_path_factory) / 'tfds')


def make_tiny_config(data_dir):
  """The whole method in seconds: few maps, evaluations and epochs."""
  config = common.get_config()
  config.data.data_dir = data_dir
  config.classifier.training.epochs = 3
  config.method.training.epochs = 2
  config.method.training.batch_size = 16
  config.method.decoder_filters = 8
  config.method.lep_units = 32
  config.attribution.num_examples = 48
  config.attribution.max_evals = 40
  config.attribution.batch_size = 10
  config.attribution.shard_size = 16
  config.evaluation.num_images = 8
  config.evaluation.num_panels = 2
  config.evaluation.draws = 2
  config.evaluation.explainers = ('random',)
  config.evaluation.close_images = 2
  config.evaluation.reference_evals = 40
  return config


@pytest.fixture
def tiny_config(data_dir):
  return make_tiny_config(data_dir)


@pytest.fixture(scope='session')
def finished_workdir(data_dir, tmp_path_factory):
  """A workdir in which every stage is complete; tests must not change it."""
  workdir = for_all_workers(tmp_path_factory) / 'finished'
  with filelock.FileLock(f'{workdir}.lock'):  # It is complete for who waited.
    stages.run(make_tiny_config(data_dir), workdir)
  return workdir
