"""Tests for what bad input gets: one paragraph, at once, and nothing begun."""

import itertools
import json
import os
import pathlib
import shutil

from attribution import service
from attribution.errors import InputError
from impactx_jax import checkpoints
from impactx_jax import evaluate
from impactx_jax import methods
from impactx_jax import pipeline
from impactx_jax import train
from impactx_jax import workdirs
from impactx_jax.configs import common
from impactx_jax.data import sources
from impactx_jax.methods.base import Aux
from impactx_jax.methods.base import Method
from impactx_jax.methods.base import Prediction
from impactx_jax.methods.base import mean_metrics
from impactx_jax.models.impactx import decoder_blocks
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest


class Reached(Exception):
  """Work that bad input must not reach, and that good input does."""


def _forbid(monkeypatch, *functions):
  for module, name in functions:

    def reached(*_, name=name, **__):
      raise Reached(name)

    monkeypatch.setattr(module, name, reached)


@pytest.fixture
def no_work(monkeypatch):
  """Raises Reached where training, explaining or measuring would begin."""
  _forbid(
      monkeypatch, (train, 'fit'), (service, 'write_maps'),
      (evaluate, 'evaluate'),
  )


@pytest.fixture
def no_data(monkeypatch):
  _forbid(monkeypatch, (sources, 'load'))


@pytest.fixture
def finished(finished_workdir, tmp_path) -> pathlib.Path:
  """A copy of the finished workdir, to be spoilt."""
  return pathlib.Path(
      shutil.copytree(finished_workdir, tmp_path / 'finished')
  )


def _set(config, path: str, value) -> None:
  with config.unlocked():
    config.update_from_flattened_dict({path: value})


def _refused(config, workdir, stage='all', *parts: str) -> str:
  """Runs, and returns the message, which must contain `parts`."""
  with pytest.raises(InputError) as error:
    pipeline.run(config, workdir, stage)
  message = str(error.value)
  assert '\n' not in message, 'more than one paragraph'
  for part in parts:
    assert part in message
  return message


def _begun(workdir: pathlib.Path) -> set[str]:
  """What a refused run has left."""
  return {path.name for path in workdir.glob('*')}


def _edit_json(path: pathlib.Path, **entries) -> None:
  content = json.loads(path.read_text())
  assert entries.keys() <= content.keys()
  path.write_text(json.dumps(content | entries))


# --- Values that the config's sections refuse -------------------------------

NAMES = (
    ('method.name', 'impactz', 'impactx', 'baseline'),
    ('attribution.masker', 'blurr', 'blur', 'inpaint_telea'),
    ('attribution.explainer', 'shap_partitoin', 'shap_partition', ''),
    ('attribution.explained_output', 'logits', 'logit', 'probability'),
    ('model.name', 'lenet', 'lenet5', ''),
    ('model.activation', 'rely', 'relu', 'tanh'),
    ('model.pooling', 'maxx', 'max', 'mean'),
    ('model.dtype', 'float23', 'float32', 'bfloat16'),
    ('method.m_output', 'logit', 'logits', 'features'),
    ('method.lep_init', 'scratsh', 'scratch', 'from_classifier'),
    ('method.map_scaling', 'maxabs', 'max_abs', 'global_std'),
    ('classifier.training.schedule', 'cosin', 'cosine', 'constant'),
    ('method.training.schedule', 'constent', 'constant', 'cosine'),
)


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize(('path', 'given', 'nearest', 'other'), NAMES)
def test_unknown_name_is_refused_with_the_nearest(
    tmp_path, path, given, nearest, other
):
  config = common.get_config()
  _set(config, path, given)
  _refused(
      config, tmp_path / 'run', 'all', repr(given),
      f'Did you mean {nearest!r}?', other, f'--config.{path}=',
  )
  assert not (tmp_path / 'run').exists()


