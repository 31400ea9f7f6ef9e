"""What a run has to work with: its data, its classifier, its maps."""

import functools
from typing import Any, Self

from absl import logging
from attribution import records
from attribution.errors import InputError
from etils import epath
from impactx_jax import checks
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import restore
from impactx_jax import teachers
from impactx_jax import workdirs
from impactx_jax.data import maps as map_data
from impactx_jax.data import sources
from impactx_jax.methods import base
from impactx_jax.models import pretrained
from impactx_jax.models import weight_files


class Workspace:
  """One config and one workdir, and the other workdirs that it names."""

  def __init__(self, config, workdir: epath.Path):
    self.config = config
    self.workdir = workdir

  @functools.cached_property
  def home(self) -> Self:
    """The run whose classifier is A, and whose split is the split."""
    return self._at(self.config.classifier.workdir, 'classifier')

  @functools.cached_property
  def maps_home(self) -> Self:
    """The run whose maps are taken."""
    return self._at(self.config.attribution.workdir, 'attribution')

  def _at(self, path: str, section: str) -> Self:
    """The pipeline of another workdir, or this one where none is named."""
    if not path:
      return self
    workdir = workdirs.open_workdir(path, f'--config.{section}.workdir')
    stage = {'classifier': 'classifier', 'attribution': 'maps'}[section]
    for folder in (workdir / stage, workdir):
      if (folder / workdirs.CONFIG).exists():
        return type(self)(workdirs.read_config(folder), workdir)
    raise InputError(
        f'Nothing was run in {workdir}. Give the workdir of a run with '
        f'--config.{section}.workdir=DIR.'
    )

  @functools.cached_property
  def dataset(self) -> sources.Dataset:
    """The data set, loaded when the first stage needs it."""
    logging.info('Loading %s.', self.config.data.name)
    dataset = sources.load(self.config.data, self.home.config.seed)
    models.check(self.config.model, dataset.image_shape)
    summary = workdirs.read_summary(self.home.workdir / 'classifier')
    found = dataset.fingerprint()
    if summary and summary['data'] != found:
      differing = '; '.join(
          f'{name} (then: {summary["data"].get(name)}; now: {value})'
          for name, value in found.items()
          if summary['data'].get(name) != value
      )
      raise InputError(
          'The data are not those that the classifier in '
          f'{self.home.workdir} was trained on: {differing}. Say where those '
          'are with --config.data.data_dir=DIR, or use another --workdir.'
      )
    return dataset

  @property
  def method_names(self) -> list[str]:
    """What stage two trains: with too few maps, the fair control as well."""
    name = self.config.method.name
    kind = methods.maps_of(self.config) or 'true_class'
    directory = self.maps_home.workdir / map_data.KINDS[kind]
    mapped = (directory / records.MANIFEST).exists()
    if name != 'impactx' or not mapped:
      return [name]
    unmapped = records.unmapped(records.read_manifest(directory))
    return [name, methods.CONTROL] if unmapped else [name]

  def check_workdir(self) -> None:
    """Refuses a workdir in which a stage was begun with another config."""
    if self.home is self:
      workdirs.check_stage(self.workdir, 'classifier', self.config)
    else:
      workdirs.check_same(
          self.home.config, self.config, ('data', 'model'), self.home.workdir
      )
    if self.maps_home is self:
      for folder in map_data.KINDS.values():
        workdirs.check_stage(self.workdir, folder, self.config)
    elif self.explained is self and not (self.workdir / 'classifier').exists():
      raise InputError(
          f'The maps in {self.maps_home.workdir} are of its classifier, and '
          'this run is to train its own. Give the classifier as well, with '
          '--config.classifier.workdir=DIR.'
      )
    else:
      self._check_maps()
    for name in self.method_names:
      config = methods.config_of(name, self.config)
      workdirs.check_stage(self.workdir, name, config)

  def _check_maps(self) -> None:
    """Refuses complete maps of another workdir that are not of this config."""
    config = methods.config_of(self.config.method.name, self.config)
    kind = methods.maps_of(config)
    directory = self.maps_home.workdir / map_data.KINDS.get(kind, '')
    if kind and records.is_complete(directory):
      manifest = records.read_manifest(directory)
      # Of A where it is trained; the data themselves are not loaded yet.
      summary = workdirs.read_summary(self.home.workdir / 'classifier')
      data = (summary or manifest)['data']
      records.check(directory, manifest, self.map_settings(kind, data))

  def check_sizes(self, stage: str) -> None:
    """Refuses, before any work, what a training to come cannot handle."""
    home = self.workdir / 'classifier'
    name = self.config.method.name
    todo = []
    if (
        self.home is self
        and stage in ('all', 'classifier')
        and workdirs.read_summary(home) is None
    ):
      todo.append(('classifier', False))
    if (
        stage in ('all', 'impactx')
        and workdirs.read_summary(self.workdir / name) is None
    ):
      on_maps = bool(methods.METHODS[name].maps)
      todo.append((methods.training_section(name), on_maps))
    checks.check_devices(self.config, [section for section, _ in todo])
    if todo and not (self.workdir / workdirs.CONFIG).exists():
      self._check_pretrained()
    if summary := workdirs.read_summary(self.home.workdir / 'classifier'):
      checks.check_sizes(self.config, summary['data'], todo)
    elif ('classifier', False) in todo:
      checks.check_sizes(self.config, self.dataset.fingerprint(), todo)

  def _check_pretrained(self) -> None:
    """Refuses a file of weights that is not of the backbone."""
    if self.config.model.pretrained in models.AT_RANDOM:
      return
    weight_files.read(self.config.model.pretrained)  # Before the data are.
    fingerprint = self.dataset.fingerprint()
    task = base.Task(
        len(fingerprint['class_names']), tuple(fingerprint['image_shape'])
    )
    classifier = methods.create(methods.BASELINE, self.config, task)
    pretrained.start(self.config.model, restore.shapes(classifier))

  @property
  def explained(self) -> Self:
    """The run whose classifier is explained."""
    other = self.config.attribution.classifier
    if not other:
      return self.home
    flag = '--config.attribution.classifier'
    workdir = workdirs.open_workdir(other, flag)
    return type(self)(self.config, workdir)

  def map_settings(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """What decides the maps, as their manifest keeps it."""
    summary = self.explained_summary()
    return {
        'kind': kind,
        'classifier_digest': summary['digest'],
        'classifier_step': summary['best_step'],
        'attribution': teachers.settings(self.config.attribution),
        'data': data,
        'seed': self.home.config.seed,
        'validation_fraction': self.config.data.validation_fraction,
    }

  def read_maps(self, kind: str, data: dict[str, Any]) -> records.Columns:
    """Reads the shards, if they are what this run would have made."""
    columns, _ = records.read(
        self.maps_home.workdir / map_data.KINDS[kind],
        expected=self.map_settings(kind, data),
    )
    return columns

  def evaluations(self, name: str) -> int:
    """Counts the model evaluations that a trained method's maps took."""
    config = methods.config_of(name, self.config)
    entry = methods.METHODS[name]
    if entry.control and not config.method.lambda_:
      return 0  # Nothing is learned from its maps.
    if entry is methods.SINGLE_STAGE:
      summary = workdirs.read_summary(self.workdir / name)
      training = config.classifier.training
      epoch = summary['examples']['train'] // training.batch_size
      steps = epoch * len(summary['history'])
      explained = -(-steps // config.method.refresh_every) * training.batch_size
      config.attribution.max_evals = config.method.refresh_evals
      return explained * teachers.evaluations(config.attribution)
    if not entry.maps:
      return 0
    folder = map_data.KINDS[methods.maps_of(config)]
    manifest = records.read_manifest(self.maps_home.workdir / folder)
    maps = sum(manifest['examples'].values())
    return maps * teachers.evaluations(config.attribution)

  def place(self, name: str) -> tuple[Self, str]:
    """Returns the run that trained a method, and the folder it is in."""
    if name == methods.BASELINE:
      return self.home, 'classifier'
    return self, name

  def begin(self, directory: epath.Path, config=None) -> None:
    """Writes the config of a stage, and of the run, as its work begins."""
    if parallel.is_main_process():
      workdirs.write_config(self.workdir, self.config)
      workdirs.write_config(directory, config or self.config)

  def keep_config(self, directory: epath.Path, config=None) -> None:
    """Writes the configs of a finished stage again, if they were lost."""
    folders = self.workdir, directory
    if not all((folder / workdirs.CONFIG).exists() for folder in folders):
      self.begin(directory, config)

  def home_summary(self) -> dict[str, Any]:
    """Returns the summary of A; raises InputError if it is not trained."""
    elsewhere = self.home is not self
    return self.home.classifier_summary(
        '--config.classifier.workdir' if elsewhere else ''
    )

  def explained_summary(self) -> dict[str, Any]:
    """The same of the classifier that is explained."""
    if not self.config.attribution.classifier:
      return self.home_summary()
    return self.explained.classifier_summary('--config.attribution.classifier')

  def classifier_summary(self, flag: str = '') -> dict[str, Any]:
    """Returns the summary of this run's trained classifier.

    Args:
      flag: The flag that named this run, if another run did.

    Raises:
      InputError: if it is not trained.
    """
    summary = workdirs.read_summary(self.workdir / 'classifier')
    if summary is None:
      advice = 'Train it with --stage=classifier, or run --stage=all.'
      if flag:
        advice = f'Give the workdir of one with {flag}=DIR.'
      raise InputError(
          f'There is no trained classifier in {self.workdir}. {advice}'
      )
    return summary
