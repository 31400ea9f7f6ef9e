"""Files of published weights, read as Keras would name what is in them.

Every reader returns {(layer, weight): array}: the layers have the names of
Keras's MobileNet or EfficientNet, and the weights Keras's layout: `kernel`
[h, w, in, out], depthwise [h, w, channels, 1]; `bias`; `gamma`, `beta`,
`moving_mean`, `moving_variance`.
"""

from collections.abc import Callable
import io
import re

from attribution.errors import InputError
from etils import epath
import h5py
from impactx_jax.models import efficientnet
import numpy as np
from safetensors import numpy as safetensors_numpy

Tensors = dict[tuple[str, str], np.ndarray]
BATCH_NORM = ('gamma', 'beta', 'moving_mean', 'moving_variance')
FORMATS = (
    "an h5 file of Keras (of model.save or save_weights), timm's safetensors, "
    'or a TensorFlow checkpoint (PREFIX of PREFIX.index)'
)
# Other names of the same layer.
ALIASES = {'probs': 'predictions', 'conv_preds': 'predictions'}


def read(path: str) -> Tensors:
  """Reads a file of any known format, recognised by what is in it.

  Args:
    path: Of the file, or the prefix of a TensorFlow checkpoint.

  Returns:
    {(layer, weight): array}.

  Raises:
    InputError: for a file that is missing, damaged, or of another format.
  """
  prefix = path.removesuffix('.index')
  if epath.Path(f'{prefix}.index').exists():
    reader, source = tf_checkpoint, prefix
  else:
    reader, source = _by_content(path)
  try:
    tensors = reader(source)
  except Exception as error:  # Each library raises its own kinds.
    raise InputError(
        f'{path} is truncated or damaged: {type(error).__name__}: {error}. '
        'Download it again, or give another file with '
        '--config.model.pretrained=FILE.'
    ) from error
  return {
      (ALIASES.get(layer, layer), weight): np.asarray(value, np.float32)
      for (layer, weight), value in tensors.items()
  }


def _by_content(path: str) -> tuple[Callable[..., Tensors], io.BytesIO]:
  """Returns the reader of a file, and what is in the file."""
  if not epath.Path(path).is_file():
    raise InputError(
        f'There is no file {path}. Give published weights with '
        '--config.model.pretrained=FILE.'
    )
  content = epath.Path(path).read_bytes()
  if content.startswith(b'\x89HDF'):
    return keras_h5, io.BytesIO(content)
  if content[8:9] == b'{':
    return safetensors, io.BytesIO(content)
  raise InputError(
      f'{path} is of no format that is known here. It must be {FORMATS}. Give '
      'another file with --config.model.pretrained=FILE.'
  )


def keras_h5(file: io.BytesIO) -> Tensors:
  """Reads an h5 of Keras: the old layout, by layer names, or the new one."""
  with h5py.File(file, 'r') as opened:
    root = opened.get('model_weights', opened)
    if 'layer_names' in root.attrs:
      return _keras_legacy(root)
    if 'layers' in root:
      return _keras_3(root['layers'])
  raise ValueError('it has neither layer_names nor layers, as Keras writes')


def _keras_legacy(root) -> Tensors:
  tensors = {}
  for layer in map(_text, root.attrs['layer_names']):
    for name in map(_text, root[layer].attrs['weight_names']):
      weight = name.rpartition('/')[2].partition(':')[0]
      weight = 'kernel' if weight == 'depthwise_kernel' else weight
      tensors[layer, weight] = np.asarray(root[layer][name])
  return tensors


def _keras_3(layers) -> Tensors:
  tensors = {}
  for group in layers.values():
    variables = group.get('vars')
    if variables is None or not len(variables):
      continue
    layer = _text(variables.attrs['name'])
    names = BATCH_NORM if len(variables) == 4 else ('kernel', 'bias')
    for i, weight in enumerate(names[: len(variables)]):
      tensors[layer, weight] = np.asarray(variables[str(i)])
  return tensors


def _text(value) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)


