"""A learned explainer of any JAX model: maps in one forward and backward pass.

A small network sees the image, the scores, and the gradient of the explained
score half-way to the hidden image; it learns the maps that another explainer
makes, or FastSHAP's objective. The model stays as it is.
"""

from collections.abc import Callable
import dataclasses
import functools
import time
from typing import Any

from attribution import explainers
from attribution import maskers
from attribution import model_fn
from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.errors import unknown_choice
from attribution.explainers import batched
from attribution.explainers import fastshap
from attribution.explainers import learned
from attribution.maskers import Masker
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm.auto import tqdm

OBJECTIVES = ('maps', 'fastshap')


@dataclasses.dataclass(frozen=True)
class Learned:
  """An explainer that was learned; call it with images.

  Attributes:
    r2: Share of the variance of the held-out images' maps about their mean that
      it explains, over cells; None where none were held out, as by FastSHAP's
      objective.
    loss: The mean loss of each epoch.
    seconds: That learning took, the maps included.
    evaluations: Of the model, forward, for the maps or the sets of cells; what
      the network sees of it is one more and a backward pass, an image and step.
    variables: Those of the model, and what was learned, {'model', 'decoder'}.
    explain: (variables, images, labels) -> maps, as every explainer.
    top: (variables, images) -> the classes of the highest scores.
    shape: (H, W, C) of the images.
  """

  r2: float | None
  loss: tuple[float, ...]
  seconds: float
  evaluations: int
  variables: dict[str, Any] = dataclasses.field(repr=False)
  explain: batched.Explain = dataclasses.field(repr=False)
  top: Callable[..., np.ndarray] = dataclasses.field(repr=False)
  shape: tuple[int, int, int]

  def __call__(
      self, images: np.ndarray, labels: np.ndarray | None = None
  ) -> np.ndarray:
    """Explains images.

    Args:
      images: float32 [N, H, W, C].
      labels: int [N], or [N, K'] for several at once; None for the classes of
        the highest scores.

    Returns:
      Maps float32 [N, H, W, 1], or [N, H, W, 1, K'], a cell's value on all its
      pixels. After FastSHAP's objective they sum to score(image) -
      score(hidden); otherwise they are scaled to magnitudes of about 1.
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[1:] != self.shape or not len(images):
      wanted = ', '.join(map(str, self.shape))
      raise InputError(
          f'It has learned of images [N, {wanted}], and these have the shape '
          f'{images.shape}.'
      )
    if labels is None:
      labels = self.top(self.variables['model'], images)
    return self.explain(self.variables, images, labels)


def learn(
    score_fn: Callable[..., jax.Array],
    variables: Any,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    maps: np.ndarray | None = None,
    objective: str = 'maps',
    masker: str = 'blur',
    blur_kernel: int | None = None,
    mask_value: float | np.ndarray = 0.0,
    max_evals: int = 500,
    cell: int = 0,
    filters: int = 32,
    epochs: int = 20,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    samples: int = 8,
    held_out: float = 0.1,
    seed: int = 0,
) -> Learned:
  """Learns to explain a model, which stays as it is.

  Args:
    score_fn: Any jittable function (variables, images float32 [B, H, W, C]) ->
      scores [B, K], of any B.
    variables: Its weights, any tree of arrays; {} for none.
    images: float32 [N, H, W, C] to learn from.
    labels: int [N], the classes that are explained; None for those of the
      highest scores.
    maps: float [N, H, W, C'] of these images and labels, such as
      `attribution.explain` gives; None to make them, with `partition`, or by
      FastSHAP's objective to do without.
    objective: 'maps', or 'fastshap' to do without.
    masker: What stands in for hidden pixels: 'blur', 'mean' or 'constant'.
    blur_kernel: Side of the blur in pixels; None is half the shorter side.
    mask_value: Colour of 'mean' and 'constant'.
    max_evals: Evaluations a map, where they are made.
    cell: Side in pixels of the cells that a map has values for; 0 for an eighth
      of the shorter side. It must divide both sides.
    filters: Width of the network.
    epochs: Passes over the images.
    batch_size: Images a step.
    learning_rate: Of Adam, at the start; it falls to 0 as a cosine.
    samples: Sets of cells an image and step, even; for FastSHAP's objective.
    held_out: Share of the images that only `r2` is measured on, with maps.
    seed: Of all random numbers.

  Raises:
    InputError: a ValueError, for arguments that do not fit.
  """
  start = time.monotonic()
  images = np.asarray(images, np.float32)
  found = Masker(masker, blur_kernel or 0, mask_value)
  score = model_fn.ScoreOfAny(score_fn, takes_variables=True)
  top = functools.partial(_top, model_fn.numpy_callable(score, 256))
  if images.ndim != 4 or not len(images):
    raise InputError(
        f'Images of shape {images.shape}: give some, [N, H, W, C].'
    )
  classes = model_fn.inspect(score, variables, images.shape[1:]).num_classes
  labels = top(variables, images) if labels is None else np.asarray(labels)
  side = cell or max(1, min(images.shape[1:3]) // 8)
  for name, value, least in (
      ('cell', side, 1), ('filters', filters, 1), ('epochs', epochs, 1),
      ('batch_size', batch_size, 1),
  ):
    check_at_least(name, value, least)
  _check(images, labels, maps, objective, found, side, batch_size, held_out)
  batched.check_labels(labels, score, variables, images.shape[1:])
  evaluations = 0
  if objective == 'maps' and maps is None:
    maps = explainers.create(
        'partition', score, masker=found, max_evals=max_evals, batch_size=50
    )(variables, images, labels)
    evaluations = max_evals * len(images)

  order = np.random.default_rng(seed).permutation(len(images))
  kept = round(held_out * len(images)) if objective == 'maps' else 0
  rows = order[kept:]
  targets = None if maps is None else _targets(maps, side)
  network, see = learned.build(
      score, found, images.shape[1:], cell=side, filters=filters,
      num_classes=classes,
  )
  params = network.init(
      jax.random.key(seed),
      see(variables, images[:1], labels[:1].astype(np.int32)),
  )

  def error(params, variables, batch, key):
    cells = network.apply(
        params, see(variables, batch['image'], batch['label'])
    )
    if objective == 'maps':
      return jnp.square(cells - batch['map']).mean()
    return fastshap.loss(
        cells[..., 0],
        batch['image'],
        found.background(batch['image']),
        lambda x: learned.at(
            score(variables, x), batch['label'].repeat(samples + 2)
        ),
        key,
        samples=samples,
    ).mean()

  columns = {'image': images, 'label': labels.astype(np.int32)}
  if objective == 'maps':
    columns['map'] = targets
  params, losses = _train(
      error, params, variables,
      {name: x[rows] for name, x in columns.items()},
      epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
      seed=seed,
  )
  if objective == 'fastshap':
    seen = len(rows) // batch_size * batch_size
    evaluations = (samples + 2) * epochs * seen
  explainer = Learned(
      r2=None,
      loss=losses,
      seconds=time.monotonic() - start,
      evaluations=evaluations,
      variables={'model': variables, 'decoder': params},
      explain=batched.batched(
          learned.program(
              network, see, score, found, side, complete=objective == 'fastshap'
          ),
          learned.of_model(score), images_per_step=None, evals_per_step=4,
      ),
      top=top,
      shape=images.shape[1:],
  )
  if not kept:
    return explainer
  held = order[:kept]
  predicted = explainer(images[held], labels[held])[:, ::side, ::side]
  mean = targets[rows].mean(axis=0)
  spread = np.square(targets[held] - mean).sum()
  wrong = np.square(targets[held] - predicted).sum()
  return dataclasses.replace(
      explainer, r2=float(1 - wrong / spread) if spread else 0.0
  )


def _check(
    images, labels, maps, objective, masker, cell, batch_size, held_out
) -> None:
  if objective not in OBJECTIVES:
    raise unknown_choice('objective', objective, OBJECTIVES, 'objective')
  if masker.name not in maskers.BACKGROUND_MASKERS:
    raise InputError(
        f'The masker {masker.name!r} is not computed on the device, as '
        f'learning needs; take {", ".join(maskers.BACKGROUND_MASKERS)}.',
        'masker', 'NAME',
    )
  batched.check_inputs(images, labels)
  if labels.ndim != 1:
    raise InputError('Give one label an image to learn from, [N].')
  if any(side % cell for side in images.shape[1:3]):
    raise InputError(
        f'Cells of {cell} pixels do not divide images of {images.shape[1]}x'
        f'{images.shape[2]}.', 'cell', 'N',
    )
  if maps is not None and (
      np.ndim(maps) != 4 or np.shape(maps)[:3] != images.shape[:3]
  ):
    raise InputError(
        f'Maps of shape {np.shape(maps)} for images of shape {images.shape}: '
        'give one an image, [N, H, W, C].'
    )
  if maps is not None and objective == 'fastshap':
    raise InputError(
        "Maps are given, which objective='fastshap' does not learn from.",
        'objective', "'maps'",
    )
  if not 0 <= held_out < 1:
    raise InputError(
        f'held_out is {held_out}; it must be at least 0 and below 1.',
        'held_out', 'SHARE',
    )
  count = len(images)
  if objective == 'maps':
    count -= round(held_out * count)
  if batch_size > count:
    raise InputError(
        f'A batch of {batch_size} images is more than the {count} there are to '
        'learn from.', 'batch_size', 'N',
    )


def _targets(maps: np.ndarray, cell: int) -> np.ndarray:
  """[N, H, W, C] -> the mean over cells, scaled to [-1, 1], [N, h, w, 1]."""
  relevance = np.asarray(maps, np.float32).sum(axis=-1, keepdims=True)
  cells = learned.pool(relevance, cell)
  largest = abs(cells).max(axis=(1, 2, 3), keepdims=True)
  return cells / np.where(largest > 0, largest, 1)


def _top(score, variables, images) -> np.ndarray:
  return score(variables, images).argmax(axis=-1).astype(np.int32)


def _train(
    error, params, variables, columns, *, epochs, batch_size, learning_rate,
    seed,
):
  """Returns the parameters after all epochs, and each epoch's mean loss."""
  steps = len(columns['image']) // batch_size
  optimizer = optax.adam(
      optax.cosine_decay_schedule(learning_rate, epochs * steps)
  )

  @jax.jit
  def step(params, state, variables, batch, key):
    value, gradients = jax.value_and_grad(error)(params, variables, batch, key)
    updates, state = optimizer.update(gradients, state)
    return optax.apply_updates(params, updates), state, value

  variables = jax.device_put(variables)  # Once, and no constants of the step.
  state, losses = optimizer.init(params), []
  stream, key = np.random.default_rng(seed + 1), jax.random.key(seed)
  with tqdm(
      total=epochs * steps * batch_size, desc='learning', unit='image',
      unit_scale=True,
  ) as progress:
    for epoch in range(epochs):
      order, values = stream.permutation(len(columns['image'])), []
      for i in range(steps):
        rows = order[i * batch_size : (i + 1) * batch_size]
        params, state, value = step(
            params, state, variables,
            {name: x[rows] for name, x in columns.items()},
            jax.random.fold_in(key, epoch * steps + i),
        )
        values.append(value)
        progress.update(batch_size)
      losses.append(float(np.mean(jax.device_get(values))))
      if not np.isfinite(losses[-1]):
        raise InputError(
            f'The loss is {losses[-1]} in epoch {epoch + 1}. A lower learning '
            'rate is the usual cure.', 'learning_rate', 'X',
        )
  return params, tuple(losses)
