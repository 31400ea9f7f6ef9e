"""Published weights: read from every format, and equal to Keras's networks."""

import h5py
from impactx_jax.models.weights import files
from impactx_jax.models.weights import pretrained
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors
from tests.keras_fixtures import KERAS
from tests.keras_fixtures import assert_trees_equal
from tests.keras_fixtures import make_config
from tests.keras_fixtures import make_keras
from tests.keras_fixtures import make_method

LAST = {'mobilenet': 'conv_pw_13_relu', 'efficientnet_b2': 'top_activation'}
# Keras's pixels: MobileNet's in [-1, 1]; EfficientNet scales those of 0 to 255.
PIXELS = {
    'mobilenet': lambda x: 2 * x - 1, 'efficientnet_b2': lambda x: 255 * x
}


@pytest.mark.parametrize('name', KERAS)
@pytest.mark.parametrize('size', [32, 65, 96])
def test_features_and_logits_are_those_of_keras(name, size, tmp_path):
  import keras

  network = make_keras(name, size)
  old, new = tmp_path / 'old.h5', tmp_path / 'new.weights.h5'
  network.save(old)
  network.save_weights(new)
  loaded = []
  for path in (old, new):
    config = make_config(name, path)
    method = make_method(config, size)
    variables, _ = pretrained.start(config.model, method.shapes())
    loaded.append(variables)
  assert_trees_equal(*loaded)

  images = np.random.default_rng(1).uniform(size=(2, size, size, 3))
  images = images.astype(np.float32)
  last = network.get_layer(LAST[name]).output
  features, logits = keras.Model(network.input, [last, network.output])(
      PIXELS[name](images)
  )

  @jax.jit
  def ours(images):
    found = method.layers.features(variables, images)
    return found, method.layers.scores(variables, found)

  for found, expected in zip(ours(images), (features, logits), strict=True):
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(('name', 'trainable'), [
    ('mobilenet', 4_231_976), ('efficientnet_b2', 9_109_994)
])
def test_as_many_parameters_as_published_and_as_keras_has(name, trainable):
  import keras

  shapes = make_method(make_config(name), 64, classes=1000).shapes()
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
  network = getattr(keras.applications, KERAS[name])(weights=None)
  theirs = sum(np.prod(weight.shape) for weight in network.trainable_weights)
  assert count == theirs == trainable


def as_old_keras_wrote_it(source, target):
  """Layers at the root, `:0` after names, and names of depthwise kernels."""
  with h5py.File(source) as new, h5py.File(target, 'w') as old:
    layers = new['model_weights']
    old.attrs['layer_names'] = [np.bytes_(name) for name in layers]
    for layer, group in layers.items():
      names = []
      for name in map(str, group.attrs['weight_names']):
        old_name = name.removesuffix(':0') + ':0'
        if layer.startswith('conv_dw_'):
          old_name = old_name.replace('/kernel', '/depthwise_kernel')
        old[f'{layer}/{old_name}'] = group[name][...]
        names.append(np.bytes_(old_name))
      old.require_group(layer).attrs['weight_names'] = names


def test_files_of_older_keras_are_read_alike(tmp_path):
  make_keras('mobilenet', 32, alpha=0.25).save(tmp_path / 'new.h5')
  as_old_keras_wrote_it(tmp_path / 'new.h5', tmp_path / 'old.h5')
  new, old = (
      files.read(str(tmp_path / name)) for name in ('new.h5', 'old.h5')
  )
  assert ('conv_dw_3', 'kernel') in old and len(old) == 137
  assert_trees_equal(
      {'/'.join(name): value for name, value in old.items()},
      {'/'.join(name): value for name, value in new.items()},
  )


# --- Every format -------------------------------------------------------------


def tensors_of(network):
  """{(layer, weight): array} of a network, in Keras's own order."""
  return {
      (layer.name, variable.name): np.asarray(variable)
      for layer in network.layers
      for variable in layer.weights
  }


