"""Backbones by name, and how to build them from a config.

A new backbone is one file with a trunk and a head, and one line here; or a
file of the user's own that defines BACKBONE, given as `config.model.name`.
"""

import types

from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from flax import linen as nn
from impactx_jax.models import efficientnet
from impactx_jax.models import lenet
from impactx_jax.models import mobilenet
from impactx_jax.models.base import Backbone as Backbone
from impactx_jax.models.base import Classifier as Classifier
from impactx_jax.models.base import Scores as Scores

BACKBONES: dict[str, Backbone] = {
    'lenet5': lenet.BACKBONE,
    'mobilenet': mobilenet.BACKBONE,
    'efficientnet_b2': efficientnet.BACKBONE,
}
DTYPES = ('float32', 'bfloat16')
# Values of `config.model.pretrained` that are no file.
AT_RANDOM = ('', 'random')


def check(model, image_shape: tuple[int, int, int] | None = None) -> None:
  """Raises InputError for a `config.model` that cannot be built.

  Args:
    model: The config's section.
    image_shape: (H, W, C) of the images, when it is known.
  """
  backbone = find(model.name)
  choices = {
      'activation': ('activation', lenet.ACTIVATIONS),
      'pooling': ('pooling', lenet.POOLINGS),
      'dtype': ('dtype', DTYPES),
  }
  for field, (what, allowed) in choices.items():
    if model[field] not in allowed:
      raise unknown_choice(
          what, model[field], allowed, f'--config.model.{field}'
      )
  if not 0 < model.width <= 64:
    raise InputError(
        f'config.model.width is {model.width}; it must be above 0 and at most '
        '64. Change it with --config.model.width=W.'
    )
  _check_pretrained(model, backbone)
  for field in ('dropout', 'drop_path'):
    if not 0 <= model[field] < 1:
      raise InputError(
          f'config.model.{field} is {model[field]}; it must be at least 0 and '
          f'below 1. Change it with --config.model.{field}=P.'
      )
  smallest = backbone.min_size
  if model.input_size and model.input_size < smallest:
    raise InputError(
        f'config.model.input_size is {model.input_size}; {model.name} needs '
        f'{smallest} or more, or 0 for images as they are. Change it with '
        '--config.model.input_size=N.'
    )
  if model.input_size:
    return
  if image_shape is not None and min(image_shape[:2]) < smallest:
    raise InputError(
        f'{model.name} needs images of at least {smallest}x{smallest} pixels, '
        f'but these have {image_shape[0]}x{image_shape[1]}. Choose another '
        'backbone with --config.model.name=NAME, or for your own pictures a '
        'larger --config.data.image_size.'
    )


def _check_pretrained(model, backbone: Backbone) -> None:
  """Refuses a `model.pretrained` that does not go with the backbone."""
  if backbone.keras_layer is None:
    if model.pretrained not in AT_RANDOM:
      raise InputError(
          f'No weights are published for {model.name} that could be read from '
          f'{model.pretrained}. Start at random, with '
          '--config.model.pretrained=random.'
      )
  elif not model.pretrained:
    raise InputError(
        f'{model.name} starts from published weights. Get a file of '
        f'{backbone.published}, and name it with '
        '--config.model.pretrained=FILE; or start at random, with '
        '--config.model.pretrained=random.'
    )


def find(name: str) -> Backbone:
  """Returns a backbone by its name, or from a file that defines BACKBONE.

  Raises:
    InputError: for an unknown name, or a file that cannot be used.
  """
  if name in BACKBONES:
    return BACKBONES[name]
  if not name.endswith('.py'):
    error = unknown_choice('backbone', name, BACKBONES, '--config.model.name')
    raise InputError(f'{error} A file FILE.py that defines BACKBONE works too.')
  path = epath.Path(name).expanduser()
  if not path.is_file():
    raise InputError(
        f'There is no file {path} to take the backbone from. Change it with '
        '--config.model.name=FILE.py.'
    )
  module = types.ModuleType(path.stem)
  module.__file__ = str(path)
  try:  # As text, which a bucket has as well.
    exec(compile(path.read_text(), str(path), 'exec'), module.__dict__)
  except Exception as error:  # Whatever the user's file raises.
    raise InputError(
        f'The backbone in {path} cannot be loaded: '
        f'{type(error).__name__}: {error}. Mend the file, or name another with '
        '--config.model.name=FILE.py.'
    ) from error
  backbone = getattr(module, 'BACKBONE', None)
  if not isinstance(backbone, Backbone):
    raise InputError(
        f'{path} defines no BACKBONE of the type impactx_jax.models.Backbone. '
        'Add one, or name another file with --config.model.name=FILE.py.'
    )
  return backbone


def create_trunk(model) -> nn.Module:
  """Returns the trunk that `config.model` describes."""
  return find(model.name).trunk(model)


def create_head(model, num_classes: int) -> nn.Module:
  """Returns the head that `config.model` describes."""
  return find(model.name).head(model, num_classes)


def create_classifier(model, num_classes: int) -> Classifier:
  """Returns the classifier that `config.model` describes."""
  return Classifier(
      trunk=create_trunk(model), head=create_head(model, num_classes)
  )
