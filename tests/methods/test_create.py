"""Methods by name or from a file: found, checked, and made once."""

from attribution.errors import InputError
from attribution.maskers import Masker
from impactx_jax import methods
from impactx_jax import tasks
from impactx_jax.configs import common
from impactx_jax.methods import base
import jax
import jax.numpy as jnp
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import PROBLEM
from tests.methods.methods_fixtures import SHAPE
from tests.methods.methods_fixtures import make_config

SINGLE_STAGE = 'impactx_single_stage'


def changed(config, **fields):
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.update_from_flattened_dict(
        {path.replace('__', '.'): value for path, value in fields.items()}
    )
  return config


# --- The same method for equal arguments --------------------------------------


@pytest.mark.parametrize('fields', [
    {'seed': 5},
    {'method__training__learning_rate': 0.5},
    {'classifier__training__epochs': 7},
    {'data__validation_fraction': 0.3},
    {'method__lambda_': 0.3},
    {'attribution__num_examples': 10, 'attribution__shard_size': 7},
    {'attribution__workdir': 'there', 'attribution__classifier': 'here'},
    {'evaluation__draws': 3},
])
@pytest.mark.parametrize('name', ['impactx', SINGLE_STAGE])
def test_what_is_not_compiled_makes_no_other_method(name, fields):
  config = make_config(name)
  method = methods.create(name, config, PROBLEM)
  assert methods.create(name, changed(config, **fields), PROBLEM) is method


@pytest.mark.parametrize('fields', [
    {'method__lambda_': 0.0}, {'method__lep_units': 17},
    {'model__width': 0.5},
])
def test_what_is_compiled_makes_another_method(fields):
  config = make_config()
  method = methods.create('impactx', config, PROBLEM)
  other = methods.create('impactx', changed(config, **fields), PROBLEM)
  assert other is not method


@pytest.mark.parametrize(('name', 'same'), [
    ('baseline', True), ('baseline_matched', True), ('impactx', True),
    ('abn', True), ('wae', True), (SINGLE_STAGE, False),
])
def test_seeds_share_a_method_unless_it_explains_while_it_trains(name, same):
  # Each seed holds out other examples: their number and colour differ.
  config = make_config(name)
  ours, theirs = (
      methods.create(name, config, methods.Problem(
          NUM_CLASSES, SHAPE, examples=examples,
          masker=Masker('mean', 0, colour),
      ))
      for examples, colour in ((1292, 0.4), (1313, 0.5))
  )
  assert (ours is theirs) == same


@pytest.mark.parametrize('problem', [
    methods.Problem(NUM_CLASSES + 1, SHAPE),
    methods.Problem(NUM_CLASSES, (32, 32, 1)),
    methods.Problem(NUM_CLASSES, SHAPE, task='multi_label'),
])
def test_another_problem_is_another_method(problem):
  config = make_config()
  assert methods.create('impactx', config, problem) is not methods.create(
      'impactx', config, PROBLEM
  )


def test_the_scalars_are_the_configs():
  assert methods.scalars('impactx', make_config(lambda_=0.3)) == {
      'lambda_': 0.3, 'distillation': 0.0
  }
  config = methods.config_of(methods.CONTROL, make_config(lambda_=0.3))
  assert methods.scalars(methods.CONTROL, config) == {
      'lambda_': 0.0, 'distillation': 0.0
  }
  assert methods.scalars('abn', config) == {}


def test_the_options_of_two_methods_have_one_default():
  known = methods.options()
  for spec in methods.METHODS.values():
    assert spec.options.items() <= known.items()


# --- A file of the user's -----------------------------------------------------

MINE = """
from impactx_jax import tasks
from impactx_jax.configs import common
from impactx_jax.methods import Method, Prediction, Spec
from impactx_jax.methods import base
import jax.numpy as jnp

def create(config, problem):
  task = tasks.TASKS[problem.task]
  rate = config.method.get('steepness', 1.0)

  def logits(params, batch):
    score = rate * params['w'] * batch['image'].mean(axis=(1, 2, 3))
    return score[:, None] * jnp.arange(problem.num_classes)

  def loss(params, collections, batch, key):
    values = task.loss(logits(params, batch), batch)
    return values.mean(), base.Aux(
        collections, base.mean_metrics(loss=values)
    )

  return Method(
      task, lambda key, classifier=None: ({'w': jnp.ones(())}, {}), loss,
      lambda variables, batch: Prediction(logits(variables['params'], batch)),
  )

METHOD = Spec(create, 'Mine', options=OPTIONS, from_scratch=True)
"""


def file_of(folder, options='{}', content=MINE, name='mine.py'):
  path = folder / name
  path.write_text(content.replace('OPTIONS', options))
  return str(path)


def config_of(path):
  config = make_config()
  with config.unlocked():
    config.method.name = path
    config.method.update(methods.options_of(path))
  return config


