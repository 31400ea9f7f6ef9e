"""Tests for values that the config or the machine cannot take."""

import itertools

from attribution import explainers
from attribution.errors import InputError
from etils import epath
from impactx_jax import stages
from impactx_jax.configs import common
from impactx_jax.evaluation import explaining
from impactx_jax.stages import checks
import jax
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import case
from tests.pipeline_fixtures import refused
from tests.pipeline_fixtures import set_field

no_work = pipeline_fixtures.no_work
no_data = pipeline_fixtures.no_data

NAMES = (
    ('data.task', 'multilabel', 'multi_label', 'classification'),
    ('method.name', 'impactz', 'impactx', 'impactx_lambda0'),
    ('attribution.masker', 'blurr', 'blur', 'inpaint_telea'),
    ('attribution.explainer', 'shap_partitoin', 'shap_partition', ''),
    ('attribution.explained_output', 'logits', 'logit', 'probability'),
    ('model.name', 'lenet', 'lenet5', ''),
    ('model.activation', 'rely', 'relu', 'tanh'),
    ('model.pooling', 'maxx', 'max', 'mean'),
    ('model.variant', 'b_coss', 'b_cos', 'x_dnn'),
    ('model.dtype', 'float23', 'float32', 'bfloat16'),
    ('method.m_output', 'logit', 'logits', 'features'),
    ('method.maps', 'shufled', 'shuffled', 'other_class'),
    ('method.lep_init', 'scratsh', 'scratch', 'from_classifier'),
    ('method.map_scaling', 'maxabs', 'max_abs', 'global_std'),
    ('classifier.training.schedule', 'cosin', 'cosine', 'constant'),
    ('method.training.schedule', 'constent', 'constant', 'cosine'),
)


pytestmark = pytest.mark.usefixtures('no_work', 'no_data')


def test_unknown_name_is_refused_with_the_nearest(tmp_path):
  for path, given, nearest, other in NAMES:
    config = common.get_config()
    set_field(config, path, given)
    with case(path, given):
      refused(
          config, tmp_path / 'run', 'all', repr(given),
          f'Did you mean {nearest!r}?', other, f'--config.{path}=',
      )
      assert not begun(tmp_path)


