"""What a backbone is: a trunk and a head that are used apart."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from flax import linen as nn
from impactx_jax.models import layers
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


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
  """

  trunk: Callable[[ConfigDict], nn.Module]
  head: Callable[[ConfigDict, int], nn.Module]
  min_size: int = 1
  attention_stage: Callable[[ConfigDict], nn.Module] | None = None
  pool: Callable[[jax.Array], jax.Array] = layers.flatten
  keras_layer: Callable[[tuple[str, ...]], str] | None = None
  published: str = ''


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
