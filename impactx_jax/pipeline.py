"""The stages in order; each can be run alone, and what is complete is kept."""

import functools
from typing import Any

from absl import logging
from attribution import files
from attribution import records
from attribution import service
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import checkpoints
from impactx_jax import checks
from impactx_jax import evaluate
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import provenance
from impactx_jax import restore
from impactx_jax import teachers
from impactx_jax import train
from impactx_jax import workdirs
from impactx_jax.data import maps as map_data
from impactx_jax.data import sources
from impactx_jax.methods.base import Task
from impactx_jax.report import tables
import jax

STAGES = ('all', 'classifier', 'maps', 'impactx', 'evaluate')


def run(config, workdir: epath.PathLike, stage: str = 'all') -> None:
  """Runs one stage, or all of them in order.

  Args:
    config: A config like `configs/common.py`'s; None for that of the workdir.
    workdir: Where everything goes.
    stage: One of STAGES; 'impactx' trains `config.method.name`.

  Raises:
    InputError: for anything that the user gave and can mend.
  """
  if stage not in STAGES:
    raise unknown_choice('stage', stage, STAGES, '--stage')
  workdir = workdirs.open_workdir(workdir)
  if config is None:
    config = workdirs.read_config(workdir)
  checks.check(config)
  config = workdirs.with_absolute_paths(config)
  pipeline = Pipeline(config, workdir)
  pipeline.check_workdir()
  pipeline.check_sizes(stage)
  stages = {
      'classifier': pipeline.train_classifier,
      'maps': pipeline.make_maps,
      'impactx': pipeline.train_method,
      'evaluate': functools.partial(pipeline.evaluate, again=stage != 'all'),
  }
  for name, run_stage in stages.items():
    if stage in ('all', name):
      run_stage()


