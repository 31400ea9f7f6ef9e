"""Stage two: trains `config.method`, on the shards if it has them."""

from absl import logging
from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax.data import maps as map_data
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import count as count_of
from impactx_jax.evaluation import explaining
from impactx_jax.stages import maps as maps_stage
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
from impactx_jax.stages import training_run
from impactx_jax.stages.runs import Run
from impactx_jax.training import evaluator
import numpy as np


def train_methods(run: Run) -> None:
  """Trains the run's method and, with too few maps, the fair control."""
  names = run.method_names()
  if len(names) > 1:
    logging.warning(
        '%d training and validation images have no map, and teach the class '
        'alone; %s is trained on the same images beside it, for a fair '
        'comparison.', run_lib.unmapped(run), names[1],
    )
  for name in names:
    train_method(run, name)


def train_method(run: Run, name: str) -> None:
  """Trains one method other than the baseline, unless it is trained.

  Raises:
    InputError: if it was trained around another classifier or other maps.
  """
  result, spec = run.trained(name), methods.find(name)
  if result.is_done(run.config):
    if differing := result.differing({'made_from': _made_from(run, name)}):
      raise InputError(
          f'{result.directory} was made from another classifier or other '
          f'maps: {differing}. Delete {result.directory} to make it anew, or '
          'use another --workdir.'
      )
    return
  if spec.from_scratch:
    classifier, data = None, run_lib.dataset(run).fingerprint()
  else:
    # The classifier of this run is M, whoever's maps it learns from.
    data = run_lib.classifier_summary(run)['data']
    _, classifier = trained.restore(run.classifier)
  if run.maps:
    columns = map_data.targets(
        maps_stage.read_maps(run, data), result.config.method,
        run.config.seed, len(data['class_names']),
    )
    # A control is trained on the images of the method that it is beside.
    both = spec.unmapped and methods.find(run.config.method.name).unmapped
    if both and run_lib.unmapped(run):
      columns = map_data.with_unmapped(
          columns, run_lib.dataset(run), run.config.seed
      )
  else:
    columns = run_lib.dataset(run).columns()
  if 'distillation' in spec.scalars and result.config.method.distillation:
    _add_teacher(run, columns)
  columns = columns | {
      'train': spec.columns(columns['train'], result.config, data)
  }
  problem = trained.problem_of(
      data,
      examples=count_of(columns['train']),
      masker=explaining.masker(
          run.config.attribution, columns['train']['image']
      ),
  )
  training_run.train(
      run, name, problem, columns, data=data,
      made_from=_made_from(run, name), classifier=classifier,
  )


def _add_teacher(run: Run, columns: dict[str, Columns]) -> None:
  """Adds `teacher` [N, K], the probabilities of the explained classifier."""
  method, variables = trained.restore(run.explained)
  for part in columns.values():
    logits = evaluator.predict(
        method, variables, part, run.config.evaluation.batch_size,
        attribution=False,
    ).logits
    part['teacher'] = np.asarray(method.task.probabilities(logits))


def _made_from(run: Run, name: str) -> dict[str, str]:
  """The digests of what a method's training starts from."""
  found = {}
  if not methods.find(name).from_scratch:
    found['classifier'] = run_lib.classifier_summary(run)['digest']
  if run.maps and (manifest := run.maps.load()):
    found['maps'] = map_data.digest(manifest)
  return found
