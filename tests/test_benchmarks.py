"""What the benchmarks stand on goes with the code as it is."""

import argparse
import json
import pathlib

from attribution.explainers import EXPLAINERS
from impactx_jax import methods
from impactx_jax.stages import checks
import jax
import numpy as np
import pytest
from tests.benchmarks import attribution
from tests.benchmarks import backbones
from tests.benchmarks import backbones_peer
from tests.benchmarks import common
from tests.benchmarks import decoders
from tests.benchmarks import guard
from tests.benchmarks import guidance_fronts
from tests.benchmarks import guidance_levers
from tests.benchmarks import guidance_runs
from tests.benchmarks import guidance_tables
from tests.benchmarks import latency
from tests.benchmarks import learned_explainer
from tests.benchmarks import training

CONTROLS = pathlib.Path(__file__).parents[1] / (
    'docs/results/guidance_controls.json'
)


def test_lenet_is_trained_saved_and_read_again(tmp_path):
  data = common.load_images(npz='', data_dir='')
  images, labels = data['train_images'], data['train_labels']
  before = common.train_lenet(images, labels, steps=0)
  params = common.train_lenet(images, labels, steps=20)

  def accuracy(params):
    scores = common.score_fn(params, images[:300])
    return (scores.argmax(-1) == labels[:300]).mean()

  assert accuracy(params) > accuracy(before) + 0.2
  common.save_params(tmp_path, params)
  jax.tree.map(
      np.testing.assert_array_equal, common.load_params(tmp_path), params
  )
  assert attribution.bare_forward(params, images[:2], seconds=0.01) > 0


def test_a_backbone_is_measured():
  arguments = argparse.Namespace(
      batch=8, dtype='float32', size=0, max_evals=20, explained=2, seconds=0.01,
      peak=1e9, rounds=2, clock='wall',
  )
  name, pixels, operations, *rates = backbones.measure('lenet5', arguments)
  assert (name, pixels, operations) == ('lenet5', '32', '2')
  assert len(rates) == 6


def peer_arguments(**given):
  return argparse.Namespace(**{
      'peer': 'torch', 'names': 'lenet5', 'sizes': '32', 'batches': '2,3',
      'rounds': 2, 'clock': 'cpu', 'seconds': 0.01, 'peer_python': '',
      'out': '', 'keeps': False,
  } | given)


def test_a_backbone_is_compared_with_one_of_the_same_size():
  arguments = peer_arguments()
  backbones_peer.check(arguments)
  asked = []

  def torch(**request):
    asked.append(request)
    rate = 2e9 if request['format'] == 'channels_last' else 1e9
    return {'wall': rate, 'cpu': rate, 'parameters': 62_006}

  found = backbones_peer.compare('lenet5', 32, 'forward', torch, arguments)
  assert found['torch'] == 2e9 and found['torch_batch'] == '2 channels_last'
  assert 0 < found['lowest'] <= found['ratio'] <= found['highest'] < 1
  assert len(asked) == 2 * 2 + arguments.rounds
  assert len(backbones_peer.row_of(found)) == 9


@pytest.mark.parametrize('given', [
    {'peer': 'keras'}, {'names': 'resnet'}, {'sizes': '64,'}, {'sizes': '8'},
    {'batches': '0'}, {'rounds': 0}, {'clock': 'sun'}, {'out': 'none/x.json'},
    {'peer_python': 'none/python'},
])
def test_bad_arguments_of_a_comparison_are_refused(given, capsys):
  assert backbones_peer.main(peer_arguments(**given)) == 2
  [said] = capsys.readouterr().err.splitlines()
  assert said.startswith(f'--{next(iter(given))}') and said.endswith('.')


def test_the_loop_is_measured_for_both_stages():
  one, classifier = training.measure('baseline', None, steps=2, pairs=1)
  two, _ = training.measure('impactx', classifier, steps=2, pairs=1)
  for rates in (one, two):
    assert rates.shape == (1, 2) and (rates > 0).all()


def test_one_forward_pass_is_compared_with_shap(
    finished_workdir, monkeypatch
):
  # shap itself takes longer to import than all else.
  monkeypatch.setitem(EXPLAINERS, 'shap_partition', EXPLAINERS['random'])
  found = latency.measure(finished_workdir, rounds=1)
  assert found.keys() == {'one forward pass', 'partition', 'shap'}
  assert all(len(seconds) == 1 for seconds in found.values())


