"""Tests for values that the config or the machine cannot take."""

from impactx_jax import stages
from impactx_jax.configs import common
import jax
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import refused
from tests.pipeline_fixtures import set_field

no_work = pipeline_fixtures.no_work
no_data = pipeline_fixtures.no_data
finished = pipeline_fixtures.finished

NAMES = (
    ('method.name', 'impactz', 'impactx', 'impactx_lambda0'),
    ('attribution.masker', 'blurr', 'blur', 'inpaint_telea'),
    ('attribution.explainer', 'shap_partitoin', 'shap_partition', ''),
    ('attribution.explained_output', 'logits', 'logit', 'probability'),
    ('model.name', 'lenet', 'lenet5', ''),
    ('model.activation', 'rely', 'relu', 'tanh'),
    ('model.pooling', 'maxx', 'max', 'mean'),
    ('model.dtype', 'float23', 'float32', 'bfloat16'),
    ('method.m_output', 'logit', 'logits', 'features'),
    ('method.maps', 'shufled', 'shuffled', 'other_class'),
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
  set_field(config, path, given)
  refused(
      config, tmp_path / 'run', 'all', repr(given),
      f'Did you mean {nearest!r}?', other, f'--config.{path}=',
  )
  assert not (tmp_path / 'run').exists()


VALUES = (
    ('seed', -1),
    ('data.validation_fraction', 0.0),
    ('data.validation_fraction', 1.0),
    ('data.test_fraction', 1.5),
    ('data.test_split', 'train'),  # What is trained on.
    ('data.image_size', (32,)),
    ('data.image_size', (0, 32)),
    ('data.image_size', (32, 32, 3)),
    ('data.image_size', ('32', '32')),
    ('classifier.training.batch_size', 0),
    ('classifier.training.epochs', 0),
    ('classifier.training.learning_rate', 0.0),
    ('classifier.training.learning_rate', float('nan')),
    ('classifier.training.warmup', -0.1),
    ('method.training.warmup', 1.1),
    ('classifier.training.patience', -1),
    ('method.training.crop_padding', -1),
    ('method.training.learning_rate', -0.1),
    ('method.lambda_', -1.0),
    ('method.lambda_', float('nan')),
    ('method.training.select', 'accuracy'),
    ('method.training.select', 'most accuracy'),
    ('data.task', 'segmentation'),
    ('method.lep_units', 0),
    ('method.decoder_filters', 0),
    ('method.decoder_start', 0),
    ('method.classifier_hidden', -1),
    ('method.map_channels', 2),
    ('method.map_cell', 0),
    ('method.refresh_every', 0),
    ('method.refresh_evals', 2),
    ('data.label_fraction', 0.0),
    ('data.label_fraction', 1.5),
    ('data.label_fraction', float('nan')),
    ('model.width', 0.0),
    ('model.width', 65.0),
    ('model.dropout', 1.0),
    ('model.drop_path', -0.1),
    ('model.input_size', 8),
    ('model.input_size', -32),
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
  if path.startswith('method.refresh'):  # Options of another method.
    config.method.name = 'impactx_single_stage'
  set_field(config, path, value)
  refused(config, tmp_path / 'run', 'all', str(value), f'--config.{path}=')
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
  set_field(config, f'attribution.{path}', value)
  refused(
      config, tmp_path / 'run', 'all', *parts, f'--config.attribution.{path}='
  )
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
def test_the_baseline_is_no_second_method(tmp_path):
  config = common.get_config()
  config.method.name = 'baseline'
  message = refused(
      config, tmp_path / 'run', 'all', "'baseline'", 'baseline_matched',
      '--config.method.name=',
  )
  allowed = message.partition('Allowed: ')[2]
  assert ' baseline,' not in f' {allowed}'


@pytest.mark.usefixtures('no_work', 'no_data')
def test_field_that_only_a_recipe_knows_is_refused(tmp_path):
  config = common.get_config()
  with config.unlocked():
    config.attribution.max_eval = 100
  refused(
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
  refused(config, tmp_path / 'run', 'all', f'config.{path}', '--config')
  assert not (tmp_path / 'run').exists()


@pytest.mark.usefixtures('no_work', 'no_data')
@pytest.mark.parametrize('section', ['classifier', 'method'])
def test_batch_must_divide_among_the_devices(tmp_path, monkeypatch, section):
  monkeypatch.setattr(jax, 'device_count', lambda: 4)
  config = common.get_config()
  set_field(config, f'{section}.training.batch_size', 30)
  refused(
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
  with pytest.raises(Reached, match='measure'):
    stages.run(tiny_config, finished, 'evaluate')


@pytest.mark.usefixtures('no_work', 'no_data')
def test_unknown_stage_is_refused(tmp_path, tiny_config):
  refused(
      tiny_config, tmp_path / 'run', 'evalute', "'evalute'",
      "Did you mean 'evaluate'?", 'classifier', '--stage=',
  )
  assert not (tmp_path / 'run').exists()