VALUES = (
    ('seed', -1),
    ('data.validation_fraction', 0.0),
    ('data.validation_fraction', 1.0),
    ('data.test_fraction', 1.5),
    ('data.image_size', (32,)),
    ('data.image_size', (0, 32)),
    ('data.image_size', (32, 32, 3)),
    ('data.image_size', ('32', '32')),
    ('classifier.training.batch_size', 0),
    ('classifier.training.epochs', 0),
    ('classifier.training.learning_rate', 0.0),
    ('classifier.training.learning_rate', float('nan')),
    ('classifier.training.patience', -1),
    ('method.training.crop_padding', -1),
    ('method.training.learning_rate', -0.1),
    ('method.lambda_', -1.0),
    ('method.lambda_', float('nan')),
    ('method.lep_units', 0),
    ('method.decoder_filters', 0),
    ('method.decoder_start', 0),
    ('method.classifier_hidden', -1),
    ('method.map_channels', 2),
    ('attribution.max_evals', 1),
    ('attribution.batch_size', 1),
    ('attribution.images_per_step', -1),
    ('attribution.num_examples', -1),
    ('attribution.shard_size', 0),
    ('attribution.blur_kernel', -1),
    ('attribution.mask_value', 255.0),
    ('evaluation.batch_size', 0),
    ('evaluation.num_images', 0),
    ('evaluation.draws', 0),
)


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize(('path', 'value'), VALUES)
def test_value_out_of_range_is_refused(tmp_path, path, value):
  config = common.get_config()
  _set(config, path, value)
  _refused(config, tmp_path / 'run', 'all', str(value), f'--config.{path}=')
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize(('path', 'value', 'parts'), [
    ('masker', 'inpaint_telea', ('shap_partition', 'blur')),
    ('masker', 'inpaint_ns', ('shap_partition', 'blur')),
    ('grid', 3, ('3', 'power of two')),
])
def test_option_that_the_explainer_cannot_meet_is_refused(
    tmp_path, path, value, parts
):
  config = common.get_config()
  config.attribution.explainer = 'partition_grid'
  _set(config, f'attribution.{path}', value)
  _refused(
      config, tmp_path / 'run', 'all', *parts, f'--config.attribution.{path}='
  )
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
def test_field_that_only_a_recipe_knows_is_refused(tmp_path):
  config = common.get_config()
  with config.unlocked():
    config.attribution.max_eval = 100
  _refused(
      config, tmp_path / 'run', 'all', "'config.attribution.max_eval'",
      "Did you mean 'config.attribution.max_evals'?", '--config',
  )
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize('path', ['method', 'classifier.training.patience'])
def test_field_that_a_recipe_lacks_is_refused(tmp_path, path):
  config = common.get_config()
  *sections, name = path.split('.')
  section = config
  for part in sections:
    section = section[part]
  with config.unlocked():
    del section[name]
  _refused(config, tmp_path / 'run', 'all', f'config.{path}', '--config')
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize('section', ['classifier', 'method'])
def test_batch_must_divide_among_the_devices(tmp_path, monkeypatch, section):
  monkeypatch.setattr(jax, 'device_count', lambda: 4)
  config = common.get_config()
  _set(config, f'{section}.training.batch_size', 30)
  _refused(
      config, tmp_path / 'run', 'all', '30', '4 devices', '28 or 32',
      f'--config.{section}.training.batch_size=N',
  )
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work')
def test_evaluation_runs_on_any_number_of_devices(
    finished, tiny_config, monkeypatch
):
  # The batch of a finished training is no reason to refuse a machine.
  monkeypatch.setattr(jax, 'device_count', lambda: 3)
  with pytest.raises(Reached, match='evaluate'):
    pipeline.run(tiny_config, finished, 'evaluate')


@pytest.mark.usefixtures('no_work', 'no_data')
def test_unknown_stage_is_refused(tmp_path, tiny_config):
  _refused(
      tiny_config, tmp_path / 'run', 'evalute', "'evalute'",
      "Did you mean 'evaluate'?", 'classifier', '--stage=',
  )
  assert not (tmp_path / 'run').exists()


# --- Data -------------------------------------------------------------------


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('stage', ['all', 'classifier'])
def test_unknown_data_set_is_refused(tmp_path, tiny_config, stage):
  tiny_config.data.name = 'cifra10'
  _refused(
      tiny_config, tmp_path / 'run', stage, "'cifra10'",
      "Did you mean 'cifar10'?", 'digits', '--config.data.name=',
  )
  assert not _begun(tmp_path / 'run')


@pytest.mark.usefixtures('no_work')
def test_data_set_that_is_not_prepared_is_refused(tmp_path, tiny_config):
  (tmp_path / 'empty').mkdir()
  tiny_config.data.name = 'cifar10'
  tiny_config.data.data_dir = str(tmp_path / 'empty')
  _refused(
      tiny_config, tmp_path / 'run', 'all', 'not prepared',
      f'tfds build cifar10 --data_dir={tmp_path / "empty"}',
      '--config.data.download=True', '--config.data.data_dir=',
  )
  assert not _begun(tmp_path / 'run')
  assert not list((tmp_path / 'empty').iterdir())


