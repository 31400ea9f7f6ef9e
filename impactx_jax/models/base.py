"""What a backbone is: a trunk and a head that are used apart."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from flax import linen as nn
import jax


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
  """The two halves of a classifier.

  Attributes:
    trunk: Makes the module images [B, H, W, C] -> features.
    head: Makes the module features -> Scores; takes `num_classes`.
    min_size: The smallest side of an image, in pixels.
  """

  trunk: Callable[..., nn.Module]
  head: Callable[..., nn.Module]
  min_size: int


class Classifier(nn.Module):
  """Trunk and head in one: A before its softmax (IMPACTX, section 3.1)."""

  trunk: nn.Module
  head: nn.Module

  def __call__(self, images: jax.Array, train: bool = False) -> Scores:
    """Images float32 [B, H, W, C] in [0, 1] -> Scores."""
    return self.head(self.trunk(images, train), train)
