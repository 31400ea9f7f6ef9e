"""What is asked of an image: one label, by either loss, or several.

A task owns all that depends on it: the loss, the probabilities, the answer,
its measures, and which class is explained. No other file takes an argmax or a
softmax of logits.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from impactx_jax import losses
from impactx_jax import rng
import jax
import jax.numpy as jnp
import numpy as np
import optax

Batch = dict[str, jax.Array]
Counts = dict[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Task:
  """One kind of question; arrays are NumPy's or JAX's.

  Attributes:
    name: In `config.data.task`.
    labels: The column with the truth.
    loss: Logits [B, K], batch -> the loss of each example, float [B].
    distillation: Logits [B, K], a teacher's probabilities -> the same loss with
      these in the place of the truth.
    probabilities: Logits [N, K] -> float [N, K] in [0, 1].
    average: Logits, logits [N, K] -> those of the mean of both probabilities.
    answer: Logits [N, K] -> what is predicted, as the truth is written.
    top: Logits [N, K] -> the class that is explained of each image, int [N].
    right: Answers, truth -> whether an image's whole answer is right, bool [N].
    measures: Logits [B, K], batch -> {name: (values, counts), [B] both}; a
      measure of many images is the sum of the first over that of the second.
    of_split: Logits [N, K], truth -> further measures that are of all images
      together, {name: float}.
    explained: Columns, seed -> the class that training maps are of, int32 [N].
    strata: Truth -> what a share of the labels is drawn from evenly, int [N].
    chance: K -> the accuracy of answers that are drawn.
    by_class: Answers, truth, K -> the share of each class's examples that are
      answered rightly, float [K]; NaN for a class without one.
  """

  name: str
  labels: str
  loss: Callable[[jax.Array, Batch], jax.Array]
  distillation: Callable[[jax.Array, jax.Array], jax.Array]
  probabilities: Callable[[Any], Any]
  average: Callable[[jax.Array, jax.Array], jax.Array]
  answer: Callable[[Any], Any]
  top: Callable[[Any], Any]
  right: Callable[[Any, Any], Any]
  measures: Callable[[jax.Array, Batch], Counts]
  of_split: Callable[[np.ndarray, np.ndarray], dict[str, float]]
  explained: Callable[[dict[str, np.ndarray], int], np.ndarray]
  strata: Callable[[np.ndarray], np.ndarray]
  chance: Callable[[int], float]
  by_class: Callable[[np.ndarray, np.ndarray, int], np.ndarray]


# What every task measures, beside measures of its own.
ACCURACY, CROSS_ENTROPY = 'accuracy', 'cross_entropy'


def _highest(logits):
  return logits.argmax(-1)


def _classification() -> Task:
  """One class an image: cross-entropy over a softmax."""

  def loss(logits, batch):
    return losses.cross_entropy(logits, batch['label'])

  def measures(logits, batch):
    ones = np.ones(len(logits), np.float32)
    return {
        ACCURACY: (_highest(logits) == batch['label'], ones),
        CROSS_ENTROPY: (loss(logits, batch), ones),
    }

  def average(logits, others):
    return jnp.logaddexp(
        jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    ) - jnp.log(2)

  def by_class(answers, truth, num_classes):
    return _share(np.eye(num_classes, dtype=bool)[truth], answers == truth)

  return Task(
      name='classification',
      labels='label',
      loss=loss,
      distillation=optax.softmax_cross_entropy,
      probabilities=jax.nn.softmax,
      average=average,
      answer=_highest,
      top=_highest,
      right=lambda answers, truth: answers == truth,
      measures=measures,
      of_split=lambda logits, truth: {},
      explained=lambda columns, seed: columns['label'],
      strata=lambda truth: truth,
      chance=lambda num_classes: 1 / num_classes,
      by_class=by_class,
  )


def _one_versus_rest() -> Task:
  """One class an image: binary cross-entropy of each logit, as in guidance."""
  one = _classification()

  def truth_of(logits, batch):
    return jax.nn.one_hot(batch['label'], logits.shape[-1])

  def loss(logits, batch):
    return losses.binary_cross_entropy(logits, truth_of(logits, batch))

  def measures(logits, batch):
    found = one.measures(logits, batch)
    count = found[CROSS_ENTROPY][1]
    return found | {CROSS_ENTROPY: (loss(logits, batch), count)}

  return dataclasses.replace(
      one,
      name='one_versus_rest',
      loss=loss,
      distillation=losses.binary_cross_entropy,
      probabilities=jax.nn.sigmoid,
      average=_average_of_sigmoids,
      measures=measures,
  )


def _multi_label() -> Task:
  """Any number of classes an image: binary cross-entropy of each logit.

  A class is present where its logit is 0 or more. Accuracy is the share of
  images of which all classes are answered rightly; F1 is micro-averaged.
  """

  def present(logits):
    return (logits >= 0).astype(np.int32)

  def loss(logits, batch):
    return losses.binary_cross_entropy(logits, batch['labels'])

  def right(answers, truth):
    return (answers == truth).all(axis=-1)

  def measures(logits, batch):
    answers, truth = present(logits), batch['labels']
    ones = np.ones(len(logits), np.float32)
    return {
        ACCURACY: (right(answers, truth), ones),
        CROSS_ENTROPY: (loss(logits, batch), ones),
        # 2 TP / (2 TP + FP + FN), counted over all images and classes.
        'f1': (2 * (answers * truth).sum(-1), (answers + truth).sum(-1)),
    }

  def of_split(logits, truth):
    from sklearn import metrics  # pylint: disable=g-import-not-at-top

    found = [
        metrics.average_precision_score(truth[:, k], logits[:, k])
        for k in range(truth.shape[1])
        if truth[:, k].any()
    ]
    return {'mean_average_precision': float(np.mean(found)) if found else 0.0}

  def explained(columns, seed):
    # One of the classes that are there, drawn by the example's id; of an image
    # without one, any.
    truth = columns['labels']
    weights = np.where(truth.any(axis=1, keepdims=True), truth, 1)
    draw = rng.uniform_by_id(seed, 'explained_class', columns['id'])
    place = (draw * weights.sum(axis=1)).astype(int)
    return (weights.cumsum(axis=1) > place[:, None]).argmax(-1).astype(np.int32)

  return Task(
      name='multi_label',
      labels='labels',
      loss=loss,
      distillation=losses.binary_cross_entropy,
      probabilities=jax.nn.sigmoid,
      average=_average_of_sigmoids,
      answer=present,
      top=_highest,
      right=right,
      measures=measures,
      of_split=of_split,
      explained=explained,
      strata=lambda truth: np.unique(truth, axis=0, return_inverse=True)[1],
      chance=lambda num_classes: 0.5**num_classes,
      by_class=lambda answers, truth, num_classes: _share(
          truth > 0, answers > 0
      ),
  )


def _average_of_sigmoids(logits, others):
  """Returns the logits of the mean of both probabilities."""
  there, absent = (
      jnp.logaddexp(
          jax.nn.log_sigmoid(sign * logits), jax.nn.log_sigmoid(sign * others)
      )
      for sign in (1, -1)
  )
  return there - absent


def _share(of: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Returns the share of the examples [N, K] of each class that are right."""
  counts = of.sum(axis=0)
  right = right if right.ndim == 2 else right[:, None]
  return np.divide(
      (of & right).sum(axis=0), counts, out=np.full(of.shape[1], np.nan),
      where=counts > 0,
  )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (_classification(), _one_versus_rest(), _multi_label())
}
