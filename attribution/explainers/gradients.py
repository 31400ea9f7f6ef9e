"""Explainers by gradients: a few passes of the model instead of thousands.

Each function builds a program, see `batched`.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from attribution import maskers
from attribution.errors import check_at_least
from attribution.errors import check_number
from attribution.errors import InputError
from attribution.explainers import linen
from attribution.explainers.batched import Program
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
from attribution.model_fn import Variables
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

# Steps of Integrated Gradients that are written out: XLA's convolutions for
# CPUs take three to ten times as long in a loop (jax-ml/jax#12868), and more
# steps than these as long to compile.
MOST_UNROLLED = 8


class Baselines(NamedTuple):
  """Images that stand for what a pixel could also have been.

  As bytes, so that equal ones hash alike.

  Attributes:
    shape: M, H, W, C.
    pixels: Of float32.
  """

  shape: tuple[int, ...]
  pixels: bytes


class Layers(NamedTuple):
  """A model cut in two: for Grad-CAM, after its last convolution.

  Attributes:
    features: (variables, images [B, H, W, C]) -> features [B, h, w, F].
    scores: (variables, features) -> scores [B, K].

  Of a scoring function without variables, both are without them as well.
  """

  features: Callable[[Variables, jax.Array], jax.Array]
  scores: Callable[[Variables, jax.Array], jax.Array]


def input_x_gradient(score_fn: ScoreFn) -> Program:
  """Builds Input×Gradient: each pixel times the score's derivative by it.

  Args:
    score_fn: Differentiable, (variables, images float32 [B, H, W, C]) ->
      scores [B, K].
  """

  def program(variables, images, classes):
    score = functools.partial(score_fn, variables)
    return images[..., None] * class_gradients(score, images, classes)

  return program


def integrated_gradients(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    integration_steps: int = 32,
) -> Program:
  """Builds Integrated Gradients (Sundararajan et al., 2017).

  The gradient is averaged on the straight way from the image with every pixel
  hidden to the image, and multiplied by their difference. Maps sum to the
  difference of the scores up to the error of the integration.

  Args:
    score_fn: Differentiable, (variables, images float32 [B, H, W, C]) ->
      scores [B, K].
    masker: Whose background the way begins at.
    integration_steps: Points on the way, each in the middle of its part.

  Raises:
    InputError: for settings that cannot be met.
  """
  check_at_least('integration_steps', integration_steps, 1)

  def program(variables, images, classes):
    score = functools.partial(score_fn, variables)
    start = masker.background(images)

    def add(total, i):
      share = (i + 0.5) / integration_steps
      between = start + share * (images - start)
      return total + class_gradients(score, between, classes), None

    precise = jnp.promote_types(images.dtype, jnp.float32)
    zeros = jnp.zeros((*images.shape, classes.shape[1]), precise)
    total, _ = lax.scan(
        add, zeros, jnp.arange(integration_steps),
        unroll=integration_steps <= MOST_UNROLLED,
    )
    return (images - start)[..., None] * total / integration_steps

  return program


def expected_gradients(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    baselines: Baselines | None = None,
    integration_steps: int = 32,
    seed: int = 0,
) -> Program:
  """Builds Expected Gradients (Erion et al., 2021).

  Integrated Gradients averaged over baselines, each gradient at a random place
  of the way from a random baseline. Each baseline is drawn as often as the
  others (but for a rest), and spread evenly over its way.

  Args:
    score_fn: Differentiable, (variables, images float32 [B, H, W, C]) ->
      scores [B, K].
    masker: Whose background is the baseline where none are given.
    baselines: Such as a hundred training images.
    integration_steps: Gradients an image.
    seed: Of the draws, which are the same for every image.

  Raises:
    InputError: for settings that cannot be met.
  """
  check_at_least('integration_steps', integration_steps, 1)
  starts = None
  if baselines is not None:
    starts = np.frombuffer(baselines.pixels, np.float32)
    starts = starts.reshape(baselines.shape)

  def program(variables, images, classes):
    if starts is not None and starts.shape[1:] != images.shape[1:]:
      raise InputError(
          f'The baselines are {starts.shape[1:]}, and the images '
          f'{images.shape[1:]}: give baselines [M, H, W, C] of their size.',
          'baselines',
      )
    score = functools.partial(score_fn, variables)
    hidden = masker.background(images)
    # Round after round, each baseline once in each: in every round on another
    # stretch of the way, which the baselines of a round share among them.
    count = 1 if starts is None else len(starts)
    rounds = -(-integration_steps // count)
    keys = jax.random.split(jax.random.key(seed), 3)
    stretch = jax.random.permutation(keys[0], rounds)[:, None]
    order, place = jax.vmap(jax.vmap(
        lambda key: jax.random.permutation(key, count)
    ))(jax.random.split(keys[1], (2, rounds)))
    order = order.ravel()[:integration_steps]
    # In that order, each gradient on its own part of the way.
    rank = (stretch * count + place).ravel()[:integration_steps]
    rank = rank.argsort().argsort()
    shift = jax.random.uniform(keys[2], (integration_steps,))
    shares = (rank + shift) / integration_steps

    def add(total, step):
      share, chosen = step
      start = hidden if starts is None else jnp.asarray(starts)[chosen]
      between = start + share * (images - start)
      gradient = class_gradients(score, between, classes)
      return total + (images - start)[..., None] * gradient, None

    zeros = jnp.zeros((*images.shape, classes.shape[1]), jnp.float32)
    return lax.scan(add, zeros, (shares, order))[0] / integration_steps

  return program


def smooth_grad(
    score_fn: ScoreFn,
    *,
    integration_steps: int = 32,
    noise: float = 0.1,
    seed: int = 0,
) -> Program:
  """Builds SmoothGrad: the mean gradient under noise (Smilkov et al., 2017).

  Args:
    score_fn: Differentiable, (variables, images float32 [B, H, W, C]) ->
      scores [B, K].
    integration_steps: Draws of the noise.
    noise: Its standard deviation, in the units of the pixels.
    seed: Of the noise, which is the same for every image.

  Raises:
    InputError: for settings that cannot be met.
  """
  check_at_least('integration_steps', integration_steps, 1)
  check_number('noise', noise)

  def program(variables, images, classes):
    score = functools.partial(score_fn, variables)

    def add(total, key):
      moved = noise * jax.random.normal(key, images.shape[1:])
      return total + class_gradients(score, images + moved, classes), None

    zeros = jnp.zeros((*images.shape, classes.shape[1]), jnp.float32)
    keys = jax.random.split(jax.random.key(seed), integration_steps)
    return lax.scan(add, zeros, keys)[0] / integration_steps

  return program


def grad_cam(
    score_fn: ScoreFn, *, layers: Layers | None = None, layer: str = ''
) -> Program:
  """Builds Grad-CAM (Selvaraju et al., 2017).

  The channels of a convolution, most often the last, weighted by their mean
  gradient, summed, cut at 0, and brought to the image's size by bilinear
  interpolation. The image's channels share the value of a pixel evenly.

  Args:
    score_fn: (variables, images float32 [B, H, W, C]) -> scores [B, K].
    layers: The same model, cut after the convolution; or
    layer: The path of a Flax Linen module that `score_fn` calls, such as
      'Conv_1' or 'block_4/conv'.

  Raises:
    InputError: without either, or with both.
  """
  if layers is not None and layer:
    raise InputError(
        f'Both layer={layer!r} and layers are given, and each says where the '
        'model is cut: give one.', 'layer',
    )
  if layers is None and not layer:
    raise InputError(
        "The explainer 'grad_cam' needs the convolution whose channels it "
        "weighs: of a Flax Linen model its path, layer='Conv_1'; of another "
        'the model cut after it, layers=Layers(features, scores).',
        'explainer',
        'NAME',
    )

  def program(variables, images, classes):
    count, height, width, channels = images.shape
    if layers is None:
      tap = functools.partial(linen.tap, score_fn, layer, variables, images)
      features = tap()[1]

      def score(features):
        return tap(features)[0]

    else:
      features = layers.features(variables, images)
      score = functools.partial(layers.scores, variables)
    features = features.astype(jnp.float32)
    if features.ndim != 4:
      raise InputError(
          'Grad-CAM weighs the channels of a convolution, features '
          f'[B, h, w, F]; these are {list(features.shape)}. Name an earlier '
          'layer.', 'layer', 'NAME',
      )
    gradients = class_gradients(score, features, classes)
    weights = gradients.mean(axis=(1, 2), keepdims=True)
    cam = jax.nn.relu((weights * features[..., None]).sum(axis=3))
    cam = jax.image.resize(
        cam, (count, height, width, classes.shape[1]), 'bilinear'
    )
    return jnp.repeat(cam[:, :, :, None] / channels, channels, axis=3)

  return program


def b_cos(score_fn: ScoreFn, *, layers: Layers | None = None) -> Program:
  """Builds the contributions W(x) ⊙ x of a B-cos network (Böhle et al., 2022).

  With the scale of each unit held fixed, the network is one linear map of its
  encoded input, and the gradient a row of it. What is encoded of a pixel, such
  as x and 1 - x of a colour, is summed into that colour; the sum of a map is
  the score, but for what is added after the map.

  Args:
    score_fn: (variables, images float32 [B, H, W, C]) -> scores [B, K].
    layers: The same network in its explanation mode, cut after the encoding:
      images -> [B, H, W, m C], whose channels c, C + c, … are of colour c, and
      these -> scores, whose gradient knows of no change of the scales.

  Raises:
    InputError: without layers.
  """
  if layers is None:
    raise InputError(
        "The explainer 'b_cos' is for B-cos networks alone. Give the network "
        'in its explanation mode, cut after the encoding of its input, '
        'layers=Layers(features, scores); or choose another.',
        'explainer', 'NAME',
    )

  def program(variables, images, classes):
    encoded = layers.features(variables, images)
    if encoded.shape[:3] != images.shape[:3] or (
        encoded.shape[3] % images.shape[3]
    ):
      raise InputError(
          f'b_cos explains an encoding of images {images.shape[1:]}, with a '
          f'multiple of their channels; this is {encoded.shape[1:]}. Cut the '
          'network before its first convolution.', 'layers',
      )
    score = functools.partial(layers.scores, variables)
    added = encoded[..., None] * class_gradients(score, encoded, classes)
    added = added.reshape(
        *images.shape[:3], -1, images.shape[3], classes.shape[1]
    )
    return added.sum(axis=3).astype(jnp.float32)

  return program


def class_gradients(
    score: Callable[[jax.Array], jax.Array],
    inputs: jax.Array,
    classes: jax.Array,
) -> jax.Array:
  """Returns d score(inputs)[class] / d inputs, [N, …, K'].

  Args:
    score: Inputs [N, …] -> scores [N, K].
    inputs: [N, …].
    classes: int32 [N, K'].
  """

  def total(inputs, column):
    scores = score(inputs)
    return jnp.take_along_axis(scores, column[:, None], axis=1).sum()

  columns = [
      jax.grad(total)(inputs, classes[:, k]) for k in range(classes.shape[1])
  ]
  return jnp.stack(columns, axis=-1)
