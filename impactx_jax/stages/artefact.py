"""What the stages make: directories that are begun, checked, done and loaded.

  DIR/config.json        the config of the latest run
  DIR/classifier/        stage one: checkpoints, summary.json
  DIR/maps/              shards and manifest.json; likewise, for the methods
                         that need them, maps_other_class/, maps_weighted/
  DIR/<method>/          stage two: checkpoints, summary.json
  DIR/<…>/test.json      what a trained network says of the test split
  DIR/<method>/guard.json  when its maps are to be trusted, see evaluation.guard
  DIR/report/            index.html, panels.png, metrics.json

Each has the config it was begun with, and its last file (summary.json,
manifest.json, metrics.json) is written when it is complete.
"""

import dataclasses
from typing import Any

from absl import logging
from attribution import files
from attribution import records
from attribution.errors import differences
from attribution.errors import InputError
from etils import epath
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import user_files
from impactx_jax.data.maps import KINDS
from impactx_jax.stages import configs
from impactx_jax.training import checkpoints
from ml_collections import ConfigDict

CLASSIFIER, REPORT = 'classifier', 'report'  # Folders of a workdir.
SUMMARY, METRICS = 'summary.json', 'metrics.json'
TEST, GUARD = 'test.json', 'guard.json'
# The sections of the config that decide what a stage makes.
DATA_SECTIONS = ('seed', 'data', 'model', 'classifier')
MAP_SECTIONS = (*DATA_SECTIONS, 'attribution')
METHOD_SECTIONS = (*MAP_SECTIONS, 'method')


@dataclasses.dataclass(frozen=True)
class Artefact:
  """A directory that one stage makes, and others use.

  Its key is the part of the config that decides it, known beforehand, and the
  digests of what it is made from, which its last file keeps.

  Attributes:
    directory: Of the artefact, inside the workdir of the run that makes it.
    config: That it is wanted with.
    sections: Of the config, those that decide it.
    last: The file that is written when it is complete.
  """

  directory: epath.Path
  config: ConfigDict
  sections: tuple[str, ...]
  last: str

  @property
  def workdir(self) -> epath.Path:
    """Of the run that makes it."""
    return self.directory.parent

  @property
  def method(self) -> str:
    """Of a trained network: of which method it is; the baseline for A."""
    if self.directory.name == CLASSIFIER:
      return methods.BASELINE
    return self.config.method.name

  def check(self) -> None:
    """Raises InputError if it was begun with a config that differs."""
    if not (self.directory / configs.CONFIG).exists():
      return
    found = configs.read(self.directory)
    if differing := configs.differences(found, self.config, self.sections):
      raise InputError(
          f'{self.directory} was made with another config: {differing}. '
          f'Use another --workdir, or delete {self.directory} to make it anew.'
      )

  def begin(self, config: ConfigDict) -> None:
    """Writes its config, and that of the run, as its work begins."""
    if parallel.is_main_process():
      configs.write(self.workdir, config)
      configs.write(self.directory, self.config)

  def is_done(self, config: ConfigDict) -> bool:
    """Whether it is complete; if so, says so, and mends lost configs.

    Args:
      config: Of the run.
    """
    if self.load() is None:
      return False
    if self.last == records.MANIFEST and not records.is_complete(
        self.directory
    ):
      return False
    logging.info('%s is complete.', self.directory)
    folders = self.workdir, self.directory
    if not all((folder / configs.CONFIG).exists() for folder in folders):
      self.begin(config)
    return True

  def load(self) -> dict[str, Any] | None:
    """Returns what its last file says, None while it is not complete."""
    path = self.directory / self.last
    return configs.read_json(path) if path.exists() else None

  def finish(self, content: dict[str, Any]) -> None:
    """Writes the last file, once for all processes."""
    if parallel.is_main_process():
      files.write_json(self.directory / self.last, content)
    parallel.barrier(self.directory.name)

  def differing(self, key: dict[str, Any]) -> str:
    """Names what it is made from that is not as in `key`, '' for nothing."""
    found = self.load() or {}
    return differences(
        {name: found.get(name) for name in key}, files.as_json(key)
    )


def trained(workdir: epath.Path, name: str, config: ConfigDict) -> Artefact:
  """Returns a training run: of a method, or of A for the baseline."""
  of_a = name == methods.BASELINE
  folder = CLASSIFIER if of_a else user_files.stem(name)
  sections = DATA_SECTIONS if of_a else METHOD_SECTIONS
  return Artefact(workdir / folder, config, sections, SUMMARY)


def network(
    path: epath.PathLike, config: ConfigDict | None, flag: str
) -> Artefact:
  """Returns the trained network that a path names.

  Args:
    path: A workdir, whose classifier it is, or in one the folder of a method.
    config: With which the classifier is wanted; None for its own.
    flag: The flag that gave the path.

  Raises:
    InputError: if nothing was run there.
  """
  home = open_workdir(path, flag)
  if home.name != CLASSIFIER and (home / SUMMARY).exists():
    return Artefact(home, configs.read(home), METHOD_SECTIONS, SUMMARY)
  folder = home if home.name == CLASSIFIER else home / CLASSIFIER
  if config is None:
    places = [p for p in (folder, home) if (p / configs.CONFIG).exists()]
    if not places:
      raise InputError(
          f'Nothing was run in {home}. Give the workdir of a run with '
          f'{flag}=DIR, or the folder of a method trained there.'
      )
    config = configs.read(places[0])
  return Artefact(folder, config, DATA_SECTIONS, SUMMARY)


def maps(workdir: epath.Path, kind: str, config: ConfigDict) -> Artefact:
  """Returns attribution maps, of a kind in `data.maps.KINDS`."""
  return Artefact(
      workdir / KINDS[kind], config, MAP_SECTIONS, records.MANIFEST
  )


def report(workdir: epath.Path, config: ConfigDict) -> Artefact:
  """Returns the report, which any config may make anew."""
  return Artefact(workdir / REPORT, config, (), METRICS)


def open_workdir(
    path: epath.PathLike, flag: str = '--workdir'
) -> epath.Path:
  """Returns the absolute workdir, which need not exist.

  Args:
    path: Local, or gs:// and such.
    flag: The flag that gave it.

  Raises:
    InputError: if the path, or a folder on the way to it, is a file.
  """
  workdir = checkpoints.absolute(path)
  above = () if '://' in str(workdir) else workdir.parents
  nearest = next((part for part in (workdir, *above) if part.exists()), None)
  if nearest is not None and not nearest.is_dir():
    raise InputError(f'{nearest} is a file. Give a folder with {flag}=DIR.')
  return workdir