@pytest.mark.parametrize('data', [
    {}, {'data_dir': 'DATA_DIR', 'sees': 'features'}, {'shapes': 'small'},
    {'objective': 'fastshap', 'images': 0}, {'maps': 500},
])
def test_learned_explainers_can_be_made(data):
  arguments = argparse.Namespace(**{
      'data_dir': '', 'shapes': '', 'sees': '', 'points': 2, 'filters': 8,
      'epochs': 3, 'classifier': 'DIR', 'images': 7, 'objective': '', 'maps': 0,
  } | data)
  config = learned_explainer.config_of(arguments)
  checks.check(config)
  assert config.method.name == 'explainer'
  assert config.method.training.epochs == 3
  # Fewer maps are made for it, and all are A's.
  attribution = config.attribution
  assert (attribution.num_examples, attribution.workdir) == (
      (500, '') if arguments.maps else (0, 'DIR')
  )
  assert config.method.explainer_objective == (arguments.objective or 'maps')
  # Its own budget is among those that it is compared with.
  assert config.attribution.max_evals in learned_explainer.BUDGETS


@pytest.mark.parametrize('row', decoders.ROWS)
def test_the_compared_decoders_can_be_made(row):
  arguments = argparse.Namespace(data_dir='DATA_DIR', classifier='DIR')
  checks.check(decoders.config_of(arguments, row, seed=3))


def test_pictures_of_something_else():
  found = guard.digits(3, (32, 24, 3))
  assert found.shape == (3, 32, 24, 3) and found.dtype == np.float32
  assert 0 <= found.min() < 0.1 < 0.9 < found.max() <= 1


# --- Guidance -----------------------------------------------------------------


def guided_arguments(variant='plain', **given):
  return argparse.Namespace(**{
      'data': 'ground/cifar10_drawn', 'data_dir': '', 'task': '',
      'model': 'lenet5', 'width': 1.0, 'variant': variant, 'table': 'effect',
      'runs': '', 'guided': '', 'epochs': 1, 'further': 1,
  } | given)


@pytest.mark.parametrize('table', guidance_tables.TABLES)
def test_every_run_of_a_table_is_one_that_its_method_takes(table):
  variant = table.removeprefix('levers_') if 'levers_' in table else 'plain'
  arguments = guided_arguments(variant, table=table)
  runs = guidance_runs.runs_of(arguments)
  assert guidance_tables.CONTROL in runs
  keys = {guidance_runs.key_of(arguments, run) for run in runs.values()}
  assert len(keys) == len(runs)
  for name, fields in runs.values():
    config = guidance_runs.config_of(0, arguments)
    config.method.update(fields)
    methods.find(name).check(methods.config_of(name, config))


def test_what_is_kept_is_of_its_network_and_task():
  kept = {
      guidance_runs.key_of(guided_arguments(**changed))
      for changed in (
          {}, {'variant': 'b_cos'}, {'task': 'one_versus_rest'}, {'width': 2.0}
      )
  }
  assert len(kept) == 4


def test_of_each_lever_the_best_on_validation_is_chosen():
  levers = guidance_tables.levers_of('plain')[:2]
  found = {
      guidance_tables.of_lambda(lever, value): {
          'swapped_validation': 1 - abs(value - best), 'worst': value,
      }
      for lever, best in zip(levers, (40.0, 4.0), strict=True)
      for value in guidance_tables.of_lever('plain', lever)
  }
  assert guidance_levers.chosen(found, 'plain', levers) == [
      f"{levers[0]}, λ' 40", f"{levers[1]}, λ' 4"
  ]


def test_of_each_loss_the_best_on_validation_was_chosen():
  (measured,) = json.loads(CONTROLS.read_text())['lambdas']['seeds'].values()
  for (loss, layer), values in guidance_tables.LAMBDAS.items():
    found = {
        value: measured[name]['swapped_validation']
        for value in values
        if (name := f"{loss}, {layer}, λ' {value:g}") in measured
    }
    assert len(found) > 2
    assert guidance_tables.CHOSEN[loss, layer] == max(found, key=found.get)


def test_of_a_front_what_keeps_the_classes_and_points_best_is_tested():
  front = [
      {'validation': validation, 'test': test}
      for validation, test in (
          ((0.9, 0.2, 0.1), 'classes'), ((0.8, 0.5, 0.3), 'both'),
          ((0.5, 0.9, 0.2), 'maps'),
      )
  ]
  for least, expected in ((0.85, 'classes'), (0.7, 'both'), (0.1, 'maps')):
    assert guidance_fronts.best(front, 1, least) == expected
  assert guidance_fronts.best(front, 2, 0.1) == 'both'
  assert guidance_fronts.best(front, 1, 0.95) is None
