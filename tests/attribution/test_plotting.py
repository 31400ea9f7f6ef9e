"""`attribution.plot`: what is drawn, read from the figure; and its colours."""

import subprocess
import sys

import attribution
from attribution import plotting
from attribution.errors import InputError
from matplotlib import figure
import numpy as np
import pytest

RNG = np.random.default_rng(0)
FLOATS = RNG.random((3, 6, 4, 3), np.float32)
PICTURES = RNG.integers(0, 256, (3, 6, 4, 3), np.uint8)
MAPS = RNG.normal(size=(3, 6, 4, 3)).astype(np.float32)


def panels(picture) -> np.ndarray:
  """The axes that have something drawn in them, without the colour bar."""
  return [axis for axis in picture.axes[:-1] if axis.images]


def pixels(axis) -> np.ndarray:
  return np.asarray(axis.images[0].get_array())


@pytest.mark.parametrize('images', [FLOATS, PICTURES, FLOATS[..., :1]])
def test_a_row_an_image_and_its_map_beside_it(images):
  picture = attribution.plot(images, MAPS)
  assert isinstance(picture, figure.Figure)
  drawn = panels(picture)
  assert len(drawn) == 6
  for i in range(3):
    np.testing.assert_array_equal(
        pixels(drawn[2 * i]), plotting.to_rgb(images[i])
    )
    np.testing.assert_allclose(
        pixels(drawn[2 * i + 1]), MAPS[i].sum(-1), rtol=1e-5
    )
    low, high = drawn[2 * i + 1].images[0].get_clim()
    assert -low == high == pytest.approx(abs(MAPS[i].sum(-1)).max(), rel=1e-5)
    assert drawn[2 * i + 1].texts[0].get_text() == f'±{high:.2g}'
  labels = [x.get_text() for x in picture.axes[-1].get_xticklabels()]
  assert labels == ['against', '0', 'for the class']


@pytest.mark.parametrize(('scale', 'limits'), [
    ('map', [1, 3]), ('image', [3, 3]),
])
def test_methods_are_side_by_side_on_their_own_scale_or_on_one(scale, limits):
  maps = {'SHAP': np.ones((1, 6, 4, 1)), 'other': np.full((1, 6, 4, 3), -1.0)}
  picture = attribution.plot(
      FLOATS[:1], maps, scale=scale, titles=['a cat']
  )
  image, *drawn = panels(picture)
  assert image.get_title() == 'a cat'
  assert [axis.get_title() for axis in drawn] == ['SHAP', 'other']
  assert [axis.images[0].get_clim()[1] for axis in drawn] == limits


def test_images_side_by_side():
  picture = attribution.plot(FLOATS, MAPS, columns=2, titles=[7, 8, 9])
  drawn = panels(picture)
  assert len(drawn) == 6
  assert [axis.get_title() for axis in drawn[::2]] == ['7', '8', '9']
  places = [axis.get_subplotspec().rowspan.start for axis in drawn]
  assert places == [0, 0, 0, 0, 1, 1]
  # No more columns than images.
  assert len(panels(attribution.plot(FLOATS, MAPS, columns=50))) == 6


def test_a_map_of_zeros_is_white():
  picture = attribution.plot(FLOATS[:1], 0 * MAPS[:1])
  _, axis = panels(picture)
  assert axis.images[0].get_clim() == (-1, 1)
  assert axis.texts[0].get_text() == 'all zero'


def test_images_outside_0_to_1_are_stretched_each_by_itself():
  images = np.stack([4 * FLOATS[0] - 2, FLOATS[1] / 2, 0 * FLOATS[2] + 5])
  found = plotting.displayed(images)
  for i in range(2):
    assert (found[i].min(), found[i].max()) == (0, 1)
    order = np.argsort(images[i], None)
    assert (np.diff(found[i].ravel()[order]) >= 0).all()
  assert (found[2] == 0).all()
  for inside in (FLOATS, FLOATS / 2, PICTURES):
    assert plotting.displayed(inside) is inside
  attribution.plot(images, MAPS)


