"""Configs as files: written, read again, compared.

The config of a run is `config.json` in its workdir, and each artefact keeps
that which it was begun with. Files of the user's own that a config names are
copied beside it: what was made with them stays what it was, whatever becomes
of the files.
"""

from collections.abc import Iterable
from typing import Any

from attribution import files
from attribution.errors import InputError
from etils import epath
from impactx_jax import models
from impactx_jax import user_files
from impactx_jax.configs import common
from impactx_jax.training import checkpoints
import ml_collections

CONFIG = 'config.json'
# Fields that may name a file of the user's own instead of something built in.
USER_FILES = (
    ('data', 'name'),
    ('model', 'name'),
    ('attribution', 'explainer'),
    ('method', 'name'),
)
_PATHS = (
    ('data', 'data_dir'),
    ('classifier', 'workdir'),
    ('attribution', 'classifier'),
    ('attribution', 'workdir'),
    ('evaluation', 'other'),
)
# What may change in the middle of a run: where the data lie says nothing of
# what they are, and how many images share a step nothing of their maps.
IGNORED = {
    'data': ('data_dir', 'download'),
    'attribution': ('images_per_step',),
}


def write(directory: epath.Path, config) -> None:
  """Writes a config and the user's files in it, and creates the directory."""
  try:
    directory.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise InputError(
        f'{directory} cannot be made: {error}. Give a folder that can be '
        'written to with --workdir=DIR.'
    ) from error
  for section, field in USER_FILES:
    source = epath.Path(config[section][field])
    if user_files.is_file(str(source)) and source != directory / source.name:
      files.write_text(directory / source.name, source.read_text())
  files.write_json(directory / CONFIG, config.to_dict())


def read(directory: epath.Path) -> ml_collections.ConfigDict:
  """Restores the config of a workdir or of one of its artefacts.

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
  content = _with_tuples(read_json(path))
  for section, field in USER_FILES:
    name = content.get(section, {}).get(field, '')
    copy = directory / epath.Path(name).name
    if user_files.is_file(name) and copy.exists():
      content[section][field] = str(copy)
  defaults = common.get_config(content.get('method', {}).get('name', ''))
  return ml_collections.ConfigDict(
      _completed(content, defaults.to_dict())
  ).lock()


def read_json(path: epath.Path) -> Any:
  """Reads what a run has written; raises InputError if it is damaged."""
  try:
    return files.read_json(path)
  except InputError as error:
    raise InputError(
        f'{error} What makes it is the same command, with --config and '
        '--workdir.'
    ) from error


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
  for section, field in _PATHS:
    if path := config[section][field]:
      config[section][field] = str(checkpoints.absolute(path))
  for section, field in USER_FILES:
    if user_files.is_file(path := config[section][field]):
      config[section][field] = str(checkpoints.absolute(path))
  if config.model.pretrained not in models.AT_RANDOM:
    config.model.pretrained = str(checkpoints.absolute(config.model.pretrained))
  return config


def differences(found, wanted, sections: Iterable[str]) -> str:
  """Names the fields in which two configs differ, '' for none."""
  return '; '.join(
      f'{path} (what is in {now!r} has changed since; the copy that was used '
      f'is {there!r})'
      if _one_file_changed(there, now)
      else f'{path} (there: {there!r}; now: {now!r})'
      for section in sections
      for path, there, now in _differences(
          section, found.get(section), wanted.get(section)
      )
  )


def _differences(section: str, found: Any, wanted: Any):
  if not isinstance(wanted, ml_collections.ConfigDict):
    return [] if found == wanted else [(section, found, wanted)]
  found = found if isinstance(found, ml_collections.ConfigDict) else {}
  differing = []
  for name in sorted({*found, *wanted} - {*IGNORED.get(section, ())}):
    there, now = found.get(name), wanted.get(name)
    if (section, name) in USER_FILES and _same_text(there, now):
      continue
    path = f'{section}.{name}'
    if path == 'model.pretrained':  # The file may move; its digest is kept.
      there, now = ('random' if x in models.AT_RANDOM else 'a file'
                    for x in (there, now))
    differing += _differences(path, there, now)
  return differing


def _one_file_changed(there: Any, now: Any) -> bool:
  """Whether two names are of files of the user's own, and of one name."""
  names = [str(name) for name in (there, now)]
  return all(map(user_files.is_file, names)) and (
      epath.Path(names[0]).name == epath.Path(names[1]).name
  )


def _same_text(there: Any, now: Any) -> bool:
  """Whether two files of the user's own are the same, wherever they lie."""
  texts = [user_files.text(str(name)) for name in (there, now)]
  return bool(texts[0]) and texts[0] == texts[1]
