"""Single-stage: whose maps count, what they are, and an exact continuation."""

from attribution import explainers
from attribution.errors import InputError
from attribution.maskers import Masker
from etils import epath
from impactx_jax import losses
from impactx_jax import methods
from impactx_jax.methods.base import SCRATCH
from impactx_jax.methods.base import without_scratch
from impactx_jax.stages import checks
from impactx_jax.training import checkpoints
from impactx_jax.training import loop
from impactx_jax.training import train_step
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import SHAPE
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import loss_of
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import on_one_device
from tests.methods.methods_fixtures import predict
from tests.methods.methods_fixtures import unmoved

NAME = 'impactx_single_stage'
EXAMPLES = 12
OPTIONS = dict(refresh_every=3, map_channels=1)


def make(**changes):
  config = make_config(NAME, **(OPTIONS | changes))
  config.classifier.training.flip = True
  return make_method(NAME, config, EXAMPLES)[0], config


@pytest.fixture(scope='module')
def made():
  return make()


@pytest.fixture(scope='module')
def method(made):
  return made[0]


@pytest.fixture(scope='module')
def prepare(method):
  """What comes before a batch is augmented, compiled."""
  compiled = on_one_device(method.prepare)

  def call(variables, batch, step):
    state = train_step.TrainState(
        step=jnp.int32(step), **variables, opt_state=()
    )
    state, batch = jax.device_get(compiled(state, batch, jax.random.key(0)))
    assert state.step == step
    return {**variables, 'collections': state.collections}, batch

  return call


@pytest.fixture(scope='module')
def compiled(made):
  return Trainer(*made, NAME)


@pytest.fixture
def trainer(compiled):
  return compiled.restart()


def batch_of(rows):
  """The examples of these rows: always the same image and label for each."""
  batch = make_batch(EXAMPLES)
  del batch['map']
  rows = np.array(rows, np.int32)
  taken = {name: column[rows] for name, column in batch.items()}
  return {**taken, 'position': jnp.arange(len(rows), dtype=jnp.int32)}


def explained(method, variables, batch, config):
  """The maps of the model as it is, by the explainer of the maps stage."""
  def score(variables, images):
    return jax.nn.softmax(method.predict(variables, {'image': images}).logits)

  explain = explainers.create(
      'partition', score, max_evals=config.method.refresh_evals,
      batch_size=config.attribution.batch_size, masker=Masker('blur'),
  )
  maps = explain(variables, batch['image'], batch['label'])
  assert maps.shape == batch['image'].shape
  summed = maps.sum(axis=-1, keepdims=True)
  return summed / np.abs(summed).max(axis=(1, 2, 3), keepdims=True)


def test_a_refresh_explains_the_batch_with_the_model_of_that_moment(
    made, trainer
):
  method, config = made
  batches = [batch_of(rows) for rows in ([5, 0, 7, 2], [1, 2, 3, 4])]
  first = explained(method, trainer.variables, batches[0], config)
  for step in range(3):
    trainer.step(batches[step % 2])
    # Images are mirrored for the loss, and explained before.
    kept = trainer.scratch
    np.testing.assert_allclose(kept['maps'][[5, 0, 7, 2]], first, atol=1e-4)
    assert np.flatnonzero(kept['made'] >= 0).tolist() == [0, 2, 5, 7]
    others = np.delete(kept['maps'], [0, 2, 5, 7], axis=0)
    assert not others.any()
  second = explained(method, trainer.variables, batches[1], config)
  trainer.step(batches[1])
  kept = trainer.scratch
  np.testing.assert_allclose(kept['maps'][[1, 2, 3, 4]], second, atol=1e-4)
  np.testing.assert_allclose(kept['maps'][[5, 0, 7]], first[:3], atol=1e-4)
  # Example 2 has been explained twice, by two models.
  assert np.abs(second[1] - first[3]).max() > 0.01
  assert kept['made'].tolist() == [0, 3, 3, 3, 3, 0, -1, 0, -1, -1, -1, -1]


