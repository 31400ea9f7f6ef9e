"""`attribution.write_maps` and `read_maps`: shards of any model's maps."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import attribution
from attribution import records
from attribution.errors import InputError
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.attribution.service_fixtures import contents
from tests.attribution.service_fixtures import Killed

RNG = np.random.default_rng(0)
COUNT, SHARD_SIZE = 5, 2
WEIGHTS = {'w': RNG.normal(size=(48, 3)).astype(np.float32)}
PICTURES = RNG.integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
FLOATS = RNG.normal(size=(COUNT, 4, 4, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0])


def score(weights, images):
  return jnp.tanh(images.reshape(len(images), -1) @ weights['w'] / 8)


def make(**options):
  return attribution.Explainer(score, **{
      'variables': WEIGHTS, 'explainer': 'partition_grid', 'grid': 2, **options
  })


# Four regions in the first image, two in the others.
REGIONS = np.kron([[0, 1], [2, 3]], np.ones((2, 2), int))
REGIONS = np.stack([REGIONS, *[REGIONS // 2] * (COUNT - 1)])
MASK = np.zeros((COUNT, 4, 4), np.uint8)


def write(directory, explainer=None, data=None, **options):
  if data is None:
    data = {'image': PICTURES, 'label': LABELS}
  return attribution.write_maps(
      explainer or make(), data, directory,
      **{'shard_size': SHARD_SIZE, **options},
  )


@pytest.mark.parametrize('images', [PICTURES, FLOATS], ids=['uint8', 'float'])
def test_what_is_read_is_what_explain_gives(tmp_path, images):
  data = {
      'image': images, 'label': LABELS,
      'id': np.array([f'Bär {i}' for i in range(COUNT)]),
      'split': np.array(['train'] * 3 + ['test'] * 2),
      'mask': RNG.random((COUNT, 4, 4)) < 0.5,
  }
  manifest = write(tmp_path, data=data)
  columns, same = attribution.read_maps(tmp_path)
  assert manifest == same and manifest['examples'] == {'train': 3, 'test': 2}
  assert [shard['examples'] for shard in manifest['shards']] == [2, 2, 1]
  for name, column in data.items():
    np.testing.assert_array_equal(columns[name], column, err_msg=name)
  assert columns['image'].dtype == images.dtype
  given = images / np.float32(255) if images.dtype == np.uint8 else images
  np.testing.assert_allclose(
      columns['map'], make()(given, LABELS), rtol=1e-5, atol=1e-6
  )
  rows = np.arange(COUNT)
  np.testing.assert_allclose(
      columns['full_value'], score(WEIGHTS, given)[rows, LABELS], rtol=1e-5
  )
  np.testing.assert_allclose(
      columns['map'].sum(axis=(1, 2, 3)),
      columns['full_value'] - columns['base_value'], atol=1e-5,
  )
  assert columns['classes'].tolist() == LABELS.tolist()


@pytest.mark.parametrize('name', ['label', 'classes'])
def test_several_classes_an_image(tmp_path, name):
  several = np.stack([LABELS, (LABELS + 1) % 3], axis=1)
  data = {'image': FLOATS, 'label': LABELS, name: several}
  write(tmp_path, data=data)
  columns, _ = attribution.read_maps(tmp_path)
  assert columns['map'].shape == (*FLOATS.shape, 2)
  np.testing.assert_array_equal(columns['classes'], several)
  np.testing.assert_array_equal(columns['label'], data['label'])
  np.testing.assert_allclose(
      columns['map'], make()(FLOATS, several), atol=1e-6
  )


def test_a_function_of_images_alone_and_a_map_without_a_sum(tmp_path):
  alone = attribution.Explainer(
      lambda images: score(WEIGHTS, images), explainer='random'
  )
  manifest = write(tmp_path, alone, model='net')
  assert manifest['variables'] is None and manifest['model'] == 'net'
  columns, _ = attribution.read_maps(tmp_path)
  assert columns['id'].tolist() == [f'{i:07d}' for i in range(COUNT)]
  assert set(columns['split']) == {'train'}


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """The directory of an uninterrupted call; tests must not change it."""
  directory = tmp_path_factory.mktemp('undisturbed')
  write(directory, data={'image': FLOATS, 'label': LABELS})
  return directory


# In the estimate's two calls, in the first shard, and in the last.
@pytest.mark.parametrize('killed_in', [0, 2, 4])
def test_killed_and_continued_equals_undisturbed(
    tmp_path, monkeypatch, undisturbed, killed_in
):
  calls = []
  call = attribution.Explainer.of_channels_last

  def until_killed(self, images, labels):
    if len(calls) == killed_in:
      raise Killed
    calls.append(len(images))
    return call(self, images, labels)

  data = {'image': FLOATS, 'label': LABELS}
  with monkeypatch.context() as patch:
    patch.setattr(attribution.Explainer, 'of_channels_last', until_killed)
    with pytest.raises(Killed):
      write(tmp_path, data=data)
  with pytest.raises(InputError, match='no complete attribution maps'):
    attribution.read_maps(tmp_path)
  write(tmp_path, data=data)
  assert contents(tmp_path) == contents(undisturbed)
  # Nothing is left to do.
  monkeypatch.setattr(attribution.Explainer, 'of_channels_last', until_killed)
  write(tmp_path, data=data)
  assert len(calls) == killed_in


_SCRIPT = """
import sys
from tests.attribution import test_writing
test_writing.write(sys.argv[1], data={
    'image': test_writing.FLOATS, 'label': test_writing.LABELS})
