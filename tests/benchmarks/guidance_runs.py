"""Networks guided and controlled, and what they do: A, then a table of runs.

The engine of `guidance_effect`. A run is a method with fields of its config,
trained from the A of its seed. What it found is kept in a file of the seed, by
all that it depends on, and not done again.
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
from typing import Any

from attribution import explainers
from attribution import files
from attribution.metrics import localisation
from impactx_jax import compilation
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
from impactx_jax.training import evaluator
from impactx_jax.training import loop
from impactx_jax.training import train_step
import jax
import numpy as np
from tests.benchmarks.guidance_tables import BASELINE
from tests.benchmarks.guidance_tables import Run
from tests.benchmarks.guidance_tables import TABLES
from tqdm.auto import tqdm

DEFAULT = {'model': 'lenet5', 'width': 1.0, 'variant': 'plain', 'task': ''}
EPOCHS, FIRST_RATE = 20, 1e-3  # Of A, with Adam and a cosine.
FURTHER, RATE = 15, 2e-3  # Of what follows.
MEASURED = 200  # Test images whose maps are measured.


def parser(doc: str, data: str, epochs: int) -> argparse.ArgumentParser:
  """Returns a parser of what the benchmarks of guidance ask.

  Args:
    doc: Of the benchmark.
    data: By default.
    epochs: Of A, by default.
  """
  made = argparse.ArgumentParser(
      description=doc, formatter_class=argparse.RawTextHelpFormatter
  )
  made.add_argument('--data_dir', default='', help='where TFDS has CIFAR-10')
  made.add_argument('--data', default=data)
  made.add_argument('--seeds', default='1,2,3,4,5')
  made.add_argument('--model', default='lenet5', help='a backbone')
  made.add_argument('--width', type=float, default=1.0, help='of it')
  made.add_argument('--epochs', type=int, default=epochs, help='of A')
  made.add_argument('--further', type=int, default=FURTHER, help='epochs')
  made.add_argument('--jobs', type=int, default=2, help='seeds at a time')
  made.add_argument('--workdir', default='', help='keeps what a seed found')
  made.add_argument('--one', default='', help=argparse.SUPPRESS)
  made.add_argument('--out', default='', help='a JSON file of all figures')
  return made


def config_of(seed: int, arguments) -> recipes.ConfigDict:
  """Returns the config of A."""
  config = recipes.get_config()
  config.seed = seed
  config.data.name, config.data.data_dir = arguments.data, arguments.data_dir
  config.data.task = arguments.task
  config.model.name, config.model.width = arguments.model, arguments.width
  config.model.variant = arguments.variant
  config.model.pooling = 'mean' if arguments.variant == 'b_cos' else 'max'
  config.attribution.max_evals = 250
  return config


def train(name, config, dataset, classifier, epochs: int, rate: float):
  """Trains a method without checkpoints; returns it with its variables."""
  *_, last = epochs_of(name, config, dataset, classifier, epochs, rate)
  return last


def epochs_of(name, config, dataset, classifier, epochs: int, rate: float):
  """Trains a method; yields it with its variables after each epoch."""
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
  step = train_step.compiled_step(
      method, training.flip, training.crop_padding
  )
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
      yield method, jax.device_get(train_step.variables_of(state))


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
  maps = {}
  for name, explainer in (
      ('shap', 'partition'), ('input_x_gradient', 'input_x_gradient')
  ):
    explain = explainers.create(
        explainer, explaining.scores(a, 'logit'),
        masker=explaining.masker(config.attribution, dataset.train['image']),
        max_evals=config.attribution.max_evals, batch_size=50,
    )
    maps[name] = explain(variables, images, few['label'])
  if method.map_of:
    maps['guided_map'] = evaluator.predict(
        method, variables, few, MEASURED, classes=few['label']
    ).attribution
  found |= {
      f'epg_{name}': np.nan_to_num(localisation.epg(x, masks)).mean()
      for name, x in maps.items()
  }
  return found | {'share': masks.mean()}


def of_seed(seed: int, path: pathlib.Path, arguments) -> None:
  """Trains what is not yet in a seed's file, and adds what it does."""
  found = read(path)
  keys = {key_of(arguments, run) for run in runs_of(arguments).values()}
  if keys | {key_of(arguments)} <= found.keys():
    return
  # Compiled once for all seeds; λ' is not compiled.
  compilation.use_cache(str(path.parent / 'compiled'))
  config = config_of(seed, arguments)
  dataset = sources.load(config.data, seed)
  start = time.monotonic()
  a, variables = train(
      methods.BASELINE, config, dataset, None, arguments.epochs, FIRST_RATE
  )

  def add(key, *measured):
    found[key] = jax.tree.map(
        float, measure(*measured, config, dataset, a)
    )
    files.write_json(path, found)

  if key_of(arguments) not in found:
    add(key_of(arguments), a, variables)
  for name, run in runs_of(arguments).items():
    key = key_of(arguments, run)
    if key not in found:
      method, changes = run
      own = config.copy_and_resolve_references()
      own.method.update(changes)
      start_from, epochs, rate = variables, arguments.further, RATE
      if methods.find(method).from_scratch:
        start_from, epochs, rate = None, epochs + arguments.epochs, FIRST_RATE
      add(key, *train(method, own, dataset, start_from, epochs, rate))
    print(f'seed {seed}, {name}: worst group '
          f'{100 * found[key]["worst"]:.1f} %, '
          f'{time.monotonic() - start:.0f} s', flush=True)


