"""Backbones by name, and how to build them from a config.

A new backbone is one file with a trunk and a head, and one line here; or a
file of the user's own that defines BACKBONE, given as `config.model.name`.
"""

from collections.abc import Callable
import functools

from attribution.errors import InputError
from attribution.errors import unknown_choice
from flax import linen as nn
from impactx_jax import bounds
from impactx_jax import user_files
from impactx_jax.models import efficientnet
from impactx_jax.models import lenet
from impactx_jax.models import mobilenet
from impactx_jax.models import resnet
from impactx_jax.models.base import Backbone as Backbone
from impactx_jax.models.base import Classifier as Classifier
from impactx_jax.models.base import dynamic_linear as dynamic_linear
from impactx_jax.models.base import scaled as scaled
from impactx_jax.models.base import Scores as Scores
from impactx_jax.models.base import VARIANTS as VARIANTS
from ml_collections import ConfigDict

BACKBONES: dict[str, Backbone] = {
    'lenet5': lenet.BACKBONE,
    'mobilenet': mobilenet.BACKBONE,
    'efficientnet_b2': efficientnet.BACKBONE,
    'resnet20': resnet.BACKBONE,
}
DTYPES = ('float32', 'bfloat16')
# Values of `config.model.pretrained` that are no file.
AT_RANDOM = ('', 'random')


BOUNDS: bounds.Bounds = {
    'variant': bounds.Choice('variant', VARIANTS),
    'b_cos_exponent': bounds.Range(1),
    'activation': bounds.Choice('activation', tuple(lenet.ACTIVATIONS)),
    'pooling': bounds.Choice('pooling', tuple(lenet.POOLINGS)),
    'dtype': bounds.Choice('dtype', DTYPES),
    'width': bounds.Range(0, 64, above=True),
    'dropout': bounds.Range(0, 1, below=True),
    'drop_path': bounds.Range(0, 1, below=True),
}


def check(
    model: ConfigDict, image_shape: tuple[int, int, int] | None = None
) -> None:
  """Raises InputError for a `config.model` that cannot be built.

  Args:
    model: The config's section.
    image_shape: (H, W, C) of the images, when it is known.
  """
  backbone = find(model.name)
  bounds.check(model, BOUNDS, 'config.model')
  _check_pretrained(model, backbone)
  _check_variant(model, backbone)
  smallest = backbone.min_size
  if model.input_size and model.input_size < smallest:
    raise InputError(
        f'config.model.input_size is {model.input_size}; {model.name} needs '
        f'{smallest} or more, or 0 for images as they are.',
        '--config.model.input_size', 'N',
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


def _check_variant(model, backbone: Backbone) -> None:
  """Refuses a `model.variant` that is not what its definition says."""
  variant = model.variant
  if variant not in backbone.variants:
    known = [
        name for name, other in BACKBONES.items() if variant in other.variants
    ]
    raise InputError(
        f'{model.name} has no variant {variant!r}, which {" and ".join(known)} '
        'have. Choose one of them with --config.model.name=NAME, or '
        '--config.model.variant=plain.'
    )
  if variant != 'plain' and model.activation != 'relu':
    raise InputError(
        f'config.model.activation is {model.activation!r}, with which x_dnn '
        'would not be homogeneous, and b_cos has none. Leave it at relu, with '
        '--config.model.activation=relu, or take --config.model.variant=plain.'
    )
  if variant == 'b_cos' and model.pooling != 'mean':
    raise InputError(
        f'config.model.pooling is {model.pooling!r}, and b_cos pools by the '
        'mean: add --config.model.pooling=mean.'
    )


def find(name: str) -> Backbone:
  """Returns a backbone by its name, or from a file that defines BACKBONE.

  Raises:
    InputError: for an unknown name, or a file that cannot be used.
  """
  if name in BACKBONES:
    return BACKBONES[name]
  if not user_files.is_file(name):
    error = unknown_choice('backbone', name, BACKBONES, '--config.model.name')
    raise InputError(f'{error} A file FILE.py that defines BACKBONE works too.')
  return user_files.load(name, 'BACKBONE', Backbone, '--config.model.name')


def create_trunk(model: ConfigDict) -> nn.Module:
  """Returns the trunk that `config.model` describes."""
  return find(model.name).trunk(model)


def create_head(model: ConfigDict, num_classes: int) -> nn.Module:
  """Returns the head that `config.model` describes."""
  return find(model.name).head(model, num_classes)


def create_classifier(model: ConfigDict, num_classes: int) -> Classifier:
  """Returns the classifier that `config.model` describes."""
  return Classifier(
      trunk=create_trunk(model), head=create_head(model, num_classes)
  )


def widened(
    model: ConfigDict, wanted: float, size: Callable[[ConfigDict], float]
) -> ConfigDict:
  """Returns the `config.model` of the width at which it has a size.

  Args:
    model: The config's section; its `width` is what changes.
    wanted: The size, to be met as closely as whole channels allow.
    size: `config.model` -> its size, which grows with its width.

  Raises:
    InputError: if the backbone does not heed `model.width`.
  """
  def with_width(width):
    wide = model.copy_and_resolve_references()
    wide.width = width
    return wide

  @functools.cache
  def size_of(width):
    return size(with_width(width))

  low, high = 0.01, 1.0
  while size_of(high) < wanted or high == 1:
    if size_of(low) == size_of(high):
      raise InputError(
          f'The backbone {model.name!r} does not grow with config.model.width '
          f'beyond {low:g}, so it cannot be matched to the size of IMPACTX. '
          'Let its trunk and head read model.width, or leave baseline_matched '
          'and baseline_matched_flops out.'
      )
    low, high = high, 2 * high
  for _ in range(16):
    middle = (low + high) / 2
    low, high = (middle, high) if size_of(middle) < wanted else (low, middle)
  return with_width(
      min((low, high), key=lambda width: abs(size_of(width) - wanted))
  )
