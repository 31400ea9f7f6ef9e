"""What a backbone is: a trunk and a head that are used apart."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from flax import linen as nn
from impactx_jax.models import layers
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

# Of `config.model.variant`: the network as published; without biases and
# normalisation, so that f(αx) = αf(x) for α >= 0; of B-cos layers.
VARIANTS = ('plain', 'x_dnn', 'b_cos')


class Scores(NamedTuple):
  """What a classifier's head gives.

  Attributes:
    logits: [B, K], before the softmax.
    features: [B, F], the input of the last layer.
  """

  logits: jax.Array
  features: jax.Array


@dataclasses.dataclass(frozen=True)
class Backbone:
  """The parts of a classifier, each made from `config.model`.

  Attributes:
    trunk: model -> the module images [B, H, W, C] -> features. ABN needs it
      to have two methods as well, of which it is made: `stem(images, train)`
      gives the input of the last stage, [B, h, w, F], and
      `last_stage(stem, train)` the features.
    head: (model, num_classes) -> the module features -> Scores.
    min_size: The smallest side of an image, in pixels.
    attention_stage: model -> the module with which ABN's attention branch
      begins, of the shape of the last stage at stride 1: [B, h, w, F] ->
      [B, h, w, F'].
    pool: Features [B, h, w, F] -> what LEP's dense layer sees, [B, F'].
    keras_layer: The path of a module that has weights, such as
      ('trunk', 'blocks_3', 'dw'), ('head', 'predictions') or
      ('attention_stage', 'block12', 'dw') -> the layer that has its weights
      in published files, by Keras's name. None: no weights are published.
    published: Which files those are, for messages.
    variants: Those of VARIANTS that its trunk and head know. In 'b_cos' each
      has an attribute `b_cos`, a `models.b_cos.BCos`.
    layers: Names of the places, from the input on, at which a trunk with the
      methods `until(images, layer)` and `after(features, layer)` is cut.
  """

  trunk: Callable[[ConfigDict], nn.Module]
  head: Callable[[ConfigDict, int], nn.Module]
  min_size: int = 1
  attention_stage: Callable[[ConfigDict], nn.Module] | None = None
  pool: Callable[[jax.Array], jax.Array] = layers.flatten
  keras_layer: Callable[[tuple[str, ...]], str] | None = None
  published: str = ''
  variants: tuple[str, ...] = VARIANTS[:1]
  layers: tuple[str, ...] = ('input',)


def dtype_of(model: ConfigDict) -> jnp.dtype:
  """Returns the type in which `config.model` computes."""
  return jnp.dtype(model.dtype)


def scaled(model: ConfigDict, channels: int) -> int:
  """Returns a number of channels times `config.model.width`, at least 1."""
  return max(1, round(channels * model.width))


class Classifier(nn.Module):
  """Trunk and head in one: A before its softmax (IMPACTX, section 3.1)."""

  trunk: nn.Module
  head: nn.Module

  def __call__(self, images: jax.Array, train: bool = False) -> Scores:
    """Images float32 [B, H, W, C] in [0, 1] -> Scores."""
    return self.head(self.trunk(images, train), train)

  def until(self, images: jax.Array, layer: str) -> jax.Array:
    """Images [B, H, W, C] -> features [B, h, w, F], in inference mode.

    Args:
      images: float32 [B, H, W, C] in [0, 1].
      layer: One of the backbone's `layers`, or 'trunk', where it ends.
    """
    if layer == 'trunk':
      return self.trunk(images)
    if hasattr(self.trunk, 'until'):
      return self.trunk.until(images, layer)
    return images

  def after(self, features: jax.Array, layer: str) -> Scores:
    """Features at a layer, as `until` gives them -> Scores."""
    if layer == 'trunk':
      return self.head(features)
    if hasattr(self.trunk, 'after'):
      return self.head(self.trunk.after(features, layer))
    return self(features)


def dynamic_linear(network: Classifier) -> Classifier | None:
  """Returns a B-cos network whose gradients are its linear map W(x).

  The same variables give the same scores; derivatives by features hold the
  scale of every B-cos unit fixed, see `models.b_cos`.

  Args:
    network: Of any variant; None is returned for one that is not B-cos.
  """
  parts = {'trunk': network.trunk, 'head': network.head}
  if any(getattr(part, 'b_cos', None) is None for part in parts.values()):
    return None
  return network.clone(**{
      name: part.clone(b_cos=dataclasses.replace(part.b_cos, explain=True))
      for name, part in parts.items()
  })