def read(path: pathlib.Path) -> dict[str, dict]:
  """Returns what a seed's file has."""
  return json.loads(path.read_text()) if path.exists() else {}


def key_of(arguments, run: Run | None = None) -> str:
  """Names a run, or A, by all that it depends on but its seed."""
  settings = [arguments.data, arguments.epochs]
  if run:
    settings += [arguments.further, *run]
  network = {
      'model': arguments.model, 'width': arguments.width,
      'variant': arguments.variant, 'task': arguments.task,
  }
  if network != DEFAULT:  # What was kept before there was a choice is found.
    settings.append(network)
  return json.dumps(settings, sort_keys=True)


def runs_of(arguments) -> dict[str, Run]:
  """Returns what is trained after A: of a table all, or those that are named.

  Raises:
    SystemExit: for a name that the table does not have, or a field.
  """
  table = TABLES[arguments.table]()
  names = arguments.runs.split(';') if arguments.runs else [*table]
  if unknown := {*names} - {*table}:
    raise SystemExit(
        f'--runs names {"; ".join(sorted(unknown))}, and the table '
        f'{arguments.table} has {"; ".join(table)}.'
    )
  fields = dict(
      field.split('=', 1) for field in arguments.guided.split(',') if field
  )
  if unknown := fields.keys() - methods.find('guided').options.keys():
    raise SystemExit(
        f'--guided names {", ".join(sorted(unknown))}, and fields are '
        f'{", ".join(methods.find("guided").options)}.'
    )
  found = {}
  for name in names:
    method, changes = table[name]
    if method.startswith('guided'):
      changes = changes | {
          n: _value(methods.find(method).options[n], text)
          for n, text in fields.items()
      }
    found[name] = method, changes
  return found


def _value(default: Any, text: str) -> Any:
  """Reads a field's value as one of its default's type."""
  if isinstance(default, str):
    return text
  return type(default)(json.loads(text.lower()))


def run(seeds: list[int], arguments) -> list[dict[str, dict]]:
  """Runs each seed in a process of its own, several at a time.

  Args:
    seeds: Each draws the split, A and the order.
    arguments: Of the command line.

  Returns:
    For each seed what A and each run of the table do, by name.
  """
  keys = {BASELINE: key_of(arguments)} | {
      name: key_of(arguments, run) for name, run in runs_of(arguments).items()
  }
  # Prepares the data, once.
  sources.load(config_of(seeds[0], arguments).data, seeds[0])
  found = in_processes('guidance_effect', seeds, arguments, (
      'data', 'data_dir', 'epochs', 'further', 'guided', 'table', 'runs',
      'model', 'width', 'variant', 'task',
  ))
  return [
      {name: seed[key] for name, key in keys.items()} for seed in found
  ]


def in_processes(
    program: str, seeds: list[int], arguments, fields: tuple[str, ...]
) -> list[dict[str, Any]]:
  """Runs a benchmark's seeds in processes, as many at a time as --jobs says.

  Args:
    program: The benchmark, which fills the file that --one names.
    seeds: Of a process each, which has a core of its own.
    arguments: Of the command line; what a seed found is kept in --workdir.
    fields: Which of them a process is given.

  Returns:
    What is in the files.
  """
  workdir = pathlib.Path(arguments.workdir or tempfile.mkdtemp())
  workdir.mkdir(parents=True, exist_ok=True)
  cores = sorted(os.sched_getaffinity(0))

  def of_process(place_and_seed):
    place, seed = place_and_seed
    path = workdir / f'{program}_seed{seed}.json'
    command = [
        sys.executable, '-m', f'tests.benchmarks.{program}', f'--seeds={seed}',
        f'--one={path}',
        *(f'--{field}={getattr(arguments, field)}' for field in fields),
    ]
    core = {cores[place % arguments.jobs % len(cores)]}
    pin = (lambda: os.sched_setaffinity(0, core)) if (
        arguments.jobs > 1
    ) else None
    subprocess.run(command, check=True, preexec_fn=pin)
    return read(path)

  with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
    return list(pool.map(of_process, enumerate(seeds)))
