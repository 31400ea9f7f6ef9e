"""What an explainer says of itself."""

from collections.abc import Callable
import dataclasses

from attribution.explainers.batched import Explain
from attribution.explainers.batched import Program


@dataclasses.dataclass(frozen=True)
class Spec:
  """An explainer.

  Attributes:
    create: The factory, (score_fn, *, options) -> `explain(variables, images,
      labels) -> maps`; see `attribution.explainers`.
    title: How pictures and tables call it; '' for its name.
    program: The same as a pure function, for explaining inside a jitted step;
      None where it cannot be.
    complete: Whether a map sums to score(image) - score(image with all hidden).
    evaluations: Of the model for one image, from the options by name; a
      gradient counts as one, though it takes about three times as long.
  """

  create: Callable[..., Explain]
  title: str = ''
  program: Callable[..., Program] | None = None
  complete: bool = False
  evaluations: Callable[..., int] = lambda **options: 1
