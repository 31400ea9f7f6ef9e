"""Both forms of a convolution agree, in value and in gradient."""

from flax import linen as nn
from impactx_jax.models import convolution
import jax
import jax.numpy as jnp
import numpy as np
import pytest

BELOW = ((0, 1), (0, 1))
CASES = [
    # side, stride, padding, channels, filters, groups, whether it is another
    (3, 1, 'SAME', 8, 8, 8, True), (3, 2, BELOW, 8, 8, 8, True),
    (5, 1, 'SAME', 6, 6, 6, True), (5, 2, 'SAME', 6, 6, 6, True),
    (3, 2, 'VALID', 8, 8, 8, True), (1, 1, 'SAME', 8, 5, 1, True),
    (1, 1, 'VALID', 8, 5, 1, True), (1, 2, 'SAME', 8, 5, 1, False),
    (3, 2, BELOW, 3, 16, 1, True), (3, 1, 'SAME', 1, 6, 1, True),
    (3, 1, 'SAME', 8, 5, 1, False), (3, 1, 'SAME', 8, 16, 8, False),
    (3, 1, 'SAME', 8, 8, 2, False), (1, 1, BELOW, 8, 5, 1, False),
]


def layers(side, stride, padding, filters, groups, **options):
  """The layer as it is, and as it is for a CPU."""
  return [
      nn.Conv(
          filters, (side, side), stride, padding=padding,
          feature_group_count=groups, use_bias=False,
          conv_general_dilated=form, **options,
      )
      for form in (None, convolution.convolve)
  ]


@pytest.mark.parametrize('size', [(9, 12), (8, 8)])
@pytest.mark.parametrize(
    ('side', 'stride', 'padding', 'channels', 'filters', 'groups', 'other'),
    CASES,
)
def test_both_forms_agree_in_value_and_gradient(
    size, side, stride, padding, channels, filters, groups, other
):
  plain, ours = layers(side, stride, padding, filters, groups)
  keys = jax.random.split(jax.random.key(side + stride + filters))
  images = jax.random.normal(keys[0], (2, *size, channels))
  variables = plain.init(keys[1], images)
  jax.tree.map(
      np.testing.assert_array_equal, variables, ours.init(keys[1], images)
  )

  def loss(layer):
    def of(variables, images):
      found = layer.apply(variables, images)
      return jnp.sin(found).sum(), found

    return jax.jit(jax.value_and_grad(of, argnums=(0, 1), has_aux=True))

  expected, found = (loss(f)(variables, images) for f in (plain, ours))
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5),
      expected, found,
  )
  compiled = jax.jit(ours.apply).lower(variables, images).compile().as_text()
  assert (' convolution(' not in compiled) == other


@pytest.mark.parametrize('options', [
    {'kernel_dilation': 2}, {'dtype': jnp.bfloat16},
])
def test_what_it_has_no_form_for_is_as_it_is(options):
  plain, ours = layers(3, 1, 'SAME', 8, 8, **options)
  images = jax.random.normal(jax.random.key(0), (2, 9, 9, 8))
  variables = plain.init(jax.random.key(1), images)
  np.testing.assert_array_equal(
      plain.apply(variables, images), ours.apply(variables, images)
  )


def test_for_an_accelerator_the_plain_form_is_compiled():
  images, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))

  def call(images, kernel):
    return convolution.convolve(
        images, kernel, (1, 1), 'SAME', feature_group_count=4,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  for platform, plain in (('cuda', True), ('tpu', True), ('cpu', False)):
    exported = jax.export.export(jax.jit(call), platforms=[platform])(
        images, kernel
    )
    text = exported.mlir_module()
    assert ('stablehlo.convolution' in text) == plain


@pytest.mark.parametrize(
    ('sides', 'options'),
    [
        (((2, 9, 8, 3), (3, 3, 3, 4)), {'padding': 'VALID'}),
        (((2, 9, 8, 3), (3, 3, 3, 4)), {'window_strides': (2, 1)}),
        (((2, 9, 8, 3), (5, 2, 3, 4)), {'padding': [(1, 2), (0, 1)]}),
        (((2, 9, 8, 4), (3, 3, 2, 6)), {'feature_group_count': 2}),
        (((2, 9, 8, 3), (3, 3, 3, 4)), {'rhs_dilation': (2, 2)}),
    ],
)
def test_three_gradients_of_the_plain_form_are_those_of_lax(sides, options):
  options = {
      'window_strides': (1, 1), 'padding': 'SAME',
      'dimension_numbers': ('NHWC', 'HWIO', 'NHWC'), **options,
  }
  keys = jax.random.split(jax.random.key(0), 2)
  arrays = [*map(jax.random.normal, keys, sides)]

  def all_gradients(form):
    def loss(inputs, kernel):
      return jnp.sin(form(inputs, kernel)).sum()

    def second(inputs, kernel):
      found = jax.grad(loss, (0, 1))(inputs, kernel)
      return sum(jnp.cos(x).sum() for x in found)

    def third(inputs, kernel):
      found = jax.grad(second, (0, 1))(inputs, kernel)
      return sum((x**2).sum() for x in found)

    return [
        jax.jit(jax.grad(of, (0, 1)))(*arrays) for of in (loss, second, third)
    ]

  expected = all_gradients(
      lambda x, k: jax.lax.conv_general_dilated(x, k, **options)
  )
  found = all_gradients(lambda x, k: convolution.plain(
      x, k, convolution.frozen(**options)
  ))
  pairs = zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True)
  for a, b in pairs:
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * abs(a).max())


def test_a_loss_on_a_gradient_has_no_form_that_a_cpu_is_slow_at():
  images, kernel = jnp.zeros((4, 16, 16, 8)), jnp.zeros((3, 3, 8, 8))
  options = convolution.frozen(
      window_strides=(1, 1), padding='VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )

  def compiled(form):
    def loss(kernel, images):
      return (jax.grad(lambda x: (form(x, kernel)**2).sum())(images)**2).sum()

    return jax.jit(jax.grad(loss)).lower(kernel, images).compile().as_text()

  # Windows as large as the image, read backwards.
  assert 'rhs_reversal' in compiled(
      lambda x, k: jax.lax.conv_general_dilated(x, k, **dict(options))
  )
  assert 'rhs_reversal' not in compiled(
      lambda x, k: convolution.plain(x, k, options)
  )
