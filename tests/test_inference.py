"""`load(DIR).predict(images)`, and the command that shows it."""

import dataclasses

from absl import flags
from absl.testing import flagsaver
from attribution.errors import InputError
import impactx_jax
from impactx_jax import inference
from impactx_jax import methods
from impactx_jax import tasks
from impactx_jax.commands import explain
from impactx_jax.stages import trained
import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
from PIL import Image
import pytest
from tests.pipeline_fixtures import read_summary
from tests.pipeline_fixtures import restored

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_predicts_what_the_restored_network_does(finished_workdir):
  model = impactx_jax.load(finished_workdir)
  assert model.method == 'impactx'
  assert model.class_names == tuple('0123456789')
  explained = model.predict(IMAGES)
  method, variables = restored(finished_workdir, 'impactx')
  expected = method.predict(variables, {'image': IMAGES / np.float32(255)})
  np.testing.assert_allclose(
      explained.probabilities, jax.nn.softmax(expected.logits), atol=1e-5
  )
  np.testing.assert_allclose(
      explained.attribution, expected.attribution, atol=1e-5
  )
  np.testing.assert_array_equal(
      explained.classes, np.argmax(expected.logits, axis=-1)
  )


def test_bytes_and_floats_mean_the_same(finished_workdir):
  model = impactx_jax.load(finished_workdir)
  np.testing.assert_allclose(
      model.predict(IMAGES).probabilities,
      model.predict(IMAGES / 255).probabilities,
      atol=1e-6,
  )


@pytest.mark.parametrize('count', [1, 4, 5])
def test_many_images_are_taken_in_batches(
    finished_workdir, monkeypatch, count
):
  model = impactx_jax.load(finished_workdir)
  images = np.resize(IMAGES, (count, *IMAGES.shape[1:]))
  expected = model.predict(images)
  monkeypatch.setattr(inference, 'BATCH_SIZE', 2)
  sizes, call = [], model.call
  batched = dataclasses.replace(
      model, call=lambda x, k: sizes.append(len(x)) or call(x, k)
  )
  found = batched.predict(images)
  assert set(sizes) == {min(count, 2)}
  assert found.classes.shape == (count,)
  for ours, theirs in zip(found[:3], expected[:3], strict=True):
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_baseline_has_no_map(finished_workdir):
  explained = impactx_jax.load(finished_workdir, 'baseline').predict(IMAGES)
  assert explained.attribution is None
  assert explained.probabilities.shape == (3, 10)


def test_r2_is_the_one_of_the_training_run(finished_workdir):
  summary = read_summary(finished_workdir / 'impactx')
  assert impactx_jax.load(finished_workdir).map_r2 == summary['map_r2']
  assert impactx_jax.load(finished_workdir, 'baseline').map_r2 is None


@pytest.mark.parametrize(
    'images, message',
    [
        (IMAGES[:, :16], r'\(3, 16, 32, 3\)'),
        (IMAGES[0], r'\(32, 32, 3\)'),
        (IMAGES[:0], 'no images'),
        (IMAGES.astype(np.float32), 'reach from 0 to 255'),
        (np.full((1, 32, 32, 3), np.nan), 'reach from nan'),
    ],
)
def test_images_that_it_does_not_take(finished_workdir, images, message):
  with pytest.raises(InputError, match=message):
    impactx_jax.load(finished_workdir).predict(images)


def test_a_method_that_was_not_trained_there(finished_workdir):
  with pytest.raises(InputError, match='it has baseline, impactx, impactx_la'):
    impactx_jax.load(finished_workdir, 'abn')


def test_a_method_that_needs_maps(finished_workdir, monkeypatch):
  network = methods.Method(None, None, None, None, inputs=('image', 'map'))
  monkeypatch.setattr(trained, 'restore', lambda _: (network, None))
  with pytest.raises(InputError, match='needs the attribution maps'):
    impactx_jax.load(finished_workdir)


def test_of_several_labels_each_class_is_there_or_not(
    finished_workdir, monkeypatch
):
  network = methods.Method(
      tasks.TASKS['multi_label'], None, None,
      lambda variables, batch: methods.Prediction(
          variables['scale'] * (batch['image'].mean(axis=(1, 2)) - 0.5)
      ),
  )
  variables = {'scale': jnp.float32(2)}
  monkeypatch.setattr(trained, 'restore', lambda _: (network, variables))
  images = np.zeros((2, 32, 32, 3), np.float32)
  images[0] = [1, 0, 0.5]
  found = impactx_jax.load(finished_workdir).predict(images)
  assert found.classes.tolist() == [[1, 0, 1], [0, 0, 0]]
  sigmoid = 1 / (1 + np.exp(1))  # Of -1.
  np.testing.assert_allclose(
      found.probabilities,
      [[1 - sigmoid, sigmoid, 0.5], [sigmoid] * 3], rtol=1e-6,
  )


