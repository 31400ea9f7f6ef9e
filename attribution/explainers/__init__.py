"""Explainers: a scoring function in, attribution maps out.

Every entry of EXPLAINERS is a Spec with a factory,

  factory(score_fn, *, masker, …) -> explain

with options of its own. `score_fn(variables, images)` gives the scores
[B, K] of images [B, H, W, C], and `explain(variables, images, labels)` takes
float32 images [N, H, W, C] in [0, 1] for any N. Labels int [N] give maps
float32 [N, H, W, C] of those classes; labels int [N, K'] give maps
[N, H, W, C, K'] of K' classes in one pass. The variables are arguments of
what is compiled: other weights of the same shapes compile nothing. A new
explainer is one new file and one line here.
"""

from collections.abc import Callable
import functools
import inspect
from typing import Any

from attribution.errors import InputError
from attribution.errors import unknown_choice
from attribution.explainers import batched
from attribution.explainers import gradients
from attribution.explainers import lrp
from attribution.explainers import occlusion
from attribution.explainers import shapley
from attribution.explainers.base import Spec as Spec
from attribution.explainers.batched import Explain
from attribution.explainers.batched import Program
from attribution.explainers.controls import disc
from attribution.explainers.controls import edges
from attribution.explainers.controls import random_map
from attribution.explainers.gradients import Baselines as Baselines
from attribution.explainers.gradients import Layers as Layers
from attribution.explainers.partition import partition
from attribution.explainers.partition import partition_evaluations
from attribution.explainers.partition import program as partition_program
from attribution.explainers.partition_grid import partition_grid
from attribution.explainers.partition_grid import program as grid_program
from attribution.explainers.shap_partition import shap_partition
from attribution.model_fn import KEPT
from attribution.model_fn import ScoreFn as ScoreFn


def _of_program(
    program: Callable[..., Program],
    title: str,
    *,
    evals_per_step: int = 1,
    **facts: Any,
) -> Spec:
  """Returns the Spec of what builds a program; see `batched.factory`."""
  create = batched.factory(program, evals_per_step=evals_per_step)
  return Spec(create, title, program, **facts)


EXPLAINERS: dict[str, Spec] = {
    'partition': Spec(
        partition, 'SHAP', partition_program, complete=True,
        evaluations=partition_evaluations,
    ),
    'partition_grid': Spec(
        partition_grid, 'Owen values on a grid', grid_program, complete=True,
        evaluations=lambda grid, **options: 2 * (grid**4 - 1) // 3 + 2,
    ),
    'shap_partition': Spec(
        shap_partition, 'SHAP', complete=True,
        evaluations=lambda max_evals, **options: max_evals,
    ),
    'grad_cam': _of_program(
        gradients.grad_cam, 'Grad-CAM', evaluations=lambda **options: 1,
    ),
    'input_x_gradient': _of_program(
        gradients.input_x_gradient, 'Input×Gradient',
        evaluations=lambda **options: 1,
    ),
    'b_cos': _of_program(
        gradients.b_cos, 'B-cos', evaluations=lambda **options: 1,
    ),
    'integrated_gradients': _of_program(
        gradients.integrated_gradients, 'Integrated Gradients',
        evaluations=lambda integration_steps, **options: integration_steps,
    ),
    'expected_gradients': _of_program(
        gradients.expected_gradients, 'Expected Gradients',
        evaluations=lambda integration_steps, **options: integration_steps,
    ),
    'smooth_grad': _of_program(
        gradients.smooth_grad, 'SmoothGrad',
        evaluations=lambda integration_steps, **options: integration_steps,
    ),
    'lrp_epsilon': _of_program(
        lrp.lrp_epsilon, 'LRP-ε', evaluations=lambda **options: 1,
    ),
    'lrp_alpha1_beta0': _of_program(
        lrp.lrp_alpha1_beta0, 'LRP-α1β0',
        evaluations=lambda **options: 1,
    ),
    'occlusion': _of_program(
        occlusion.occlusion, 'occlusion', evals_per_step=8,
        evaluations=occlusion.occlusion_evaluations,
    ),
    'rise': _of_program(
        occlusion.rise, 'RISE', evals_per_step=8,
        evaluations=lambda max_evals, **options: max_evals,
    ),
    'kernel_shap': _of_program(
        shapley.kernel_shap, 'Kernel SHAP', evals_per_step=8, complete=True,
        evaluations=shapley.kernel_evaluations,
    ),
    'permutation_shap': _of_program(
        shapley.permutation_shap, 'Permutation SHAP', evals_per_step=8,
        complete=True, evaluations=shapley.permutation_evaluations,
    ),
    # What knows nothing of the model.
    'random': Spec(random_map, evaluations=lambda **options: 0),
    'edges': Spec(edges, 'edge filter', evaluations=lambda **options: 0),
    'disc': Spec(disc, 'centred disc', evaluations=lambda **options: 0),
}


