"""A run: one config in one workdir, and the artefacts that it resolves to."""

import dataclasses
from typing import Any

from attribution import files
from attribution import records
from attribution.errors import differences
from attribution.errors import InputError
from etils import epath
from impactx_jax import methods
from impactx_jax import models
from impactx_jax.data import maps as map_data
from impactx_jax.data import sources
from impactx_jax.evaluation import explaining
from impactx_jax.methods import base
from impactx_jax.stages import artefact
from impactx_jax.stages import checks
from impactx_jax.stages import configs
from impactx_jax.stages import trained
from impactx_jax.stages.artefact import Artefact
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Run:
  """What the stages are functions of; see `resolve`.

  Attributes:
    config: With absolute paths.
    workdir: Where all that it makes goes.
    classifier: A, made here or taken from another workdir.
    explained: The classifier whose maps are learned, A or a teacher.
    kind: Which maps `config.method` trains on, a key of `data.maps.KINDS`; ''
      for none.
    maps: These, made here or taken from another workdir; None for none.
    seed: Which decides the split into training and validation: of A's run.
  """

  config: ConfigDict
  workdir: epath.Path
  classifier: Artefact
  explained: Artefact
  kind: str
  maps: Artefact | None
  seed: int

  @property
  def trains_classifier(self) -> bool:
    """Whether A is trained here."""
    return self.classifier.workdir == self.workdir

  @property
  def makes_maps(self) -> bool:
    """Whether the maps are made here."""
    return self.maps is not None and self.maps.workdir == self.workdir

  def trained(self, name: str) -> Artefact:
    """Returns what a method's training makes, or A for the baseline."""
    if name == methods.BASELINE:
      return self.classifier
    config = methods.config_of(name, self.config)
    return artefact.trained(self.workdir, name, config)

  def method_names(self) -> tuple[str, ...]:
    """What stage two trains: with too few maps, the fair control as well."""
    name = self.config.method.name
    spec = methods.find(name)
    is_control = spec.changes or spec.control == name
    if not self.maps or is_control or not spec.control or not unmapped(self):
      return (name,)
    return (name, spec.control)


def resolve(config: ConfigDict | None, workdir: epath.PathLike) -> Run:
  """Checks a config against itself and the workdir; nothing is made yet.

  Args:
    config: A config; None for that of the workdir.
    workdir: Where everything goes.

  Raises:
    InputError: for a config that cannot be run, or that the artefacts in the
      workdir were not begun with.
  """
  workdir = artefact.open_workdir(workdir)
  if config is None:
    config = configs.read(workdir)
  checks.check(config)
  config = configs.with_absolute_paths(config)
  maps_home, maps_config = _home_of_maps(config, workdir)
  classifier = artefact.trained(workdir, methods.BASELINE, config)
  if config.classifier.workdir:
    classifier = artefact.network(
        config.classifier.workdir, None, '--config.classifier.workdir'
    )
  explained = classifier
  if config.attribution.classifier:
    explained = artefact.network(
        config.attribution.classifier, config, '--config.attribution.classifier'
    )
  kind = map_kind(config)
  run = Run(
      config=config,
      workdir=workdir,
      classifier=classifier,
      explained=explained,
      kind=kind,
      maps=artefact.maps(maps_home, kind, maps_config) if kind else None,
      seed=_split_seed(classifier),
  )
  _check_artefacts(run, maps_home)
  return run


def map_kind(config: ConfigDict) -> str:
  """Returns which maps `config.method` trains on, '' for none."""
  name = config.method.name
  options = methods.config_of(name, config).method
  return methods.find(name).maps(options)


def _split_seed(classifier: Artefact) -> int:
  """Returns the seed of the split that a network in A's place was trained on.

  A method's network was trained on the split of its own run's A.
  """
  config, flag = classifier.config, '--config.classifier.workdir'
  if classifier.directory.name != artefact.CLASSIFIER and (
      config.classifier.workdir
  ):
    return _split_seed(
        artefact.network(config.classifier.workdir, None, flag)
    )
  return config.seed


def _home_of_maps(
    config: ConfigDict, workdir: epath.Path
) -> tuple[epath.Path, ConfigDict]:
  """Returns the workdir whose maps are taken, or this one, and its config."""
  path, flag = config.attribution.workdir, '--config.attribution.workdir'
  if not path:
    return workdir, config
  home = artefact.open_workdir(path, flag)
  for folder in (*(home / name for name in map_data.KINDS.values()), home):
    if (folder / configs.CONFIG).exists():
      return home, configs.read(folder)
  raise InputError(
      f'Nothing was run in {home}. Give the workdir of a run with {flag}=DIR.'
  )


