"""Checkpoints: what goes in comes out, for any reader."""

import contextlib
import shutil

from attribution.errors import InputError
from etils import epath
from impactx_jax.methods.base import SCRATCH
from impactx_jax.training import checkpoints
from impactx_jax.training.train_step import TrainState
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


def make_state(value=1.0):
  params = {'a': {'kernel': jnp.full((2, 3), value)}, 'b': jnp.arange(3.0)}
  return TrainState(
      step=jnp.asarray(7, jnp.int32),
      params=params,
      collections={'classifier': {'params': jnp.ones(2), 'collections': {}}},
      opt_state=optax.adam(0.1).init(params),
  )


def test_round_trip_of_the_state_and_its_meta(tmp_path):
  state = make_state(3.0)
  meta = {'history': [{'loss': 0.1}], 'best': 7}
  with checkpoints.Checkpoints(tmp_path) as saved:
    assert saved.restore_latest(state) is None
    saved.save(7, state, meta)
  with checkpoints.Checkpoints(tmp_path) as saved:
    restored, found = saved.restore_latest(make_state())
  assert found == meta
  jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_step_is_not_saved_twice(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(7, make_state(), {})
    with pytest.raises(RuntimeError, match='Step 7'):
      saved.save(7, make_state(2.0), {})


@pytest.mark.parametrize('processes', ['one', 'each'])
def test_the_steps_that_are_named_are_kept_and_the_latest(tmp_path, processes):
  steps = {1: [], 2: [1], 3: [1, 2], 4: [1], 5: [4], 6: []}
  folder, kept = tmp_path / checkpoints.DIRECTORY, []
  with contextlib.ExitStack() as stack:
    saved = stack.enter_context(checkpoints.Checkpoints(tmp_path))
    for step, keep in steps.items():
      if processes == 'each':  # As it were: each continues the one before.
        saved = stack.enter_context(checkpoints.Checkpoints(tmp_path))
      saved.save(step, make_state(), {}, keep=keep)
      kept.append(sorted(int(path.name) for path in folder.iterdir()))
  assert kept == [[1], [1, 2], [1, 2, 3], [1, 4], [4, 5], [6]]


def test_what_only_training_needs_is_kept_apart(tmp_path):
  state = make_state()
  state = state.replace(
      collections={**state.collections, SCRATCH: {'maps': jnp.ones(4)}}
  )
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(7, state, {})
    restored, _ = saved.restore_latest(state)
  jax.tree.map(np.testing.assert_array_equal, restored, state)
  kept = {n: c for n, c in state.collections.items() if n != SCRATCH}
  variables = {'params': state.params, 'collections': kept}
  found = checkpoints.restore_variables(tmp_path, 7, variables)
  jax.tree.map(np.testing.assert_array_equal, found, variables)


def test_evaluation_restores_variables_alone(tmp_path):
  state = make_state(3.0)
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(7, state, {})
  variables = {'params': state.params, 'collections': state.collections}
  shapes = jax.eval_shape(lambda: variables)
  restored = checkpoints.restore_variables(tmp_path, 7, shapes)
  jax.tree.map(np.testing.assert_array_equal, restored, variables)


def test_another_network_is_refused(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(7, make_state(), {})
  with pytest.raises(InputError, match='no checkpoint of step 8'):
    checkpoints.restore_variables(tmp_path, 8, {})
  wrong = {'params': {'c': jnp.ones(4)}, 'collections': {}}
  with pytest.raises(InputError, match='does not hold the network'):
    checkpoints.restore_variables(tmp_path, 7, wrong)


def damage(path):
  path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize('what', ['array', 'meta', 'item', 'structure'])
def test_a_damaged_checkpoint_is_not_continued_from(tmp_path, what):
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(7, make_state(), {'best': 7})
  step = tmp_path / checkpoints.DIRECTORY / '7'
  state = make_state()
  if what == 'array':
    for path in (step / 'variables').rglob('*'):
      if path.is_file() and path.stat().st_size > 20:
        damage(path)
  if what == 'meta':
    damage(step / 'meta' / 'metadata')
  if what == 'item':
    shutil.rmtree(step / 'training')
  if what == 'structure':
    state = state.replace(params={'c': jnp.ones(4)})
  with (
      checkpoints.Checkpoints(tmp_path) as saved,
      pytest.raises(InputError) as error,
  ):
    saved.restore_latest(state)
  message = str(error.value)
  assert str(step) in message and 'Delete it' in message, message
  assert '\n' not in message


def test_digest_sees_values_names_and_dtypes():
  tree = {'a': np.ones(2, np.float32), 'b': np.zeros(3, np.float32)}
  same = {'b': np.zeros(3, np.float32), 'a': jnp.ones(2)}
  assert checkpoints.digest(tree) == checkpoints.digest(same)
  others = [
      {**tree, 'a': np.array([1, 1.0000001], np.float32)},
      {'a': tree['a'], 'c': tree['b']},
      {**tree, 'a': np.ones(2, np.float16)},
      {**tree, 'a': np.ones((1, 2), np.float32)},
  ]
  digests = {checkpoints.digest(tree), *map(checkpoints.digest, others)}
  assert len(digests) == 5


def test_local_paths_become_absolute_and_buckets_stay(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert checkpoints.absolute('runs/a') == epath.Path(tmp_path / 'runs' / 'a')
  assert str(checkpoints.absolute('gs://bucket/a')) == 'gs://bucket/a'