VALUES = (
    ('seed', -1),
    ('seed', 2**32),
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
    ('classifier.training.select', 'accuracy'),
    ('method.training.select', 'most accuracy'),
    ('method.training.front', 'max accuracy'),
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
    ('model.b_cos_exponent', 0.5),
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


# Of another method: its options are checked where it is what is trained.
OTHERS = {'method.refresh': 'impactx_single_stage'}


def test_value_out_of_range_is_refused(tmp_path):
  for path, value in VALUES:
    config = common.get_config()
    for prefix, method in OTHERS.items():
      if path.startswith(prefix):
        config.method.name = method
    set_field(config, path, value)
    with case(path, value):
      refused(config, tmp_path / 'run', 'all', str(value), f'--config.{path}=')
      assert not begun(tmp_path)


@pytest.mark.parametrize(('changes', 'parts'), [
    ({'attribution.explainer': 'lrp_epsilon'},
     ('lrp_epsilon explains logits', 'explained_output=logit')),
    ({'evaluation.explainers': ('lrp_alpha1_beta0',)},
     ('lrp_alpha1_beta0 explains logits', '--config.evaluation.explainers=')),
    ({'attribution.explainer': 'lrp_epsilon', 'model.variant': 'b_cos',
      'attribution.explained_output': 'logit', 'model.pooling': 'mean'},
     ('lrp_epsilon has no rule', '--config.attribution.explainer=b_cos')),
])
def test_relevance_of_what_has_no_rule_is_refused(tmp_path, changes, parts):
  config = common.get_config()
  for path, value in changes.items():
    set_field(config, path, value)
  refused(config, tmp_path / 'run', 'all', *parts)
  assert not begun(tmp_path)


@pytest.mark.parametrize(('field', 'value'), [
    ('select', 'max acuracy'), ('front', 'max accuracy, max acuracy'),
])
@pytest.mark.parametrize('section', ['classifier', 'method'])
def test_a_measure_that_no_method_has_is_refused(
    tmp_path, section, field, value
):
  config = common.get_config()
  config[section].training[field] = value
  refused(
      config, tmp_path / 'run', 'all', "'acuracy'", 'has accuracy, cross_ent',
      f'--config.{section}.training.{field}=',
  )
  assert not begun(tmp_path)


def test_options_are_checked_by_the_methods_that_declare_them(
    tmp_path, monkeypatch
):
  for name, path in (
      ('impactx', 'method.refresh_every'), ('abn', 'method.map_cell'),
      ('wae', 'method.lambda_'),
  ):
    config = common.get_config()
    config.method.name = name
    set_field(config, path, -1)
    with case(name, path), pytest.raises(Reached, match='load'):
      stages.run(config, tmp_path / 'run')
  assert not begun(tmp_path)


def test_option_that_the_explainer_cannot_meet_is_refused(tmp_path):
  for path, value, parts in (
      ('masker', 'inpaint_telea', ('shap_partition', 'blur')),
      ('masker', 'inpaint_ns', ('shap_partition', 'blur')),
      ('grid', 3, ('3', 'power of two')),
  ):
    config = common.get_config()
    config.attribution.explainer = 'partition_grid'
    set_field(config, f'attribution.{path}', value)
    with case(path, value):
      refused(
          config, tmp_path / 'run', 'all', *parts,
          f'--config.attribution.{path}=',
      )
      assert not begun(tmp_path)


def test_b_cos_is_refused_for_a_network_that_is_not(tmp_path):
  for path, value in (
      ('attribution.explainer', 'b_cos'),
      ('evaluation.explainers', ('random', 'b_cos')),
  ):
    config = common.get_config()
    set_field(config, path, value)
    with case(path):
      refused(
          config, tmp_path / 'run', 'all', f'--config.{path}', 'plain',
          '--config.model.variant=b_cos --config.model.pooling=mean.',
      )
      assert not begun(tmp_path)
    config.model.update({'variant': 'b_cos', 'pooling': 'mean'})
    checks.check(config)
  # Whether another classifier is one, its own config says.
  config = common.get_config()
  config.attribution.explainer = 'b_cos'
  config.attribution.classifier = 'elsewhere'
  checks.check(config)


def test_the_baseline_is_no_second_method(tmp_path):
  config = common.get_config()
  config.method.name = 'baseline'
  message = refused(
      config, tmp_path / 'run', 'all', "'baseline'", 'baseline_matched',
      '--config.method.name=',
  )
  allowed = message.partition('Allowed: ')[2]
  assert ' baseline,' not in f' {allowed}'


def test_field_that_only_a_recipe_knows_is_refused(tmp_path):
  config = common.get_config()
  with config.unlocked():
    config.attribution.max_eval = 100
  refused(
      config, tmp_path / 'run', 'all', "'config.attribution.max_eval'",
      "Did you mean 'config.attribution.max_evals'?", '--config',
  )
  assert not begun(tmp_path)


def test_field_that_a_recipe_lacks_or_leaves_empty_is_refused(tmp_path):
  for path, how in itertools.product(
      ('method', 'classifier.training.patience'), ('lacks', 'empty')
  ):
    config = common.get_config()
    *sections, name = path.split('.')
    section = config
    for part in sections:
      section = section[part]
    with config.unlocked():
      if how == 'lacks':
        del section[name]
      else:
        section[name] = None
    with case(path, how):
      refused(config, tmp_path / 'run', 'all', f'config.{path}', '--config')
      assert not begun(tmp_path)


def test_batch_must_divide_among_the_devices(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 4)
  for section in ('classifier', 'method'):
    config = common.get_config()
    set_field(config, f'{section}.training.batch_size', 30)
    with case(section):
      refused(
          config, tmp_path / 'run', 'all', '30', '4 devices', '28 or 32',
          f'--config.{section}.training.batch_size=N',
      )
      assert not begun(tmp_path)


def test_unknown_stage_is_refused(tmp_path, tiny_config):
  refused(
      tiny_config, tmp_path / 'run', 'evalute', "'evalute'",
      "Did you mean 'evaluate'?", 'classifier', '--stage=',
  )
  assert not begun(tmp_path)


FILES = (
    # Each keeps a copy in the workdir, or makes something of its name there.
    ({'model.name': 'a/mine.py', 'method.name': 'b/mine.py'},
     ('a/mine.py', 'b/mine.py', 'Rename', '--config.method.name=FILE.py')),
    ({'data.name': 'a/mine.py', 'attribution.explainer': 'b/mine.py'},
     ('a/mine.py', 'b/mine.py', '--config.attribution.explainer=FILE.py')),
    ({'method.name': 'a/abn.py'}, ('a/abn.py', 'called abn')),
    ({'method.name': 'a/maps.py'}, ('called maps', 'Rename')),
    ({'method.name': 'a/report.py'}, ('called report', 'Rename')),
    ({'attribution.explainer': 'a/grad_cam.py'},
     ('called grad_cam', '--config.attribution.explainer=FILE.py')),
    ({'attribution.explainer': 'a/impactx.py'}, ('called impactx', 'Rename')),
)
CONTENT = """
from impactx_jax.methods import abn, baseline
from impactx_jax.models import lenet
METHOD, BACKBONE = abn.METHOD, lenet.BACKBONE
def EXPLAINER(score_fn): pass
"""


def test_files_of_one_name_are_refused(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for fields, parts in FILES:
    config = common.get_config()
    for path, name in fields.items():
      (tmp_path / name).parent.mkdir(exist_ok=True)
      (tmp_path / name).write_text(CONTENT)
      set_field(config, path, name)
    with case(*fields.values()):
      refused(config, tmp_path / 'run', 'all', *parts)
      assert not (tmp_path / 'run').exists()


def test_a_workdir_that_cannot_be_made_is_refused(tmp_path):
  from impactx_jax.stages import configs

  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='cannot be made.*--workdir=DIR'):
    configs.write(epath.Path(tmp_path / 'file' / 'run'), common.get_config())


def test_checking_a_config_keeps_nothing(tiny_config):
  explaining.check(tiny_config.attribution)
  before = explainers._create_once.cache_info().currsize
  for _ in range(3):
    explaining.check(tiny_config.attribution)
  assert explainers._create_once.cache_info().currsize == before
