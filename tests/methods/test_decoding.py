"""What D sees, and how its map is read: in each method that has a D."""

from attribution.errors import InputError
from attribution.maskers import Masker
from impactx_jax import losses
from impactx_jax import methods
from impactx_jax.methods import decoding
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import loss_of
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import predict

BATCH = make_batch()
CLASSES = jnp.arange(8) % NUM_CLASSES


def make(name='impactx', **changes):
  method, a = make_method(name, map_cell=4, **changes)
  return method, init(method, a), a


def map_of(method, variables, classes):
  return np.asarray(jax.jit(method.map_of)(variables, BATCH, classes))


# What D sees, its maps, whether the map is of the class and follows M.
VIEWS = [
    ('code', 'all', True, False),
    ('features', 'one', False, True),
    ('features', 'all', True, True),
    ('gradient', 'one', True, True),
]


@pytest.mark.parametrize(('sees', 'classes', 'of_class', 'of_m'), VIEWS)
def test_what_the_map_follows(sees, classes, of_class, of_m):
  method, variables, a = make(decoder_sees=sees, decoder_classes=classes)
  assert (method.map_of is not None) == of_class
  before = predict(method, variables, BATCH)
  if of_class:
    top = method.task.top(before.logits)
    np.testing.assert_allclose(
        map_of(method, variables, top), before.attribution, atol=1e-5
    )
    other = map_of(method, variables, (top + 1) % NUM_CLASSES)
    assert np.abs(other - before.attribution).max() > 1e-3
  # The same D and LEP beside another M, whose classes are the same.
  shuffled = jax.tree.map(lambda x: x[..., ::-1], a)
  collections = variables['collections'] | {'classifier': shuffled}
  after = predict(method, variables | {'collections': collections}, BATCH)
  if of_m:
    assert np.abs(after.attribution - before.attribution).max() > 1e-3
  else:
    same = method.task.top(after.logits) == method.task.top(before.logits)
    np.testing.assert_array_equal(
        after.attribution[same], before.attribution[same]
    )


@pytest.mark.parametrize(('name', 'sees'), [
    ('impactx', 'code'), ('impactx', 'features'), ('impactx', 'gradient'),
    ('impactx_single_stage', 'code'), ('impactx_single_stage', 'features'),
])
def test_the_explanation_teaches_lep_whatever_else_is_seen(name, sees):
  method, variables, _ = make(name, decoder_sees=sees, decoder_classes='all')
  batch = BATCH | {'mapped': jnp.ones(8), 'map_age': jnp.zeros(8)}
  without, _, none = loss_of(method, variables, batch, lambda_=0.0)
  total, aux, some = loss_of(method, variables, batch, lambda_=2.0)
  assert total == pytest.approx(
      without + 2 * aux.metrics['map_mse'][0] / 8, rel=1e-5
  )
  if name == 'impactx_single_stage':
    none, some = none['branch'], some['branch']
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), none, some)
  assert min(jax.tree.leaves(moved['lep'])) > 0
  assert max(jax.tree.leaves(moved['decoder'])) > 0
  # C is taught by the class alone.
  assert max(jax.tree.leaves(moved['classifier'])) == 0


def test_the_map_is_learned_at_the_explained_class():
  method, variables, _ = make(decoder_classes='all')
  batch = BATCH | {'explained': CLASSES[::-1]}
  _, aux, gradients = loss_of(method, variables, batch)
  cells = losses.pool(map_of(method, variables, CLASSES[::-1]), 4)
  mse = float(np.mean((cells - losses.pool(batch['map'], 4)) ** 2))
  assert aux.metrics['map_mse'][0] / 8 == pytest.approx(mse, rel=1e-4)
  # One example, class 2: the maps of no other class move.
  one = {k: v[:1] for k, v in batch.items()} | {'explained': jnp.array([2])}
  _, _, gradients = loss_of(method, variables, one)
  bias = gradients['decoder']['map']['bias'].reshape(3, NUM_CLASSES)
  assert (np.abs(bias).max(axis=0) > 0).tolist() == [False, False, True, False]