def timm_names(tensors):
  """The same tensors as timm names them and lays them out."""
  first = {
      'dwconv': 'conv_dw', 'bn': 'bn1', 'project_conv': 'conv_pw',
      'project_bn': 'bn2',
  }
  others = {
      'expand_conv': 'conv_pw', 'expand_bn': 'bn1', 'dwconv': 'conv_dw',
      'bn': 'bn2', 'project_conv': 'conv_pwl', 'project_bn': 'bn3',
  }
  squeeze = {'se_reduce': 'se.conv_reduce', 'se_expand': 'se.conv_expand'}
  outer = {
      'stem_conv': 'conv_stem', 'stem_bn': 'bn1', 'top_conv': 'conv_head',
      'top_bn': 'bn2', 'predictions': 'classifier',
  }
  weights = {
      'kernel': 'weight', 'gamma': 'weight', 'beta': 'bias', 'bias': 'bias',
      'moving_mean': 'running_mean', 'moving_variance': 'running_var',
  }
  named = {}
  for (layer, weight), value in tensors.items():
    if layer.startswith('normalization'):
      continue
    if layer in outer:
      module = outer[layer]
    else:
      block, _, part = layer.partition('_')
      stage, letter = int(block[5]) - 1, ord(block[6]) - ord('a')
      part = {**squeeze, **(others if stage else first)}[part]
      module = f'blocks.{stage}.{letter}.{part}'
    if value.ndim == 4:
      depthwise = part == 'conv_dw' if layer not in outer else False
      value = np.moveaxis(value, (3, 2), (1, 0) if depthwise else (0, 1))
    elif value.ndim == 2:
      value = value.T
    named[f'{module}.{weights[weight]}'] = np.ascontiguousarray(value)
    if weight == 'moving_mean':
      tracked = f'{module}.num_batches_tracked'
      named[tracked] = np.zeros((), np.int64)
  return named


def tf_names(tensors):
  """The same as the authors' checkpoint has them: averages beside others."""
  outer = {
      'stem_conv': 'stem/conv2d', 'stem_bn': 'stem/tpu_batch_normalization',
      'top_conv': 'head/conv2d', 'top_bn': 'head/tpu_batch_normalization',
      'predictions': 'head/dense',
  }
  parts = [
      ('expand_conv', 'conv2d'), ('expand_bn', 'tpu_batch_normalization'),
      ('dwconv', 'depthwise_conv2d'), ('bn', 'tpu_batch_normalization'),
      ('project_conv', 'conv2d'), ('project_bn', 'tpu_batch_normalization'),
  ]
  blocks = list(dict.fromkeys(
      layer.partition('_')[0] for layer, _ in tensors
      if layer.startswith('block')
  ))
  scopes = dict(outer)
  for number, block in enumerate(blocks):
    counts = {}
    for part, kind in parts:
      if (f'{block}_{part}', 'kernel') not in tensors and (
          f'{block}_{part}', 'gamma'
      ) not in tensors:
        continue
      count = counts.setdefault(kind, 0)
      counts[kind] += 1
      suffix = f'_{count}' if count else ''
      scopes[f'{block}_{part}'] = f'blocks_{number}/{kind}{suffix}'
    scopes[f'{block}_se_reduce'] = f'blocks_{number}/se/conv2d'
    scopes[f'{block}_se_expand'] = f'blocks_{number}/se/conv2d_1'
  named = {'global_step': np.zeros((), np.int64)}
  for (layer, weight), value in tensors.items():
    if layer not in scopes:
      continue
    depthwise = layer.endswith('dwconv') and weight == 'kernel'
    name = 'depthwise_kernel' if depthwise else weight
    name = f'efficientnet-b2/{scopes[layer]}/{name}'
    named[name] = value + 1  # Not what is to be used.
    named[f'{name}/ExponentialMovingAverage'] = value
    named[f'{name}/RMSProp'] = value - 1
  return named


def write_tf_checkpoint(prefix, tensors):
  import tensorflow as tf

  tf.raw_ops.SaveV2(
      prefix=str(prefix), tensor_names=list(tensors),
      shape_and_slices=[''] * len(tensors), tensors=list(tensors.values()),
  )


def test_every_reader_gives_the_tree_that_keras_saved(tmp_path):
  network = make_keras('efficientnet_b2', 32)
  network.save(tmp_path / 'keras.h5')
  tensors = tensors_of(network)
  safetensors.save_file(timm_names(tensors), tmp_path / 'timm.safetensors')
  write_tf_checkpoint(tmp_path / 'model.ckpt', tf_names(tensors))
  trees = []
  for name in ('keras.h5', 'timm.safetensors', 'model.ckpt',
               'model.ckpt.index'):
    config = make_config('efficientnet_b2', tmp_path / name)
    shapes = make_method(config, 32).shapes()
    tree, report = pretrained.start(config.model, shapes)
    assert report.loaded == len(jax.tree.leaves(shapes))
    trees.append(tree)
  for tree in trees[1:]:
    assert_trees_equal(trees[0], tree)
  kernel = trees[0]['params']['trunk']['blocks_2']['dw']['kernel']
  np.testing.assert_array_equal(
      kernel[:, :, 0], tensors['block2a_dwconv', 'kernel'][..., 0]
  )
