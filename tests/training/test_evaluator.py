"""Metrics and predictions over a split, against values computed by hand."""

import dataclasses

from impactx_jax import tasks
from impactx_jax.methods import base
from impactx_jax.training import evaluator
import jax.numpy as jnp
import numpy as np
import pytest

COUNT = 11


def make_columns(count=COUNT):
  generator = np.random.default_rng(0)
  return {
      'image': generator.integers(0, 256, (count, 4, 4, 1), np.uint8),
      'label': generator.integers(0, 2, count, np.int32),
      'map': generator.normal(size=(count, 4, 4, 1)).astype(np.float32),
  }


def make_method(attribution=lambda variables, images: images):
  """Logits [mean(x), 1/2]; the map is what the function makes of the image."""

  def predict(variables, batch):
    images = batch['image']
    score = images.mean(axis=(1, 2, 3))
    logits = jnp.stack([score, jnp.full_like(score, 0.5)], axis=1)
    return base.Prediction(logits, attribution(variables, images))

  def never(*_):
    raise AssertionError('Nothing is trained here.')

  task = tasks.TASKS['classification']
  return base.Method(task, never, never, predict)


def evaluate(method, columns, variables=None, batch_size=4):
  variables = {} if variables is None else variables
  return evaluator.measure(method, variables, columns, batch_size)


def test_codes_are_of_every_image_once():
  columns = make_columns(7)
  method = dataclasses.replace(
      make_method(),
      code=lambda scale, batch: scale * batch['image'][:, 0, :, 0],
  )
  found = evaluator.codes(method, jnp.float32(2), columns, 4)
  expected = columns['image'][:, 0, :, 0] * np.float32(2 / 255)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_map_r2_of_a_perfect_map_is_1():
  columns = make_columns()
  columns['map'] = (columns['image'] / np.float32(255)).astype(np.float32)
  means = evaluate(make_method(), columns)
  assert means['map_mse'] == pytest.approx(0, abs=1e-12)
  assert means['map_r2'] == pytest.approx(1)


def test_map_r2_of_the_mean_map_is_0():
  columns = make_columns()
  mean = columns['map'].mean(axis=0)
  method = make_method(
      lambda mean, images: jnp.broadcast_to(mean, images.shape)
  )
  means = evaluate(method, columns, mean)
  assert means['map_r2'] == pytest.approx(0, abs=1e-6)


def test_map_r2_by_hand():
  columns = make_columns(2)
  columns['map'] = np.zeros((2, 4, 4, 1), np.float32)
  columns['map'][0, 0, 0], columns['map'][1, 0, 0] = 4, 0
  method = make_method(lambda _, images: jnp.zeros_like(images))
  means = evaluate(method, columns)
  # One of 16 values varies, by 2 about its mean 2; the error there is 4 or 0.
  assert means['map_mse'] == pytest.approx(16 / 16 / 2)
  assert means['map_r2'] == pytest.approx(1 - 8 / 4)


def test_map_r2_where_all_maps_are_the_same_is_0():
  columns = make_columns()
  columns['map'][:] = 3
  assert evaluate(make_method(), columns)['map_r2'] == 0


@pytest.mark.parametrize(('attribution', 'maps', 'of_maps'), [
    (lambda variables, images: images, True, {'map_mse', 'map_r2'}),
    (lambda variables, images: images, False, set()),
    (lambda *_: None, True, set()),
])
def test_what_is_measured_is_known_beforehand(attribution, maps, of_maps):
  columns, method = make_columns(), make_method(attribution)
  if not maps:
    del columns['map']
  named = evaluator.measures_of(method, {}, columns)
  assert named == {'accuracy', 'cross_entropy'} | of_maps
  assert evaluate(method, columns).keys() == named


def test_of_several_labels_f1_counts_all_images_together():
  columns = make_columns(5)
  columns['labels'] = np.array(
      [[1, 0], [1, 1], [0, 0], [0, 1], [1, 0]], np.int32
  )
  del columns['label'], columns['map']
  columns['image'] = np.array([255, 255, 0, 0, 255], np.uint8)[
      :, None, None, None
  ] * np.ones((1, 4, 4, 1), np.uint8)

  def predict(variables, batch):  # Is it bright? The second class always.
    score = batch['image'].mean(axis=(1, 2, 3)) - 0.5
    return base.Prediction(jnp.stack([score, jnp.ones_like(score)], axis=1))

  method = base.Method(tasks.TASKS['multi_label'], None, None, predict)
  found = evaluate(method, columns, batch_size=2)
  # Answers 11 11 01 01 11: five are there, three of ones are not, none lacks.
  assert found['f1'] == pytest.approx(2 * 5 / (2 * 5 + 3))
  assert found['accuracy'] == pytest.approx(2 / 5)
  assert found.keys() == {'accuracy', 'cross_entropy', 'f1'}


