"""`attribution.Explainer`: one object, any number of images, any weights."""

import dataclasses
import inspect

import attribution
from attribution.errors import InputError
import jax
import numpy as np
import pytest
from tests.attribution.test_compilations import IMAGES
from tests.attribution.test_compilations import LABELS
from tests.attribution.test_compilations import compiled as compiled
from tests.attribution.test_compilations import fresh
from tests.attribution.test_compilations import make_weights
from tests.attribution.test_compilations import score

OPTIONS = {'masker': 'constant', 'max_evals': 40, 'integration_steps': 3}


@pytest.mark.parametrize('name', ['partition', 'integrated_gradients'])
def test_other_weights_and_other_images_compile_nothing(compiled, name):
  explainer = attribution.Explainer(
      fresh(score), variables=make_weights(0), explainer=name, **OPTIONS
  )
  assert compiled() == 0  # Nothing before there are images.
  first = explainer(IMAGES, LABELS)
  built = compiled()
  assert built == 2  # The check of the first image, and the explainer.
  other = dataclasses.replace(explainer, variables=make_weights(1))
  second = other(IMAGES, LABELS)
  assert np.abs(first - second).max() > 1e-3
  np.testing.assert_array_equal(explainer(IMAGES, LABELS), first)
  np.testing.assert_allclose(
      explainer(IMAGES[::-1], LABELS[::-1])[::-1], first, atol=1e-6
  )
  assert compiled() == built
  np.testing.assert_array_equal(
      attribution.explain(
          explainer.score_fn, IMAGES, LABELS, variables=make_weights(1),
          explainer=name, **OPTIONS,
      ),
      second,
  )
  assert compiled() == built


@pytest.mark.parametrize(('options', 'evaluations'), [
    ({}, 2000), ({'max_evals': 300}, 300),
    ({'explainer': 'partition_grid', 'grid': 4}, 172),
    ({'explainer': 'integrated_gradients'}, 32),
    ({'explainer': 'input_x_gradient'}, 1), ({'explainer': 'edges'}, 0),
])
def test_it_says_what_an_image_costs(options, evaluations):
  assert attribution.Explainer(score, **options).evaluations == evaluations


@pytest.mark.parametrize(('options', 'said'), [
    ({'explainer': 'partitoin'}, "'partition'"),
    ({'masker': 'blurred'}, "'blur'"),
    ({'masker': 'inpaint_ns'}, 'shap_partition alone'),
    ({'explainer': 'integrated_gradients', 'integration_steps': 0}, '1 or'),
    ({'explainer': 'grad_cam'}, 'layers=Layers'),
    ({'blur_kernel': -1}, '1 or more'),
])
def test_options_are_checked_before_there_are_images(options, said):
  with pytest.raises(InputError) as error:
    attribution.Explainer(score, **options)
  assert said in str(error.value)


def test_an_option_that_there_is_not_is_a_type_error():
  with pytest.raises(TypeError, match='max_eval'):
    attribution.explain(score, IMAGES, LABELS, max_eval=300)


def test_all_options_of_all_explainers_can_be_given():
  known = {
      option
      for name in attribution.explainers.EXPLAINERS
      for option in attribution.explainers.options_of(name)
  }
  assert known <= {*inspect.signature(attribution.Explainer).parameters}


def test_it_is_immutable_and_shows_its_options():
  explainer = attribution.Explainer(score, max_evals=300)
  with pytest.raises(dataclasses.FrozenInstanceError):
    explainer.max_evals = 500
  assert 'max_evals=300' in repr(explainer)
  assert '_explain' not in repr(explainer)
  assert jax.tree.leaves(explainer) == [explainer]  # No tree of its own.
