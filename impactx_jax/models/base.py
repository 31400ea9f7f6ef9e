"""What a backbone is: a trunk and a head that are used apart."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from flax import linen as nn
from impactx_jax import parallel
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
  """

  trunk: Callable[[ConfigDict], nn.Module]
  head: Callable[[ConfigDict, int], nn.Module]
  min_size: int = 1
  attention_stage: Callable[[ConfigDict], nn.Module] | None = None


def dtype_of(model: ConfigDict) -> jnp.dtype:
  """Returns the type in which `config.model` computes."""
  return jnp.dtype(model.dtype)


def scaled(model: ConfigDict, channels: int) -> int:
  """Returns a number of channels times `config.model.width`, at least 1."""
  return max(1, round(channels * model.width))


def batch_norm(train: bool, dtype: jnp.dtype, name: str) -> nn.BatchNorm:
  """Normalises with the whole batch's statistics, of all devices together."""
  return nn.BatchNorm(
      use_running_average=not train,
      momentum=0.9,
      axis_name=parallel.AXIS if train else None,
      dtype=dtype,
      name=name,
  )


class Classifier(nn.Module):
  """Trunk and head in one: A before its softmax (IMPACTX, section 3.1)."""

  trunk: nn.Module
  head: nn.Module

  def __call__(self, images: jax.Array, train: bool = False) -> Scores:
    """Images float32 [B, H, W, C] in [0, 1] -> Scores."""
    return self.head(self.trunk(images, train), train)
