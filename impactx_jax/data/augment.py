"""Augmentation on the device, image and map moved together."""

import jax
import jax.numpy as jnp


def augment(
    batch: dict[str, jax.Array],
    key: jax.Array,
    *,
    flip: bool,
    crop_padding: int,
) -> dict[str, jax.Array]:
  """Mirrors and shifts each example of a batch, at random.

  Args:
    batch: `image` [B, H, W, C], `position` int32 [B] (each example's place in
      the global batch, so that the draw does not depend on how the batch is
      split among devices), and `map` [B, H, W, C'] if there is one.
    key: Of this step.
    flip: Whether to mirror left and right, with probability 1/2.
    crop_padding: Shift by up to so many pixels each way; the rim that comes
      into view repeats the image's edge, and is 0 in the map: no pixel of the
      original is there to be given credit.

  Returns:
    The batch with `image` and `map` moved.
  """
  if not flip and not crop_padding:
    return batch
  keys = jax.vmap(
      lambda i: jax.random.split(jax.random.fold_in(key, i))
  )(batch['position'])
  count = len(batch['position'])
  moved = {
      name: batch[name] for name in ('image', 'map') if name in batch
  }
  if flip:
    mirrored = jax.vmap(jax.random.bernoulli)(keys[:, 0])
    mirrored = mirrored.reshape(count, 1, 1, 1)
    moved = {
        name: jnp.where(mirrored, value[:, :, ::-1], value)
        for name, value in moved.items()
    }
  if crop_padding:
    offsets = jax.vmap(
        lambda k: jax.random.randint(k, (2,), 0, 2 * crop_padding + 1)
    )(keys[:, 1])
    moved = {
        name: _shift(value, offsets, crop_padding, 'edge' if name == 'image'
                     else 'constant')
        for name, value in moved.items()
    }
  return {**batch, **moved}


def _shift(
    values: jax.Array, offsets: jax.Array, padding: int, mode: str
) -> jax.Array:
  """Crops each padded [H + 2p, W + 2p, C] at its offset, back to [H, W, C]."""
  sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
  padded = jnp.pad(values, sides, mode=mode)
  shape = values.shape[1:]

  def crop(value, offset):
    return jax.lax.dynamic_slice(value, (*offset, 0), shape)

  return jax.vmap(crop)(padded, offsets)