@pytest.mark.usefixtures('no_work')
def test_good_input_gets_as_far_as_training(tmp_path, tiny_config):
  # Without this, a check that refuses everything would pass these tests.
  (tmp_path / 'notes.txt').write_text('not a workdir yet')
  (tmp_path / 'classifier').mkdir()
  with pytest.raises(Reached, match='fit'):
    pipeline.run(tiny_config, tmp_path)
  assert (tmp_path / 'notes.txt').read_text() == 'not a workdir yet'


def test_batch_larger_than_the_training_split_is_refused(
    tmp_path, tiny_config, monkeypatch
):
  _forbid(monkeypatch, (train, 'create_optimizer'))
  tiny_config.classifier.training.batch_size = 4096
  _refused(
      tiny_config, tmp_path, 'all', '4096', '1292',
      '--config.classifier.training.batch_size',
  )
  assert not _begun(tmp_path)
  # What the message advises must be possible in the same workdir.
  tiny_config.classifier.training.batch_size = 1024
  with pytest.raises(Reached, match='create_optimizer'):
    pipeline.run(tiny_config, tmp_path)


@pytest.mark.usefixtures('no_work')
def test_batch_larger_than_the_number_of_maps_is_refused_before_stage_one(
    tmp_path, tiny_config
):
  tiny_config.attribution.num_examples = 20  # 18 of them to train on.
  tiny_config.method.training.batch_size = 19
  _refused(
      tiny_config, tmp_path, 'all', '19', '18',
      '--config.method.training.batch_size',
      '--config.attribution.num_examples',
  )
  assert not _begun(tmp_path)
  tiny_config.method.training.batch_size = 18
  with pytest.raises(Reached, match='fit'):
    pipeline.run(tiny_config, tmp_path)


# --- The decoder ------------------------------------------------------------


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('start', [7, 12, 33])
def test_size_that_the_decoder_cannot_reach_is_refused(
    tmp_path, tiny_config, start
):
  tiny_config.method.decoder_start = start
  _refused(
      tiny_config, tmp_path, 'all', '32x32', f'from {start} ',
      '16, 8, 4, 2, 1', '--config.method.decoder_start=N',
  )
  assert not _begun(tmp_path)


@pytest.mark.usefixtures('no_work')
def test_decoder_is_checked_before_maps_are_made(finished, tiny_config):
  for name in ('maps', 'impactx', 'impactx_lambda0', 'report'):
    shutil.rmtree(finished / name)
  tiny_config.method.decoder_start = 7
  for stage in ('all', 'impactx'):
    _refused(
        tiny_config, finished, stage, '--config.method.decoder_start=N'
    )
  assert _begun(finished) == {'classifier', 'config.json'}


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('size', 'advice'), [
    ((30, 30), 'N can be 15'),
    ((24, 20), 'N can be 12, 6'),
    ((31, 31), '--config.data.image_size'),
])
def test_size_of_own_pictures_must_suit_the_decoder(
    tmp_path, tiny_config, size, advice
):
  for i in range(40):
    folder = tmp_path / 'pictures' / ('train', 'test')[i % 2] / 'one'
    folder.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (9, 9)).save(folder / f'{i}.png')
  tiny_config.data.name = 'image_folder'
  tiny_config.data.data_dir = str(tmp_path / 'pictures')
  tiny_config.data.image_size = size
  tiny_config.data.validation_fraction = 0.3
  tiny_config.classifier.training.batch_size = 4
  tiny_config.method.training.batch_size = 4
  tiny_config.method.decoder_start = 10 if size == (24, 20) else 8
  _refused(
      tiny_config, tmp_path / 'run', 'all', f'{size[0]}x{size[1]}', advice
  )
  assert not _begun(tmp_path / 'run')


@pytest.mark.parametrize(('height', 'width', 'start', 'blocks'), [
    (32, 32, 8, 2), (96, 96, 12, 3), (32, 32, 32, 0), (48, 64, 6, 3),
])
def test_sizes_that_the_decoder_reaches(height, width, start, blocks):
  assert decoder_blocks(height, width, start) == blocks


