"""A training method: three pure functions over one state."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# The collection of what only training needs: saved to continue from, and no
# part of the trained network.
SCRATCH = 'scratch'
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
      else the network needs, a frozen branch included, is in collections, and
      what only its training needs in collections[SCRATCH].
    loss: (params, collections, batch, rng) -> (mean loss, Aux). The batch
      holds `image` float32 [B, H, W, C], `label` int32 [B] and, if the method
      trains on maps, `map` float32 [B, H, W, C'].
    predict: (variables, images) -> Prediction, with variables
      {'params', 'collections'} and the network in inference mode; or
      (variables, images, maps) where `predicts_from_maps`.
    prepare: (params, collections, batch) -> (collections, batch): what comes
      before a batch is augmented, such as to add maps to it. The batch then
      also has `row` int32 [B], each example's place in the training split.
    predicts_from_maps: Whether it needs the image's map to classify it.
    explain: (variables, batch) -> the maps [B, H, W, C'] that it is trained on
      for this batch, for a method that makes them from itself.
    layers: variables -> (images -> features of the last convolution
      [B, h, w, F], features -> logits), for Grad-CAM; None where the network
      cannot be cut so.
  """

  init: Callable[[jax.Array], tuple[Any, Any]]
  loss: Callable[[Any, Any, Batch, jax.Array], tuple[jax.Array, Aux]]
  predict: Callable[..., Prediction]
  prepare: Callable[[Any, Any, Batch], tuple[Any, Batch]] | None = None
  predicts_from_maps: bool = False
  explain: Callable[[Any, Batch], jax.Array] | None = None
  layers: Callable[[Any], tuple[Callable, Callable]] | None = None

  def predict_batch(self, variables: Any, batch: Batch) -> Prediction:
    """Calls `predict` with what it needs of a batch."""
    inputs = [batch['image']]
    if self.predicts_from_maps:
      inputs.append(batch['map'])
    return self.predict(variables, *inputs)


@dataclasses.dataclass(frozen=True)
class Task:
  """What a method must know of the data and of stage one.

  Attributes:
    num_classes: K.
    image_shape: (H, W, C).
    classifier: The variables {'params', 'collections'} of the stage-one
      classifier; None for a method that does without.
    examples: How many it is trained on.
    masking: The arguments of `attribution.maskers.background`, for a method
      that explains while it trains.
  """

  num_classes: int
  image_shape: tuple[int, int, int]
  classifier: Any = None
  examples: int = 0
  masking: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Entry:
  """A method as METHODS lists it.

  Attributes:
    create: (config, task) -> Method.
    maps: Which maps it trains on: a key of `data.maps.KINDS`, or '' for none.
    from_scratch: Whether it trains a classifier from the start, and so as
      `config.classifier.training` says; otherwise `config.method.training`.
    changes: Of `config.method`: a control is a method with other settings.
    pretrained: Whether it can start from published weights.
    control: The method that is the same without the explanation, itself if
      need be; '' for one in whose loss the explanation is not.
    about: What its own map is, for those who look at it.
    check: Raises InputError for a config of which it cannot be made.
  """

  create: Callable[[Any, Task], Method]
  maps: str = ''
  from_scratch: bool = False
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)
  pretrained: bool = True
  control: str = ''
  about: str = ''
  check: Callable[[Any], None] | None = None


def without_scratch(collections: Any) -> dict[str, Any]:
  """Returns the collections of the trained network."""
  return {name: c for name, c in collections.items() if name != SCRATCH}


def mean_metrics(**values: jax.Array) -> Metrics:
  """Turns per-example values [B] into (sum, count) pairs."""
  return {name: (value.sum(), value.size) for name, value in values.items()}


def map_shape(options, image_shape: tuple[int, int, int]):
  """Returns (H, W, C') of the maps that `config.method` trains on."""
  return (*image_shape[:2], options.map_channels or image_shape[2])


def zeros(task: Task) -> jax.Array:
  """One black image, [1, H, W, C], for initialisation."""
  return jnp.zeros((1, *task.image_shape), jnp.float32)
