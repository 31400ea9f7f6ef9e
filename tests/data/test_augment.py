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


# --- Masks and boxes ----------------------------------------------------------

HEIGHT, WIDTH = 8, 10


def rectangles(count, classes, seed=0):
  """Random rectangles: masks [N, H, W, K], and their boxes [N, K, 4]."""
  generator = np.random.default_rng(seed)
  masks = np.zeros((count, HEIGHT, WIDTH, classes), np.float32)
  boxes = np.zeros((count, classes, 4), np.float32)
  for i in range(count):
    for k in range(classes):
      top, bottom = np.sort(generator.choice(HEIGHT + 1, 2, replace=False))
      left, right = np.sort(generator.choice(WIDTH + 1, 2, replace=False))
      masks[i, top:bottom, left:right, k] = 1
      boxes[i, k] = (
          top / HEIGHT, left / WIDTH, bottom / HEIGHT, right / WIDTH
      )
  return masks, boxes


def box_of(mask):
  """The box around what is 1 in a mask [H, W]."""
  rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
  return (
      rows[0] / HEIGHT, columns[0] / WIDTH,
      (rows[-1] + 1) / HEIGHT, (columns[-1] + 1) / WIDTH,
  )


@pytest.mark.parametrize(
    'flip, crop_padding', [(True, 0), (False, 5), (True, 3)]
)
def test_a_box_stays_around_its_mask(flip, crop_padding):
  masks, boxes = rectangles(count=100, classes=3)
  batch = {
      'image': jnp.asarray(masks), 'masks': jnp.asarray(masks),
      'boxes': jnp.asarray(boxes), 'position': jnp.arange(100),
  }
  moved = jax.device_get(augment.augment(
      batch, jax.random.key(4), flip=flip, crop_padding=crop_padding
  ))
  assert moved['masks'].shape == masks.shape
  assert np.isin(moved['masks'], (0, 1)).all()
  gone = changed = 0
  for i in range(100):
    for k in range(3):
      mask, box = moved['masks'][i, ..., k], moved['boxes'][i, k]
      if mask.any():
        np.testing.assert_allclose(box, box_of(mask), atol=1e-6)
      else:  # Nothing of it is to be seen any more.
        assert (box[2:] - box[:2]).min() == pytest.approx(0, abs=1e-6)
        gone += 1
      changed += bool(np.abs(box - boxes[i, k]).max() > 1e-3)
  assert changed > 50
  assert bool(gone) == bool(crop_padding)


def test_one_box_an_image_is_moved_as_several_are():
  masks, boxes = rectangles(count=20, classes=1)
  batch = {'image': jnp.asarray(masks), 'position': jnp.arange(20)}
  options = dict(flip=True, crop_padding=2)
  one, several = (
      augment.augment(
          batch | {name: jnp.asarray(value)}, jax.random.key(1), **options
      )[name]
      for name, value in (('box', boxes[:, 0]), ('boxes', boxes))
  )
  np.testing.assert_array_equal(one, several[:, 0])


def test_a_mask_ends_where_the_image_does_and_pixels_go_on():
  batch = {
      'image': jnp.ones((50, HEIGHT, WIDTH, 3)),
      'mask': jnp.ones((50, HEIGHT, WIDTH, 1)),
      'position': jnp.arange(50),
  }
  moved = augment.augment(batch, jax.random.key(0), flip=False, crop_padding=2)
  assert (moved['image'] == 1).all()
  share = np.asarray(moved['mask']).mean(axis=(1, 2, 3))
  # Of offsets (2, 2) no more than (8 - 2) (10 - 2) of 80 pixels are left.
  assert share.min() == pytest.approx(0.6) and share.max() == 1


def test_what_has_no_place_in_the_image_stays():
  batch = make_batch(16) | {
      'labels': jnp.ones((16, 3)), 'group': jnp.arange(16.0),
      'lambda': jnp.arange(16.0), 'row': jnp.arange(16),
  }
  moved = augment.augment(batch, jax.random.key(0), flip=True, crop_padding=2)
  assert moved.keys() == batch.keys()
  for name in ('label', 'labels', 'group', 'lambda', 'row', 'position'):
    np.testing.assert_array_equal(moved[name], batch[name])
