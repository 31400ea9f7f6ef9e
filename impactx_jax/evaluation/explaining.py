"""Networks explained as `config.attribution` describes: explainers for them."""

from collections.abc import Callable
import functools
from typing import Any

from absl import logging
from attribution import explainers
from attribution import model_fn
from attribution.errors import InputError
from attribution.explainers import ScoreFn
from attribution.maskers import BACKGROUND_MASKERS
from attribution.maskers import Masker
from attribution.service import MapMaker
from impactx_jax import methods
from impactx_jax import user_files
from impactx_jax.data.columns import Columns
from impactx_jax.methods import base
from impactx_jax.training import evaluator
import jax
from ml_collections import ConfigDict
import numpy as np

Network = tuple[methods.Method, dict[str, Any]]
# Variables, images [N, H, W, C], classes [N] -> maps [N, H, W, C'].
Explain = Callable[[Any, np.ndarray, np.ndarray], np.ndarray]
PREFIX = '--config.attribution.'


def answers(
    network: Network, columns: Columns, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the logits [N, K], and the class that is answered first, [N].

  Args:
    network: The method, and its variables.
    columns: Of the images.
    batch_size: Examples a forward pass.
  """
  logits = evaluator.predict(
      *network, columns, batch_size, attribution=False
  ).logits
  return logits, network[0].task.top(logits)


@functools.lru_cache(maxsize=64)
def scores(method: methods.Method, output: str) -> ScoreFn:
  """What is explained of a network: (variables, [B, H, W, C]) -> [B, K].

  The same function for the same method, so that what is compiled for one set
  of its variables serves all.

  Args:
    method: The network's method.
    output: 'probability' (as the task has it) or 'logit'.
  """

  def score_fn(variables, images):
    logits = method.predict(variables, {'image': images}).logits
    return _explained(method, output, logits)

  return score_fn


def _explained(method: methods.Method, output: str, logits: jax.Array):
  return method.task.probabilities(logits) if output == 'probability' else (
      logits
  )


@functools.lru_cache(maxsize=64)
def layers(
    method: methods.Method, output: str, explainer: str = 'grad_cam'
) -> explainers.Layers | None:
  """What `scores` explains, cut in two as an explainer needs it.

  Args:
    method: The network's method.
    output: As `scores` takes it.
    explainer: Its name or its file; None is returned for one that needs no
      layers, and where the network is not cut like that.
  """
  cut = {'grad_cam': method.layers, 'b_cos': method.linear}.get(explainer)
  if cut is None:
    return None
  features, logits = cut

  def scores_of(variables, values):
    return _explained(method, output, logits(variables, values))

  return explainers.Layers(features, scores_of)


def can_explain(method: methods.Method, explainer: str) -> bool:
  """Whether a network is cut as an explainer needs it, if it needs that."""
  return explainer not in explainers.NEED_LAYERS or (
      layers(method, 'logit', explainer) is not None
  )


def masker(attribution: ConfigDict, training_images: np.ndarray) -> Masker:
  """Returns what hides pixels, as `config.attribution` describes it.

  Args:
    attribution: The config section.
    training_images: uint8 [N, H, W, C], for the colour of the mean masker.
  """
  value = attribution.mask_value
  if attribution.masker == 'mean':
    value = training_images.mean(axis=(0, 1, 2), dtype=np.float64) / 255
  return Masker(attribution.masker, attribution.blur_kernel, value)


def explainer(
    method: methods.Method,
    attribution: ConfigDict,
    masker: Masker,
    **changes: Any,
) -> Explain:
  """Returns `explain(variables, images, labels) -> maps`.

  Args:
    method: Of the network that is explained.
    attribution: The config section.
    masker: What hides pixels.
    **changes: Fields of `attribution` that are to be others.
  """
  attribution = attribution.copy_and_resolve_references()
  attribution.update(changes)
  output = attribution.explained_output
  return _create(
      attribution,
      scores(method, output),
      masker,
      layers(method, output, attribution.explainer),
  )


def _create(attribution, score_fn, masker, layers=None) -> Explain:
  options = {
      field: attribution[field]
      for field in (
          'max_evals', 'batch_size', 'grid', 'integration_steps',
          'images_per_step',
      )
  }
  options['images_per_step'] = options['images_per_step'] or None
  try:
    return explainers.create(
        base.factory(attribution.explainer), score_fn, masker=masker,
        layers=layers, **options,
    )
  except InputError as error:
    raise error.prefixed(PREFIX) from error


def check(attribution: ConfigDict, is_b_cos: bool = False) -> None:
  """Raises InputError for explainers and maskers that cannot be had.

  Args:
    attribution: The config section.
    is_b_cos: Whether the network that is explained may be a B-cos network.
  """
  try:
    found = masker(attribution, np.zeros((1, 1, 1, 1), np.uint8))
  except InputError as error:
    raise error.prefixed(PREFIX) from error
  # Building an explainer checks the options that it takes; nothing is run.
  check_output(attribution.explainer, attribution, PREFIX + 'explainer')
  b_cos = is_b_cos and attribution.explainer == 'b_cos'
  _create(attribution, _any_score, found, _ANY_LAYERS if b_cos else None)


def check_output(name: str, attribution: ConfigDict, flag: str) -> None:
  """Raises InputError for an explainer that has no rule for probabilities.

  Args:
    name: Of the explainer.
    attribution: The config section.
    flag: That names it.
  """
  output = attribution.explained_output
  if name in explainers.NEED_LOGITS and output != 'logit':
    raise InputError(
        f'{name} explains logits, and config.attribution.explained_output is '
        f'{output!r}. Take {PREFIX}explained_output=logit, or another '
        f'explainer with {flag}=NAME.'
    )


def _any_score(variables, images):
  """One function for all checks: what is created is kept by its function."""
  del variables
  return images


_ANY_LAYERS = explainers.Layers(_any_score, _any_score)


def map_maker(
    network: Network,
    attribution: ConfigDict,
    masker: Masker,
    *,
    dtype: str,
    weighted: bool = False,
) -> MapMaker:
  """Returns a classifier with its explainer, for the attribution service.

  Args:
    network: The classifier.
    attribution: The config section.
    masker: What hides pixels.
    dtype: In which the classifier computes.
    weighted: Whether the maps of all classes become one, weighted by the
      probabilities that the classifier gives them.
  """
  method, variables = network
  output = attribution.explained_output
  # Accelerators multiply float32 in fewer bits, unless they are told not to.
  cpu = jax.default_backend() == 'cpu'

  def probabilities(values: np.ndarray) -> np.ndarray:
    if output == 'probability':
      return values
    return np.asarray(method.task.probabilities(values))

  score = model_fn.numpy_callable(scores(method, output), 256)
  return MapMaker(
      explain=functools.partial(
          explainer(method, attribution, masker), variables
      ),
      score=functools.partial(score, variables),
      background=masker.background,
      evaluations=base.evaluations(attribution),
      chunk=_chunk(attribution) if cpu else attribution.shard_size,
      absolute_gap=1e-4 if cpu and dtype == 'float32' else 3e-2,
      complete=explainers.find(base.factory(attribution.explainer)).complete,
      weigh=probabilities if weighted else None,
  )


def _chunk(attribution) -> int:
  """Images in one call of the explainer on a CPU: a few seconds of work."""
  few = 8 if attribution.explainer == 'shap_partition' else 64
  return min(few, attribution.shard_size)


def owen_values(
    method: methods.Method,
    attribution: ConfigDict,
    masker: Masker,
    max_evals: int,
) -> Explain:
  """Returns what makes the Owen values that all maps are compared with."""
  return explainer(
      method,
      attribution,
      masker,
      explainer=_of_owen_values(masker.name),
      max_evals=max_evals,
  )


def reference(attribution: ConfigDict, method: methods.Method) -> str:
  """Returns the explainer whose maps come first: that of the config.

  Of a network that it cannot explain, such as one around a B-cos classifier,
  that of Owen values.
  """
  if can_explain(method, attribution.explainer):
    return attribution.explainer
  return _of_owen_values(attribution.masker)


def _of_owen_values(masker: str) -> str:
  return 'partition' if masker in BACKGROUND_MASKERS else 'shap_partition'


def compared(
    config: ConfigDict, method: methods.Method, masker: Masker
) -> dict[str, Explain]:
  """Returns what makes the maps that are compared, by name.

  The reference is first, the method's own map second.

  Args:
    config: The whole config.
    method: Of the network that is explained.
    masker: What hides pixels.
  """
  def own(variables, images, classes):
    return evaluator.predict(
        method, variables, {'image': images}, config.evaluation.batch_size,
        classes=classes,
    ).attribution

  first = reference(config.attribution, method)
  found = {
      user_files.stem(first): explainer(
          method, config.attribution, masker, explainer=first
      ),
      user_files.stem(config.method.name): own,
  }
  for name in config.evaluation.explainers:
    if not can_explain(method, name):
      logging.info(
          '%s is left out: %s says not where to cut its network for it.',
          explainers.find(name).title, config.method.name,
      )
    elif name not in found:
      found[name] = explainer(
          method, config.attribution, masker, explainer=name
      )
  return found


def settings(attribution: ConfigDict) -> dict[str, Any]:
  """The fields that decide a map, for manifests."""
  name = attribution.explainer
  taken = explainers.options_of(base.factory(name))
  if 'masker' in taken:
    taken = (*taken, 'blur_kernel', 'mask_value')
  found = {
      field: attribution[field]
      for field in ('explainer', 'explained_output', *taken)
      if field in attribution and field != 'images_per_step'
  }
  if user_files.is_file(name):  # What is in it, wherever it lies.
    found |= {'explainer': user_files.stem(name),
              'file': user_files.digest(name)}
  return found