# --- Stages without what they need ------------------------------------------


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('stage', ['maps', 'impactx'])
def test_stage_without_a_classifier_is_refused(tmp_path, tiny_config, stage):
  _refused(
      tiny_config, tmp_path, stage, str(tmp_path), 'no trained classifier',
      '--stage=classifier',
  )
  assert not _begun(tmp_path)


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('kind', ['missing', 'file'])
def test_other_classifier_must_be_there(
    finished, tmp_path, tiny_config, kind
):
  other = tmp_path / 'other'
  if kind == 'file':
    other.write_text('')
  shutil.rmtree(finished / 'maps')
  shutil.rmtree(finished / 'impactx')
  tiny_config.attribution.classifier = str(other)
  shutil.rmtree(finished / 'impactx_lambda0')
  _refused(
      tiny_config, finished, 'maps', str(other),
      '--config.attribution.classifier=',
  )
  assert not (finished / 'maps').exists()


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('entry', 'value'), [
    ('class_names', ['cat', 'dog']), ('image_shape', [28, 28, 1]),
])
def test_other_classifier_must_be_of_such_images(
    finished, tmp_path, tiny_config, entry, value
):
  summary = json.loads((finished / 'classifier' / 'summary.json').read_text())
  _edit_json(
      finished / 'classifier' / 'summary.json',
      data=summary['data'] | {entry: value},
  )
  tiny_config.attribution.classifier = str(finished)
  _refused(
      tiny_config, tmp_path / 'run', 'maps', str(finished), str(value[0]),
      str(summary['data'][entry][0]), '--config.attribution.classifier=',
  )
  assert not _begun(tmp_path / 'run')


@pytest.mark.usefixtures('no_work')
def test_stage_two_without_maps_is_refused(finished, tiny_config):
  for name in ('maps', 'impactx', 'impactx_lambda0', 'report'):
    shutil.rmtree(finished / name)
  _refused(
      tiny_config, finished, 'impactx', str(finished / 'maps'),
      'no complete attribution maps', '--stage=maps',
  )
  assert _begun(finished) == {'classifier', 'config.json'}


@pytest.mark.usefixtures('no_work')
def test_stage_two_with_maps_that_are_not_finished_is_refused(
    finished, tiny_config
):
  shutil.rmtree(finished / 'impactx')
  (finished / 'maps' / 'manifest.json').unlink()
  _refused(
      tiny_config, finished, 'impactx', str(finished / 'maps'), '--stage=maps'
  )
  assert not (finished / 'impactx').exists()


def _other_maps(finished, tmp_path, **entries) -> None:
  """Puts another workdir's maps in the place of the workdir's own."""
  other = shutil.copytree(finished, tmp_path / 'other')
  _edit_json(other / 'maps' / 'manifest.json', **entries)
  for name in ('maps', 'impactx', 'impactx_lambda0', 'report'):
    shutil.rmtree(finished / name)
  shutil.copytree(other / 'maps', finished / 'maps')


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('entry', 'change'), [
    ('classifier', lambda digest: digest[::-1]),
    ('explainer', lambda settings: settings | {'max_evals': 2000}),
    ('data', lambda data: data | {'name': 'cifar10/3.0.2'}),
    ('seed', lambda seed: seed + 1),
    ('validation_fraction', lambda fraction: fraction / 2),
])
def test_stage_two_with_the_maps_of_another_run_is_refused(
    finished, tmp_path, tiny_config, entry, change
):
  manifest = json.loads((finished / 'maps' / 'manifest.json').read_text())
  wanted, found = manifest[entry], change(manifest[entry])
  _other_maps(finished, tmp_path, **{entry: found})
  message = _refused(
      tiny_config, finished, 'impactx', str(finished / 'maps'),
      f'another {entry}', '--stage=maps',
  )
  if not isinstance(wanted, dict):
    assert str(wanted) in message and str(found) in message
  assert _begun(finished) == {'classifier', 'config.json', 'maps'}


@pytest.mark.usefixtures('no_work')
def test_maps_begun_with_another_config_are_refused(
    finished, tmp_path, tiny_config
):
  _other_maps(finished, tmp_path)
  _set(tiny_config, 'attribution.masker', 'mean')
  for stage in ('all', 'maps', 'impactx'):
    _refused(
        tiny_config, finished, stage, str(finished / 'maps'),
        "attribution.masker (there: 'blur'; now: 'mean')", '--workdir',
    )
  assert _begun(finished) == {'classifier', 'config.json', 'maps'}


