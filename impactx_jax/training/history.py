"""What a training run has come to, epoch by epoch, and when it is over."""

from collections.abc import Collection
from collections.abc import Sequence
import dataclasses

from attribution.errors import InputError
from ml_collections import ConfigDict
import numpy as np

# What measures are rounded to before one point of a front dominates another.
FRONT_STEP = 0.005
# What validation has of the package's methods. Which of them a run has is known
# when its data are.
MEASURES = (
    'accuracy', 'cross_entropy', 'f1', 'map_mse', 'map_r2', 'guided_epg',
    'guided_iou',
)


@dataclasses.dataclass(frozen=True)
class Select:
  """What chooses the epoch that is kept: a measure of validation, or none.

  Attributes:
    measure: Its name without `validation/`, such as 'accuracy'; '' for the
      last epoch, whatever it measures.
    sign: 1 where more of it is better, -1 where less is.
  """

  measure: str
  sign: int

  @classmethod
  def parse(cls, text: str, flag: str) -> 'Select':
    """Reads 'last', 'max accuracy' or 'min cross_entropy'.

    Args:
      text: `config.….training.select`.
      flag: That changes it.

    Raises:
      InputError: for what cannot be read.
    """
    words = text.split()
    if words == ['last']:
      return cls('', 0)
    if len(words) != 2 or words[0] not in ('max', 'min'):
      raise InputError(
          f'{flag.lstrip("-")} is {text!r}; it must be last, or say whether '
          "more or less of a measure is better, such as 'max accuracy' or "
          "'min cross_entropy'.",
          flag, "'max NAME'",
      )
    return cls(words[1], 1 if words[0] == 'max' else -1)

  def better(
      self, metrics: dict[str, float], than: dict[str, float]
  ) -> bool:
    """Returns whether a later epoch takes the place of the one that is kept."""
    if not self.measure:
      return True
    name = f'validation/{self.measure}'
    return self.sign * metrics[name] > self.sign * than[name]

  def check(self, measures: Collection[str], flag: str) -> None:
    """Raises InputError unless the measure is among those there are."""
    if self.measure and self.measure not in measures:
      raise InputError(
          f'{flag.lstrip("-")} names the measure {self.measure!r}, and '
          f'validation has {", ".join(sorted(measures))}.', flag, "'max NAME'",
      )


def parse_front(text: str, flag: str) -> tuple[Select, ...]:
  """Reads 'max accuracy, max guided_epg': between which measures to choose.

  Args:
    text: `config.….training.front`; '' for no front.
    flag: That changes it.

  Raises:
    InputError: for what cannot be read, or less than two measures.
  """
  parts = [part for part in text.split(',') if part.strip()]
  found = tuple(Select.parse(part, flag) for part in parts)
  if text and (len({s.measure for s in found} - {''}) < max(2, len(found))):
    raise InputError(
        f'{flag.lstrip("-")} is {text!r}; it must name two measures or more, '
        "by commas, such as 'max accuracy, max guided_epg'.",
        flag, "'max accuracy, max guided_epg'",
    )
  return found


def non_dominated(points: np.ndarray) -> np.ndarray:
  """Says which points no other one is better than (a Pareto front).

  Args:
    points: float [N, M], of which more is better; rounded to `FRONT_STEP`
      first, as Rao et al. (2023) do.

  Returns:
    bool [N]; of equal points the first alone.
  """
  points = np.round(np.asarray(points) / FRONT_STEP)
  as_good = (points[:, None] >= points[None]).all(axis=-1)
  better = as_good & (points[:, None] > points[None]).any(axis=-1)
  earlier = np.tri(len(points), k=-1, dtype=bool).T
  return ~(better | (as_good & as_good.T & earlier)).any(axis=0)


def front(
    epochs: Sequence[dict[str, float]], selects: Sequence[Select]
) -> list[int]:
  """Returns the places of the epochs that no other one is better than.

  Args:
    epochs: Of a `History`.
    selects: What is measured, as `parse_front` gives it; none for no front.
  """
  if not selects or not epochs:
    return []
  return np.flatnonzero(non_dominated(np.array([
      [s.sign * metrics[f'validation/{s.measure}'] for s in selects]
      for metrics in epochs
  ]))).tolist()


@dataclasses.dataclass(frozen=True)
class History:
  """What a finished training run reports, and a resumed one continues from.

  Attributes:
    epochs: One dict of metrics for each epoch, with `step`, the updates made.
    best: Place in `epochs` of the one that is kept (the earliest of equals, or
      the last, as `Select` says); -1 while there is none.
    seconds: Spent in epochs, by all processes that continued the run.
  """

  epochs: tuple[dict[str, float], ...] = ()
  best: int = -1
  seconds: float = dataclasses.field(default=0.0, compare=False)

  @property
  def best_epoch(self) -> dict[str, float]:
    """The metrics of the best epoch, with its `step`."""
    return self.epochs[self.best]

  def with_epoch(
      self, step: int, metrics: dict[str, float], seconds: float, select: Select
  ) -> 'History':
    """Adds an epoch, and notes whether it is the best."""
    better = self.best < 0 or select.better(metrics, self.best_epoch)
    return History(
        epochs=(*self.epochs, {'step': step, **metrics}),
        best=len(self.epochs) if better else self.best,
        seconds=self.seconds + seconds,
    )

  def steps_to_keep(self, selects: Sequence[Select]) -> set[int]:
    """Returns the steps of the best epoch, and of those of a front."""
    chosen = {self.best, *front(self.epochs, selects)}
    return {self.epochs[i]['step'] for i in chosen}

  def is_over(self, training: ConfigDict) -> bool:
    """Whether all epochs are done, or too many were no better than the best."""
    done = len(self.epochs)
    if done >= training.epochs:
      return True
    return bool(training.patience and done - 1 - self.best >= training.patience)


def epoch_line(name: str, epoch: int, metrics: dict[str, float]) -> str:
  """Returns what an epoch came to, in a line."""
  text = f'{name}: epoch {epoch}, loss {metrics["train/loss"]:.4g}'
  if (accuracy := metrics.get('train/accuracy')) is not None:
    text += f', accuracy {100 * accuracy:.2f} %'
  text += f', validation {100 * metrics["validation/accuracy"]:.2f} %'
  if (r2 := metrics.get('validation/map_r2')) is not None:
    text += f', map R2 {r2:.3f}'
  return text
