"""What a trained network says of the test split."""

from typing import Any

from impactx_jax import methods
from impactx_jax import tasks
from impactx_jax.data.columns import Columns
from impactx_jax.training import evaluator
import numpy as np


def test(
    method: methods.Method,
    variables: Any,
    columns: Columns,
    batch_size: int,
) -> dict[str, Any]:
  """Classifies a test split.

  Args:
    method: With its variables.
    variables: Of the method.
    columns: Of the test split.
    batch_size: Examples a forward pass.

  Returns:
    The task's measures, among them `accuracy` (0 to 1) and `cross_entropy` (in
    nats), and of each example `label` and `predicted`, as the task writes
    them, and `correct`; JSON-compatible.
  """
  task = method.task
  logits = evaluator.predict(
      method, variables, columns, batch_size, attribution=False
  ).logits
  answers, truth = task.answer(logits), columns[task.labels]
  measures = {
      name: float(np.sum(values) / max(np.sum(counts), 1))
      for name, (values, counts) in task.measures(
          logits, {task.labels: truth}
      ).items()
  }
  return measures | task.of_split(logits, truth) | {
      'label': truth.tolist(),
      'predicted': answers.tolist(),
      'correct': task.right(answers, truth).tolist(),
  }


def by_class(test: dict[str, Any], task: str, num_classes: int) -> np.ndarray:
  """Returns the share of each class's test examples that are answered rightly.

  Args:
    test: What `test` gave.
    task: A name in `tasks.TASKS`.
    num_classes: K.

  Returns:
    float [K]; NaN for a class without an example.
  """
  return tasks.TASKS[task].by_class(
      np.array(test['predicted']), np.array(test['label']), num_classes
  )