def _check_artefacts(run: Run, maps_home: epath.Path) -> None:
  """Refuses artefacts that were begun with another config than is wanted."""
  config = run.config
  if run.classifier.directory.name != artefact.CLASSIFIER:
    _check_like_a(run.classifier)
  if run.trains_classifier:
    run.classifier.check()
  elif differing := configs.differences(
      run.classifier.config, config, ('data', 'model')
  ):
    raise InputError(
        f'The classifier in {run.classifier.workdir} was made with another '
        f'config: {differing}. Change these fields, or give another workdir '
        'with --config.classifier.workdir=DIR.'
    )
  if maps_home == run.workdir:
    for kind in map_data.KINDS:
      artefact.maps(run.workdir, kind, config).check()
  elif run.trains_classifier and run.explained == run.classifier and not (
      run.classifier.directory.exists()
  ):
    raise InputError(
        f'The maps in {maps_home} are of its classifier, and this run is to '
        'train its own. Give the classifier as well, with '
        '--config.classifier.workdir=DIR.'
    )
  elif run.maps and records.is_complete(run.maps.directory):
    # Of A where it is trained; the data themselves are not loaded yet.
    manifest = run.maps.load()
    summary = run.classifier.load()
    key = map_key(run, (summary or manifest)['data'])
    try:
      records.check(run.maps.directory, manifest, key)
    except InputError as error:
      raise InputError(
          f'{error} Whose maps are taken says --config.attribution.workdir=DIR.'
      ) from error
  for name in run.method_names():
    run.trained(name).check()


def _check_like_a(named: Artefact) -> None:
  """Refuses a method's network in the place of A that is another network."""
  name = named.config.method.name
  problem = trained.problem_of(named.load()['data'])
  a, method = (
      methods.create(n, named.config, problem) for n in (methods.BASELINE, name)
  )
  scratch = methods.find(name).from_scratch
  if method.shapes(None if scratch else a.shapes()) != a.shapes():
    raise InputError(
        f'{named.directory} is a network of {name}, which has other parameters '
        'than A. Name a workdir, or the folder of a method that trains A '
        'itself, such as guided, with --config.classifier.workdir=DIR.'
    )


def dataset(run: Run) -> sources.Dataset:
  """Returns the data, which are those that A was trained on.

  Raises:
    InputError: if they are not, or do not suit the backbone.
  """
  found = sources.load(run.config.data, run.seed)
  models.check(run.config.model, found.image_shape)
  summary = run.classifier.load()
  if not summary:
    return found
  if differing := differences(
      summary['data'], files.as_json(found.fingerprint())
  ):
    raise InputError(
        'The data are not those that the classifier in '
        f'{run.classifier.workdir} was trained on: {differing}. Say where '
        'those are with --config.data.data_dir=DIR, or use another --workdir.'
    )
  return found


def summary_of(classifier: Artefact, flag: str = '') -> dict[str, Any]:
  """Returns the summary of a trained classifier.

  Args:
    classifier: The artefact.
    flag: The flag that named its workdir; '' for the run's own.

  Raises:
    InputError: if it is not trained.
  """
  summary = classifier.load()
  if summary is None:
    advice = 'Train it with --stage=classifier, or run --stage=all.'
    if flag:
      advice = f'Give the workdir of one with {flag}=DIR.'
    raise InputError(
        f'There is no trained classifier in {classifier.workdir}. {advice}'
    )
  return summary


def classifier_summary(run: Run) -> dict[str, Any]:
  """Returns the summary of A; raises InputError if it is not trained."""
  flag = '' if run.trains_classifier else '--config.classifier.workdir'
  return summary_of(run.classifier, flag)


def explained_summary(run: Run) -> dict[str, Any]:
  """The same of the classifier that is explained."""
  if run.config.attribution.classifier:
    return summary_of(run.explained, '--config.attribution.classifier')
  return classifier_summary(run)


def map_key(run: Run, data: dict[str, Any]) -> dict[str, Any]:
  """What decides the maps, as their manifest keeps it.

  Args:
    run: Whose maps they are.
    data: The fingerprint of the data set.
  """
  summary, attribution = explained_summary(run), run.config.attribution
  several = run.kind == 'true_class' and attribution.classes_per_image > 1
  return {
      # Nothing for one, as in manifests from before there could be more.
      'classes_per_image': attribution.classes_per_image if several else None,
      'kind': run.kind,
      'classifier_digest': summary['digest'],
      'classifier_step': summary['best_step'],
      'attribution': explaining.settings(attribution),
      'data': data,
      'seed': run.seed,
      'validation_fraction': run.config.data.validation_fraction,
  }


def unmapped(run: Run) -> int:
  """Counts the images without a map; 0 while the maps are not complete."""
  manifest = run.maps.load()
  return records.unmapped(manifest) if manifest else 0


def evaluations(run: Run, name: str) -> int:
  """Counts the model evaluations that a trained method's maps took."""
  spec = methods.find(name)
  config = methods.config_of(name, run.config)
  manifest = run.maps and run.maps.load()
  needs = bool(spec.maps(config.method))
  count = sum(manifest['examples'].values()) if needs and manifest else 0
  if spec.cost:
    return spec.cost(config, run.trained(name).load(), count)
  return count * base.evaluations(config.attribution)
