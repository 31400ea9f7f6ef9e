"""Data sets for the tests of `sources`, the user's own pictures among them."""

import pathlib

from attribution.errors import InputError
from impactx_jax.configs import common
from impactx_jax.data import sources
from PIL import Image
import pytest

SPLITS = ('train', 'validation', 'test')
# Of the pictures below: each class has a colour of its own.
COLOURS = {'cat': (10, 200, 30), 'dog': (240, 0, 90), 'owl': (77, 77, 77)}
# Modes that keep these colours, and sizes (width, height).
KINDS = {
    'cat': (('RGB', (32, 32)), ('RGBA', (40, 20)), ('RGB', (7, 90))),
    'dog': (('RGBA', (33, 31)), ('RGB', (16, 16)), ('RGB', (64, 48))),
    'owl': (('L', (32, 32)), ('LA', (50, 50)), ('RGB', (20, 24))),
}


def load(name, data_dir, seed=0, **fields) -> sources.Dataset:
  config = common.get_config()
  config.data.update({'name': name, 'data_dir': str(data_dir), **fields})
  return sources.load(config.data, seed)


def refused(name, data_dir, **fields) -> str:
  with pytest.raises(InputError) as error:
    load(name, data_dir, **fields)
  message = str(error.value)
  assert '\n' not in message, message
  return message


def draw(path: pathlib.Path, colour, mode='RGB', size=(20, 20)) -> None:
  """Saves a picture of one colour, opaque."""
  path.parent.mkdir(parents=True, exist_ok=True)
  picture = Image.new('RGB', size, colour).convert(mode.removesuffix('A'))
  if mode in ('RGBA', 'LA'):
    picture.putalpha(255)
  picture.save(path)


def draw_folder(folder: pathlib.Path, splits=('train', 'test')) -> None:
  for split in splits:
    for label, colour in COLOURS.items():
      for i in range(10):
        mode, size = KINDS[label][i % 3]
        draw(folder / split / label / f'{i}.png', colour, mode, size)
  # JPEG keeps colours to within a few grey values.
  draw(folder / 'train' / 'cat' / 'schöne Katze 1.JPEG', COLOURS['cat'])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pictures')
  draw_folder(folder)
  return folder


def ids_of(dataset: sources.Dataset, *splits: str) -> list[str]:
  return [i for split in splits for i in getattr(dataset, split)['id']]
