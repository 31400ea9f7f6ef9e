"""Augmentation on the device: what has a place in the image moves with it."""

import jax
import jax.numpy as jnp

from impactx_jax.data import columns

# What comes into view at the rim: pixels repeat the image's edge; there is no
# pixel of the original to be given credit, or to belong to an object.
_RIM = {columns.PIXELS: 'edge', columns.MAP: 'constant',
        columns.MASK: 'constant'}


def augment(
    batch: dict[str, jax.Array],
    key: jax.Array,
    *,
    flip: bool,
    crop_padding: int,
) -> dict[str, jax.Array]:
  """Mirrors and shifts each example of a batch, at random.

  Args:
    batch: Columns, of which pixels, maps, masks and boxes are moved together,
      and `position` int32 [B] (each example's place in the global batch, so
      that the draw does not depend on how the batch is split among devices).
    key: Of this step.
    flip: Whether to mirror left and right, with probability 1/2.
    crop_padding: Shift by up to so many pixels each way; the rim that comes
      into view repeats the image's edge, and is 0 in maps and masks. Boxes are
      cut at the image's edge.

  Returns:
    The batch with what was moved.
  """
  if not flip and not crop_padding:
    return batch
  keys = jax.vmap(
      lambda i: jax.random.split(jax.random.fold_in(key, i))
  )(batch['position'])
  moved = {
      name: value
      for name, value in batch.items()
      if columns.kind_of(name) in (*_RIM, columns.BOX)
  }
  if flip:
    mirrored = jax.vmap(jax.random.bernoulli)(keys[:, 0])
    moved = {
        name: jnp.where(
            mirrored.reshape(-1, *[1] * (value.ndim - 1)),
            _mirror(name, value),
            value,
        )
        for name, value in moved.items()
    }
  if crop_padding:
    offsets = jax.vmap(
        lambda k: jax.random.randint(k, (2,), 0, 2 * crop_padding + 1)
    )(keys[:, 1])
    sides = batch['image'].shape[1:3]
    moved = {
        name: _shift_boxes(value, offsets - crop_padding, sides)
        if columns.kind_of(name) == columns.BOX
        else _shift(value, offsets, crop_padding, _RIM[columns.kind_of(name)])
        for name, value in moved.items()
    }
  return {**batch, **moved}


def _mirror(name: str, value: jax.Array) -> jax.Array:
  if columns.kind_of(name) != columns.BOX:
    return value[:, :, ::-1]
  ymin, xmin, ymax, xmax = jnp.moveaxis(value, -1, 0)
  return jnp.stack([ymin, 1 - xmax, ymax, 1 - xmin], axis=-1)


def _shift(
    values: jax.Array, offsets: jax.Array, padding: int, mode: str
) -> jax.Array:
  """Crops each padded [H + 2p, W + 2p, …] at its offset, back to [H, W, …]."""
  beyond = [(0, 0)] * (values.ndim - 3)
  sides = ((0, 0), (padding, padding), (padding, padding), *beyond)
  padded = jnp.pad(values, sides, mode=mode)
  shape = values.shape[1:]

  def crop(value, offset):
    start = (*offset, *[0] * len(beyond))
    return jax.lax.dynamic_slice(value, start, shape)

  return jax.vmap(crop)(padded, offsets)


def _shift_boxes(
    boxes: jax.Array, offsets: jax.Array, sides: tuple[int, int]
) -> jax.Array:
  """Moves boxes [B, …, 4] up and left by pixels [B, 2], and cuts them."""
  by = jnp.tile(offsets / jnp.asarray(sides), 2)
  by = by.reshape(-1, *[1] * (boxes.ndim - 2), 4)
  return jnp.clip(boxes - by, 0, 1)