class Pipeline:
  """One config and one workdir, and the stages as methods."""

  def __init__(self, config, workdir: epath.Path):
    self.config = config
    self.workdir = workdir

  @functools.cached_property
  def dataset(self) -> sources.Dataset:
    """The data set, loaded when the first stage needs it."""
    logging.info('Loading %s.', self.config.data.name)
    dataset = sources.load(self.config.data, self.config.seed)
    models.check(self.config.model, dataset.image_shape)
    summary = workdirs.read_summary(self.workdir / 'classifier')
    found = dataset.fingerprint()
    if summary and summary['data'] != found:
      differing = '; '.join(
          f'{name} (then: {summary["data"].get(name)}; now: {value})'
          for name, value in found.items()
          if summary['data'].get(name) != value
      )
      raise InputError(
          'The data are not those that the classifier in '
          f'{self.workdir} was trained on: {differing}. Say where those are '
          'with --config.data.data_dir=DIR, or use another --workdir.'
      )
    return dataset

  @property
  def method_names(self) -> list[str]:
    """What stage two trains: with too few maps, the fair control as well."""
    name = self.config.method.name
    directory = self.workdir / 'maps'
    if name == 'impactx' and (directory / records.MANIFEST).exists():
      manifest = records.read_manifest(directory)
      if records.unmapped(manifest):
        return [name, methods.CONTROL]
    return [name]

  def check_workdir(self) -> None:
    """Refuses a workdir in which a stage was begun with another config."""
    for stage in ('classifier', 'maps'):
      workdirs.check_stage(self.workdir, stage, self.config)
    for name in self.method_names:
      config = methods.config_of(name, self.config)
      workdirs.check_stage(self.workdir, name, config)

  def check_sizes(self, stage: str) -> None:
    """Refuses, before any work, what a training to come cannot handle."""
    home = self.workdir / 'classifier'
    method = self.workdir / self.config.method.name
    todo = [
        section
        for section, directory, part in (
            ('classifier', home, 'classifier'), ('method', method, 'impactx')
        )
        if stage in ('all', part)
        and workdirs.read_summary(directory) is None
    ]
    checks.check_devices(self.config, todo)
    if summary := workdirs.read_summary(home):
      checks.check_sizes(self.config, summary['data'], todo)
    elif 'classifier' in todo:
      checks.check_sizes(self.config, self.dataset.fingerprint(), todo)

  def train_classifier(self) -> None:
    """Stage one: trains A on the training split."""
    directory = self.workdir / 'classifier'
    if workdirs.is_trained(directory):
      return
    dataset = self.dataset
    columns = {'train': dataset.train, 'validation': dataset.validation}
    method = methods.create(
        'baseline',
        self.config,
        Task(len(dataset.class_names), dataset.image_shape),
    )
    self._fit(
        directory, method, columns, self.config,
        self.config.classifier.training, dataset.fingerprint(),
    )

  def make_maps(self) -> None:
    """Attribution: explains A on the training images, of their true class."""
    directory = self.workdir / 'maps'
    if records.is_complete(directory):
      logging.info('%s is complete.', directory)
      return
    attribution = self.config.attribution
    home = self._classifier_home()
    summary = self._classifier_summary(home)
    for name, what in (('class_names', 'classes'), ('image_shape', 'images')):
      taught, found = summary['data'][name], self.dataset.fingerprint()[name]
      if taught != found:
        raise InputError(
            f'The classifier in {home} knows the {what} {taught}, but '
            f'{self.dataset.name} has {found}. Change it with '
            '--config.attribution.classifier=DIR.'
        )
    method, variables = restore.network(home, 'classifier')
    self._begin(directory)
    service.write_maps(
        directory,
        map_data.select(
            self.dataset, attribution.num_examples, self.config.seed
        ),
        teachers.create(
            method,
            variables,
            attribution,
            dtype=workdirs.read_config(home / 'classifier').model.dtype,
            training_images=self.dataset.train['image'],
        ),
        settings={
            'classifier_digest': summary['digest'],
            'classifier_step': summary['best_step'],
            'attribution': teachers.settings(attribution),
            'data': self.dataset.fingerprint(),
            'seed': self.config.seed,
            'validation_fraction': self.config.data.validation_fraction,
        },
        facts={'provenance': provenance.collect()},
        shard_size=attribution.shard_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        barrier=functools.partial(parallel.barrier, 'maps'),
    )

  def train_method(self) -> None:
    """Stage two: trains `config.method.name` on the shards."""
    names = self.method_names
    if len(names) > 1:
      unmapped = records.unmapped(records.read_manifest(self.workdir / 'maps'))
      logging.warning(
          '%d training and validation images have no map and take no part in '
          'stage two; %s is trained on the same images beside it, for a fair '
          'comparison.', unmapped, methods.CONTROL,
      )
    for name in names:
      self._train_one_method(name)

  def _train_one_method(self, name: str) -> None:
    directory = self.workdir / name
    if workdirs.is_trained(directory):
      return
    # The classifier of this workdir is M, whoever's maps it learns from.
    own = self._classifier_summary(self.workdir)
    _, classifier = restore.network(self.workdir, 'classifier')
    data = own['data']
    shape = tuple(data['image_shape'])
    config = methods.config_of(name, self.config)
    options = config.method
    task = Task(
        num_classes=len(data['class_names']),
        image_shape=shape,
        map_channels=options.map_channels or shape[-1],
        classifier=classifier,
    )
    method = methods.create(name, config, task)
    if method.uses_maps:
      explained = self._classifier_summary(self._classifier_home())
      columns, _ = records.read(
          self.workdir / 'maps',
          expected={
              'classifier_digest': explained['digest'],
              'attribution': teachers.settings(self.config.attribution),
              'data': data,
              'seed': self.config.seed,
              'validation_fraction': self.config.data.validation_fraction,
          },
      )
      columns = map_data.targets(
          columns, scaling=options.map_scaling, channels=options.map_channels
      )
    else:
      columns = {
          'train': self.dataset.train, 'validation': self.dataset.validation
      }
    self._fit(directory, method, columns, config, options.training, data)

  def evaluate(self, again: bool = False) -> None:
    """Measures the classifier and the method, and draws the panels."""
    directory = self.workdir / 'report'
    names = ['classifier', *self.method_names]
    summaries = {
        name: workdirs.read_summary(self.workdir / name) for name in names
    }
    for name, summary in summaries.items():
      if summary is None:
        raise InputError(
            f'{self.workdir / name} holds no finished training, so there is '
            'nothing to evaluate. Run --stage=all with the same --config '
            'first, or name the method that was trained with '
            '--config.method.name=NAME.'
        )
    inputs = {
        'digests': {n: summaries[n]['digest'] for n in names},
        'evaluation': self.config.evaluation.to_dict(),
        'attribution': teachers.settings(self.config.attribution),
    }
    metrics = evaluate.read_metrics(directory)
    if again or metrics is None or metrics['inputs'] != inputs:
      networks = {name: restore.network(self.workdir, name) for name in names}
      dataset = self.dataset
      self._begin(directory)
      metrics = evaluate.evaluate(
          self.config, dataset, networks, directory
      )
      metrics['inputs'] = inputs
      metrics['provenance'] = provenance.collect()
      if parallel.is_main_process():
        files.write_json(directory / evaluate.METRICS, metrics)
    else:
      logging.info('%s is complete.', directory)
    print('\n' + evaluate.summary_table(metrics) + f'\n\nReport: {directory}')

  def _begin(self, directory: epath.Path, config=None) -> None:
    """Writes the config of a stage, and of the run, as its work begins."""
    if parallel.is_main_process():
      workdirs.write_config(self.workdir, self.config)
      workdirs.write_config(directory, config or self.config)

  def _fit(
      self,
      directory: epath.Path,
      method: methods.Method,
      columns: dict[str, sources.Columns],
      config,
      training,
      data: dict[str, Any],
  ) -> None:
    """Trains, and writes the summary that marks the run as complete."""
    self._begin(directory, config)
    result = train.fit(
        method,
        columns,
        training=training,
        seed=self.config.seed,
        directory=directory,
    )
    variables = checkpoints.restore_variables(
        directory, result.best_step, restore.shapes(method)
    )
    summary = {
        'best_step': result.best_step,
        'best_validation_accuracy': result.best_accuracy,
        'data': data,
        'digest': checkpoints.digest(variables),
        'examples': {name: len(c['label']) for name, c in columns.items()},
        'history': list(result.history),
        'provenance': provenance.collect(),
        'seconds': result.seconds,
    }
    if parallel.is_main_process():
      files.write_json(directory / workdirs.SUMMARY, summary)
    parallel.barrier(directory.name)
    best = next(
        i for i, epoch in enumerate(result.history, start=1)
        if epoch['step'] == result.best_step
    )
    print('\n' + tables.table(
        [directory.name, 'epochs', 'best epoch', 'validation %', 'seconds'],
        [[
            '', len(result.history), best,
            f'{100 * result.best_accuracy:.2f}', f'{summary["seconds"]:.0f}',
        ]],
    ) + '\n')

  def _classifier_home(self) -> epath.Path:
    """The workdir of the classifier that is explained."""
    other = self.config.attribution.classifier
    if not other:
      return self.workdir
    return workdirs.open_workdir(other, '--config.attribution.classifier')

  def _classifier_summary(self, home: epath.Path) -> dict[str, Any]:
    summary = workdirs.read_summary(home / 'classifier')
    if summary is None:
      advice = 'Train it with --stage=classifier, or run --stage=all.'
      if home != self.workdir:
        advice = (
            'Give the workdir of one with --config.attribution.classifier=DIR.'
        )
      raise InputError(f'There is no trained classifier in {home}. {advice}')
    return summary
