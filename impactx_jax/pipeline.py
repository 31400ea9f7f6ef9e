"""The stages in order; each can be run alone, and what is complete is kept."""

import dataclasses
import functools
import json
from typing import Any

from absl import logging
from attribution import files
from attribution import records
from attribution import service
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import checks
from impactx_jax import evaluate
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import provenance
from impactx_jax import restore
from impactx_jax import runs
from impactx_jax import teachers
from impactx_jax import workdirs
from impactx_jax import workspace
from impactx_jax.data import maps as map_data
from impactx_jax.methods import second_branch
from impactx_jax.methods.base import Task
from impactx_jax.models import pretrained
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
  pipeline = open_pipeline(config, workdir)
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


def open_pipeline(config, workdir: epath.PathLike) -> 'Pipeline':
  """Checks a config against itself and the workdir; nothing is run yet.

  Args:
    config: A config; None for that of the workdir.
    workdir: Where everything goes.

  Raises:
    InputError: for a config that cannot be run, or that the workdir's stages
      were not begun with.
  """
  workdir = workdirs.open_workdir(workdir)
  if config is None:
    config = workdirs.read_config(workdir)
  checks.check(config)
  pipeline = Pipeline(workdirs.with_absolute_paths(config), workdir)
  pipeline.check_workdir()
  return pipeline