"""


def test_another_process_gives_the_same_bytes(tmp_path, undisturbed):
  subprocess.run(
      [sys.executable, '-c', _SCRIPT, str(tmp_path)], check=True,
      cwd=pathlib.Path(__file__).parents[2], capture_output=True,
  )
  assert contents(tmp_path) == contents(undisturbed)


OTHERS = {
    'explainer.grid (there: 2; now: 4)': {'explainer': make(grid=4)},
    'explainer.masker': {'explainer': make(masker='constant')},
    'explainer.explainer': {'explainer': make(explainer='occlusion')},
    'variables (': {
        'explainer': make(variables={'w': WEIGHTS['w'] + np.float32(1e-6)})
    },
    "model (there: ''; now: 'b')": {'model': 'b'},
    'shard_size (there: 2; now: 3)': {'shard_size': 3},
    'data.image (': {'data': {'image': PICTURES, 'label': LABELS}},
    'data.label (': {'data': {'image': FLOATS, 'label': 2 - LABELS}},
    'data.mask (': {
        'data': {'image': FLOATS, 'label': LABELS, 'mask': LABELS}
    },
}


@pytest.mark.parametrize('named', OTHERS)
def test_other_maps_are_refused_by_what_differs(undisturbed, named):
  before = contents(undisturbed)
  data = {'image': FLOATS, 'label': LABELS}
  with pytest.raises(InputError) as error:
    write(undisturbed, **{'data': data, **OTHERS[named]})
  assert named in str(error.value) and 'other settings' in str(error.value)
  assert contents(undisturbed) == before


def test_what_changes_no_map_is_no_other_setting(undisturbed):
  before = contents(undisturbed)
  for explainer in (
      make(images_per_step=1), make(max_evals=7),
      dataclasses.replace(make(), variables=jax.device_put(WEIGHTS)),
  ):
    write(undisturbed, explainer, {'image': FLOATS, 'label': LABELS})
  assert contents(undisturbed) == before


def test_settings_are_in_the_manifest(undisturbed):
  manifest = json.loads((undisturbed / records.MANIFEST).read_text())
  assert manifest['explainer'] == {
      'explainer': 'partition_grid', 'grid': 2, 'masker': 'blur',
      'blur_kernel': None, 'mask_value': 0.0,
  }
  assert manifest['data'].keys() == {'id', 'split', 'image', 'label', 'classes'}
  assert manifest['completeness']['largest_gap'] < 1e-5


def test_a_shard_that_was_altered_is_refused(tmp_path):
  write(tmp_path)
  shard = tmp_path / records.shard_name(1, 3)
  shard.write_bytes(shard.read_bytes()[:-1] + b'x')
  with pytest.raises(InputError, match='SHA-256'):
    attribution.read_maps(tmp_path)


def test_larger_scores_round_more_and_fewer_bits_can_be_allowed(tmp_path):
  def large(weights, images):
    return 1e4 * score(weights, images)

  def coarse(weights, images):
    return score(weights, images.astype(jnp.bfloat16)).astype(jnp.float32)

  write(tmp_path / 'large', attribution.Explainer(
      large, variables=WEIGHTS, explainer='partition_grid', grid=4,
  ))
  options = {'variables': WEIGHTS, 'explainer': 'partition_grid', 'grid': 4}
  explainer = attribution.Explainer(coarse, **options)
  write(tmp_path / 'coarse', explainer, allowed_gap=0.03)


def data(**changes):
  columns = {'image': PICTURES, 'label': LABELS, **changes}
  return {name: x for name, x in columns.items() if x is not None}


WRONG = {
    'no column label, only image': data(label=None),
    'no column image and no column label, only none at all': {},
    'images are int64: give uint8': data(image=PICTURES.astype(int)),
    'NaN or infinity': data(image=FLOATS * np.inf),
    r'shape \(4, 4, 3\)': data(image=PICTURES[0]),
    r'shape \(0, 4, 4, 3\)': data(image=PICTURES[:0], label=LABELS[:0]),
    r'other numbers of rows in: .*label': data(label=LABELS[:3]),
    'other numbers of rows in: .*more': data(more=np.ones(2)),
    'Labels from 1 to 3, but there are 3': data(label=LABELS + 1),
    'labels of type float64': data(label=LABELS / 2),
    "The id 'a' is there 5 times": data(id=np.array(['a'] * COUNT)),
    "column 'name' of <U1": data(name=np.array(list('abcde'))),
    "column 'map' is made here": data(map=FLOATS),
    "column 'split' is not": data(split=np.array([['a']] * COUNT)),
}


@pytest.mark.parametrize('said', WRONG)
def test_data_that_do_not_fit_are_refused_before_anything(tmp_path, said):
  with pytest.raises(InputError, match=said):
    write(tmp_path / 'maps', data=WRONG[said])
  assert not (tmp_path / 'maps').exists()


@pytest.mark.parametrize(('said', 'options'), [
    ('shard_size is 0', {'shard_size': 0}),
    ('type function; it must be an attribution.Explainer', {
        'explainer': score,
    }),
    ("give model='name'", {'explainer': make(
        explainer='grad_cam', layers=attribution.Layers(score, score)
    )}),
    (r'shape \(5, 4, 4\): give some, \[N, C, H, W\]', {
        'explainer': make(channels_first=True), 'data': data(image=MASK),
    }),
    ("made for 3 regions: give them as the column 'regions'", {
        'explainer': make(explainer='occlusion', num_regions=3),
    }),
    ("'partition_grid' takes no regions", {'data': data(regions=REGIONS)}),
    (r'regions are of shape \(5,\); give one array an image', {
        'explainer': make(explainer='occlusion'), 'data': data(regions=LABELS),
    }),
    ('Image 0 has 4 regions, and num_regions is 3', {
        'explainer': make(explainer='occlusion', num_regions=3),
        'data': data(regions=REGIONS),
    }),
])
def test_options_that_do_not_fit_are_refused(tmp_path, said, options):
  with pytest.raises(InputError, match=said):
    write(tmp_path / 'maps', **options)


@pytest.mark.parametrize(('options', 'num_regions'), [
    ({'explainer': 'kernel_shap', 'max_evals': 20}, None),
    ({'explainer': 'occlusion', 'num_regions': 6}, 6),
    ({'explainer': 'partition'}, 4),
])
def test_maps_of_regions_are_those_of_the_explainer(
    tmp_path, options, num_regions
):
  data = {'image': FLOATS, 'label': LABELS, 'regions': REGIONS}
  write(tmp_path, make(**options), data)
  columns, _ = attribution.read_maps(tmp_path)
  explain = make(**{'num_regions': num_regions or 4, **options})
  np.testing.assert_allclose(
      columns['map'], explain(FLOATS, LABELS, REGIONS), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_array_equal(columns['regions'], REGIONS)


def test_channels_first_is_what_is_read_again(tmp_path):
  def turned(weights, images):
    return score(weights, jnp.moveaxis(images, 1, 3))

  first = np.moveaxis(FLOATS, 3, 1)
  explain = dataclasses.replace(
      make(), score_fn=turned, channels_first=True
  )
  write(tmp_path / 'first', explain, {'image': first, 'label': LABELS})
  write(tmp_path / 'last', make(), {'image': FLOATS, 'label': LABELS})
  found, _ = attribution.read_maps(tmp_path / 'first')
  same, _ = attribution.read_maps(tmp_path / 'last')
  np.testing.assert_array_equal(found['image'], first)
  np.testing.assert_allclose(
      found['map'], np.moveaxis(same['map'], 3, 1), rtol=1e-5, atol=1e-6
  )
  several = {'image': first, 'label': np.stack([LABELS, 2 - LABELS], axis=1)}
  write(tmp_path / 'several', explain, several)
  found, _ = attribution.read_maps(tmp_path / 'several')
  assert found['map'].shape == (COUNT, 3, 4, 4, 2)


def test_a_folder_without_maps_is_no_directory_of_maps(tmp_path):
  with pytest.raises(InputError, match='no complete attribution maps'):
    attribution.read_maps(tmp_path)