def test_before_its_first_refresh_an_example_has_no_map(method, prepare):
  variables = init(method)
  rows = [[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9], [8, 9, 0, 1]]
  found = []
  for step, part in enumerate(rows):
    variables, batch = prepare(variables, batch_of(part), step)
    found.append((batch['mapped'].tolist(), batch['map_age'].tolist()))
    without = batch['map'][batch['mapped'] == 0]
    assert not without.any()
    of_some = batch['map'][batch['mapped'] == 1]
    np.testing.assert_allclose(
        np.abs(of_some).max(axis=(1, 2, 3)), 1, rtol=1e-6
    )
  assert [mapped for mapped, _ in found] == [
      [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]
  ]
  # A map is as old as the steps since it was made.
  assert found[0][1] == [0, 0, 0, 0]
  assert found[1][1][:2] == [1, 1]
  assert found[3][1] == [0, 0, 0, 0]


def test_the_mse_counts_where_there_is_a_map(method, prepare):
  variables = init(method)
  variables, _ = prepare(variables, batch_of([0, 1, 2, 3]), 0)
  variables, batch = prepare(variables, batch_of([2, 3, 4, 5]), 1)
  value, aux, gradients = loss_of(method, variables, batch)
  prediction = predict(method, variables, batch)
  entropy = losses.cross_entropy(prediction.logits, batch['label']).mean()
  errors = np.square(prediction.attribution - batch['map']).mean((1, 2, 3))
  expected = entropy + errors[:2].sum() / 4  # lambda is 1, of four examples.
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  np.testing.assert_allclose(
      aux.metrics['map_mse'], (errors[:2].sum(), 2), rtol=1e-5
  )
  assert aux.metrics['map_age'] == (2, 2)
  assert aux.metrics['mapped'] == (2, 4)
  assert np.abs(gradients['branch']['decoder']['map']['kernel']).max() > 0


