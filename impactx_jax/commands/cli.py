"""Flags and their errors, shared by the command-line programs."""

from collections.abc import Callable
from collections.abc import Iterable
import os
import pathlib
import sys
import textwrap

# Before TensorFlow is imported, which reads them then. It only reads records
# here, and has nothing to say about that.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

# pylint: disable=g-import-not-at-top
from absl import app
from absl import flags
from absl import logging
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import user_files
from ml_collections import ConfigDict
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'A recipe: a file, or the name of an installed one.'
)
WORKDIR = flags.DEFINE_string(
    'workdir', '', 'Folder for all that a run makes; local or gs://.'
)
DISTRIBUTED = flags.DEFINE_bool(
    'distributed', False,
    'Join the other hosts of a multi-host run first (TPU pod slices).',
)
CACHE = flags.DEFINE_bool(
    'compilation_cache', True,
    'Keep compiled programs in the user\'s cache directory (~/.cache/'
    'impactx_jax, or JAX_COMPILATION_CACHE_DIR), so that the next run need not '
    'compile them.',
)
# Libraries of which a user wants to hear errors only.
QUIET = ('orbax', 'tensorflow', 'tensorflow_datasets', 'jax')


def run(
    program: Callable[..., None],
    usage: str,
    *,
    config_needed: bool = False,
    reads_data: bool = True,
    positional: str = '',
    listed: Callable[[], dict[str, Iterable[str]]] = dict,
) -> None:
  """Parses flags and runs a program.

  Exits with 0 for success and --help, with 2 for anything the user can mend.

  Args:
    program: Takes the config, None where none is given, and the workdir;
      called when JAX and TensorFlow are set up.
    usage: What --help prints before the flags.
    config_needed: Whether --config must be given.
    reads_data: Whether it reads data sets or shards, with TensorFlow.
    positional: What arguments without a flag are; they are passed on to the
      program. '' for none.
    listed: What --help prints after the flags beside the recipes, by title.
  """

  def parse(argv: list[str]) -> list[str]:
    if any(a in ('--help', '-h', '-help', '--helpfull') for a in argv[1:]):
      print(usage.strip())
      print(_flag_help())
      names_of = listed() | {'Installed recipes': _recipes()}
      for title, names in names_of.items():
        text = f'{title}: {", ".join(names)}'
        print('\n' + textwrap.fill(text, 79, subsequent_indent='  '))
      sys.exit(0)
    try:
      argv = _resolve_recipes(argv)
      rest = flags.FLAGS(argv)
      if len(rest) > 1 and not positional:
        raise InputError(
            f'Unexpected argument {rest[1]!r}: all options are flags, '
            '--name=value.'
        )
      if not WORKDIR.value:
        raise InputError(
            'Say where results go with --workdir=DIR; --help lists all flags.'
        )
      if config_needed and CONFIG.value is None:
        raise InputError(
            'Say what to run with --config=NAME or --config=FILE; --help '
            'lists the installed recipes.'
        )
      # A file that cannot be read is noticed when the config is first used.
      getattr(CONFIG.value, 'seed', None)
    except InputError as error:
      _fail(str(error))
    except Exception as error:  # Of absl, ml_collections or the recipe.
      try:
        _fail(_wrong_field(argv) or _reason(error))
      except InputError as mistake:  # Of a method's file, which has the fields.
        _fail(str(mistake))
    return rest

  def guarded(argv: list[str]) -> None:
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_of_use)
    try:
      _set_up_devices(reads_data)
      program(CONFIG.value, WORKDIR.value, *argv[1:])
    except InputError as error:
      _fail(str(error))

  app.run(guarded, flags_parser=parse)


def list_methods() -> dict[str, Iterable[str]]:
  """Returns what --help lists where a method can be chosen, beside A."""
  from impactx_jax import methods

  return {'Methods': [n for n in methods.METHODS if n != methods.BASELINE]}


def _set_up_devices(reads_data: bool) -> None:
  from impactx_jax import compilation
  from impactx_jax import memory
  from impactx_jax import parallel

  memory.keep()
  compilation.use_cache(compilation.default_dir() if CACHE.value else '')
  if DISTRIBUTED.value:
    parallel.initialize_distributed()
  if reads_data:
    parallel.hide_devices_from_tensorflow()


def _fail(message: str) -> None:
  logging.flush()
  print('\n' + textwrap.fill(f'Error: {message}', 79, break_long_words=False,
                             break_on_hyphens=False), file=sys.stderr)
  sys.exit(2)


