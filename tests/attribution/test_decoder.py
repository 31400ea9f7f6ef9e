"""The network that turns what is seen of a model into a map."""

from attribution.decoder import MapDecoder
from attribution.decoder import Views
import jax
import numpy as np
import pytest

SCORES = np.ones((2, 5), np.float32)
FINE = np.random.default_rng(0).random((2, 16, 24, 1), np.float32)


@pytest.mark.parametrize('views', [
    Views(SCORES),
    Views(SCORES, stem=FINE, features=FINE[:, ::4, ::4]),
    Views(SCORES, gradient=FINE, cells=FINE[:, ::2, ::2]),
    Views(SCORES, pixels=FINE, stem_gradient=FINE),
])
@pytest.mark.parametrize(('shape', 'start'), [
    ((8, 12, 3), 4), ((8, 12, 1), 8), ((16, 24, 1), 4)
])
def test_whatever_is_seen_the_map_has_its_shape(views, shape, start):
  network = MapDecoder(shape, start, filters=8)

  def apply(views):
    found, _ = network.init_with_output(jax.random.key(0), views)
    return found

  assert jax.eval_shape(apply, views).shape == (2, *shape)


@pytest.mark.parametrize(('shape', 'start'), [
    ((12, 12, 1), 8), ((8, 9, 1), 4), ((4, 4, 1), 8)
])
def test_a_shape_that_is_no_doubling_is_refused(shape, start):
  with pytest.raises(ValueError, match='by doubling'):
    MapDecoder(shape, start).init(jax.random.key(0), Views(SCORES))