def test_without_any_map_the_decoder_learns_nothing(method, prepare):
  variables = init(method)
  variables, _ = prepare(variables, batch_of([0, 1, 2, 3]), 0)
  variables, batch = prepare(variables, batch_of([4, 5, 6, 7]), 1)
  value, aux, gradients = loss_of(method, variables, batch)
  logits = predict(method, variables, batch).logits
  entropy = losses.cross_entropy(logits, batch['label']).mean()
  np.testing.assert_allclose(value, entropy, rtol=1e-5)
  assert aux.metrics['map_mse'] == (0, 0)
  decoder = gradients['branch'].pop('decoder')
  assert not any(leaf.any() for leaf in jax.tree.leaves(decoder))
  assert all(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_with_lambda_0_nothing_is_explained():
  method, _ = make(lambda_=0.0)
  variables = init(method)
  assert method.prepare is None and SCRATCH not in variables['collections']
  batch = {name: make_batch()[name] for name in ('image', 'label')}
  value, aux, gradients = loss_of(method, variables, batch)
  logits = predict(method, variables, batch).logits
  entropy = losses.cross_entropy(logits, batch['label']).mean()
  np.testing.assert_allclose(value, entropy, rtol=1e-5)
  assert aux.metrics.keys() == {'loss', 'cross_entropy', 'accuracy'}
  decoder = gradients['branch'].pop('decoder')
  assert not any(leaf.any() for leaf in jax.tree.leaves(decoder))
  assert all(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_metrics_say_how_many_have_maps_and_how_old_they_are(trainer):
  first = trainer.step(batch_of([0, 1, 2, 3]))
  assert (first['mapped'], first['map_age']) == (1, 0)
  second = trainer.step(batch_of([3, 4, 5, 6]))
  assert (second['mapped'], second['map_age']) == (0.25, 1)
  third = trainer.step(batch_of([4, 5, 6, 7]))
  assert third['mapped'] == 0
  assert not {'map_age', 'map_mse'} & third.keys()
  assert third['loss'] == pytest.approx(third['cross_entropy'])


def test_m_is_trained_as_well(trainer):
  before = trainer.variables['params']
  trainer.step(batch_of([0, 1, 2, 3]))
  after = trainer.variables['params']
  assert not unmoved(before, after)
  assert set(after) == {'m', 'branch'}
  assert set(after['m']) == {'trunk', 'head'}


def test_prediction_needs_no_maps(method):
  variables = init(method)
  batch = {'image': make_batch()['image']}
  prediction = predict(method, variables, batch)
  assert prediction.logits.shape == (8, NUM_CLASSES)
  assert prediction.attribution.shape == (8, *SHAPE[:2], 1)
  other = {
      **variables, 'collections': without_scratch(variables['collections'])
  }
  jax.tree.map(
      np.testing.assert_array_equal, predict(method, other, batch),
      prediction,
  )


def columns():
  generator = np.random.default_rng(0)
  return {
      'image': generator.integers(0, 256, (EXAMPLES, *SHAPE), np.uint8),
      'label': generator.integers(0, NUM_CLASSES, EXAMPLES, np.int32),
  }


def train(made, directory, epochs):
  """Trains; returns the history and the state after the last epoch."""
  method, config = made
  training = config.classifier.training.copy_and_resolve_references()
  training.update(epochs=epochs, batch_size=4, schedule='constant')
  result = loop.train(
      method, {'train': columns(), 'validation': columns()},
      training=training, section='classifier', seed=3,
      directory=epath.Path(directory), scalars=methods.scalars(NAME, config),
  )
  state = train_step.initial_state(method, 3)
  with checkpoints.Checkpoints(directory) as saved:
    last, _ = saved.restore_latest(state)
  return result, last


def test_a_run_that_is_continued_ends_as_an_undisturbed_one(tmp_path):
  config = make_config(NAME, **OPTIONS)
  config.attribution.explainer = 'partition_grid'  # It compiles faster.
  config.attribution.grid = 2
  made = make_method(NAME, config, EXAMPLES)[0], config
  undisturbed, state = train(made, tmp_path / 'whole', 3)
  for epochs in (1, 3):
    continued, found = train(made, tmp_path / 'pieces', epochs)
  assert continued == undisturbed
  jax.tree.map(np.testing.assert_array_equal, found, state)
  # Nine steps, of which 0, 3 and 6 explained their batches.
  scratch = found.collections[SCRATCH]
  assert found.step == 9
  assert set(scratch['made'].tolist()) <= {-1, 0, 3, 6}
  assert 6 in scratch['made']
  shares = [epoch['train/mapped'] for epoch in undisturbed.epochs]
  assert shares[0] < shares[-1]


@pytest.mark.parametrize(('path', 'value', 'parts'), [
    ('attribution.explainer', 'shap_partition', (NAME, 'partition_grid')),
    ('method.map_scaling', 'global_std', (NAME, 'max_abs', 'none')),
    ('method.maps', 'shuffled', (NAME, 'true_class')),
    ('method.refresh_every', 0, ('1 or more',)),
    ('method.refresh_evals', 2, ('3 or more',)),
])
def test_settings_that_it_cannot_meet_are_refused(path, value, parts):
  config = make_config(NAME)
  checks.check(config)
  with config.unlocked():
    config.update_from_flattened_dict({path: value})
  with pytest.raises(InputError) as error:
    checks.check(config)
  message = str(error.value)
  for part in (*parts, f'--config.{path}='):
    assert part in message, message
  # They are another method's business.
  config.method.name = 'impactx'
  checks.check(config)


def test_data_with_several_labels_an_image_are_refused():
  data = {'image_shape': SHAPE, 'task': 'classification', 'name': 'toy'}
  spec = methods.find(NAME)
  spec.check_data(make_config(NAME), data)
  with pytest.raises(InputError) as error:
    spec.check_data(make_config(NAME), data | {'task': 'multi_label'})
  for part in ('toy', NAME, '--config.method.name='):
    assert part in str(error.value)


@pytest.mark.parametrize(('changes', 'evaluations'), [
    ({}, 3 * 4 * 10),  # Steps 0, 3 and 6 of 9, each of 4 images.
    ({'refresh_every': 1}, 9 * 4 * 10),
    ({'refresh_evals': 50}, 3 * 4 * 50),
    ({'lambda_': 0.0}, 0),
])
def test_its_maps_cost_what_training_explained(changes, evaluations):
  config = make_config(NAME, **(OPTIONS | changes))
  config.classifier.training.batch_size = 4
  summary = {'examples': {'train': 14}, 'history': [{}, {}, {}]}
  assert methods.find(NAME).cost(config, summary, 999) == evaluations
