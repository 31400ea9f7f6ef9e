"""Explainers as pure functions: the maps are those of `create`."""

from attribution import explainers
from attribution.errors import InputError
from attribution.maskers import Masker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attribution.shap_fixtures import WEIGHTS
from tests.attribution.shap_fixtures import make_images
from tests.attribution.shap_fixtures import network_score

COLOUR = 0.2, 0.5, 0.9
OPTIONS = dict(
    masker=Masker('constant', mask_value=COLOUR),
    max_evals=40, batch_size=10, grid=4,
)
CLASSES = np.array([[0, 2], [1, 0], [2, 2], [1, 1], [0, 1]], np.int32)


@pytest.fixture(params=['partition', 'partition_grid'])
def name(request):
  return request.param


def assert_same_maps(found, wanted):
  assert found.shape == wanted.shape
  scale = np.abs(wanted).max()
  assert scale > 1e-2  # Or the comparison would be empty.
  np.testing.assert_allclose(found, wanted, atol=1e-5 * scale)


@pytest.mark.parametrize('masker', ['blur', 'mean', 'constant'])
def test_inside_a_jitted_function_the_maps_are_those_of_create(name, masker):
  options = OPTIONS | {'masker': Masker(masker, 3, COLOUR)}
  images = make_images(5)
  program = explainers.create_program(name, network_score, **options)
  explain = explainers.create(name, network_score, **options)
  found = jax.jit(program)(WEIGHTS, images, CLASSES)
  assert isinstance(found, jax.Array)
  assert_same_maps(found, explain(WEIGHTS, images, CLASSES))


def test_the_model_may_be_an_argument_of_the_jitted_function(name):
  # As in training, where each step has other parameters.
  @jax.jit
  def maps(scale, images, classes):
    program = explainers.create_program(name, network_score, **OPTIONS)
    weights = {**WEIGHTS, 'dense': scale * WEIGHTS['dense']}
    return program(weights, images, classes)

  images = make_images(5)
  explain = explainers.create(name, network_score, **OPTIONS)
  wanted = explain(WEIGHTS, images, CLASSES[:, 0])
  for scale in (1.0, -3.0):
    found = maps(jnp.float32(scale), images, CLASSES[:, :1])
    assert_same_maps(found[..., 0], scale * wanted)


def test_a_branch_may_leave_it_out(name):
  program = explainers.create_program(name, network_score, **OPTIONS)

  @jax.jit
  def maybe(now, images, classes):
    shape = (*images.shape, classes.shape[1])
    return jax.lax.cond(
        now, lambda: program(WEIGHTS, images, classes), lambda: jnp.zeros(shape)
    )

  images = make_images(5)
  explain = explainers.create(name, network_score, **OPTIONS)
  assert_same_maps(
      maybe(True, images, CLASSES), explain(WEIGHTS, images, CLASSES)
  )
  assert not maybe(False, images, CLASSES).any()


def test_an_explainer_that_is_no_program_is_refused():
  with pytest.raises(InputError) as error:
    explainers.create_program('shap_partition', network_score)
  for part in (
      "'shap_partition'", 'partition_grid', 'Change it with explainer=NAME.'
  ):
    assert part in str(error.value)


@pytest.mark.parametrize(('name', 'options'), [
    ('partition', {'masker': Masker('inpaint_ns')}),
    ('partition', {'max_evals': 1}),
    ('partition', {'batch_size': 0}),
    ('partition_grid', {'grid': 3}),
])
def test_impossible_settings_are_refused(name, options):
  with pytest.raises(InputError) as error:
    explainers.create_program(name, network_score, **options)
  assert [error.value.argument] == list(options)


def test_it_takes_the_options_of_others_and_leaves_them():
  # `grid` is not partition's, `max_evals` not partition_grid's.
  for name, unused in (
      ('partition', {'grid': 4}), ('partition_grid', {'max_evals': 40}),
  ):
    given = {k: v for k, v in OPTIONS.items() if k not in unused}
    program = explainers.create_program(name, network_score, **given)
    with_it = explainers.create_program(
        name, network_score, **given, **unused
    )
    assert with_it is program
