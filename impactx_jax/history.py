"""What a training run has come to, epoch by epoch, and when it is over."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Fit:
  """What a finished training run reports, and a resumed one continues from.

  Attributes:
    best_step: Updates made when validation accuracy was highest (the first
      time, if it was reached again).
    best_accuracy: That accuracy, 0..1.
    history: One dict of metrics for each epoch.
    seconds: Spent in epochs, by all processes that continued the run.
  """

  best_step: int = 0
  best_accuracy: float = -1.0
  history: tuple[dict[str, float], ...] = ()
  seconds: float = dataclasses.field(default=0.0, compare=False)

  def epochs_since_best(self) -> int:
    """Returns how many epochs have come after the best one."""
    late = [epoch for epoch in self.history if epoch['step'] > self.best_step]
    return len(late)

  def with_epoch(
      self, step: int, metrics: dict[str, float], seconds: float
  ) -> 'Fit':
    """Adds an epoch, and notes whether it is the best."""
    result = dataclasses.replace(
        self,
        history=(*self.history, {'step': step, **metrics}),
        seconds=self.seconds + seconds,
    )
    accuracy = metrics['validation/accuracy']
    if accuracy > self.best_accuracy:
      result = dataclasses.replace(
          result, best_step=step, best_accuracy=accuracy
      )
    return result

  def is_over(self, training) -> bool:
    """Whether all epochs are done, or too many were no better than the best."""
    if len(self.history) >= training.epochs:
      return True
    return bool(
        training.patience and self.epochs_since_best() >= training.patience
    )


def line(name: str, epoch: int, metrics: dict[str, float]) -> str:
  """Returns what an epoch came to, in a line."""
  text = f'{name}: epoch {epoch}, loss {metrics["train/loss"]:.4g}'
  if (accuracy := metrics.get('train/accuracy')) is not None:
    text += f', accuracy {100 * accuracy:.2f} %'
  text += f', validation {100 * metrics["validation/accuracy"]:.2f} %'
  if (r2 := metrics.get('validation/map_r2')) is not None:
    text += f', map R2 {r2:.3f}'
  return text
