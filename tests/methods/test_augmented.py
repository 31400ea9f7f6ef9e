"""A trained on with surroundings that say nothing of the class."""

from impactx_jax import methods
import jax
import numpy as np
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import on_one_device

SIDES, OBJECT, GROUND = (16, 16), 0.9, (0.1, 0.2, 0.3)


def test_surroundings_are_anothers_and_objects_stay():
  method = methods.create(
      'baseline_augmented', make_config('baseline_augmented'),
      methods.Problem(2, (*SIDES, 3)),
  )
  # Three images of one colour each, with an object in another corner each; what
  # the last one has is not known.
  masks = np.zeros((3, *SIDES, 1), np.float32)
  masks[0, :4, :4] = masks[1, -4:, -4:] = masks[2, :4, -4:] = 1
  images = np.where(masks, OBJECT, np.reshape(GROUND, (3, 1, 1, 1)))
  batch = {
      'image': np.tile(images, 3).astype(np.float32), 'mask': masks,
      'annotated': np.array([1, 1, 0], np.float32),
      'position': np.arange(3, dtype=np.int32),
  }
  prepare = on_one_device(lambda key: method.prepare(0, batch, key)[1]['image'])
  seen = set()
  for seed in range(8):
    found = np.asarray(prepare(jax.random.key(seed)))
    np.testing.assert_array_equal(found[2], batch['image'][2])
    for i in (0, 1):
      inside = masks[i, ..., 0] > 0
      np.testing.assert_array_equal(found[i][inside], np.float32(OBJECT))
      outside = found[i][~inside]
      values, counts = np.unique(outside, return_counts=True)
      ground = values[counts.argmax()]
      seen.add((i, round(float(ground), 1)))
      if ground == np.float32(GROUND[2]):  # Where an object is that none knows.
        assert (outside == np.float32(OBJECT)).sum() == 3 * 16
      else:
        np.testing.assert_allclose(outside, ground, rtol=1e-5)
  # Never its own.
  assert seen == {(0, 0.2), (0, 0.3), (1, 0.1), (1, 0.3)}


def test_cropped_images_have_their_objects_on_the_mean_colour_of_the_batch():
  config = methods.config_of(
      'baseline_cropped', make_config('baseline_cropped')
  )
  method = methods.create(
      'baseline_cropped', config, methods.Problem(2, (*SIDES, 3))
  )
  masks = np.zeros((2, *SIDES, 1), np.float32)
  masks[0, :4, :4] = 1
  images = np.random.default_rng(0).random((2, *SIDES, 3), np.float32)
  batch = {
      'image': images, 'mask': masks, 'annotated': np.ones(2, np.float32),
      'position': np.arange(2, dtype=np.int32),
  }
  prepare = on_one_device(lambda key: method.prepare(0, batch, key)[1]['image'])
  found = np.asarray(prepare(jax.random.key(0)))
  colour = images.mean(axis=(0, 1, 2))
  wanted = np.where(masks[0], images[0], colour)
  np.testing.assert_allclose(found[0], wanted, rtol=1e-5)
  np.testing.assert_array_equal(found[1], images[1])  # It has no mask.