# Those that must be given the model cut in two, each in its own way.
NEED_LAYERS = ('grad_cam', 'b_cos')
# Those that have rules up to the logits, and for no softmax or sigmoid of them.
NEED_LOGITS = ('lrp_epsilon', 'lrp_alpha1_beta0')


def find(explainer: str | Callable[..., Explain] | Spec) -> Spec:
  """Returns what an explainer says of itself.

  Args:
    explainer: A key of EXPLAINERS; or a factory of the same kind, which is
      taken to spend `max_evals` evaluations if it takes that option and one if
      not; or a Spec.

  Raises:
    InputError: for an unknown name.
  """
  if isinstance(explainer, Spec):
    return explainer
  if callable(explainer):
    budget = 'max_evals' in _options(explainer)
    return Spec(
        explainer,
        evaluations=lambda max_evals, **options: max_evals if budget else 1,
    )
  if explainer not in EXPLAINERS:
    raise unknown_choice('explainer', explainer, EXPLAINERS, 'explainer')
  return EXPLAINERS[explainer]


def options_of(
    explainer: str | Callable[..., Explain] | Spec
) -> tuple[str, ...]:
  """Returns the names of the options that an explainer, or a factory, takes."""
  return _options(find(explainer).create)


def _options(factory: Callable[..., Any]) -> tuple[str, ...]:
  return tuple(
      parameter.name
      for parameter in inspect.signature(factory).parameters.values()
      if parameter.kind is parameter.KEYWORD_ONLY
  )


def create(
    explainer: str | Callable[..., Explain] | Spec,
    score_fn: ScoreFn,
    **options: Any,
) -> Explain:
  """Builds an explainer, by name or by its factory, from the options it takes.

  The same function and options give the same explainer again, with all that
  it has compiled; those of the last `model_fn.KEPT` are kept.

  Args:
    explainer: A key of EXPLAINERS, a factory of the same kind, or a Spec.
    score_fn: Jittable and hashable, (variables, images float32 [B, H, W, C])
      -> scores [B, K].
    **options: For any of them, such as `masker` (a `maskers.Masker`) and
      `max_evals`; hashable.

  Raises:
    InputError: for an unknown name, or options that cannot be met.
    TypeError: for options that no explainer takes.
  """
  factory = find(explainer).create
  known = {option for other in EXPLAINERS for option in options_of(other)}
  if strange := options.keys() - known:
    raise TypeError(f'No explainer takes {", ".join(sorted(strange))}.')
  return _create(factory, score_fn, options)


def create_program(name: str, score_fn: ScoreFn, **options: Any) -> Program:
  """Builds an explainer as a pure function of (variables, images, classes).

  Args:
    name: One of `programs()`.
    score_fn: Jittable and hashable, (variables, images float32 [B, H, W, C])
      -> scores [B, K].
    **options: Of which it takes its own, as `create` does.

  Returns:
    Variables, images float32 [N, H, W, C], classes int32 [N, K'] -> maps
    [N, H, W, C, K']. The same one for the same arguments.

  Raises:
    InputError: for an explainer that cannot run inside a jitted function.
  """
  if name not in programs():
    raise unknown_choice(
        'explainer to be run inside training', name, programs(), 'explainer'
    )
  return _create(EXPLAINERS[name].program, score_fn, options)


def programs() -> tuple[str, ...]:
  """Names the explainers that can run inside a jitted training step."""
  return tuple(name for name, spec in EXPLAINERS.items() if spec.program)


def _create(
    factory: Callable[..., Any], score_fn: ScoreFn, options: dict[str, Any]
) -> Any:
  """Gives a factory those of the options that it takes."""
  return _create_once(
      factory,
      score_fn,
      **{k: options[k] for k in _options(factory) if k in options},
  )


@functools.lru_cache(maxsize=KEPT)
def _create_once(factory, score_fn, **options):
  missing = [
      name for name in _options(factory)
      if name not in options and inspect.signature(factory).parameters[
          name
      ].default is inspect.Parameter.empty
  ]
  if missing:
    known = sorted({o for other in EXPLAINERS for o in options_of(other)})
    raise InputError(
        f'The explainer {factory.__name__} must be given '
        f'{", ".join(missing)}, which there is not. What an explainer can ask '
        f'for is {", ".join(known)}; give other options a default.'
    )
  return factory(score_fn, **options)


def evaluations(
    explainer: str | Callable[..., Explain] | Spec,
    *,
    max_evals: int,
    grid: int,
    integration_steps: int,
    num_regions: int = 0,
) -> int:
  """Returns how many model evaluations an explainer spends on an image.

  Args:
    explainer: A key of EXPLAINERS, a factory of the same kind, or a Spec.
    max_evals: With the others, the options that it may take.
    grid: Cells a side.
    integration_steps: Gradients.
    num_regions: Of the user's; 0 for cells.
  """
  return find(explainer).evaluations(
      max_evals=max_evals, grid=grid, integration_steps=integration_steps,
      num_regions=num_regions,
  )
