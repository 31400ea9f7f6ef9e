"""Attribution: explains a classifier on the training images, into shards."""

from typing import Any

import dataclasses
import functools

from absl import logging
from attribution import records
from attribution import service
from attribution.errors import InputError
from impactx_jax import parallel
from impactx_jax.data import maps as map_data
from impactx_jax.evaluation import explaining
from impactx_jax.stages import configs
from impactx_jax.stages import provenance
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
from impactx_jax.stages.runs import Run
import jax


def make_maps(run: Run) -> None:
  """Makes the maps that `config.method` trains on.

  Those of another workdir are made there, as its own config says.
  """
  if run.maps is None:
    logging.info('%s needs no maps.', run.config.method.name)
  elif not run.makes_maps and not run.maps.is_done(run.maps.config):
    home = run_lib.resolve(run.maps.config, run.maps.workdir)
    _write_maps(dataclasses.replace(home, kind=run.kind, maps=run.maps))
  elif run.makes_maps and not run.maps.is_done(run.config):
    _write_maps(run)


def _write_maps(run: Run) -> None:
  dataset = run_lib.dataset(run)
  attribution, data = run.config.attribution, dataset.fingerprint()
  summary = run_lib.explained_summary(run)
  for name, what in (
      ('class_names', 'classes'), ('image_shape', 'images'), ('task', 'task')
  ):
    taught, found = summary['data'][name], data[name]
    if taught != found:
      raise InputError(
          f'The classifier in {run.explained.workdir} knows the {what} '
          f'{taught}, but {dataset.name} has {found}. Change it with '
          '--config.attribution.classifier=DIR.'
      )
  network = trained.restore(run.explained)
  model = configs.read(run.explained.directory).model
  maker = explaining.map_maker(
      network,
      attribution,
      explaining.masker(attribution, dataset.train['image']),
      dtype=model.dtype,
      weighted=run.kind == 'weighted',
  )
  run.maps.begin(run.config)
  try:
    service.write_maps(
        run.maps.directory,
        map_data.select(
            dataset, attribution.num_examples, run.seed, run.kind,
            attribution.classes_per_image,
        ),
        maker,
        settings=run_lib.map_key(run, data),
        facts={'provenance': provenance.collect()},
        shard_size=attribution.shard_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        barrier=functools.partial(parallel.barrier, 'maps'),
    )
  except InputError as error:
    raise InputError(
        f'{error} The directory lies in --workdir=DIR, and '
        '--config.attribution.num_examples=N says how many are explained.'
    ) from error


def read_maps(run: Run, data: dict[str, Any]) -> records.Columns:
  """Reads the shards, if they are what this run would have made.

  Args:
    run: Whose maps they are.
    data: The fingerprint of the data set.
  """
  try:
    columns, _ = records.read(
        run.maps.directory, expected=run_lib.map_key(run, data)
    )
  except InputError as error:
    raise InputError(f'{error} What makes them is --stage=maps.') from error
  return columns