def safetensors(file: io.BytesIO) -> Tensors:
  """Reads timm's EfficientNet, whose convolutions are [out, in, h, w]."""
  tensors = {}
  for name, value in safetensors_numpy.load(file.read()).items():
    module, _, weight = name.rpartition('.')
    layer = _timm_layer(module)
    if layer is None or weight == 'num_batches_tracked':
      continue
    if layer.endswith('bn'):
      weight = dict(zip(
          ('weight', 'bias', 'running_mean', 'running_var'), BATCH_NORM,
          strict=True,
      ))[weight]
    elif weight == 'weight':
      weight = 'kernel'
      if value.ndim == 2:
        value = value.T
      elif value.ndim == 4:
        # Depthwise ones are [channels, 1, h, w].
        depthwise = layer.endswith('dwconv')
        value = value.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    tensors[layer, weight] = value
  return tensors


_TIMM = {
    'conv_stem': 'stem_conv', 'bn1': 'stem_bn', 'conv_head': 'top_conv',
    'bn2': 'top_bn', 'classifier': 'predictions',
}
# Of the first stage, which has no expansion, and of the others.
_TIMM_FIRST = {
    'conv_dw': 'dwconv', 'bn1': 'bn', 'se.conv_reduce': 'se_reduce',
    'se.conv_expand': 'se_expand', 'conv_pw': 'project_conv',
    'bn2': 'project_bn',
}
_TIMM_OTHERS = {
    'conv_pw': 'expand_conv', 'bn1': 'expand_bn', 'conv_dw': 'dwconv',
    'bn2': 'bn', 'se.conv_reduce': 'se_reduce', 'se.conv_expand': 'se_expand',
    'conv_pwl': 'project_conv', 'bn3': 'project_bn',
}


def _timm_layer(module: str) -> str | None:
  if module in _TIMM:
    return _TIMM[module]
  found = re.fullmatch(r'blocks\.(\d+)\.(\d+)\.(.+)', module)
  if not found:
    return None
  stage, block, part = int(found[1]), int(found[2]), found[3]
  name = (_TIMM_OTHERS if stage else _TIMM_FIRST).get(part)
  return name and f'{efficientnet.block_name(stage, block)}_{name}'


def tf_checkpoint(prefix: str) -> Tensors:
  """Reads an EfficientNet checkpoint of its authors: the moving averages."""
  import tensorflow as tf  # Slow to load, and rarely needed.

  reader = tf.train.load_checkpoint(prefix)
  names = set(reader.get_variable_to_shape_map())
  average = '/ExponentialMovingAverage'
  tensors = {}
  for name in sorted(names):
    scope, _, weight = name.partition('/')[2].rpartition('/')
    layer = _tf_layer(scope)
    if layer is None:  # Of the optimizer, or an average itself.
      continue
    weight = 'kernel' if weight == 'depthwise_kernel' else weight
    stored = name + average if name + average in names else name
    tensors[layer, weight] = reader.get_tensor(stored)
  return tensors


_TF = {
    'stem/conv2d': 'stem_conv', 'stem/tpu_batch_normalization': 'stem_bn',
    'head/conv2d': 'top_conv', 'head/tpu_batch_normalization': 'top_bn',
    'head/dense': 'predictions',
}
_TF_FIRST = {
    'depthwise_conv2d': 'dwconv', 'tpu_batch_normalization': 'bn',
    'se/conv2d': 'se_reduce', 'se/conv2d_1': 'se_expand',
    'conv2d': 'project_conv', 'tpu_batch_normalization_1': 'project_bn',
}
_TF_OTHERS = {
    'conv2d': 'expand_conv', 'tpu_batch_normalization': 'expand_bn',
    'depthwise_conv2d': 'dwconv', 'tpu_batch_normalization_1': 'bn',
    'se/conv2d': 'se_reduce', 'se/conv2d_1': 'se_expand',
    'conv2d_1': 'project_conv', 'tpu_batch_normalization_2': 'project_bn',
}


def _tf_layer(scope: str) -> str | None:
  if scope in _TF:
    return _TF[scope]
  found = re.fullmatch(r'blocks_(\d+)/(.+)', scope)
  if not found or int(found[1]) >= len(efficientnet.BLOCK_NAMES):
    return None
  block = efficientnet.BLOCK_NAMES[int(found[1])]
  parts = _TF_FIRST if block in efficientnet.UNEXPANDED else _TF_OTHERS
  name = parts.get(found[2])
  return name and f'{block}_{name}'