def _reason(error: Exception) -> str:
  """The message of an error of absl or ml_collections, as one sentence."""
  text = str(error)
  lines = text.strip().splitlines() or [type(error).__name__]
  if 'Traceback (most recent call last)' in text:  # Of a recipe.
    return f'{lines[0]} {lines[-1]}'
  return ' '.join(lines)


def _wrong_field(argv: list[str]) -> str | None:
  """Says which --config.FIELD names no field of a config, if one does."""
  from impactx_jax.configs import common

  given = [argument.lstrip('-').partition('=')[0] for argument in argv[1:]]
  for path in given:
    if not path.startswith('config.'):
      continue
    if 'config' not in given:
      return (
          f'--{path} changes a config: give that as well, with --config=NAME '
          'or --config=FILE.'
      )
    section, known = 'config', common.get_config(_method(argv))
    for name in path.split('.')[1:]:
      if not isinstance(known, ConfigDict):
        return f'Unknown config field {path!r}: {section} has no fields.'
      if name not in known:
        return str(unknown_choice(
            'config field', f'{section}.{name}',
            [f'{section}.{field}' for field in known], '--config.FIELD',
        ))
      section, known = f'{section}.{name}', known[name]
  return None


def _method(argv: list[str]) -> str:
  """Returns what --config.method.name gives; '' for nothing that there is."""
  from impactx_jax import methods

  name = _value_of(argv, 'config.method.name')
  return name if name in methods.METHODS or user_files.is_file(name) else ''


def _value_of(argv: list[str], flag: str) -> str:
  """Returns what --flag=VALUE, or --flag VALUE, gives; '' for nothing."""
  found = ''
  for argument, following in zip(argv, [*argv[1:], ''], strict=True):
    name, equals, value = argument.partition('=')
    if name in (f'--{flag}', f'-{flag}'):
      found = value if equals else following
  return found


def _is_of_use(record) -> bool:
  parts = pathlib.Path(record.pathname).parts
  return record.levelname in ('ERROR', 'CRITICAL') or not any(
      name in parts for name in QUIET
  )


def _recipes() -> list[str]:
  from impactx_jax import configs

  return sorted(
      path.stem
      for folder in configs.__path__
      for path in pathlib.Path(folder).glob('*.py')
      if path.stem not in ('__init__', 'common')
  )


def _resolve_recipes(argv: list[str]) -> list[str]:
  """Turns --config=NAME, or --config NAME, into the recipe's path.

  Fields that are changed without a --config are those of the workdir's own.
  Where a method is given, the config has the options that it declares.
  """
  recipe, workdir = _value_of(argv, 'config'), _value_of(argv, 'workdir')
  changed = any(x.lstrip('-').startswith('config.') for x in argv[1:])
  home = epath.Path(workdir).expanduser()
  if not recipe and changed and workdir and (home / 'config.json').exists():
    recipe = f'from_workdir:{workdir}'
    argv = [argv[0], f'--config={recipe}', *argv[1:]]
  if not recipe and not any(x.lstrip('-') == 'config=' for x in argv):
    return argv
  path = _recipe_path(recipe)
  if method := _method(argv):
    wrapper = pathlib.Path(__file__).with_name('with_method.py')
    path = f'{wrapper}:{method}|{path}'
  return [
      f'--config={path}' if x.lstrip('-') == f'config={recipe}'
      else path if x == recipe and before.lstrip('-') == 'config'
      else x
      for before, x in zip(['', *argv], argv, strict=False)
  ]


def _recipe_path(value: str) -> str:
  """Returns the file of a recipe, with its parameter if it has one."""
  path, colon, parameter = value.partition(':')
  if os.path.isfile(path):  # A folder may well have a recipe's name.
    return value
  from impactx_jax import configs

  name = path.removesuffix('.py').removeprefix('configs/')
  if name not in _recipes():
    error = unknown_choice('recipe', path, _recipes(), '--config')
    raise InputError(f'{error} A path to a file of your own works as well.')
  folder = next(iter(configs.__path__))
  return f'{folder}/{name}.py{colon}{parameter}'


def _flag_help() -> str:
  modules = flags.FLAGS.flags_by_module_dict()
  own = [
      flag
      for name, members in modules.items()
      if name.startswith(('impactx_jax', 'attribution', '__main__'))
      or name == sys.argv[0]
      for flag in members
  ]
  lines = ['\nFlags:']
  for flag in sorted(own, key=lambda flag: flag.name):
    lines.append(f'  --{flag.name}: {flag.help} (default: {flag.default!r})')
  lines.append(
      '  --config.SECTION.FIELD: any field of the config; '
      'configs/common.py explains each.'
  )
  return '\n'.join(lines)