_ALONE = """
import sys
import attribution
import numpy as np
assert 'matplotlib' not in sys.modules
picture = attribution.plot(np.zeros((2, 8, 8, 1)), np.ones((2, 8, 8, 1)))
picture.savefig(sys.argv[1])
assert 'matplotlib.pyplot' not in sys.modules
"""


def test_pyplot_is_not_needed(tmp_path):
  subprocess.run(
      [sys.executable, '-c', _ALONE, str(tmp_path / 'a.png')], check=True
  )
  assert (tmp_path / 'a.png').stat().st_size > 1000


NAN = np.where(np.arange(3)[:, None, None, None] == 1, np.nan, MAPS)
WRONG = {
    r'maps \(2, 6, 4, 3\)': (FLOATS, MAPS[:2], {}),
    r'images \(3, 6, 4, 3\) and maps SHAP \(3, 6, 6, 3\)': (
        FLOATS, {'SHAP': np.ones((3, 6, 6, 3))}, {}
    ),
    r'maps \(3, 6, 4, 3, 1\)': (FLOATS, MAPS[..., None], {}),
    r'shape \(6, 4, 3\) cannot be drawn': (FLOATS[0], MAPS[:1], {}),
    r'shape \(3, 6, 4, 2\) cannot': (FLOATS[..., :2], MAPS, {}),
    r'shape \(0, 6, 4, 3\) cannot': (FLOATS[:0], MAPS[:0], {}),
    'images are int64': (PICTURES.astype(int), MAPS, {}),
    'infinity in the maps SHAP': (FLOATS, {'SHAP': NAN}, {}),
    'infinity in the images': (NAN, MAPS, {}),
    'There are no maps': (FLOATS, {}, {}),
    '2 titles for 3 images': (FLOATS, MAPS, {'titles': 'ab'}),
    "Unknown scale 'images'. Did you mean 'image'": (
        FLOATS, MAPS, {'scale': 'images'}
    ),
    'columns is 0': (FLOATS, MAPS, {'columns': 0}),
    '300 images are more than': (
        np.zeros((300, 2, 2, 1)), np.zeros((300, 2, 2, 1)), {}
    ),
}


@pytest.mark.parametrize('said', WRONG)
def test_what_cannot_be_drawn_is_said(said):
  images, maps, options = WRONG[said]
  with pytest.raises(InputError, match=said):
    attribution.plot(images, maps, **options)


def test_red_is_for_blue_against_and_white_nothing():
  values = np.zeros((1, 3, 2), np.float32)
  values[0, :, 0], values[0, :, 1] = [3, 0, -2], [1, 0, -2]  # 4, 0 and -4.
  (red, white, blue), = plotting.relevance_colours(values).astype(int)
  assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50
  assert white.min() > 240
  zeros = plotting.relevance_colours(np.zeros((1, 3, 2)))
  assert (zeros == white).all()


def test_an_overlay_shows_the_image_where_the_map_says_nothing():
  image = np.full((1, 2, 3), 0.2, np.float32)
  values = np.array([[[0.0], [1.0]]])
  nothing, most = plotting.overlay(image, values)[0]
  assert nothing.tolist() == [51] * 3
  colour = plotting.relevance_colours(values)[0, 1]
  np.testing.assert_allclose(most, 0.85 * colour + 0.15 * 51, atol=1)


def test_grey_becomes_rgb():
  image = np.array([[[0.0], [0.2], [1.0]]], np.float32)
  found = plotting.to_rgb(image)
  assert found.tolist() == [[[0] * 3, [51] * 3, [255] * 3]]
  np.testing.assert_array_equal(
      plotting.to_rgb(PICTURES[0] / np.float32(255)), PICTURES[0]
  )
  np.testing.assert_array_equal(plotting.to_rgb(PICTURES[0]), PICTURES[0])