def test_a_file_that_defines_method_is_one(tmp_path):
  path = file_of(tmp_path, "{'steepness': 3.0, 'lep_units': 512}")
  assert methods.find(path).title == 'Mine'
  assert methods.options_of(path) == {'steepness': 3.0, 'lep_units': 512}
  method = methods.create(path, config_of(path), PROBLEM)
  assert method.task is tasks.TASKS['classification']
  assert method.shapes()['params']['w'].shape == ()
  images = jnp.full((2, *SHAPE), 0.5)
  found = method.predict(
      {'params': {'w': jnp.ones(())}, 'collections': {}}, {'image': images}
  )
  assert found.logits.tolist() == [[0, 1.5, 3, 4.5]] * 2


def test_a_method_of_a_file_is_made_once_for_what_is_in_it(tmp_path):
  path = file_of(tmp_path)
  method = methods.create(path, config_of(path), PROBLEM)
  copy = file_of(tmp_path, name='copy.py')
  assert methods.create(copy, config_of(copy), PROBLEM) is method
  edited = file_of(tmp_path, content=MINE + '\n# Edited.\n')
  assert methods.create(edited, config_of(edited), PROBLEM) is not method


def test_a_backbone_of_a_file_is_another_method_when_it_is_edited(tmp_path):
  path = tmp_path / 'net.py'
  text = 'from impactx_jax.models.lenet import BACKBONE\n'
  path.write_text(text)
  config = make_config()
  config.model.name = str(path)
  method = methods.create('impactx', config, PROBLEM)
  assert methods.create('impactx', config, PROBLEM) is method
  path.write_text(text + '# Edited.\n')
  assert methods.create('impactx', config, PROBLEM) is not method


@pytest.mark.parametrize(('options', 'name'), [
    ("{'lep_units': 3}", 'lep_units'),
    ("{'training': 3}", 'training'),
    ("{'name': 'mine'}", 'name'),
    ("{'steepness': 1.0, 'lambda_': 2.0}", 'lambda_'),
])
def test_an_option_that_is_taken_is_refused(tmp_path, options, name):
  path = file_of(tmp_path, options)
  with pytest.raises(InputError) as error:
    methods.options_of(path)
  for part in (path, repr(name), methods.FLAG):
    assert part in str(error.value)


@pytest.mark.parametrize(('content', 'parts'), [
    ('', ('METHOD', 'impactx_jax.methods.base.Spec')),
    ('METHOD = 5', ('METHOD', 'impactx_jax.methods.base.Spec')),
    ('1 / 0', ('ZeroDivisionError',)),
    (
        'from impactx_jax.methods import Spec\nMETHOD = Spec(None, "Mine")',
        ('create(config, problem)',),
    ),
])
def test_a_file_without_a_method_is_refused(tmp_path, content, parts):
  path = file_of(tmp_path, content=content)
  with pytest.raises(InputError) as error:
    methods.find(path)
  message = str(error.value)
  assert '\n' not in message
  for part in (path, *parts, f'{methods.FLAG}=FILE.py'):
    assert part in message, message


def test_a_file_whose_create_gives_no_method_is_refused(tmp_path):
  path = file_of(tmp_path, content=(
      'from impactx_jax.methods import Spec\n'
      'METHOD = Spec(lambda config, problem: config, "Mine")'
  ))
  with pytest.raises(InputError, match="'Mine' returned ConfigDict"):
    methods.create(path, make_config(), PROBLEM)


@pytest.mark.parametrize(('name', 'nearest'), [
    ('impactz', "'impactx'"), ('anb', "'abn'"), ('wea', "'wae'"),
])
def test_an_unknown_name_lists_the_known_and_the_other_way(name, nearest):
  with pytest.raises(InputError) as error:
    methods.find(name)
  for part in (repr(name), f'Did you mean {nearest}?', f'{methods.FLAG}=',
               'FILE.py', 'METHOD'):
    assert part in str(error.value)
  assert ' baseline,' not in str(error.value)  # Stage one is no choice here.


def test_titles_are_the_methods_or_the_names():
  assert methods.title(methods.CONTROL) == 'IMPACTX, λ = 0'
  assert methods.title('mine') == 'mine'


# --- Shapes -------------------------------------------------------------------


def test_shapes_are_those_of_init_without_what_only_training_needs():
  config = make_config(SINGLE_STAGE)
  method = methods.create(
      SINGLE_STAGE, config, methods.Problem(NUM_CLASSES, SHAPE, examples=5)
  )
  params, collections = jax.eval_shape(method.init, jax.random.key(0))
  assert base.SCRATCH in collections
  del collections[base.SCRATCH]
  assert method.shapes() == {'params': params, 'collections': collections}


def test_a_method_takes_its_options_with_it(tmp_path):
  mine = file_of(tmp_path, "{'steepness': 3.0, 'lep_units': 512}")
  config = common.get_config()
  fields = set(config.method)
  common.set_method(config, mine)
  assert config.method.steepness == 3.0 and config.method.name == mine
  config.method.steepness = 5.0
  common.set_method(config, mine)  # What was chosen stays.
  assert config.method.steepness == 5.0
  common.set_method(config, 'impactx')  # And goes where none declares it.
  assert set(config.method) == fields and config.method.name == 'impactx'
