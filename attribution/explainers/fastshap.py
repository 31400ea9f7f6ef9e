"""FastSHAP's objective: Shapley values learned without maps to learn from.

Jethani et al., 2022. A map of cells is right if, for cells S that are shown,
its values there sum to what showing them takes: drawn from Shapley's kernel,
such S make the least squares solution the Shapley values (equation 4 there).
"""

from collections.abc import Callable

from attribution.errors import InputError
import jax
import jax.numpy as jnp


def subsets(key: jax.Array, count: int, players: int) -> jax.Array:
  """Draws sets of players from Shapley's kernel, each with its complement.

  Args:
    key: Of the draw.
    count: How many, even.
    players: d, at least 2.

  Returns:
    bool [count, d]; the second half are the complements of the first.

  Raises:
    InputError: for an odd number of sets, or fewer than 2 players.
  """
  if count % 2 or count < 2:
    raise InputError(
        f'{count} sets of cells cannot be drawn in pairs; give an even number.',
        'samples', 'N',
    )
  if players < 2:
    raise InputError(
        'One cell covers the whole image, and there is nothing to share out. '
        'Take smaller cells.', 'cell', 'N',
    )
  key_size, key_order = jax.random.split(key)
  sizes = jnp.arange(1, players)
  # Of all sets of a size together: (d - 1) / (s (d - s)).
  weight = 1 / (sizes * (players - sizes))
  size = jax.random.choice(
      key_size, sizes, (count // 2,), p=weight / weight.sum()
  )
  order = jax.random.uniform(key_order, (count // 2, players)).argsort(axis=1)
  chosen = order.argsort(axis=1) < size[:, None]
  return jnp.concatenate([chosen, ~chosen])


def complete(
    cells: jax.Array, full: jax.Array, hidden: jax.Array
) -> jax.Array:
  """Adds evenly what the values lack of f(x) - f(hidden) (equation 6 there).

  Args:
    cells: float [B, h, w].
    full: f(x), [B].
    hidden: f of the image with all hidden, [B].
  """
  lacks = full - hidden - cells.sum(axis=(1, 2))
  players = cells.shape[1] * cells.shape[2]
  return cells + lacks[:, None, None] / players


def loss(
    cells: jax.Array,
    images: jax.Array,
    backgrounds: jax.Array,
    score: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    *,
    samples: int = 8,
) -> jax.Array:
  """The squared error of the sums over drawn sets of cells.

  Args:
    cells: The predicted values of the explained class, [B, h, w]; they are
      completed here.
    images: float32 [B, H, W, C], divided evenly into h x w cells.
    backgrounds: The same with all pixels hidden.
    score: Images [n B, H, W, C], example after example -> the scores of the
      explained classes, [n B].
    key: Of the draw.
    samples: Sets an image, even.

  Returns:
    float [B], the mean over the sets.
  """
  batch, height, width = cells.shape
  if samples % 2:  # Of one image and all: a batch would hide it.
    subsets(key, samples, height * width)
  sides = images.shape[1] // height, images.shape[2] // width
  drawn = subsets(key, samples * batch, height * width)
  # A set and its complement are of the same image.
  drawn = drawn.reshape(2, samples // 2, batch, height * width)
  drawn = drawn.transpose(2, 0, 1, 3).reshape(batch, samples, height, width)
  shown = drawn.repeat(sides[0], axis=2).repeat(sides[1], axis=3)[..., None]
  masked = jnp.where(shown, images[:, None], backgrounds[:, None])
  ends = jnp.stack([images, backgrounds], axis=1)
  queries = jnp.concatenate([masked, ends], axis=1)
  scores = score(queries.reshape(-1, *images.shape[1:]))
  scores = jax.lax.stop_gradient(scores.reshape(batch, samples + 2))
  values, full, hidden = scores[:, :-2], scores[:, -2], scores[:, -1]
  cells = complete(cells, full, hidden)
  sums = jnp.einsum('bshw,bhw->bs', drawn.astype(cells.dtype), cells)
  return jnp.square(values - hidden[:, None] - sums).mean(axis=1)
