"""Everything about a config that can be refused before any work."""

from typing import Any

from attribution import explainers
from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import bounds
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import tasks
from impactx_jax import user_files
from impactx_jax.bounds import Choice
from impactx_jax.bounds import Range
from impactx_jax.configs import common
from impactx_jax.data import maps as map_data
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import guard
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.training import history
from impactx_jax.training import train_step
from ml_collections import ConfigDict

OUTPUTS = ('probability', 'logit')
_TRAINING: bounds.Bounds = {
    'schedule': Choice('schedule', train_step.SCHEDULES),
    'batch_size': Range(1),
    'epochs': Range(1),
    'patience': Range(0),
    'crop_padding': Range(0),
    'warmup': Range(0, 1),
    'learning_rate': Range(0, above=True),
}
# What the fields of a config may be; those of a method are in its own file.
BOUNDS: dict[str, bounds.Bounds] = {
    '': {'seed': Range(0, 2**32 - 1)},  # JAX's keys have so many.
    '.data': {
        'task': Choice('task', ('', *tasks.TASKS)),
        'label_fraction': Range(0, 1, above=True),
        'validation_fraction': Range(0, 1, above=True, below=True),
        'test_fraction': Range(0, 1, above=True, below=True),
    },
    '.classifier.training': _TRAINING,
    '.method.training': _TRAINING,
    '.attribution': {
        'explained_output': Choice('output to explain', OUTPUTS),
        'mask_value': Range(0, 1),
        'max_evals': Range(3),
        'batch_size': Range(2),
        'images_per_step': Range(0),
        'num_examples': Range(0),
        'classes_per_image': Range(1),
        'shard_size': Range(1),
    },
    '.evaluation': {
        'batch_size': Range(1),
        'num_images': Range(1),
        'close_images': Range(1),
        'reference_evals': Range(3),
        'num_panels': Range(1),
        'region': Range(0),
        'draws': Range(1),
        'noise': Range(0),
        'guard_images': Range(1),
        'guard_false_alarms': Range(0, 1, above=True, below=True),
    },
}


def check(config: ConfigDict) -> None:
  """Raises InputError for a config that cannot be run, before any work."""
  check_fields(config)
  for path, table in BOUNDS.items():
    section = config
    for name in filter(None, path.split('.')):
      section = section[name]
    bounds.check(section, table, f'config{path}')
  models.check(config.model)
  _check_user_files(config)
  name = config.method.name
  if name == methods.BASELINE:
    raise methods.unknown(name)  # It is stage one.
  methods.find(name).check(methods.config_of(name, config))
  for section in ('classifier', 'method'):
    training, flag = config[section].training, f'--config.{section}.training'
    select = history.Select.parse(training.select, f'{flag}.select')
    front = history.parse_front(training.front, f'{flag}.front')
    if not user_files.is_file(name):
      select.check(history.MEASURES, f'{flag}.select')
      for one in front:
        one.check(history.MEASURES, f'{flag}.front')
    if training.patience and not select.measure:
      raise InputError(
          f'config.{section}.training.patience is {training.patience}, and '
          'select is last: no epoch is better than another then. Take '
          f"{flag}.patience=0, or {flag}.select='max accuracy'."
      )
  _check_b_cos(config)
  # Another classifier is looked at when it is read.
  explaining.check(
      config.attribution,
      bool(config.attribution.classifier) or config.model.variant == 'b_cos',
  )
  guard.check(config.evaluation)
  size = tuple(config.data.image_size)
  if len(size) != 2 or not all(isinstance(n, int) and n > 0 for n in size):
    raise InputError(
        f'config.data.image_size is {size}; it must be (height, width) in '
        'pixels.', '--config.data.image_size', '"(H, W)"',
    )
  if config.data.train_split == config.data.test_split:
    raise InputError(
        f'config.data.train_split and test_split are both '
        f'{config.data.test_split!r}: what is tested would have been trained '
        'on. Change it with --config.data.test_split=NAME, or leave that out '
        'for data with one split, of which a share is held out.'
    )
  for explainer in config.evaluation.explainers:
    if explainer not in explainers.EXPLAINERS:
      raise unknown_choice(
          'explainer', explainer, explainers.EXPLAINERS,
          '--config.evaluation.explainers',
      )
    explaining.check_output(
        explainer, config.attribution, '--config.evaluation.explainers'
    )


