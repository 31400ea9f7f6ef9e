"""Published weights: read from every format, and equal to Keras's networks.

No published file is needed: Keras's networks get random weights and random
statistics (fresh ones would hide mistakes), and are saved as published files
are.
"""

import functools
import json

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import pipeline
from impactx_jax import restore
from impactx_jax import runs
from impactx_jax import train
from impactx_jax.configs import common
from impactx_jax.methods.base import Task
from impactx_jax.models import efficientnet
from impactx_jax.models import pretrained
from impactx_jax.models import weight_files
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors
from tests.benchmarks import common as benchmarks
from tests.conftest import make_tiny_config
from tests.pipeline_fixtures import forbid

CLASSES = 7
KERAS = {'mobilenet': 'MobileNet', 'efficientnet_b2': 'EfficientNetB2'}
LAST = {'mobilenet': 'conv_pw_13_relu', 'efficientnet_b2': 'top_activation'}
# Keras's pixels: MobileNet's in [-1, 1]; EfficientNet scales those of 0 to 255.
PIXELS = {
    'mobilenet': lambda x: 2 * x - 1, 'efficientnet_b2': lambda x: 255 * x
}


def make_config(name, path=''):
  config = common.get_config()
  config.model.name = name
  config.model.pretrained = str(path)
  config.model.pretrained_head = True
  return config


def make_method(config, size, classes=CLASSES):
  return methods.create('baseline', config, Task(classes, (size, size, 3)))


def make_keras(name, size, **options):
  """Keras's network with random weights and statistics, giving logits."""
  import keras

  network = getattr(keras.applications, KERAS[name])(
      weights=None,
      **{
          'input_shape': (size, size, 3), 'classes': CLASSES,
          'classifier_activation': None, **options,
      },
  )
  generator = np.random.default_rng(0)
  for layer in network.layers:
    if isinstance(layer, keras.layers.Normalization):
      mean, std = map(np.array, (efficientnet.MEAN, efficientnet.STD))
      layer.set_weights([mean, std**2, layer.get_weights()[2]])
      layer.finalize_state()
    elif isinstance(layer, keras.layers.BatchNormalization):
      size = len(layer.get_weights()[0])
      layer.set_weights([
          generator.uniform(0.7, 1.3, size), generator.normal(0, 0.2, size),
          generator.normal(0, 0.2, size), generator.uniform(0.5, 1.5, size),
      ])
  return network


def tensors_of(network):
  """{(layer, weight): array} of a network, in Keras's own order."""
  return {
      (layer.name, variable.name): np.asarray(variable)
      for layer in network.layers
      for variable in layer.weights
  }


def assert_trees_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


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
    variables, _ = pretrained.start(config.model, restore.shapes(method))
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
    features, logits = method.layers(variables)
    found = features(images)
    return found, logits(found)

  for found, expected in zip(ours(images), (features, logits), strict=True):
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(('name', 'trainable'), [
    ('mobilenet', 4_231_976), ('efficientnet_b2', 9_109_994)
])
def test_as_many_parameters_as_published_and_as_keras_has(name, trainable):
  import keras

  shapes = restore.shapes(make_method(make_config(name), 64, classes=1000))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
  network = getattr(keras.applications, KERAS[name])(weights=None)
  theirs = sum(np.prod(weight.shape) for weight in network.trainable_weights)
  assert count == theirs == trainable


# --- Every format -------------------------------------------------------------


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
    shapes = restore.shapes(make_method(config, 32))
    tree, report = pretrained.start(config.model, shapes)
    assert report.loaded == len(jax.tree.leaves(shapes))
    trees.append(tree)
  for tree in trees[1:]:
    assert_trees_equal(trees[0], tree)
  kernel = trees[0]['params']['trunk']['blocks_2']['dw']['kernel']
  np.testing.assert_array_equal(
      kernel[:, :, 0], tensors['block2a_dwconv', 'kernel'][..., 0]
  )


# --- What starts from them ----------------------------------------------------


@pytest.fixture(scope='module')
def small_mobilenet(tmp_path_factory):
  """A MobileNet of a quarter of the width, saved; and the config for it."""
  path = tmp_path_factory.mktemp('weights') / 'small.h5'
  make_keras('mobilenet', 32, alpha=0.25).save(path)
  config = make_config('mobilenet', path)
  config.model.width = 0.25
  return config


def start_of(name, config, leave=()):
  classifier = make_method(config, 32)
  task = Task(CLASSES, (32, 32, 3), restore.shapes(classifier), examples=4)
  task = Task(
      CLASSES, (32, 32, 3),
      jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), task.classifier), 4,
  )
  shapes = restore.shapes(methods.create(name, config, task))
  fresh = jax.tree.map(lambda x: np.full(x.shape, 9, x.dtype), shapes)
  return pretrained.start(config.model, fresh, leave=('classifier', *leave))


