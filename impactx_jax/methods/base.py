"""A training method: pure functions over one state, and what it says of itself.

`Spec` is what a method's file declares; `Method` what it builds for given
data. The loop, the stages, the tables and the report know nothing else of a
method.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple

from attribution import explainers
from attribution import maskers
from impactx_jax import tasks
from impactx_jax import user_files
from impactx_jax.data.columns import Columns
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

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
class Problem:
  """What a method must know of the data; hashable.

  Attributes:
    num_classes: K.
    image_shape: (H, W, C).
    task: A name in `tasks.TASKS`.
    examples: How many it is trained on; 0 for a method that does not explain
      while it trains, see `Spec.explains`.
    masker: What hides pixels, for a method that does.
  """

  num_classes: int
  image_shape: tuple[int, int, int]
  task: str = 'classification'
  examples: int = 0
  masker: maskers.Masker = maskers.BLUR


@dataclasses.dataclass(frozen=True)
class Method:
  """How a network is made, trained and used.

  Variables are {'params', 'collections'}. A batch holds the columns of the
  data (`image` float32 [B, H, W, C], `label` int32 [B] or `labels` int32
  [B, K], whatever else there is, see `data.columns`) and, if the method trains
  on maps, `map` float32 [B, H, W, C'].

  Attributes:
    task: What is asked of an image.
    init: (key, classifier) -> (params, collections), with the variables of
      stage one's classifier, None for a method that does without. What is
      trained is in params; whatever else the network needs, a frozen branch
      included, is in collections, and what only its training needs in
      collections[SCRATCH].
    loss: (params, collections, batch, key) -> (mean loss, Aux). The batch also
      has the scalars that the Spec names, float32 [].
    predict: (variables, batch) -> Prediction, the network in inference mode.
    inputs: The columns that `predict` needs; more than the image where a
      forward pass of the image alone is not enough.
    prepare: (state, batch, key) -> (state, batch), with the
      `training.train_step.TrainState`: what comes before a batch is augmented,
      such as to add maps to it. The batch also has `row` int32 [B], each
      example's place in the training split.
    explain: (variables, batch) -> the maps [B, H, W, C'] that it is trained on
      for this batch, for a method that makes them from itself.
    map_of: (variables, batch, classes int [B]) -> the network's own map of
      these classes, [B, H, W, C'], for one that has a map for each; that of
      `predict` is of the class that it answers.
    code: (variables, batch) -> float32 [B, U], what its decoder starts from,
      for one that has such a code.
    measures: (variables, batch) -> {name: (values, counts)}, [B] both: what it
      measures of a split beside its task, see `evaluator.batch_measures`; of a
      batch without what it needs, nothing.
    layers: The network cut after its last convolution, images -> features and
      features -> logits; None where it cannot be.
    linear: Of a B-cos network: the same with every scale held fixed in
      gradients, images -> [x, 1 - x] and these -> logits, for the explainer
      b_cos; None for other networks.
    parts: By name, the places in the variables of what can be randomised by
      itself, such as {'M': (('collections', 'classifier'),)}.
  """

  task: tasks.Task
  init: Callable[[jax.Array, Any], tuple[Any, Any]]
  loss: Callable[[Any, Any, Batch, jax.Array], tuple[jax.Array, Aux]]
  predict: Callable[[Any, Batch], Prediction]
  inputs: tuple[str, ...] = ('image',)
  prepare: Callable[[Any, Batch, jax.Array], tuple[Any, Batch]] | None = None
  explain: Callable[[Any, Batch], jax.Array] | None = None
  map_of: Callable[[Any, Batch, jax.Array], jax.Array] | None = None
  code: Callable[[Any, Batch], jax.Array] | None = None
  measures: Callable[[Any, Batch], Metrics] | None = None
  layers: explainers.Layers | None = None
  linear: explainers.Layers | None = None
  parts: Mapping[str, tuple[tuple[str, ...], ...]] = (
      dataclasses.field(default_factory=dict, hash=False)
  )

  def shapes(self, classifier: Any = None) -> dict[str, Any]:
    """Returns the shapes of the trained variables, without computing them.

    Args:
      classifier: The shapes of stage one's variables, where it needs these.
    """
    params, collections = jax.eval_shape(
        self.init, jax.random.key(0), classifier
    )
    return {'params': params, 'collections': without_scratch(collections)}


def _nothing(options: ConfigDict) -> str:
  del options
  return ''


@dataclasses.dataclass(frozen=True, eq=False)
class Spec:
  """What a method's file declares.

  Attributes:
    create: (config, problem) -> Method, of the sections `model`, `method` and
      `attribution` of the config. Called once for equal arguments.
    title: How pictures and tables call it.
    options: Its fields of `config.method` with their defaults; the same option
      of two methods has one default.
    scalars: Those of its options whose value is handed to the loss, in the
      batch, instead of being compiled: `create` learns only whether it is 0.
    check: Raises InputError for a config of which it cannot be made.
    check_data: (config, data) -> None; the same for the data's fingerprint.
    columns: (columns of the training split, config, the data's fingerprint)
      -> those that it is trained on.
    maps: config.method -> which maps it trains on, a key of
      `data.maps.KINDS`; '' for none.
    unmapped: Whether it is trained on the images without a map as well, when
      there are fewer maps than images; `map` is 0 there, and `mapped` says
      where there is one.
    explains: Whether it explains while it trains. Only then does `create` learn
      the number of examples and the masker, which other seeds have others of.
    from_scratch: Whether it trains a classifier from the start, and so as
      `config.classifier.training` says; otherwise `config.method.training`.
    changes: Of `config.method`: a control is a method with other settings.
    control: The method that is the same without the explanation, itself if
      need be; '' for one in whose loss the explanation is not.
    about: config.method -> what its own map is, for those who look at it.
    published: config.method -> the modules that do not start from published
      weights where A does; None where no module can.
    cost: (config, summary, maps) -> the evaluations of the model that its maps
      took; None for what so many `maps` take that were made beforehand.
  """

  create: Callable[[ConfigDict, Problem], Method]
  title: str
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  scalars: tuple[str, ...] = ()
  check: Callable[[ConfigDict], None] = lambda config: None
  check_data: Callable[[ConfigDict, dict], None] = lambda config, data: None
  columns: Callable[[Columns, ConfigDict, dict], Columns] = (
      lambda columns, config, data: columns
  )
  maps: Callable[[ConfigDict], str] = _nothing
  unmapped: bool = False
  explains: bool = False
  from_scratch: bool = False
  changes: dict[str, Any] = dataclasses.field(default_factory=dict)
  control: str = ''
  about: Callable[[ConfigDict], str] = _nothing
  published: Callable[[ConfigDict], tuple[str, ...] | None] = (
      lambda options: ()
  )
  cost: Callable[[ConfigDict, dict, int], int] | None = None

  def variant(self, title: str, **changes: Any) -> 'Spec':
    """Returns the same method with other settings: a control of it."""
    return dataclasses.replace(self, title=title, changes=changes)

  @property
  def section(self) -> str:
    """Whose training it follows: 'classifier' or 'method'."""
    return 'classifier' if self.from_scratch else 'method'


def without_scratch(collections: Any) -> dict[str, Any]:
  """Returns the collections of the trained network."""
  return {name: c for name, c in collections.items() if name != SCRATCH}


def mean_metrics(**values: jax.Array) -> Metrics:
  """Turns per-example values [B] into (sum, count) pairs."""
  return {name: (value.sum(), value.size) for name, value in values.items()}


def task_metrics(
    task: tasks.Task, logits: jax.Array, batch: Batch
) -> Metrics:
  """Returns what the task measures of a batch, as (sum, count) pairs."""
  return {
      name: (values.sum(), counts.sum())
      for name, (values, counts) in task.measures(logits, batch).items()
  }


def factory(explainer: str) -> str | Callable[..., Any] | explainers.Spec:
  """Returns what `explainers.create` takes: a name, or the user's EXPLAINER."""
  if not user_files.is_file(explainer):
    return explainer
  return user_files.load(
      explainer, 'EXPLAINER', (Callable, explainers.Spec),
      '--config.attribution.explainer',
  )


def evaluations(attribution: ConfigDict) -> int:
  """Returns how many model evaluations `config.attribution` spends a map."""
  return explainers.evaluations(
      factory(attribution.explainer),
      max_evals=attribution.max_evals,
      grid=attribution.grid,
      integration_steps=attribution.integration_steps,
  )


def map_shape(
    options: ConfigDict, image_shape: tuple[int, int, int]
) -> tuple[int, int, int]:
  """Returns (H, W, C') of the maps that `config.method` trains on."""
  return (*image_shape[:2], options.map_channels or image_shape[2])


def zeros(problem: Problem) -> jax.Array:
  """One black image, [1, H, W, C], for initialisation."""
  return jnp.zeros((1, *problem.image_shape), jnp.float32)


def flax_variables(variables: dict[str, Any]) -> dict[str, Any]:
  """{'params', 'collections'} -> the variables as Flax takes them."""
  return {'params': variables['params'], **variables['collections']}
