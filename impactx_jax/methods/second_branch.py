"""A branch that is trained beside M, which stays as stage one left it."""

from collections.abc import Callable
from typing import Any

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax.methods import base
from impactx_jax.methods import baseline
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

M_OUTPUTS = ('logits', 'features')
MAPS = (
    'true_class', 'masked', 'shuffled', 'random', 'other_class', 'edges', 'mask'
)
FROZEN = 'classifier'  # The collection that holds M's variables.
# Of every branch that learns from maps.
OPTIONS = {
    # What C sees of M: its 'logits' or its penultimate 'features'.
    'm_output': 'logits',
    # Size of LEP's code z.
    'lep_units': 512,
    # Which maps are learned: of the 'true_class', or 'masked', what of them is
    # on the object, of data with masks or boxes; as controls 'shuffled'
    # (another example's), 'random' (noise of the same scale), 'other_class'; or
    # the picture's 'edges', or the object's true 'mask' or box itself.
    'maps': 'true_class',
    # Scaling of each map before the MSE: 'max_abs', 'global_std', 'pixels'
    # (their number: the mean is then f(x) - f(hidden)) or 'none'.
    'map_scaling': 'max_abs',
    # 0: as the explainer gives them; 1: summed over the image's channels.
    'map_channels': 0,
    # Side in pixels of the cells over which maps are averaged; D then predicts
    # one value a cell, and starts from no more than there are. 1: every pixel.
    'map_cell': 1,
}
BOUNDS: bounds.Bounds = {
    'm_output': bounds.Choice('output of M', M_OUTPUTS),
    'lep_units': bounds.Range(1),
    'maps': bounds.Choice('control of the maps', MAPS),
    'map_scaling': bounds.Choice('map scaling', losses.MAP_SCALINGS),
    'map_channels': bounds.Range(0, 1),
    'map_cell': bounds.Range(1),
}


def create(
    config: ConfigDict, problem: base.Problem, network: nn.Module
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Builds the two functions that a method of stage two is made of.

  Args:
    config: `config.model` and `method.m_output` are read.
    problem: What is known of the data.
    network: The branch: (inputs, M's output [B, F], train) -> outputs.

  Returns:
    init: (key, classifier, inputs, **more) -> (params, collections), M among
      the latter.
    apply: (params, collections, images, inputs, key, **more) -> (outputs,
      collections); with a key as in training, with None as in use. What more
      there is, the branch is given.
  """
  m_scores = baseline.from_variables(config, problem.num_classes)

  def m_output(collections, images):
    scores = m_scores(collections[FROZEN], images)
    return getattr(scores, config.method.m_output)

  def init(key, classifier, inputs, **more):
    frozen = {FROZEN: jax.tree.map(jnp.asarray, classifier)}
    m = m_output(frozen, base.zeros(problem))
    variables = dict(network.init(key, inputs, m, **more))
    return variables.pop('params'), variables | frozen

  def apply(params, collections, images, inputs, key=None, **more):
    train = key is not None
    own = of_branch(collections)
    outputs, own = network.apply(
        {'params': params, **own},
        inputs,
        m_output(collections, images),
        train,
        mutable=list(own) if train else [],
        rngs={'dropout': key} if train else None,
        **more,
    )
    return outputs, {**own, FROZEN: collections[FROZEN]}

  return init, apply


def check_classes(config: ConfigDict) -> None:
  """Raises InputError for maps of several classes an image.

  For who learns the class as well: each map is a row, and so the image would
  count several times.
  """
  if config.attribution.classes_per_image > 1:
    raise InputError(
        f'config.attribution.classes_per_image is '
        f'{config.attribution.classes_per_image}, and {config.method.name} '
        'learns the class of each image beside its map. Take '
        '--config.attribution.classes_per_image=1, or train what learns maps '
        'alone, with --config.method.name=explainer.'
    )


def of_branch(collections: dict[str, Any]) -> dict[str, Any]:
  """Returns the collections of the branch itself."""
  return {name: c for name, c in collections.items() if name != FROZEN}