def test_lep_starts_from_keras_weights_and_the_frozen_branch_stays(
    small_mobilenet
):
  expected, _ = start_of('baseline', small_mobilenet)
  variables, report = start_of('impactx', small_mobilenet)
  assert_trees_equal(
      variables['params']['lep']['trunk'], expected['params']['trunk']
  )
  collections = variables['collections']
  assert_trees_equal(
      collections['batch_stats']['lep']['trunk'],
      expected['collections']['batch_stats']['trunk'],
  )
  for leaf in jax.tree.leaves(collections['classifier']):
    assert (leaf == 9).all()
  assert {*report.fresh} == {'decoder', 'lep/code', 'classifier'}
  untouched, report = start_of('impactx', small_mobilenet, leave=['lep'])
  assert report.loaded == 0
  assert all((leaf == 9).all() for leaf in jax.tree.leaves(untouched))


def test_lep_can_start_from_as_trunk_with_its_statistics():
  config = make_config('mobilenet', 'random')
  config.model.width = 0.25
  config.method.lep_init = 'from_classifier'
  generator = np.random.default_rng(0)
  classifier = jax.tree.map(
      lambda x: generator.random(x.shape, np.float32),
      restore.shapes(make_method(config, 32)),
  )
  task = Task(CLASSES, (32, 32, 3), classifier)
  params, collections = methods.create('impactx', config, task).init(
      jax.random.key(0)
  )
  assert_trees_equal(
      params['lep']['trunk'], classifier['params']['trunk']
  )
  assert_trees_equal(
      collections['batch_stats']['lep']['trunk'],
      classifier['collections']['batch_stats']['trunk'],
  )


def test_abn_starts_both_its_last_stages_from_keras_weights(small_mobilenet):
  variables, _ = start_of('abn', small_mobilenet)
  params = variables['params']
  for ours, trunks in (('block12', 'blocks_11'), ('block13', 'blocks_12')):
    assert_trees_equal(
        params['attention_stage'][ours], params['trunk'][trunks]
    )


def test_head_of_keras_is_left_unless_it_is_asked_for(small_mobilenet):
  config = small_mobilenet.copy_and_resolve_references()
  config.model.pretrained_head = False
  variables, report = start_of('baseline', config)
  head = variables['params']['head']
  assert all((leaf == 9).all() for leaf in jax.tree.leaves(head))
  assert report.left == ('predictions',)
  assert report.fresh == ('head',)
  whole, _ = start_of('baseline', small_mobilenet)
  assert_trees_equal(
      variables['params']['trunk'], whole['params']['trunk']
  )
  assert 'predictions' in str(report)
  many = make_method(config, 32, classes=12)  # Whatever their number.
  pretrained.start(config.model, restore.shapes(many))


@pytest.mark.parametrize('name', KERAS)
def test_every_leaf_of_keras_networks_is_trained_and_they_learn(name):
  config = make_config(name, 'random')
  config.model.width = 0.25
  training = config.classifier.training
  training.schedule = 'constant'
  data = benchmarks.load_images(npz='', data_dir='')
  batch = {
      'image': data['train_images'][:32],
      'label': data['train_labels'][:32].astype(np.int32),
      'position': np.arange(32, dtype=np.int32),
  }
  method = make_method(config, 32, classes=10)
  optimizer = train.create_optimizer(training, 1)
  state = train.initial_state(method, optimizer, 0)
  first = jax.device_get(train.variables_of(state))
  step = parallel.data_parallel(functools.partial(
      train.train_step, method=method, optimizer=optimizer,
      training=training, seed=0,
  ))
  state = parallel.replicate(state)
  for _ in range(25):
    state, metrics = step(state, parallel.shard(batch))
  assert metrics['accuracy'][0] / metrics['accuracy'][1] > 0.9
  still = [
      jax.tree_util.keystr(path)
      for (path, before), after in zip(
          jax.tree_util.tree_leaves_with_path(first),
          jax.tree.leaves(train.variables_of(state)), strict=True,
      )
      if np.array_equal(before, after)
  ]
  assert not still


def run_config(small_mobilenet, data_dir):
  """Digits have ten classes, so the head starts at random."""
  config = make_tiny_config(data_dir)
  config.model.update(small_mobilenet.model)
  config.model.pretrained_head = False
  return config


