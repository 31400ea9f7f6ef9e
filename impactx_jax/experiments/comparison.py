"""The table of compared methods: statistics and verdicts."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses

from impactx_jax import methods
from impactx_jax.evaluation import statistics
from impactx_jax.experiments import paper
import numpy as np

# Fewer paired seeds are printed without a verdict.
SEEDS_FOR_A_VERDICT = 5
SIGNIFICANT = 0.05


@dataclasses.dataclass(frozen=True)
class Result:
  """What one trained method says of the test split.

  Attributes:
    method: Its name.
    seed: Of the run.
    shared: Whether it is one network for all seeds.
    correct: bool [N], of each test example.
    worst_group: The accuracy on the group of the test split that has the
      lowest, 0 to 1; None of data without groups.
    validation: Best validation accuracy, 0 to 1.
    map_r2: Share of the maps' variance on validation images that its own
      maps explain; None where it learns none.
    probe_r2: The same share that a linear probe predicts from its code; None
      without maps or without a code.
    parameters: How many are trained.
    seconds: Of its own training, without that of A, and without the maps.
    evaluations: Of the model, for the maps it is trained on.
    examples: How many images it is trained on.
  """

  method: str
  seed: int
  shared: bool
  correct: np.ndarray
  worst_group: float | None
  validation: float
  map_r2: float | None
  probe_r2: float | None
  parameters: int | None
  seconds: float
  evaluations: int
  examples: int

  @property
  def accuracy(self) -> float:
    """On the test split, in per cent."""
    return 100 * float(self.correct.mean())


@dataclasses.dataclass(frozen=True)
class Difference:
  """One method against another, on the seeds that both have.

  Attributes:
    interval: Of the difference in points of test accuracy, 95 %.
    worst_group: The same of the worst groups; None of data without.
    mcnemar: The test for each seed, never pooled.
  """

  interval: statistics.Interval
  worst_group: statistics.Interval | None
  mcnemar: dict[int, statistics.McNemar]

  @property
  def sign(self) -> int:
    """1 or -1 where interval and most of McNemar's tests say so, else 0."""
    better, worse = self._significant()
    most = len(self.mcnemar) / 2
    return int(self.interval.low > 0 and better > most) - int(
        self.interval.high < 0 and worse > most
    )

  def significant(self) -> str:
    """How many seeds McNemar's test finds better, and worse, of how many."""
    better, worse = self._significant()
    return f'{better} better, {worse} worse of {len(self.mcnemar)}'

  def _significant(self) -> tuple[int, int]:
    found = [t for t in self.mcnemar.values() if t.p_value < SIGNIFICANT]
    better = sum(t.gained > t.lost for t in found)
    return better, len(found) - better


@dataclasses.dataclass(frozen=True)
class Row:
  """One method.

  Attributes:
    method: Its name.
    results: One for each seed.
    paper: The paper's accuracy in per cent, None where it has none.
    to_baseline: Against A; None for A itself.
    to_control: Against the same network without the explanation, or, for a
      method in whose loss it is not, against two-stage IMPACTX without it;
      None where there is nothing to compare.
    has_control: Whether it has a λ, so that the control is the same network.
    one_baseline: Whether it is trained from scratch, with each seed, and A is
      one for all.
  """

  method: str
  results: tuple[Result, ...]
  paper: float | None
  to_baseline: Difference | None
  to_control: Difference | None
  has_control: bool = False
  one_baseline: bool = False

  @property
  def accuracies(self) -> list[float]:
    """Of each seed, in per cent."""
    return [result.accuracy for result in self.results]

  def mean(self, field: str) -> float | None:
    """The mean of a field over the seeds, None where it has no value."""
    values = [getattr(result, field) for result in self.results]
    return None if None in values else float(np.mean(values))

  def verdict(self) -> str:
    """What the differences allow to say."""
    if self.to_baseline is None:
      return ''
    count = len(self.to_baseline.mcnemar)
    if count < SEEDS_FOR_A_VERDICT:
      return f'no verdict: {count} of {SEEDS_FOR_A_VERDICT} seeds'
    if self.one_baseline:
      return 'no verdict: one A for all seeds'
    words = {
        1: 'better than', 0: 'not shown to differ from', -1: 'worse than'
    }
    said = [f'{words[self.to_baseline.sign]} A']
    if self.to_control and self.has_control:
      if len(self.to_control.mcnemar) < SEEDS_FOR_A_VERDICT:
        said.append('too few seeds against lambda = 0')
      else:
        said.append(f'{words[self.to_control.sign]} lambda = 0')
    return ', '.join(said)


@dataclasses.dataclass(frozen=True)
class Table:
  """All rows, A first.

  Attributes:
    rows: Of the methods.
    data: Name of the data set.
    model: Name of the backbone.
    shared: Whether one classifier serves all seeds.
  """

  rows: tuple[Row, ...]
  data: str
  model: str
  shared: bool


def make_table(
    results: Sequence[Result],
    *,
    data: str,
    model: str,
    as_published: bool,
    specs: Mapping[str, methods.Spec] = methods.METHODS,
) -> Table:
  """Compares methods on the seeds that they share.

  Args:
    results: Of all methods and seeds.
    data: Name of the data set.
    model: Name of the backbone.
    as_published: Whether data and backbone are whole, as in the paper.
    specs: Of the methods by their names, those of the user's own too.
  """
  by_method: dict[str, dict[int, Result]] = {}
  for result in results:
    by_method.setdefault(result.method, {})[result.seed] = result

  def against(name: str, other: str) -> Difference | None:
    if name == other or other not in by_method:
      return None
    seeds = sorted(by_method[name].keys() & by_method[other].keys())
    if not seeds:
      return None
    ours, theirs = (
        [by_method[method][seed] for seed in seeds] for method in (name, other)
    )
    worst = [
        [result.worst_group for result in side] for side in (ours, theirs)
    ]
    return Difference(
        statistics.paired_interval(
            [result.accuracy for result in ours],
            [result.accuracy for result in theirs],
        ),
        None if any(None in side for side in worst) else (
            statistics.paired_interval(*(100 * np.array(x) for x in worst))
        ),
        {
            a.seed: statistics.mcnemar(a.correct, b.correct)
            for a, b in zip(ours, theirs, strict=True)
        },
    )

  shared = any(result.shared for result in results)
  rows = []
  for name, found in by_method.items():
    spec = specs[name]
    a = name == methods.BASELINE
    control = spec.control or methods.CONTROL
    rows.append(Row(
        method=name,
        results=tuple(found[seed] for seed in sorted(found)),
        paper=paper.accuracy(data, model, name) if as_published else None,
        to_baseline=against(name, methods.BASELINE),
        to_control=None if a else against(name, control),
        has_control=bool(spec.control),
        one_baseline=shared and spec.from_scratch,
    ))
  return Table(tuple(rows), data, model, shared)