@pytest.mark.parametrize('batch_size', [3, 11, 32])
def test_what_fills_the_last_batch_does_not_count(batch_size):
  columns = make_columns()
  # The example that fills it is the first: the only one that is far off.
  columns['map'] = (columns['image'] / np.float32(255)).astype(np.float32)
  columns['map'][0] += 2
  means = evaluate(make_method(), columns, batch_size=batch_size)
  assert means['map_mse'] == pytest.approx(4 / COUNT)
  score = columns['image'].mean(axis=(1, 2, 3)) / 255
  predicted = (score < 0.5).astype(int)
  assert means['accuracy'] == pytest.approx(
      np.mean(predicted == columns['label'])
  )
  of_label = np.where(columns['label'] == 0, score, 0.5)
  entropy = np.log(np.exp(score) + np.exp(0.5)) - of_label
  assert means['cross_entropy'] == pytest.approx(entropy.mean(), rel=1e-5)


@pytest.mark.parametrize('batch_size', [4, 11, 32])
def test_predict_gives_what_the_method_does_row_by_row(batch_size):
  columns = make_columns()
  method = make_method(lambda scale, images: scale * images)
  found = evaluator.predict(method, 2.0, columns, batch_size)
  images = columns['image'].astype(np.float32) / 255
  wanted = method.predict(2.0, {'image': images})
  assert isinstance(found.logits, np.ndarray)
  assert found.logits.shape == (COUNT, 2)
  np.testing.assert_allclose(found.logits, wanted.logits, rtol=1e-6)
  np.testing.assert_allclose(found.attribution, wanted.attribution, rtol=1e-6)


def test_predict_sees_only_what_the_method_asks_for():
  seen = []

  def predict(variables, batch):
    seen.append(batch.keys())
    return base.Prediction(batch['image'].mean(axis=(1, 2)))

  method = dataclasses.replace(make_method(), predict=predict)
  evaluator.predict(method, 1.0, make_columns(), 4)
  assert [set(names) - {'weight'} for names in seen] == [{'image'}]


def test_other_variables_compile_nothing():
  traced = []

  def predict(variables, batch):
    traced.append(variables)
    return base.Prediction(variables * batch['image'].mean(axis=(1, 2)))

  method = dataclasses.replace(make_method(), predict=predict)
  columns = make_columns()
  del columns['map']
  for scale in (1.0, 2.0, 3.0):
    evaluate(method, columns, np.float32(scale))
    evaluator.predict(method, np.float32(scale), columns, 4)
  assert len(traced) == 2  # Once for each of the two.


def test_predict_leaves_out_the_map_when_it_is_not_wanted():
  columns = make_columns()
  found = evaluator.predict(make_method(), 1.0, columns, 4, attribution=False)
  assert found.attribution is None and found.logits.shape == (COUNT, 2)


def test_a_method_that_predicts_from_maps_is_given_each_images_map():
  columns = make_columns()

  def predict(variables, batch):
    score = batch['image'].mean(axis=(1, 2, 3))
    score += batch['map'].sum(axis=(1, 2, 3))
    return base.Prediction(jnp.stack([score, -score], axis=1))

  method = dataclasses.replace(
      make_method(), predict=predict, inputs=('image', 'map')
  )
  found = evaluator.predict(method, {}, columns, 4)
  score = columns['image'].mean(axis=(1, 2, 3)) / 255
  score += columns['map'].sum(axis=(1, 2, 3))
  np.testing.assert_allclose(found.logits[:, 0], score, rtol=1e-5)
  correct = (score < 0) == columns['label']
  assert evaluate(method, columns)['accuracy'] == pytest.approx(correct.mean())


@pytest.mark.parametrize('batch_size', [2, 5, 64])
def test_a_method_that_explains_itself_is_judged_by_the_maps_it_makes(
    monkeypatch, batch_size
):
  monkeypatch.setattr(evaluator, 'SELF_EXPLAINED', 5)
  columns = make_columns()
  del columns['map']
  method = dataclasses.replace(
      make_method(), explain=lambda scale, batch: scale * batch['image']
  )
  own = evaluator.with_own_maps(method, 2.0, columns, batch_size)
  r2 = evaluator.measure(method, 2.0, own, batch_size)['map_r2']
  images = columns['image'][:5] / np.float32(255)
  mse = np.mean(images**2)  # It predicts the image, and the map is twice that.
  assert r2 == pytest.approx(1 - mse / (4 * images.var(axis=0).mean()))


def test_the_fit_to_maps_is_measured_where_there_is_a_map():
  columns = make_columns(6)
  shown = columns['image'] / np.float32(255)
  mapped = np.array([1, 1, 1, 1, 0, 0], np.float32)
  # Where there is none, 0 stands in its place.
  columns |= {
      'map': mapped[:, None, None, None] * (shown + np.float32(0.5)),
      'mapped': mapped,
  }
  found = evaluate(make_method(), columns)
  assert found['map_mse'] == pytest.approx(0.25, rel=1e-5)
  variance = (shown[:4] + 0.5).var(axis=0).mean()
  assert found['map_r2'] == pytest.approx(1 - 0.25 / variance, rel=1e-4)
