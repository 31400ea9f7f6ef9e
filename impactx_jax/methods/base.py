"""A training method: three pure functions over one state."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax

Batch = dict[str, jax.Array]
Metrics = dict[str, tuple[jax.Array, jax.Array]]


class Prediction(NamedTuple):
  """What one forward pass gives.

  Attributes:
    logits: float32 [B, K].
    attribution: The method's own map, float32 [B, H, W, C'], or None.
  """

  logits: jax.Array
  attribution: jax.Array | None = None


class Aux(NamedTuple):
  """What a loss gives beside its value.

  Attributes:
    collections: The non-trained variables after the step.
    metrics: (sum, count) of each metric over the batch. `loss` must be among
      them: the loop stops when it is not finite.
  """

  collections: Any
  metrics: Metrics


@dataclasses.dataclass(frozen=True)
class Method:
  """How a network is made, trained and used.

  The loop, the checkpoints, the evaluation and the report know nothing else
  of a method, so a new one is a new file and a line in METHODS.

  Attributes:
    init: rng -> (params, collections). What is trained is in params; whatever
      else the network needs, a frozen branch included, is in collections.
    loss: (params, collections, batch, rng) -> (mean loss, Aux). The batch
      holds `image` float32 [B, H, W, C], `label` int32 [B] and, if the method
      uses maps, `map` float32 [B, H, W, C'].
    predict: (variables, images) -> Prediction, with variables
      {'params', 'collections'} and the network in inference mode.
    uses_maps: Whether it trains on the shards of the attribution stage.
  """

  init: Callable[[jax.Array], tuple[Any, Any]]
  loss: Callable[[Any, Any, Batch, jax.Array], tuple[jax.Array, Aux]]
  predict: Callable[[Any, jax.Array], Prediction]
  uses_maps: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
  """What a method must know of the data and of stage one.

  Attributes:
    num_classes: K.
    image_shape: (H, W, C).
    map_channels: Channels of the maps it trains on.
    classifier: The variables {'params', 'collections'} of the stage-one
      classifier; None for stage one itself.
  """

  num_classes: int
  image_shape: tuple[int, int, int]
  map_channels: int = 0
  classifier: Any = None


def mean_metrics(**values: jax.Array) -> Metrics:
  """Turns per-example values [B] into (sum, count) pairs."""
  return {name: (value.sum(), value.size) for name, value in values.items()}
