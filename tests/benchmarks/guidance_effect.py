"""Does guidance make a network go by the object, and what else would?

  python -m tests.benchmarks.guidance_effect --data_dir=DIR [--jobs=2]

`ground/cifar10_drawn`: a disc or a cross on photographs that tell which of the
two it is in all of train and validation, and in half of test. A is trained,
then for as many epochs and from the same A: on with λ = 0; guided into the
boxes; guided into another image's boxes; on with the surroundings of other
images (the same boxes, no explanation); and guided and with other surroundings
with 1 % of the boxes. A seed is a process on a core of its own.

Prints the accuracy of the four groups of test, their smallest, the accuracy on
validation images with other surroundings (by which settings can be chosen
without the groups of test), and the energy inside the box of the map that was
guided and of SHAP's; then paired differences to λ = 0 with 95 % intervals over
seeds. What a seed found is kept in --workdir, and not done again.

  … --guided=guidance_sign=positive,guidance_lambda=20 --runs='λ = 0;guided'

What is guided otherwise, and a part of the table.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from attribution import explainers
from attribution.metrics import localisation
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.configs import common as recipes
from impactx_jax.data import batches
from impactx_jax.data import columns as column_lib
from impactx_jax.data import masks as mask_lib
from impactx_jax.data import sources
from impactx_jax.evaluation import accuracy
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import statistics
from impactx_jax.report import console
from impactx_jax.training import evaluator
from impactx_jax.training import loop
from impactx_jax.training import train_step
import jax
import numpy as np
from tqdm.auto import tqdm

BASELINE, CONTROL = 'A', 'λ = 0'
# Both what speaks for a class and what speaks against it, of the difference of
# the two logits: what a plain network cannot get around.
GUIDED = {
    'guidance_loss': 'energy', 'guidance_lambda': 40.0,
    'guidance_output': 'difference', 'guidance_sign': 'both',
}
FEW = {'mask_fraction': 0.01}
# With as much weight for all boxes together as all of them had.
WEIGHTED = FEW | {'guidance_lambda': GUIDED['guidance_lambda'] / 0.01}
RUNS = {
    CONTROL: ('guided_lambda0', GUIDED),
    'guided': ('guided', GUIDED),
    "another image's boxes": ('guided_other_masks', GUIDED),
    'other surroundings': ('baseline_augmented', {}),
    'guided, 1 % of the boxes': ('guided', GUIDED | WEIGHTED),
    "another image's boxes, 1 %": ('guided_other_masks', GUIDED | WEIGHTED),
    'other surroundings, 1 %': ('baseline_augmented', FEW),
}
EPOCHS = 20  # Of A, with Adam and a cosine from 1e-3.
FURTHER, RATE = 15, 2e-3  # Of what follows.
MEASURED = 200  # Test images whose maps are measured.


def config_of(seed: int, arguments) -> recipes.ConfigDict:
  """Returns the config of A."""
  config = recipes.get_config()
  config.seed = seed
  config.data.name, config.data.data_dir = arguments.data, arguments.data_dir
  config.attribution.max_evals = 250
  return config


def train(name, config, dataset, classifier, epochs: int, rate: float):
  """Trains a method without checkpoints; returns it with its variables."""
  config = methods.config_of(name, config)
  method = methods.create(name, config, methods.Problem(
      len(dataset.class_names), dataset.image_shape, dataset.task
  ))
  columns = methods.find(name).columns(
      dataset.train, config, dataset.fingerprint()
  )
  training = config.method.training
  training.learning_rate = rate
  steps = column_lib.count(columns) // training.batch_size
  rates = train_step.learning_rates(training, steps * epochs)
  inputs = train_step.Inputs(
      keys={n: rng.stream(config.seed, n) for n in train_step.STREAMS},
      learning_rate=np.float32(0),
      scalars={
          n: np.float32(x) for n, x in methods.scalars(name, config).items()
      },
  )
  state = parallel.replicate(
      train_step.initial_state(method, config.seed, classifier)
  )
  step = train_step.compiled_step(method, False, 0)
  with tqdm(disable=True) as progress:
    for epoch in range(epochs):
      state, _ = loop.train_epoch(
          step, state,
          batches.training_epoch(
              columns, batch_size=training.batch_size, seed=config.seed,
              epoch=epoch,
          ),
          inputs=inputs, rates=rates, first_step=epoch * steps,
          progress=progress, check=lambda *_: None,
      )
  return method, jax.device_get(train_step.variables_of(state))


def with_other_surroundings(columns, seed: int):
  """Returns the columns, each image with what surrounds another's object."""
  images = columns['image']
  masks = mask_lib.of_batch(columns, 'boxes').any(axis=-1, keepdims=True)
  others = np.random.default_rng(seed).permutation(len(images))
  around = ~masks[others]
  colours = (images[others] * around).sum(axis=(1, 2), keepdims=True)
  colours = colours / around.sum(axis=(1, 2), keepdims=True)
  grounds = np.where(around, images[others], colours.astype(np.uint8))
  return columns | {'image': np.where(masks, images, grounds)}