@pytest.fixture
def of_each(finished_workdir, monkeypatch):
  """A network whose map of a class has the class's number everywhere."""

  def predict(variables, batch):
    logits = variables['scale'] * jax.nn.one_hot(
        jnp.full(len(batch['image']), 7), 10
    )
    return methods.Prediction(logits, 7.0 * jnp.ones((len(logits), 32, 32, 1)))

  network = methods.Method(
      tasks.TASKS['classification'], None, None, predict,
      map_of=lambda variables, batch, classes: jnp.broadcast_to(
          classes[:, None, None, None].astype(jnp.float32),
          (len(classes), 32, 32, 1),
      ),
  )
  variables = {'scale': jnp.float32(2)}
  monkeypatch.setattr(trained, 'restore', lambda _: (network, variables))
  return finished_workdir


@pytest.mark.parametrize(('classes', 'expected'), [
    (None, [7, 7, 7]), (2, [2, 2, 2]), ('4', [4, 4, 4]),
    ([0, '9', 3], [0, 9, 3]), (np.array([5, 6, 8]), [5, 6, 8]),
])
def test_maps_of_any_class(of_each, classes, expected):
  found = impactx_jax.load(of_each).predict(IMAGES, classes)
  assert found.attribution[:, 0, 0, 0].tolist() == expected
  assert found.classes.tolist() == [7, 7, 7]  # The answer stays.


@pytest.mark.parametrize(('classes', 'parts'), [
    ('cat', ("'cat'", '0, 1, 2')), (10, ('10', '0 to 9')), (-1, ('-1',)),
    (1.5, ('1.5',)), ([1, 2], ('2 classes for 3 images',)),
])
def test_classes_that_there_are_not(of_each, classes, parts):
  with pytest.raises(InputError) as error:
    impactx_jax.load(of_each).predict(
        IMAGES, [classes] * 3 if isinstance(classes, float) else classes
    )
  for part in parts:
    assert part in str(error.value)


def test_one_map_has_no_class_to_choose(finished_workdir):
  model = impactx_jax.load(finished_workdir)
  with pytest.raises(InputError, match='decoder_classes=all'):
    model.predict(IMAGES, 3)


def test_the_check_is_of_the_predicted_class(finished_workdir):
  model = impactx_jax.load(finished_workdir)
  with pytest.raises(InputError, match='predicted classes'):
    model.predict(IMAGES, 3, check=True)


@pytest.mark.parametrize(('wanted', 'message'), [
    ('3', ''), ('twelve', "'twelve' is no class.*--class=NAME"),
])
def test_explain_draws_the_map_of_a_class(
    of_each, tmp_path, picture, wanted, message
):
  arguments = {'out': str(tmp_path / 'out'), 'class': wanted}
  with flagsaver.flagsaver(**arguments):
    if not message:
      explain._explain(None, str(of_each), picture)
      assert (tmp_path / 'out' / 'seven.explained.png').exists()
      return
    with pytest.raises(InputError, match=message):
      explain._explain(None, str(of_each), picture)


@pytest.fixture(autouse=True)
def parsed_flags():
  flags.FLAGS.mark_as_parsed()


@pytest.fixture
def picture(tmp_path):
  path = tmp_path / 'seven.png'
  Image.fromarray(IMAGES[0]).save(path)
  return str(path)


def run(workdir, out, *paths):
  with flagsaver.flagsaver(out=str(out)):
    explain._explain(None, str(workdir), *paths)


def test_explain_prints_the_five_likeliest(
    finished_workdir, tmp_path, picture, capsys
):
  run(finished_workdir, tmp_path / 'out', picture)
  text = capsys.readouterr().out
  explained = impactx_jax.load(finished_workdir).predict(IMAGES[:1])
  scores = np.sort(100 * explained.probabilities[0])[::-1]
  rows = [line.split() for line in text.splitlines() if line[:1].isdigit()]
  assert rows[0][0] == str(explained.classes[0])
  assert [row[1] for row in rows] == [f'{s:.1f}' for s in scores[:5]]
  assert 'map is a prediction' in text and 'Map R2' in text
  pixels = matplotlib.image.imread(tmp_path / 'out' / 'seven.explained.png')
  assert pixels[..., :3].std() > 0.05


def test_explain_reads_all_before_it_writes_any(
    finished_workdir, tmp_path, picture
):
  with pytest.raises(InputError, match='no picture'):
    run(finished_workdir, tmp_path / 'out', picture, '/nowhere.png')
  assert not (tmp_path / 'out').exists()
  with pytest.raises(InputError, match='Name the pictures'):
    run(finished_workdir, tmp_path / 'out')


def test_two_pictures_of_one_name_are_both_kept():
  assert explain._file_names(('a/x.png', 'b/x.jpg', 'y.png')) == [
      'x.1.explained.png', 'x.2.explained.png', 'y.explained.png'
  ]
