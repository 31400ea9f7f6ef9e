"""What a trained network says of the test split."""

from collections.abc import Sequence
from typing import Any

from impactx_jax import methods
from impactx_jax import tasks
from impactx_jax.data.columns import Columns
from impactx_jax.data.columns import GROUP
from impactx_jax.training import evaluator
import numpy as np


def test(
    method: methods.Method,
    variables: Any,
    columns: Columns,
    batch_size: int,
    group_names: Sequence[str] = (),
) -> dict[str, Any]:
  """Classifies a test split.

  Args:
    method: With its variables.
    variables: Of the method.
    columns: Of the test split.
    batch_size: Examples a forward pass.
    group_names: Of the values of a column `group`; () where they have none.

  Returns:
    The task's measures, among them `accuracy` (0 to 1) and `cross_entropy` (in
    nats); where the columns have a `group`, `group_accuracy` of each by its
    name, and `worst_group_accuracy`, the lowest of them; and of each
    example `label` and `predicted`, as the task writes them, and `correct`;
    JSON-compatible.
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
  right = task.right(answers, truth)
  if GROUP in columns:
    groups = by_group(right, columns[GROUP], group_names)
    measures |= {
        'group_accuracy': groups, 'worst_group_accuracy': min(groups.values())
    }
  return measures | task.of_split(logits, truth) | {
      'label': truth.tolist(),
      'predicted': answers.tolist(),
      'correct': right.tolist(),
  }


def by_group(
    right: np.ndarray, groups: np.ndarray, names: Sequence[str] = ()
) -> dict[str, float]:
  """Returns the accuracy of each group that has an example.

  Args:
    right: bool [N], whether an example is answered rightly.
    groups: [N], the number of its group.
    names: Of the groups 0, 1, …; of one without, it is its number.

  Returns:
    {name: 0 to 1}, in the order of the numbers.
  """
  return {
      names[int(group)] if 0 <= group < len(names) else f'{group:g}':
      float(np.mean(right[groups == group]))
      for group in np.unique(groups)
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