def test_stage_one_starts_from_keras_weights_and_says_so(
    small_mobilenet, data_dir, tmp_path, monkeypatch, capsys
):
  fits = {}
  monkeypatch.setattr(
      runs, 'fit', lambda *arguments, **options: fits.update(options)
  )
  config = run_config(small_mobilenet, data_dir)
  pipeline.run(config, tmp_path, 'classifier')
  fresh = restore.shapes(make_method(config, 32, classes=10))
  fresh = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), fresh)
  started = fits['start_from'](fresh)
  expected, _ = start_of('baseline', small_mobilenet)
  assert_trees_equal(
      started['params']['trunk'], expected['params']['trunk']
  )
  report = json.loads(
      (tmp_path / 'classifier' / 'pretrained.json').read_text()
  )
  assert report['path'] == config.model.pretrained
  assert report['loaded'] == 135 and report['fresh'] == ['head']
  assert 'starts at random  head' in capsys.readouterr().out


def test_wrong_file_for_keras_networks_is_refused_before_any_work(
    small_mobilenet, data_dir, tmp_path, monkeypatch
):
  forbid(monkeypatch, (runs, 'fit'))
  config = run_config(small_mobilenet, data_dir)
  config.model.width = 0.5
  with pytest.raises(InputError, match='not of mobilenet'):
    pipeline.run(config, tmp_path)
  assert not list(tmp_path.iterdir())


# --- Files that are wrong -----------------------------------------------------


def refused(config, size=32, classes=CLASSES) -> str:
  with pytest.raises(InputError) as error:
    models.check(config.model, (size, size, 3))
    shapes = restore.shapes(make_method(config, size, classes))
    pretrained.start(config.model, shapes)
  assert '--config.' in str(error.value)
  return str(error.value)


def test_other_number_of_classes_than_keras_saved_is_refused(small_mobilenet):
  message = refused(small_mobilenet, classes=10)
  for part in ('number of classes', '256, 7', '256, 10', 'pretrained_head'):
    assert part in message


def test_head_that_keras_did_not_save_is_refused_where_it_is_asked_for(
    small_mobilenet, tmp_path
):
  path = tmp_path / 'no_top.h5'
  make_keras(
      'mobilenet', 32, alpha=0.25, include_top=False, classes=1000
  ).save(path)
  config = small_mobilenet.copy_and_resolve_references()
  config.model.pretrained = str(path)
  message = refused(config)
  assert 'missing' in message and 'pretrained_head=False' in message
  config.model.pretrained_head = False
  _, report = start_of('baseline', config)
  assert report.left == () and report.loaded == 135


@pytest.mark.parametrize('share', [0.1, 0.9])
def test_truncated_file_of_keras_is_refused(small_mobilenet, tmp_path, share):
  with open(small_mobilenet.model.pretrained, 'rb') as file:
    content = file.read()
  path = tmp_path / 'half.h5'
  path.write_bytes(content[: int(len(content) * share)])
  message = refused(make_config('mobilenet', path))
  assert str(path) in message and 'truncated or damaged' in message


def test_keras_file_of_another_width_is_refused(small_mobilenet):
  config = small_mobilenet.copy_and_resolve_references()
  config.model.width = 1.0
  message = refused(config)
  for part in ('not of mobilenet', 'in the file', 'width=1.0'):
    assert part in message


def test_keras_file_of_another_network_is_refused(small_mobilenet):
  path = small_mobilenet.model.pretrained
  message = refused(make_config('efficientnet_b2', path))
  for part in (path, 'not of efficientnet_b2', 'it lacks block', 'conv1'):
    assert part in message


def test_safetensors_of_another_network_than_keras_has_are_refused(tmp_path):
  path = tmp_path / 'vit.safetensors'
  safetensors.save_file({'cls_token': np.zeros(3, np.float32)}, path)
  message = refused(make_config('efficientnet_b2', path))
  assert str(path) in message and 'The file has nothing' in message
  path.write_bytes(path.read_bytes()[:-4])
  assert 'truncated' in refused(make_config('efficientnet_b2', path))


def test_file_of_no_known_format_is_refused_with_those_of_keras(tmp_path):
  path = tmp_path / 'weights.pth'
  path.write_bytes(b'PK\x03\x04 and so on')
  message = refused(make_config('mobilenet', path))
  assert str(path) in message and 'safetensors' in message
  with pytest.raises(InputError, match='There is no file'):
    weight_files.read(str(tmp_path / 'nowhere.h5'))


def test_without_a_file_of_keras_the_recipe_says_where_there_is_one():
  assert 'mobilenet_1_0_224_tf.h5' in refused(make_config('mobilenet'))
  assert 'ns_jft_in1k' in refused(make_config('efficientnet_b2'))
  models.check(make_config('mobilenet', 'random').model, (32, 32, 3))


def test_size_below_the_stride_of_keras_networks_is_refused():
  for name in KERAS:
    assert '31x31' in refused(make_config(name, 'random'), size=31)
    config = make_config(name, 'random')
    config.model.input_size = 16
    assert 'input_size' in refused(config)


def test_lenet_takes_no_weights_of_keras(tmp_path):
  message = refused(make_config('lenet5', tmp_path / 'lenet.h5'))
  assert 'No weights are published for lenet5' in message
