"""What a guided step costs, against an unguided one.

  python -m tests.benchmarks.guidance [--names=lenet5,resnet20] [--clock=cpu]

Random weights, images and masks of 32 pixels, two classes, batches of 64. Each
attribution at each layer takes turns with the step of A trained further, which
is the same without the localisation loss. Prints images/s of both and how many
times as long the guided step takes: the median of the rounds, and the smallest
and largest.
"""

import argparse
import json
import os
import pathlib

from impactx_jax import methods
from impactx_jax import models
from impactx_jax.configs import common as recipes
from impactx_jax.models import base
from impactx_jax.report import console
from impactx_jax.training import train_step
import jax
import numpy as np
from tests.benchmarks import backbones

SIDE = 32
PROBLEM = methods.Problem(2, (SIDE, SIDE, 3))


def cases(name: str) -> list[tuple[str, str, str]]:
  """Returns (variant, attribution, layer) of what can be guided."""
  found = []
  layers = models.find(name).layers
  for variant in base.VARIANTS:
    for layer in layers:
      if variant == 'b_cos':
        kinds = ['b_cos']
      elif variant == 'x_dnn':
        kinds = ['integrated_gradients']
      else:
        kinds = ['input_x_gradient', 'integrated_gradients']
        kinds += ['grad_cam'] if layer == layers[-1] else []
      found += [(variant, kind, layer) for kind in kinds]
  return found


def config_of(name: str, variant: str, attribution: str, layer: str):
  """Returns the config of a guided step."""
  config = recipes.get_config()
  config.model.name, config.model.variant = name, variant
  if variant == 'b_cos':
    config.model.pooling = 'mean'
  config.method.update({
      'guidance_attribution': attribution, 'guidance_layer': layer,
  })
  config.method.name = 'guided'
  methods.find('guided').check(config)
  return config


def updater(name: str, config, batch):
  """Returns what trains one step of a method at each call."""
  classifier = methods.create(methods.BASELINE, config, PROBLEM).init(
      jax.random.key(0), None
  )
  method = methods.create(name, config, PROBLEM)
  state = train_step.initial_state(
      method, seed=0,
      classifier=dict(zip(('params', 'collections'), classifier, strict=True)),
  )
  return backbones.updater(
      method, state, batch, methods.scalars(name, config)
  )


def measure(name: str, case: tuple[str, str, str], arguments) -> dict:
  """Returns the images/s of both steps, and the ratio of their times."""
  config = config_of(name, *case)
  batch = backbones.random_batch(arguments.batch, SIDE)
  batch['label'] %= PROBLEM.num_classes
  masks = np.random.default_rng(1).random((arguments.batch, SIDE, SIDE, 1))
  guided = updater(
      'guided', config,
      batch | {
          'mask': (masks < 0.2).astype(np.float32),
          'annotated': np.ones(arguments.batch, np.float32),
      },
  )
  plain = updater('baseline_continued', config, batch)
  rounds = np.array([
      [
          arguments.batch
          / backbones.seconds_of(step, arguments.seconds, arguments.clock)
          for step in (plain, guided)
      ]
      for _ in range(arguments.rounds)
  ])
  ratios = rounds[:, 0] / rounds[:, 1]
  unguided, rate = np.median(rounds, axis=0)
  return {
      'backbone': name, 'variant': case[0], 'attribution': case[1],
      'layer': case[2], 'unguided': unguided, 'guided': rate,
      'times': np.median(ratios), 'lowest': ratios.min(),
      'highest': ratios.max(),
  }


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--names', default='lenet5')
  parser.add_argument('--batch', type=int, default=64)
  parser.add_argument('--seconds', type=float, default=2.0, help='of each')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--clock', default='wall', choices=[*backbones.CLOCKS])
  parser.add_argument('--out', default='', help='a JSON file of all figures')
  arguments = parser.parse_args()
  found = [
      measure(name, case, arguments)
      for name in arguments.names.split(',')
      for case in cases(name)
  ]
  print(
      f'{jax.devices()[0].device_kind} ({os.cpu_count()} cores), jax '
      f'{jax.__version__}, float32, batches of {arguments.batch}, images/s of '
      f'{arguments.clock} time'
  )
  print(console.table(
      ['backbone', 'variant', 'attribution', 'layer', 'unguided', 'guided',
       'times as long'],
      [
          [
              row['backbone'], row['variant'], row['attribution'], row['layer'],
              f'{row["unguided"]:,.0f}', f'{row["guided"]:,.0f}',
              f'{row["times"]:.2f} ({row["lowest"]:.2f} to '
              f'{row["highest"]:.2f})',
          ]
          for row in found
      ],
  ))
  if arguments.out:
    text = json.dumps({'clock': arguments.clock, 'rows': found}, indent=1)
    pathlib.Path(arguments.out).write_text(text)


if __name__ == '__main__':
  main()