def measure(method, variables, config, dataset, a) -> dict:
  """Returns what a network does; `a` is A, of which SHAP is compiled once."""
  test = accuracy.test(
      method, variables, dataset.test, 500, dataset.group_names
  )
  swapped = with_other_surroundings(dataset.validation, config.seed)
  found = {
      'overall': test['accuracy'],
      'groups': list(test['group_accuracy'].values()),
      'worst': test['worst_group_accuracy'],
      'swapped_validation': accuracy.test(
          method, variables, swapped, 500
      )['accuracy'],
  }
  few = column_lib.rows(dataset.test, np.arange(MEASURED))
  masks = mask_lib.masks_of(few, few['label'], len(dataset.class_names))
  images = column_lib.to_float(few['image'])
  explain = explainers.create(
      'partition', explaining.scores(a, 'logit'),
      masker=explaining.masker(config.attribution, dataset.train['image']),
      max_evals=config.attribution.max_evals, batch_size=50,
  )
  maps = {'shap': explain(variables, images, few['label'])}
  if method.map_of:
    maps['guided_map'] = evaluator.predict(
        method, variables, few, MEASURED, classes=few['label']
    ).attribution
  found |= {
      f'epg_{name}': np.nan_to_num(localisation.epg(x, masks)).mean()
      for name, x in maps.items()
  }
  return found | {'share': masks.mean()}


def of_seed(seed: int, arguments) -> dict:
  """Trains all of one seed; returns what they do, by name."""
  config = config_of(seed, arguments)
  dataset = sources.load(config.data, seed)
  start = time.monotonic()
  a, variables = train(
      methods.BASELINE, config, dataset, None, arguments.epochs, 1e-3
  )
  found = {BASELINE: measure(a, variables, config, dataset, a)}
  for name in runs_of(arguments):
    method, changes = RUNS[name]
    own = config.copy_and_resolve_references()
    own.method.update(changes)
    if changes.keys() >= GUIDED.keys():
      set_fields(own.method, arguments.guided)
    found[name] = measure(
        *train(method, own, dataset, variables, arguments.further, RATE),
        own, dataset, a,
    )
    print(f'seed {seed}, {name}: worst group '
          f'{100 * found[name]["worst"]:.1f} %, '
          f'{time.monotonic() - start:.0f} s', flush=True)
  return found


def runs_of(arguments) -> list[str]:
  """Returns the names of what is trained after A."""
  return arguments.runs.split(';') if arguments.runs else [*RUNS]


def set_fields(section: recipes.ConfigDict, fields: str) -> None:
  """Sets fields of a config from 'name=value,name=value'."""
  for field in filter(None, fields.split(',')):
    name, _, value = field.partition('=')
    section[name] = type(section[name])(value)


def run(seeds: list[int], arguments) -> list[dict]:
  """Runs each seed in a process of its own, several at a time."""
  workdir = pathlib.Path(arguments.workdir or tempfile.mkdtemp())
  workdir.mkdir(parents=True, exist_ok=True)
  cores = sorted(os.sched_getaffinity(0))

  def of_process(place_and_seed):
    place, seed = place_and_seed
    path = workdir / f'seed{seed}.json'
    if not path.exists():
      command = [
          sys.executable, '-m', 'tests.benchmarks.guidance_effect',
          f'--seeds={seed}', f'--one={path}', f'--data={arguments.data}',
          f'--data_dir={arguments.data_dir}', f'--epochs={arguments.epochs}',
          f'--further={arguments.further}', f'--guided={arguments.guided}',
          f'--runs={arguments.runs}',
      ]
      core = {cores[place % arguments.jobs % len(cores)]}
      pin = (lambda: os.sched_setaffinity(0, core)) if (
          arguments.jobs > 1
      ) else None
      subprocess.run(command, check=True, preexec_fn=pin)
    return json.loads(path.read_text())

  with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
    return list(pool.map(of_process, enumerate(seeds)))


