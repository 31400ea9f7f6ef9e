"""Pictures of every kind, brought to a network's size."""

from attribution.errors import InputError
from etils import epath
from impactx_jax.data import pictures
import numpy as np
from PIL import Image
import pytest

SHAPE = (8, 8, 3)


def save(tmp_path, values, name='p.png', mode=None, **options):
  path = tmp_path / name
  Image.fromarray(np.asarray(values), mode).save(path, **options)
  return path


def test_a_picture_of_the_right_size_stays_what_it_is(tmp_path):
  values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
  path = save(tmp_path, values)
  np.testing.assert_array_equal(pictures.read(path, SHAPE), values)


@pytest.mark.parametrize('size', [(3, 5), (8, 80), (400, 30)])
def test_another_size_is_resized_as_a_whole(tmp_path, size):
  values = np.zeros((*size, 3), np.uint8)
  values[:, : size[1] // 2] = 200  # The left half is brighter.
  found = pictures.read(save(tmp_path, values), SHAPE)
  assert found.shape == SHAPE and found.dtype == np.uint8
  assert found[:, 0].mean() > 150 and found[:, -1].mean() < 50


def test_grey_for_a_network_of_colours_and_the_other_way_round(tmp_path):
  path = save(tmp_path, np.full((8, 8), 100, np.uint8))
  np.testing.assert_array_equal(pictures.read(path, SHAPE), 100)
  values = np.full(SHAPE, (255, 0, 0), np.uint8)
  grey = pictures.read(save(tmp_path, values), (8, 8, 1))
  assert grey.shape == (8, 8, 1) and grey[0, 0, 0] == 76  # 0.299 of 255.


def test_what_is_transparent_becomes_white(tmp_path):
  values = np.zeros((8, 8, 4), np.uint8)
  values[:, :4, 3] = 255  # The left half is opaque, and black.
  found = pictures.read(save(tmp_path, values), SHAPE)
  assert (found[:, :4] == 0).all() and (found[:, 4:] == 255).all()


def test_sixteen_bits_become_eight(tmp_path):
  values = np.full((8, 8), 65535 // 2, np.uint16)
  np.testing.assert_array_equal(
      pictures.read(save(tmp_path, values), SHAPE), 127
  )


def test_a_palette_with_transparency(tmp_path):
  picture = Image.new('P', (8, 8), 0)
  picture.putpalette([10, 20, 30])
  picture.save(tmp_path / 'p.gif')
  found = pictures.read(tmp_path / 'p.gif', SHAPE)
  np.testing.assert_array_equal(found[0, 0], [10, 20, 30])
  picture.save(tmp_path / 't.gif', transparency=0)
  assert (pictures.read(tmp_path / 't.gif', SHAPE) == 255).all()


def test_the_camera_was_held_upright(tmp_path):
  values = np.zeros(SHAPE, np.uint8)
  values[0] = 255
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned by 90 degrees clockwise.
  path = save(tmp_path, values, exif=exif)
  found = pictures.read(path, SHAPE)
  assert (found[:, -1] == 255).all() and (found[:, 0] == 0).all()


@pytest.mark.parametrize('name', ['wide.png', 'wide.jpg'])
def test_a_very_wide_picture(tmp_path, name):
  Image.new('RGB', (20_000, 50), (0, 0, 250)).save(tmp_path / name)
  found = pictures.read(tmp_path / name, SHAPE)
  assert abs(int(found[4, 4, 2]) - 250) < 5


def test_a_picture_too_large_to_be_read(tmp_path, monkeypatch):
  monkeypatch.setattr(pictures, 'MAX_PIXELS', 100)
  path = save(tmp_path, np.zeros((20, 20), np.uint8))
  with pytest.raises(InputError, match='20x20 pixels; the most is 100'):
    pictures.read(path, SHAPE)


def test_a_picture_that_may_not_be_read(tmp_path, monkeypatch):
  path = save(tmp_path, np.zeros((8, 8), np.uint8))

  def forbidden(_):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(type(epath.Path(path)), 'read_bytes', forbidden)
  with pytest.raises(InputError, match=r'p\.png cannot be read \(Permission'):
    pictures.read(path, SHAPE)


def test_what_is_no_picture(tmp_path):
  (tmp_path / 'text.png').write_text('no picture')
  whole = save(tmp_path, np.random.default_rng(0).integers(
      0, 256, (60, 60, 3), np.uint8)).read_bytes()
  (tmp_path / 'cut.png').write_bytes(whole[:2000])
  for name in ('text.png', 'cut.png'):
    with pytest.raises(InputError, match=f'{name} is no picture'):
      pictures.read(tmp_path / name, SHAPE)
  for missing in (tmp_path / 'missing.png', tmp_path):
    with pytest.raises(InputError, match='There is no picture'):
      pictures.read(missing, SHAPE)