class Pipeline(workspace.Workspace):
  """The stages as methods."""

  def train_classifier(self) -> None:
    """Stage one: trains A on the training split."""
    directory = self.workdir / 'classifier'
    if self.home is not self:
      self.home_summary()  # Or it says that there is none.
      return
    if workdirs.is_trained(directory):
      self.keep_config(directory)
      return
    dataset = self.dataset
    method = methods.create(
        methods.BASELINE,
        self.config,
        Task(len(dataset.class_names), dataset.image_shape),
    )
    self.begin(directory)
    runs.fit(
        directory,
        method,
        dataset.columns(),
        training=self.config.classifier.training,
        seed=self.config.seed,
        data=dataset.fingerprint(),
        start_from=self._published(methods.BASELINE, self.config, directory),
    )

  def _published(self, name: str, config, directory: epath.Path):
    """Returns what puts published weights into fresh variables, or None."""
    if config.model.pretrained in models.AT_RANDOM:
      return None
    entry = methods.METHODS[name]
    if not entry.pretrained:
      logging.warning('%s starts at random, and not from weights.', name)
      return None
    leave = [second_branch.FROZEN]  # M is there already.
    if config.method.lep_init != 'like_classifier':
      if not entry.from_scratch:
        return None
      leave.append('lep')

    def start(variables):
      variables, report = pretrained.start(
          config.model, variables, leave=leave
      )
      print(f'\n{report}\n')
      path = self.home.workdir / 'classifier' / pretrained.REPORT
      if path.exists() and files.read_json(path)['digest'] != report.digest:
        raise InputError(
            f'{config.model.pretrained} is not the file that the classifier in '
            f'{self.home.workdir} started from. Give that one with '
            '--config.model.pretrained=FILE.'
        )
      if parallel.is_main_process():
        files.write_json(
            directory / pretrained.REPORT, dataclasses.asdict(report)
        )
      return variables

    return start

  def make_maps(self) -> None:
    """Attribution: makes the maps that `config.method` trains on."""
    config = methods.config_of(self.config.method.name, self.config)
    if kind := methods.maps_of(config):
      self.maps_home.make_maps_of(kind)
    else:
      logging.info('%s needs no maps.', self.config.method.name)

  def make_maps_of(self, kind: str) -> None:
    """Attribution: explains the classifier on the training images.

    Args:
      kind: Of which class; a key of `data.maps.KINDS`.
    """
    directory = self.workdir / map_data.KINDS[kind]
    if records.is_complete(directory):
      logging.info('%s is complete.', directory)
      return
    attribution = self.config.attribution
    explained = self.explained
    summary = self.explained_summary()
    for name, what in (('class_names', 'classes'), ('image_shape', 'images')):
      taught, found = summary['data'][name], self.dataset.fingerprint()[name]
      if taught != found:
        raise InputError(
            f'The classifier in {explained.workdir} knows the {what} {taught}, '
            f'but {self.dataset.name} has {found}. Change it with '
            '--config.attribution.classifier=DIR.'
        )
    method, variables = restore.network(explained.workdir, 'classifier')
    self.begin(directory)
    service.write_maps(
        directory,
        map_data.select(
            self.dataset, attribution.num_examples, self.home.config.seed, kind
        ),
        teachers.create(
            method,
            variables,
            attribution,
            dtype=workdirs.read_config(
                explained.workdir / 'classifier'
            ).model.dtype,
            training_images=self.dataset.train['image'],
            weighted=kind == 'weighted',
        ),
        settings=self.map_settings(kind, self.dataset.fingerprint()),
        facts={'provenance': provenance.collect()},
        shard_size=attribution.shard_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        barrier=functools.partial(parallel.barrier, 'maps'),
    )

  def train_method(self) -> None:
    """Stage two: trains `config.method.name`, on the shards if it has them."""
    names = self.method_names
    if len(names) > 1:
      unmapped = records.unmapped(
          records.read_manifest(
              self.maps_home.workdir
              / map_data.KINDS[methods.maps_of(self.config)]
          )
      )
      logging.warning(
          '%d training and validation images have no map and take no part in '
          'stage two; %s is trained on the same images beside it, for a fair '
          'comparison.', unmapped, methods.CONTROL,
      )
    for name in names:
      self.train_one(name)

  def train_one(self, name: str) -> None:
    """Trains one method, a key of METHODS other than the baseline."""
    directory = self.workdir / name
    config = methods.config_of(name, self.config)
    if workdirs.is_trained(directory):
      self.keep_config(directory, config)
      return
    if methods.METHODS[name].from_scratch:
      classifier, data = None, self.dataset.fingerprint()
    else:
      # The classifier of this run is M, whoever's maps it learns from.
      data = self.home_summary()['data']
      _, classifier = restore.network(self.home.workdir, 'classifier')
    if kind := methods.maps_of(config):
      columns = map_data.targets(
          self.read_maps(kind, data), config.method, config.seed
      )
    else:
      columns = self.dataset.columns()
    task = Task(
        num_classes=len(data['class_names']),
        image_shape=tuple(data['image_shape']),
        classifier=classifier,
        examples=len(columns['train']['label']),
        masking=teachers.masking(
            config.attribution, columns['train']['image']
        ),
    )
    self.begin(directory, config)
    runs.fit(
        directory,
        methods.create(name, config, task),
        columns,
        training=config[methods.training_section(name)].training,
        seed=config.seed,
        data=data,
        start_from=self._published(name, config, directory),
    )

  def test(self, name: str) -> dict[str, Any]:
    """Returns what a trained network says of the test split, kept on disk.

    Args:
      name: A method, or the baseline.

    Returns:
      `accuracy`, `cross_entropy`, of each test example, in their order,
      `label` and `predicted`, and `map_r2`, the fit to the maps of the
      validation images or None; JSON-compatible.
    """
    home, stage = self.place(name)
    summary = workdirs.read_summary(home.workdir / stage)
    path = home.workdir / stage / workdirs.TEST
    if path.exists():
      found = files.read_json(path)
      if found['digest'] == summary['digest']:
        return found
    method, variables = restore.network(home.workdir, stage)
    columns = self.dataset.test
    if method.predicts_from_maps:
      config = methods.config_of(name, self.config)
      maps = self.read_maps(
          methods.maps_of(config), self.dataset.fingerprint()
      )
      columns = map_data.targets(maps, config.method, config.seed)['test']
    result = evaluate.test(
        method, variables, columns, self.config.evaluation.batch_size
    ) | {'digest': summary['digest'], 'map_r2': summary['map_r2']}
    if parallel.is_main_process():
      files.write_json(path, result)
    return result

  def _other_seed(self):
    """Returns the same method, trained with another seed, if one is named."""
    path = self.config.evaluation.other
    if not path:
      return None
    home = workdirs.open_workdir(path, '--config.evaluation.other')
    name = self.config.method.name
    summary = workdirs.read_summary(home / name)
    if summary is None or summary['data']['class_names'] != list(
        self.dataset.class_names
    ):
      raise InputError(
          f'{home} holds no {name} trained on these classes. Give the workdir '
          'of the same run with another seed with --config.evaluation.other='
          'DIR.'
      )
    return restore.network(home, name)

  def evaluate(self, again: bool = False) -> None:
    """Measures the classifier and the method, and draws the panels."""
    directory = self.workdir / 'report'
    names = [methods.BASELINE, *self.method_names]
    summaries = {}
    for name in names:
      home, stage = self.place(name)
      summary = workdirs.read_summary(home.workdir / stage)
      if summary is None:
        raise InputError(
            f'{home.workdir / stage} holds no finished training, so there is '
            'nothing to evaluate. Run --stage=all with the same --config '
            'first, or name the method that was trained with '
            '--config.method.name=NAME.'
        )
      summaries[name] = summary
    inputs = {  # As JSON keeps it, which has no tuples.
        'digests': {name: s['digest'] for name, s in summaries.items()},
        'evaluation': json.loads(self.config.evaluation.to_json()),
        'attribution': teachers.settings(self.config.attribution),
    }
    metrics = evaluate.read_metrics(directory)
    if again or metrics is None or metrics['inputs'] != inputs:
      tests = {name: self.test(name) for name in names}
      self.begin(directory)
      metrics, measured = evaluate.evaluate(
          self.config,
          self.dataset,
          tests,
          restore.network(self.workdir, self.config.method.name),
          self._other_seed(),
      )
      metrics['inputs'] = inputs
      metrics['provenance'] = provenance.collect()
      if parallel.is_main_process():
        evaluate.write_report(
            directory, self.config, metrics, measured, tests, summaries
        )
    else:
      logging.info('%s is complete.', directory)
    print('\n' + evaluate.summary_table(metrics) + f'\n\nReport: {directory}')
