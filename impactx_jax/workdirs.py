"""What lies where in a workdir, and whose it is.

  DIR/config.json        the config of the latest run
  DIR/classifier/        stage one: checkpoints, summary.json
  DIR/maps/              shards and manifest.json; likewise, for the methods
                         that need them, maps_other_class/, maps_weighted/
  DIR/<method>/          stage two: checkpoints, summary.json
  DIR/<…>/test.json      what a trained network says of the test split
  DIR/report/            index.html, panels.png, metrics.json

Each stage's folder has the config it was begun with, and its last file
(summary.json, manifest.json, metrics.json) is written when it is complete.
"""

from typing import Any

from absl import logging
from attribution import files
from attribution.errors import InputError
from etils import epath
from impactx_jax import checkpoints
from impactx_jax import models
from impactx_jax.configs import common
from impactx_jax.data.maps import KINDS
import ml_collections

CONFIG = 'config.json'
BACKBONE = 'backbone.py'  # A copy of the user's own.
SUMMARY = 'summary.json'
TEST = 'test.json'
# The sections of the config that decide what each stage makes.
_DATA = ('seed', 'data', 'model', 'classifier')
_MAPS = (*_DATA, 'attribution')
SECTIONS = {'classifier': _DATA, **dict.fromkeys(KINDS.values(), _MAPS)}
METHOD_SECTIONS = (*_MAPS, 'method')
# What may change in the middle of a run: where the data lie says nothing of
# what they are, and how many images share a step nothing of their maps.
IGNORED = {
    'data': ('data_dir', 'download'),
    'attribution': ('images_per_step',),
}


def _sections(stage: str) -> tuple[str, ...]:
  """Returns the config's sections that decide what a stage makes."""
  return SECTIONS.get(stage, METHOD_SECTIONS)


def write_config(directory: epath.Path, config) -> None:
  """Writes the config as JSON, atomically, and creates the directory.

  A backbone of the user's own is copied beside it: what was trained with it
  stays what it was, whatever becomes of the file.
  """
  directory.mkdir(parents=True, exist_ok=True)
  backbone, copy = epath.Path(config.model.name), directory / BACKBONE
  if backbone.suffix == '.py' and backbone != copy:
    files.write_text(copy, backbone.read_text())
  files.write_json(directory / CONFIG, config.to_dict())


def read_config(directory: epath.Path) -> ml_collections.ConfigDict:
  """Restores the config of a workdir or of one of its stages.

  Fields that did not exist when it was written get their defaults, which do
  what was done then.

  Raises:
    InputError: if there is none.
  """
  path = directory / CONFIG
  if not path.exists():
    raise InputError(
        f'There is no {CONFIG} in {directory}, so nothing was run there. Give '
        'the --workdir of a run, or begin one with --config=NAME.'
    )
  content = _with_tuples(files.read_json(path))
  defaults = common.get_config().to_dict()
  config = ml_collections.ConfigDict(_completed(content, defaults))
  if config.model.name.endswith('.py') and (directory / BACKBONE).exists():
    config.model.name = str(directory / BACKBONE)
  return config.lock()


def _completed(content: Any, defaults: Any) -> Any:
  if not isinstance(content, dict) or not isinstance(defaults, dict):
    return content
  return defaults | {
      name: _completed(value, defaults.get(name))
      for name, value in content.items()
  }


def _with_tuples(value: Any) -> Any:
  """JSON has lists where a config has tuples."""
  if isinstance(value, dict):
    return {name: _with_tuples(part) for name, part in value.items()}
  return tuple(value) if isinstance(value, list) else value


def with_absolute_paths(config) -> ml_collections.ConfigDict:
  """Returns the config with paths that lead there from any folder."""
  config = config.copy_and_resolve_references()
  for section, field in (
      ('data', 'data_dir'),
      ('classifier', 'workdir'),
      ('attribution', 'classifier'),
      ('attribution', 'workdir'),
      ('evaluation', 'other'),
  ):
    if path := config[section][field]:
      config[section][field] = str(checkpoints.absolute(path))
  if config.model.name.endswith('.py'):
    config.model.name = str(
        checkpoints.absolute(epath.Path(config.model.name).expanduser())
    )
  if config.model.pretrained not in models.AT_RANDOM:
    config.model.pretrained = str(checkpoints.absolute(config.model.pretrained))
  return config


def check_stage(workdir: epath.Path, stage: str, config) -> None:
  """Raises InputError if a stage was begun with a config that differs.

  Args:
    workdir: The workdir.
    stage: 'classifier', 'maps', or the name of a method.
    config: What the stage is wanted with now.
  """
  directory = workdir / stage
  if not (directory / CONFIG).exists():
    return
  if differing := _differing(read_config(directory), config, _sections(stage)):
    raise InputError(
        f'{directory} was made with another config: {differing}. '
        f'Use another --workdir, or delete {directory} to make it anew.'
    )


def check_same(found, config, sections, workdir: epath.Path) -> None:
  """Raises InputError unless two configs agree in some sections.

  Args:
    found: The config of the workdir whose classifier is wanted.
    config: The config it is wanted with.
    sections: That must agree.
    workdir: Of `found`.
  """
  if differing := _differing(found, config, sections):
    raise InputError(
        f'The classifier in {workdir} was made with another config: '
        f'{differing}. Change these fields, or give another workdir with '
        '--config.classifier.workdir=DIR.'
    )


def _differing(found, config, sections) -> str:
  """Names the fields in which two configs differ, '' for none."""
  return '; '.join(
      f'{path} (there: {there!r}; now: {now!r})'
      for section in sections
      for path, there, now in _differences(
          section, found.get(section), config.get(section)
      )
  )


def _differences(section: str, found: Any, wanted: Any):
  if not isinstance(wanted, ml_collections.ConfigDict):
    return [] if found == wanted else [(section, found, wanted)]
  found = found if isinstance(found, ml_collections.ConfigDict) else {}
  differing = []
  for name in sorted({*found, *wanted} - {*IGNORED.get(section, ())}):
    path = f'{section}.{name}'
    there, now = found.get(name), wanted.get(name)
    if path == 'model.name' and _same_text(there, now):
      continue
    if path == 'model.pretrained':  # The file may move; see pipeline.
      there, now = ('random' if x in models.AT_RANDOM else 'a file'
                    for x in (there, now))
    differing += _differences(path, there, now)
  return differing


def _same_text(there: Any, now: Any) -> bool:
  """Whether two backbones of the user's own are the same, wherever they lie."""
  paths = [epath.Path(str(name)) for name in (there, now)]
  if not all(path.suffix == '.py' and path.exists() for path in paths):
    return False
  return paths[0].read_text() == paths[1].read_text()


def read_summary(directory: epath.Path) -> dict[str, Any] | None:
  """Returns the summary of a finished training run, or None."""
  path = directory / SUMMARY
  return files.read_json(path) if path.exists() else None


def is_trained(directory: epath.Path) -> bool:
  """Whether a training run is finished; if so, says so."""
  finished = (directory / SUMMARY).exists()
  if finished:
    logging.info('%s is complete.', directory)
  return finished


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
