"""ABN, the attention branch network that the paper compares with."""

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.methods import base
from impactx_jax.models.layers import batch_norm
import jax
from ml_collections import ConfigDict


class AttentionBranchNetwork(nn.Module):
  """A backbone whose last stage sees its input weighted by an attention map.

  Attributes:
    trunk: With the methods `stem` and `last_stage`.
    head: Of the perception branch.
    attention_stage: The beginning of the attention branch.
    num_classes: K.
  """

  trunk: nn.Module
  head: nn.Module
  attention_stage: nn.Module
  num_classes: int

  @nn.compact
  def __call__(
      self, images: jax.Array, train: bool = False
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Classifies, twice, and attends.

    Args:
      images: [B, H, W, C] in [0, 1].
      train: Whether normalisation uses the batch.

    Returns:
      Logits [B, K] of the perception branch and of the attention branch, and
      the attention map [B, h, w, 1] in (0, 1).
    """
    stem = self.trunk.stem(images, train)
    values = self.attention_stage(stem, train)
    # What a normalisation follows needs no bias.
    values = batch_norm(train, values.dtype, 'stage_bn', use_bias=False)(values)
    values = nn.Conv(
        self.num_classes, (1, 1), use_bias=False, name='to_classes'
    )(values)
    values = batch_norm(train, values.dtype, 'to_classes_bn')(values)
    values = nn.relu(values)
    scores = nn.Conv(self.num_classes, (1, 1), name='attention_logits')(values)
    attention = nn.Conv(1, (3, 3), use_bias=False, name='attention')(values)
    attention = batch_norm(train, values.dtype, 'attention_bn')(attention)
    attention = nn.sigmoid(attention)
    features = self.trunk.last_stage(stem * attention + stem, train)
    perception = self.head(features, train)
    return perception.logits, scores.mean(axis=(1, 2)), attention


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds ABN, trained from the start with the sum of two cross-entropies.

  Args:
    config: `config.model` is read.
    problem: What is known of the data.
  """
  task = tasks.TASKS[problem.task]
  network = AttentionBranchNetwork(
      models.create_trunk(config.model),
      models.create_head(config.model, problem.num_classes),
      models.find(config.model.name).attention_stage(config.model),
      problem.num_classes,
  )

  def init(key, classifier=None):
    del classifier
    variables = dict(network.init(key, base.zeros(problem)))
    return variables.pop('params'), variables

  def loss(params, collections, batch, key):
    (logits, attention_logits, _), collections = network.apply(
        {'params': params, **collections},
        batch['image'],
        train=True,
        mutable=list(collections),
        rngs={'dropout': key},
    )
    perception = task.loss(logits, batch)
    attention = task.loss(attention_logits, batch)
    total = perception + attention
    metrics = base.task_metrics(task, logits, batch) | base.mean_metrics(
        loss=total, attention_cross_entropy=attention
    )
    return total.mean(), base.Aux(collections, metrics)

  def predict(variables, batch):
    images = batch['image']
    logits, _, attention = network.apply(
        base.flax_variables(variables), images
    )
    shape = (*images.shape[:3], 1)
    return base.Prediction(
        logits, jax.image.resize(attention, shape, 'bilinear')
    )

  return base.Method(task, init, loss, predict)


def check(config: ConfigDict) -> None:
  """Raises InputError for a backbone without the parts that ABN takes."""
  backbone = models.find(config.model.name)
  trunk = backbone.trunk(config.model)
  missing = [
      name for name in ('stem', 'last_stage') if not hasattr(trunk, name)
  ]
  if missing or backbone.attention_stage is None:
    raise InputError(
        f'ABN needs a backbone whose trunk has the methods stem and '
        'last_stage, and whose Backbone has an attention_stage; '
        f'{config.model.name} lacks '
        f'{", ".join(missing) or "attention_stage"}. Add what is missing, or '
        'choose another method with --config.method.name=NAME.'
    )


METHOD = base.Spec(
    create,
    'ABN',
    check=check,
    from_scratch=True,
    about=lambda options: (
        'The map of ABN is what the network attends to.'
    ),
)
