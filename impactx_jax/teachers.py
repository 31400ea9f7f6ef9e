"""What is explained, and how, as the config describes it."""

from collections.abc import Callable
import functools
from typing import Any

from absl import logging
from attribution import explainers
from attribution import maskers
from attribution import model_fn
from attribution.service import Teacher
from impactx_jax import evaluators
from impactx_jax import methods
from impactx_jax.workdirs import IGNORED
import jax
import numpy as np


Network = tuple[methods.Method, dict[str, Any]]
# images [N, H, W, C], classes [N] -> maps [N, H, W, C'].
MapFn = Callable[[np.ndarray, np.ndarray], np.ndarray]


def create(
    method: methods.Method,
    variables: Any,
    attribution,
    *,
    dtype: str,
    training_images: np.ndarray,
    weighted: bool = False,
) -> Teacher:
  """Returns the classifier and its explainer, for the attribution service.

  Args:
    method: Of the classifier.
    variables: Of the classifier.
    attribution: The config section.
    dtype: In which the classifier computes.
    training_images: uint8 [N, H, W, C], for the colour of the mean masker.
    weighted: Whether the maps of all classes become one, weighted by the
      probabilities that the classifier gives them.
  """
  score_fn = functools.partial(
      scores, method, variables, attribution.explained_output
  )
  masking_options = masking(attribution, training_images)
  # Accelerators multiply float32 in fewer bits, unless they are told not to.
  cpu = jax.default_backend() == 'cpu'
  return Teacher(
      explain=explainer(
          score_fn,
          attribution,
          masking_options,
          layers=layers(method, variables, attribution.explained_output),
      ),
      score=model_fn.numpy_callable(score_fn, 256),
      background=functools.partial(maskers.background, **masking_options),
      evaluations=evaluations(attribution),
      chunk=_chunk(attribution) if cpu else attribution.shard_size,
      absolute_gap=1e-4 if cpu and dtype == 'float32' else 3e-2,
      complete=attribution.explainer in explainers.COMPLETE,
      weigh=_probabilities(attribution) if weighted else None,
  )


def _probabilities(attribution) -> Callable[[np.ndarray], np.ndarray]:
  """Turns what is explained of all classes into their probabilities."""
  if attribution.explained_output == 'probability':
    return np.asarray
  return lambda logits: np.asarray(jax.nn.softmax(logits))


def _chunk(attribution) -> int:
  """Images in one call of the explainer on a CPU: a few seconds of work."""
  few = 8 if attribution.explainer == 'shap_partition' else 64
  return min(few, attribution.shard_size)


def scores(
    method: methods.Method, variables: Any, output: str, images: jax.Array
) -> jax.Array:
  """What is explained of a network: [B, H, W, C] -> [B, K].

  Args:
    method: The network's method.
    variables: Its variables.
    output: 'probability' (after the softmax) or 'logit'.
    images: float32 in [0, 1].
  """
  logits = method.predict(variables, images).logits
  return jax.nn.softmax(logits) if output == 'probability' else logits


def layers(
    method: methods.Method, variables: Any, output: str
) -> explainers.Layers | None:
  """What `scores` explains, cut after the last convolution, for Grad-CAM."""
  if method.layers is None:
    return None
  features, logits = method.layers(variables)

  def scores_of(features):
    values = logits(features)
    return jax.nn.softmax(values) if output == 'probability' else values

  return explainers.Layers(features, scores_of)


def evaluations(attribution) -> int:
  """Returns how many model evaluations `config.attribution` spends a map."""
  return explainers.evaluations(
      attribution.explainer,
      max_evals=attribution.max_evals,
      grid=attribution.grid,
      integration_steps=attribution.integration_steps,
  )


def masking(attribution, training_images: np.ndarray) -> dict[str, Any]:
  """Returns the masker's arguments that `config.attribution` describes.

  Args:
    attribution: The config section.
    training_images: uint8 [N, H, W, C], for the colour of the mean masker.
  """
  value = attribution.mask_value
  if attribution.masker == 'mean':
    value = training_images.mean(axis=(0, 1, 2), dtype=np.float64) / 255
  return {
      'masker': attribution.masker,
      'blur_kernel': attribution.blur_kernel,
      'mask_value': np.asarray(value, np.float32),
  }


def explainer(
    score_fn: Callable[[jax.Array], jax.Array],
    attribution,
    masking_options: dict[str, Any],
    layers: explainers.Layers | None = None,
) -> explainers.Explain:
  """Returns `explain(images, labels) -> maps` as the config describes it."""
  return explainers.create(
      attribution.explainer,
      score_fn,
      max_evals=attribution.max_evals,
      batch_size=attribution.batch_size,
      grid=attribution.grid,
      integration_steps=attribution.integration_steps,
      layers=layers,
      images_per_step=attribution.images_per_step or None,
      **masking_options,
  )


def map_maker(
    attribution, network: Network, masking: dict[str, Any], **changes: Any
) -> MapFn:
  """Returns an explainer of a network.

  Args:
    attribution: The config section.
    network: What is explained.
    masking: From `masking`.
    **changes: Fields of `attribution` that are to be others.
  """
  attribution = attribution.copy_and_resolve_references()
  attribution.update(changes)
  output = attribution.explained_output
  return explainer(
      functools.partial(scores, *network, output),
      attribution,
      masking,
      layers=layers(*network, output),
  )


def owen_values(
    attribution, network: Network, masking: dict[str, Any], max_evals: int
) -> MapFn:
  """Returns what makes the Owen values that all maps are compared with."""
  on_device = attribution.masker in maskers.BACKGROUND_MASKERS
  return map_maker(
      attribution,
      network,
      masking,
      explainer='partition' if on_device else 'shap_partition',
      max_evals=max_evals,
  )


def map_makers(
    config, network: Network, masking: dict[str, Any]
) -> dict[str, MapFn]:
  """Returns what makes the maps that are compared, by name.

  The reference is first, the method's own map second.
  """
  method, variables = network

  def of(name):
    return map_maker(config.attribution, network, masking, explainer=name)

  def own(images, classes):
    columns = {'image': images, 'label': classes}
    return evaluators.predict(
        method, variables, columns, config.evaluation.batch_size
    ).attribution

  reference = config.attribution.explainer
  makers = {reference: of(reference), config.method.name: own}
  for name in config.evaluation.explainers:
    if name == 'grad_cam' and method.layers is None:
      logging.info(
          'Grad-CAM is left out: %s says not where to cut its network.',
          config.method.name,
      )
    elif name not in makers:
      makers[name] = of(name)
  return makers


def settings(attribution) -> dict[str, Any]:
  """The fields that decide a map, for manifests."""
  taken = explainers.options_of(attribution.explainer)
  return {
      name: attribution[name]
      for name in ('explainer', 'explained_output', *taken)
      if name in attribution and name not in IGNORED['attribution']
  }