@pytest.mark.parametrize('name', ['impactx', 'explainer'])
@pytest.mark.parametrize(('output', 'masker', 'channels'), [
    ('probability', Masker('blur'), 1), ('logit', Masker('constant'), 0),
])
def test_a_complete_map_sums_to_what_hiding_the_image_takes(
    name, output, masker, channels
):
  config = make_config(
      name, map_cell=4, completeness=True, map_scaling='pixels',
      map_channels=channels, decoder_classes='all',
  )
  config.attribution.update(explained_output=output, masker=masker.name)
  methods.find(name).check(config)
  method, a = make_method(name, config)
  found = map_of(method, init(method, a), CLASSES)
  baseline = methods.create('baseline', config, methods.Problem(
      NUM_CLASSES, (32, 32, 3)
  ))

  def score(images):
    logits = predict(baseline, a, {'image': images}).logits
    values = jax.nn.softmax(logits) if output == 'probability' else logits
    return np.asarray(values)[np.arange(8), CLASSES]

  change = score(BATCH['image']) - score(masker.background(BATCH['image']))
  np.testing.assert_allclose(
      found.mean(axis=(1, 2)).sum(axis=-1), change, atol=1e-5
  )
  # In these units a map of SHAP's has the same mean.
  maps = np.full((1, 32, 32, 3), 0.25 / 3072, np.float32)
  target = losses.targets(maps, channels=channels, cell=4, scaling='pixels')
  assert target.mean(axis=(1, 2)).sum() == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize(('points', 'ways'), [(1, [0.5]), (2, [0.25, 0.75])])
def test_the_gradient_is_taken_on_the_way_to_the_hidden_image(points, ways):
  config = make_config('explainer', map_cell=4, gradient_points=points)
  problem = methods.Problem(NUM_CLASSES, (32, 32, 3))
  decoder = decoding.create(config, problem, sees='gradient', classes='all')
  _, a = make_method('explainer', config)
  seen = decoder.see(a, BATCH['image'], CLASSES)
  hidden = Masker('blur').background(BATCH['image'])
  missing = BATCH['image'] - hidden
  slope = sum(
      jax.grad(lambda x: decoder.score(a, x, CLASSES).sum())(
          hidden + way * missing
      ) for way in ways
  )
  expected = (slope * missing).sum(-1, keepdims=True)
  for found, wanted in (
      (seen.gradient, expected), (seen.cells, losses.pool(expected, 4))
  ):
    wanted /= np.abs(wanted).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


BAD = [
    ({'decoder_sees': 'gradients'}, {}, ("'gradient'", 'decoder_sees=')),
    ({'decoder_classes': 'both'}, {}, ('all, one', 'decoder_classes=')),
    ({'completeness': True}, {}, ("'max_abs'", 'map_scaling=pixels')),
    (
        {'completeness': True, 'map_scaling': 'pixels'},
        {'masker': 'inpaint_telea'},
        ("'inpaint_telea'", '--config.attribution.masker=blur'),
    ),
    (
        {'completeness': True, 'map_scaling': 'pixels'},
        {'classifier': 'DIR'},
        ('attribution.classifier', 'completeness=False'),
    ),
]


@pytest.mark.parametrize('name', ['impactx', 'explainer'])
@pytest.mark.parametrize(('changes', 'attribution', 'parts'), BAD)
def test_what_cannot_be_made_is_refused(name, changes, attribution, parts):
  config = make_config(name, **changes)
  config.attribution.update(attribution)
  with pytest.raises(InputError) as error:
    methods.find(name).check(config)
  for part in parts:
    assert part in str(error.value)


@pytest.mark.parametrize('changes', [
    {'decoder_sees': 'gradient'},
    {'completeness': True, 'map_scaling': 'pixels'},
])
def test_single_stage_has_no_answer_of_m_to_explain(changes):
  config = make_config('impactx_single_stage', **changes)
  with pytest.raises(InputError, match='M alone.*decoder_sees=NAME'):
    methods.find('impactx_single_stage').check(config)


@pytest.mark.parametrize('name', [
    'impactx', 'explainer', 'impactx_single_stage'
])
def test_a_backbone_without_a_stem_is_refused(tmp_path, name):
  path = tmp_path / 'plain.py'
  path.write_text("""
import dataclasses
from impactx_jax.models import lenet
BACKBONE = dataclasses.replace(lenet.BACKBONE, attention_stage=None)
""")
  config = make_config(name, decoder_sees='features')
  config.model.name = str(path)
  with pytest.raises(InputError, match='no stem.*--config.model.name=NAME'):
    methods.find(name).check(config)
  config.method.decoder_sees = 'code'
  if name != 'explainer':
    methods.find(name).check(config)