def _check_b_cos(config) -> None:
  """Refuses b_cos for a network that is no B-cos network, and LRP for one."""
  if config.model.variant == 'b_cos':
    asked = (config.attribution.explainer, *config.evaluation.explainers)
    if rules := [name for name in asked if name in explainers.NEED_LOGITS]:
      raise InputError(
          f'{rules[0]} has no rule for B-cos layers, whose own map is that of '
          'the explainer b_cos. Take --config.attribution.explainer=b_cos, or '
          '--config.model.variant=plain.'
      )
    return
  asked = [
      flag for flag, there in (
          ('--config.attribution.explainer',
           config.attribution.explainer == 'b_cos'
           and not config.attribution.classifier),
          ('--config.evaluation.explainers',
           'b_cos' in config.evaluation.explainers),
      ) if there
  ]
  if asked:
    raise InputError(
        'The explainer b_cos is for B-cos networks alone, and '
        f'config.model.variant is {config.model.variant}: choose another with '
        f'{asked[0]}, or train one, with --config.model.variant=b_cos '
        '--config.model.pooling=mean.'
    )


def _check_user_files(config) -> None:
  """Refuses files whose copies, or what they make, would share a name."""
  found = {}
  for section, field in configs.USER_FILES:
    path = config[section][field]
    if not user_files.is_file(path):
      continue
    flag, name = f'--config.{section}.{field}', user_files.stem(path)
    if name in found:
      raise InputError(
          f'{found[name]} and {path} have one name, and a run keeps a copy of '
          f'each. Rename one, and give it with {flag}=FILE.py.'
      )
    found[name] = path
  taken = (
      *methods.METHODS, *explainers.EXPLAINERS, artefact.CLASSIFIER,
      artefact.REPORT, *map_data.KINDS.values(),
  )
  for section, field in (('method', 'name'), ('attribution', 'explainer')):
    path = config[section][field]
    if user_files.is_file(path) and user_files.stem(path) in taken:
      raise InputError(
          f'What is in {path} would be called {user_files.stem(path)}, as '
          'something else of a run is. Rename the file, and give it with '
          f'--config.{section}.{field}=FILE.py.'
      )


def check_fields(
    config: ConfigDict,
    known: ConfigDict | None = None,
    path: str = 'config',
) -> None:
  """Raises InputError unless a config has the fields of `common.get_config`.

  The command line cannot set another field, but a recipe can, by a slip of
  the pen, and the config of an old workdir can lack one.
  """
  if known is None:
    method = config.get('method') if isinstance(config, ConfigDict) else None
    name = str(method.get('name')) if isinstance(method, ConfigDict) else ''
    known = common.get_config(name if user_files.is_file(name) else '')
  if not isinstance(config, ConfigDict):
    raise InputError(
        f'{path} is {config!r}, and must be a ConfigDict, as '
        'configs/common.py makes it. Change the recipe given with --config.'
    )
  for name in config:
    if name not in known:
      raise unknown_choice(
          'config field', f'{path}.{name}', [f'{path}.{n}' for n in known],
          '--config=FILE or --config.FIELD',
      )
  for name, value in known.items():
    if name not in config:
      raise InputError(
          f'The config has no field {path}.{name}. Begin the recipe with '
          'config = common.get_config(), of impactx_jax.configs, which has '
          'them all, and give it with --config=FILE.'
      )
    if config[name] is None:
      raise InputError(
          f'{path}.{name} is None, which is no value of any field. Change it '
          'in the recipe given with --config=FILE.'
      )
    if isinstance(value, ConfigDict):
      check_fields(config[name], value, f'{path}.{name}')


def check_trainings(
    config: ConfigDict, data: dict[str, Any] | None, todo: list[str]
) -> None:
  """Raises InputError for sizes that do not suit the data or the devices.

  Args:
    config: The whole config.
    data: The fingerprint of the data set; None while it is not known.
    todo: The methods whose training is to come, the baseline among them.
  """
  for name in todo:
    section = methods.find(name).section
    batch_size = config[section].training.batch_size
    flag = f'--config.{section}.training.batch_size'
    parallel.check_batch_size(batch_size, flag)
    if data is None:
      continue
    images, spec = data['examples']['train'], methods.find(name)
    on_maps = bool(spec.maps(config.method)) and not spec.unmapped
    if on_maps:
      images = map_data.share(
          config.attribution.num_examples,
          images,
          images + data['examples']['validation'],
      ) * config.attribution.classes_per_image  # A row each.
    if batch_size > images:
      more = ', or make more maps with --config.attribution.num_examples=N'
      raise InputError(
          f'A batch of {batch_size} examples is more than the {images} there '
          f'are to train on. Lower it with {flag}=N{more if on_maps else ""}.'
      )