def gains(found: list[dict], field: str) -> dict[str, statistics.Interval]:
  """Returns the paired difference of each run to λ = 0, in points."""
  reference = [100 * seed[CONTROL][field] for seed in found]
  return {
      name: statistics.paired_interval(
          [100 * seed[name][field] for seed in found], reference
      )
      for name in found[0] if name != CONTROL
  }


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--data_dir', default='', help='where TFDS has CIFAR-10')
  parser.add_argument('--data', default='ground/cifar10_drawn')
  parser.add_argument('--seeds', default='1,2,3,4,5')
  parser.add_argument('--epochs', type=int, default=EPOCHS, help='of A')
  parser.add_argument('--further', type=int, default=FURTHER, help='epochs')
  parser.add_argument('--guided', default='', help='fields of config.method')
  parser.add_argument('--runs', default='', help='names, by semicolons')
  parser.add_argument('--jobs', type=int, default=2, help='seeds at a time')
  parser.add_argument('--workdir', default='', help='keeps what a seed found')
  parser.add_argument('--one', default='', help=argparse.SUPPRESS)
  parser.add_argument('--out', default='', help='a JSON file of all figures')
  arguments = parser.parse_args()
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  if arguments.one:
    text = json.dumps(of_seed(seeds[0], arguments), default=float)
    pathlib.Path(arguments.one).write_text(text)
    return
  sources.load(config_of(0, arguments).data, 0)  # Prepares the data, once.
  start = time.monotonic()
  found = run(seeds, arguments)
  seconds = time.monotonic() - start
  rows, worst, overall = [], gains(found, 'worst'), gains(found, 'overall')
  for name in found[0]:
    mean = {
        field: 100 * np.mean([seed[name][field] for seed in found], axis=0)
        for field in found[0][name]
    }
    gain = worst.get(name)
    rows.append([
        name, *(f'{x:.1f}' for x in mean['groups']), f'{mean["worst"]:.1f}',
        f'{mean["overall"]:.1f}', f'{mean["swapped_validation"]:.1f}',
        f'{mean["epg_guided_map"]:.0f}' if 'epg_guided_map' in mean else '',
        f'{mean["epg_shap"]:.0f}',
        f'{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]' if gain else '',
    ])
  names = sources.load(config_of(0, arguments).data, 0).group_names
  print(console.table(
      ['', *names, 'worst %', 'overall %', 'validation, other surroundings %',
       'EPG of its map', 'of SHAP', 'worst group to λ = 0'],
      rows,
  ))
  share = 100 * np.mean([seed[BASELINE]['share'] for seed in found])
  print(f'{len(seeds)} seeds, {seconds:.0f} s; the boxes are {share:.0f} % of '
        'the image, which is the EPG of chance.')
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps({
        'data': arguments.data, 'seeds': dict(zip(seeds, found, strict=True)),
        'worst_group_gain': {n: vars(x) for n, x in worst.items()},
        'overall_gain': {n: vars(x) for n, x in overall.items()},
        'rows': [{'name': row[0], 'cells': row[1:]} for row in rows],
        'seconds': seconds,
    }, indent=1))
  if arguments.runs:
    return
  few = worst['guided, 1 % of the boxes']
  print(f'with_1_percent={few.mean:.1f} low={few.low:.1f} augmentation='
        f'{worst["other surroundings, 1 %"].mean:.1f}')
  control = worst["another image's boxes"].mean
  print(
      f'worst_group_gain={worst["guided"].mean:.1f} '
      f'low={worst["guided"].low:.1f} control_gain={control:.1f} '
      f'overall_gain={overall["guided"].mean:.1f} '
      f'augmentation_gain={worst["other surroundings"].mean:.1f}'
  )


if __name__ == '__main__':
  main()