def _spoil(shard: pathlib.Path, how: str) -> None:
  content = bytearray(shard.read_bytes())
  if how == 'missing':
    shard.unlink()
    return
  if how == 'altered':
    content[len(content) // 2] ^= 1
  elif how == 'truncated':
    del content[len(content) // 2 :]
  elif how == 'emptied':
    content.clear()
  shard.write_bytes(content)


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(
    'how', ['missing', 'altered', 'truncated', 'emptied']
)
def test_shard_that_is_not_as_written_is_refused(finished, tiny_config, how):
  shutil.rmtree(finished / 'impactx')
  shard = sorted((finished / 'maps').glob('*.tfrecord'))[1]
  _spoil(shard, how)
  _refused(
      tiny_config, finished, 'impactx', str(shard), '--stage=maps'
  )
  assert not (finished / 'impactx').exists()


def test_only_the_spoilt_shard_is_made_again(
    finished, tiny_config, monkeypatch
):
  shutil.rmtree(finished / 'impactx')
  shards = sorted((finished / 'maps').glob('*.tfrecord'))
  contents = [shard.read_bytes() for shard in shards]
  shards[1].unlink()
  explained = []

  def explain(part, teacher, progress):
    explained.append(len(part['id']))
    raise Reached('explain')

  monkeypatch.setattr(service, '_explain_shard', explain)
  monkeypatch.setattr(service, '_estimate', lambda *_: None)
  with pytest.raises(Reached):
    pipeline.run(tiny_config, finished, 'maps')
  assert explained == [16]
  for shard, content in zip(shards, contents, strict=True):
    assert shard == shards[1] or shard.read_bytes() == content


# --- Workdirs ---------------------------------------------------------------


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize('stage', pipeline.STAGES)
def test_workdir_of_another_config_is_refused(finished, tiny_config, stage):
  before = (finished / 'config.json').read_bytes()
  _set(tiny_config, 'seed', 5)
  _set(tiny_config, 'classifier.training.batch_size', 32)
  _refused(
      tiny_config, finished, stage, str(finished / 'classifier'),
      'seed (there: 0; now: 5)',
      'classifier.training.batch_size (there: 64; now: 32)', '--workdir',
  )
  assert (finished / 'config.json').read_bytes() == before


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize('below', ['', 'run'])
def test_workdir_that_cannot_be_a_folder_is_refused(
    tmp_path, tiny_config, below
):
  (tmp_path / 'file').write_text('mine')
  _refused(
      tiny_config, tmp_path / 'file' / below, 'all',
      f'{tmp_path / "file"} is a file', '--workdir=',
  )
  assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.usefixtures('no_work', 'no_data')
def test_workdir_without_a_run_needs_a_config(tmp_path):
  for stage in ('all', 'evaluate'):
    _refused(
        None, tmp_path / 'run', stage, str(tmp_path / 'run'), '--config=NAME'
    )
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
def test_evaluation_of_an_empty_workdir_is_refused(tmp_path, tiny_config):
  _refused(
      tiny_config, tmp_path, 'evaluate', str(tmp_path / 'classifier'),
      '--stage=all',
  )
  assert not _begun(tmp_path)


@pytest.mark.usefixtures('no_work', 'no_data')
def test_evaluation_without_a_trained_method_is_refused(
    finished, tiny_config
):
  for name in ('maps', 'impactx', 'impactx_lambda0', 'report'):
    shutil.rmtree(finished / name)
  for config in (tiny_config, None):
    _refused(
        config, finished, 'evaluate', str(finished / 'impactx'),
        '--config.method.name=',
    )
  assert _begun(finished) == {'classifier', 'config.json'}


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('stage', ['maps', 'evaluate'])
def test_data_that_changed_since_stage_one_are_refused(
    finished, tiny_config, monkeypatch, stage
):
  dataset = sources.load(tiny_config.data, tiny_config.seed)
  fewer = {name: column[:-1] for name, column in dataset.train.items()}
  changed = sources.Dataset(
      dataset.name, dataset.class_names, fewer, dataset.validation,
      dataset.test,
  )
  monkeypatch.setattr(sources, 'load', lambda *_: changed)
  if stage == 'maps':
    shutil.rmtree(finished / 'maps')
  _refused(
      tiny_config, finished, stage, '1292', '1291', '--config.data.data_dir='
  )


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize('name', [
    'classifier/config.json', 'classifier/summary.json', 'maps/manifest.json',
    'report/metrics.json',
])
def test_record_that_is_truncated_is_named(finished, tiny_config, name):
  content = (finished / name).read_bytes()
  (finished / name).write_bytes(content[: len(content) // 2])
  _refused(tiny_config, finished, 'all', str(finished / name), '--workdir')


@pytest.mark.usefixtures('no_work')
def test_paths_are_recorded_so_that_they_lead_there_from_any_folder(
    tmp_path, tiny_config, data_dir, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  tiny_config.data.data_dir = os.path.relpath(data_dir, tmp_path)
  with pytest.raises(Reached, match='fit'):
    pipeline.run(tiny_config, 'run')
  for folder in ('run', 'run/classifier'):
    config = json.loads((tmp_path / folder / 'config.json').read_text())
    assert config['data']['data_dir'] == data_dir
    assert config['attribution']['classifier'] == ''


# --- A loss that is not a number --------------------------------------------


def _linear(task_classes: int, *, nan_at: int | None = None, layers=1):
  """A method of matrices alone, which compiles in no time.

  Args:
    task_classes: Number of classes.
    nan_at: From which update on, counted from 1, the loss is NaN.
    layers: Factors of the matrix.
  """

  def init(rng):
    del rng
    sides = [3, *[4] * (layers - 1), task_classes]
    params = {
        f'layer{i}': jnp.full(shape, 0.1, jnp.float32)
        for i, shape in enumerate(itertools.pairwise(sides))
    }
    return params, {'updates': jnp.zeros((), jnp.int32)}

  def predict(variables, images):
    logits = images.mean((1, 2))
    for i in range(layers):
      logits = logits @ variables['params'][f'layer{i}']
    return Prediction(logits)

  def loss(params, collections, batch, rng):
    del rng
    logits = predict({'params': params}, batch['image']).logits
    values = -jnp.take_along_axis(
        jax.nn.log_softmax(logits), batch['label'][:, None], axis=1
    )[:, 0]
    updates = collections['updates'] + 1
    if nan_at is not None:
      values = jnp.where(updates >= nan_at, jnp.nan, values)
    return values.mean(), Aux({'updates': updates}, mean_metrics(loss=values))

  return Method(init, loss, predict)


def _use_linear(monkeypatch, **options) -> None:
  monkeypatch.setitem(
      methods.METHODS, 'baseline',
      lambda config, task: _linear(task.num_classes, **options),
  )


def test_loss_that_becomes_nan_stops_and_keeps_the_last_good_checkpoint(
    tmp_path, tiny_config, monkeypatch
):
  directory = tmp_path / 'classifier'
  _use_linear(monkeypatch, nan_at=30)  # An epoch is 20 updates.
  message = _refused(
      tiny_config, tmp_path, 'classifier', 'loss is nan', 'step 30,',
      str(directory), '--config.classifier.training.learning_rate',
  )
  assert 'last good checkpoint' in message
  assert workdirs.read_summary(directory) is None
  kept = checkpoints.restore_variables(
      directory, 20,
      {
          'params': {'layer0': np.zeros((3, 10), np.float32)},
          'collections': {'updates': np.zeros((), np.int32)},
      },
  )
  assert kept['collections']['updates'] == 20
  assert np.isfinite(kept['params']['layer0']).all()
  # It is not only there: training goes on from it.
  _use_linear(monkeypatch)
  pipeline.run(tiny_config, tmp_path, 'classifier')
  summary = workdirs.read_summary(directory)
  assert [epoch['step'] for epoch in summary['history']] == [20, 40, 60]
  assert all(np.isfinite(e['train/loss']) for e in summary['history'])


def test_huge_learning_rate_stops_training_in_its_first_epoch(
    tmp_path, tiny_config, monkeypatch
):
  _use_linear(monkeypatch, layers=2)
  tiny_config.classifier.training.learning_rate = 1e30
  message = _refused(
      tiny_config, tmp_path, 'all', 'loss is nan', 'step 2,',
      '--config.classifier.training.learning_rate',
  )
  assert _begun(tmp_path) == {'classifier', 'config.json'}
  assert workdirs.read_summary(tmp_path / 'classifier') is None
  # There was none yet, so none is promised.
  assert 'last good checkpoint is in' not in message


def test_validation_loss_that_is_nan_is_noticed(
    tmp_path, tiny_config, monkeypatch
):
  method = _linear(10)

  def predict(variables, images):
    # Good until the second epoch ends.
    spoilt = variables['collections']['updates'] > 20
    logits = method.predict(variables, images).logits
    return Prediction(jnp.where(spoilt, jnp.nan, logits))

  monkeypatch.setitem(
      methods.METHODS, 'baseline',
      lambda *_: Method(method.init, method.loss, predict),
  )
  _refused(
      tiny_config, tmp_path, 'classifier', 'validation loss is nan', 'step 40,'
  )
  assert (tmp_path / 'classifier' / 'checkpoints' / '20').is_dir()
  assert not (tmp_path / 'classifier' / 'checkpoints' / '40').exists()
