"""Augmentation: image and map move together, however the batch is split."""

from impactx_jax.data import augment
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def make_batch(count=64):
  images = jax.random.uniform(jax.random.key(0), (count, 8, 10, 3))
  return {
      'image': images,
      'map': images[..., :1] + 1,  # Never 0, as the rim is.
      'label': jnp.arange(count),
      'position': jnp.arange(count),
  }


@pytest.mark.parametrize(
    'flip, crop_padding', [(True, 0), (False, 2), (True, 3)]
)
def test_the_map_follows_the_image(flip, crop_padding):
  moved = augment.augment(
      make_batch(), jax.random.key(1), flip=flip, crop_padding=crop_padding
  )
  inside = np.asarray(moved['map'][..., 0]) != 0
  difference = moved['map'][..., 0] - moved['image'][..., 0]
  np.testing.assert_allclose(np.asarray(difference)[inside], 1, atol=1e-6)
  if crop_padding:
    assert 0.3 < inside.mean() < 1
  else:
    assert inside.all()


def test_flip_mirrors_left_and_right_half_of_the_time():
  batch = make_batch(400)
  moved = augment.augment(batch, jax.random.key(1), flip=True, crop_padding=0)
  kept = np.all(moved['image'] == batch['image'], axis=(1, 2, 3))
  mirrored = np.all(
      moved['image'] == batch['image'][:, :, ::-1], axis=(1, 2, 3)
  )
  assert np.all(kept ^ mirrored)
  assert 0.4 < mirrored.mean() < 0.6


def test_crop_shifts_by_every_offset_up_to_the_padding():
  count = 500
  y, x = np.mgrid[:8, :10]
  image = np.stack([y, x, y], axis=-1).astype(np.float32)
  batch = {
      'image': jnp.broadcast_to(image, (count, 8, 10, 3)),
      'position': jnp.arange(count),
  }
  moved = augment.augment(batch, jax.random.key(2), flip=False, crop_padding=2)
  shifts = {tuple(s) for s in np.asarray(moved['image'][:, 4, 5, :2]).tolist()}
  assert shifts == {(4 + i, 5 + j) for i in range(-2, 3) for j in range(-2, 3)}


def test_the_draw_depends_on_the_position_and_not_on_the_split():
  batch = make_batch(16)
  options = dict(flip=True, crop_padding=2)
  whole = augment.augment(batch, jax.random.key(3), **options)
  halves = [
      augment.augment(
          jax.tree.map(lambda x, s=s: x[s], batch), jax.random.key(3), **options
      )
      for s in (slice(0, 8), slice(8, 16))
  ]
  joined = jax.tree.map(lambda *x: jnp.concatenate(x), *halves)
  jax.tree.map(np.testing.assert_array_equal, whole, joined)


def test_no_augmentation_changes_nothing():
  batch = make_batch(4)
  same = augment.augment(batch, jax.random.key(0), flip=False, crop_padding=0)
  jax.tree.map(np.testing.assert_array_equal, same, batch)
