"""Both tasks, by hand and against scikit-learn."""

from impactx_jax import tasks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

ONE, SEVERAL = tasks.TASKS['classification'], tasks.TASKS['multi_label']
REST = tasks.TASKS['one_versus_rest']
# Probabilities 1/2 1/4 1/4 and 1/8 3/4 1/8 by a softmax.
LOGITS = np.log(np.array([[2, 1, 1], [1, 6, 1]], np.float32))
# Odds of 1/4, 3 and 1 by a sigmoid: probabilities 1/5, 3/4 and 1/2.
ODDS = np.log(np.array([[1 / 4, 3, 1], [3, 1 / 4, 1 / 4]], np.float32))
TRUTH = np.array([[0, 1, 0], [1, 0, 0]], np.int32)


def means(task, logits, batch):
  """Each measure over all images: one sum over the other."""
  return {
      name: float(np.sum(values) / np.sum(counts))
      for name, (values, counts) in task.measures(logits, batch).items()
  }


@pytest.fixture(params=[np.asarray, jnp.asarray])
def kind(request):
  """The host's arrays and the device's."""
  return request.param


def many(count=200, classes=5, seed=0):
  generator = np.random.default_rng(seed)
  logits = generator.normal(size=(count, classes)).astype(np.float32)
  truth = (logits + generator.normal(0, 1.5, logits.shape) > 0.4)
  return logits, truth.astype(np.int32)


# --- One label ----------------------------------------------------------------


def test_one_label_by_hand(kind):
  logits, labels = kind(LOGITS), kind(np.array([0, 2], np.int32))
  batch = {'label': labels}
  np.testing.assert_allclose(
      ONE.loss(logits, batch), np.log([2, 8]), rtol=1e-6
  )
  np.testing.assert_allclose(
      ONE.probabilities(logits), [[1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 4, 1 / 8]],
      rtol=1e-6,
  )
  answers = ONE.answer(logits)
  assert answers.tolist() == ONE.top(logits).tolist() == [0, 1]
  assert ONE.right(answers, labels).tolist() == [True, False]
  assert means(ONE, logits, batch) == {
      'accuracy': 0.5, 'cross_entropy': pytest.approx(np.log(16) / 2)
  }
  assert ONE.of_split(LOGITS, labels) == {}


def test_of_one_label_that_class_is_explained_and_drawn_from_evenly():
  columns = {'label': np.array([2, 0, 1], np.int32), 'id': np.array(['a'] * 3)}
  for seed in (0, 1):
    assert ONE.explained(columns, seed).tolist() == [2, 0, 1]
  assert ONE.strata(columns['label']).tolist() == [2, 0, 1]


def test_of_one_label_the_share_that_is_right_by_class():
  answers, truth = np.array([0, 1, 1, 0, 0]), np.array([0, 0, 1, 0, 3])
  found = ONE.by_class(answers, truth, 4)
  np.testing.assert_allclose(found, [2 / 3, 1, np.nan, 0])


@pytest.mark.parametrize('task', tasks.TASKS.values(), ids=lambda t: t.name)
def test_an_average_has_the_mean_probabilities(task):
  others = LOGITS[::-1] - 3
  np.testing.assert_allclose(
      task.probabilities(task.average(LOGITS, others)),
      (task.probabilities(LOGITS) + task.probabilities(others)) / 2, rtol=1e-5,
  )
  # Nor do logits that are certain make it lose its footing.
  certain = np.float32([[300, -300, 0], [-300, 300, 0]])
  assert np.isfinite(task.average(certain, -certain)).all()


def test_one_label_as_binary_questions_is_several_labels_with_one_answer(kind):
  logits, labels = kind(ODDS), np.array([1, 2], np.int32)
  batch, several = {'label': labels}, {'labels': np.eye(3)[labels]}
  np.testing.assert_allclose(
      REST.loss(logits, batch), SEVERAL.loss(logits, several), rtol=1e-6
  )
  np.testing.assert_allclose(
      REST.probabilities(logits), SEVERAL.probabilities(logits)
  )
  np.testing.assert_array_equal(REST.answer(logits), ONE.answer(logits))
  # Both certain, the second of the wrong class: its odds are 3, 1/4 and 1/4.
  entropy = [
      -np.log([4 / 5, 3 / 4, 1 / 2]).mean(),
      -np.log([1 / 4, 4 / 5, 1 / 5]).mean(),
  ]
  assert means(REST, logits, batch) == {
      'accuracy': 0.5,
      'cross_entropy': pytest.approx(np.mean(entropy), rel=1e-6),
  }
  # What a teacher says takes the place of the truth.
  np.testing.assert_allclose(
      REST.distillation(logits, np.eye(3)[labels]), REST.loss(logits, batch),
      rtol=1e-6,
  )


# --- Several labels -----------------------------------------------------------


def test_several_labels_by_hand(kind):
  logits, truth = kind(ODDS), kind(TRUTH)
  batch = {'labels': truth}
  np.testing.assert_allclose(
      SEVERAL.probabilities(logits),
      [[1 / 5, 3 / 4, 1 / 2], [3 / 4, 1 / 5, 1 / 5]], rtol=1e-6,
  )
  entropy = [
      -np.log([4 / 5, 3 / 4, 1 / 2]).mean(),
      -np.log([3 / 4, 4 / 5, 4 / 5]).mean(),
  ]
  np.testing.assert_allclose(SEVERAL.loss(logits, batch), entropy, rtol=1e-6)
  answers = SEVERAL.answer(logits)  # A logit of 0 is an answer of 1.
  assert answers.tolist() == [[0, 1, 1], [1, 0, 0]]
  assert SEVERAL.top(logits).tolist() == [1, 0]
  assert SEVERAL.right(answers, truth).tolist() == [False, True]
  assert means(SEVERAL, logits, batch) == {
      'accuracy': 0.5,
      'cross_entropy': pytest.approx(np.mean(entropy), rel=1e-6),
      # Two of three answers of 1 are right, and nothing is missed.
      'f1': pytest.approx(2 * 2 / (2 * 2 + 1)),
  }


def test_f1_is_that_of_scikit_learn_however_images_are_batched():
  logits, truth = many()
  expected = metrics.f1_score(truth, logits >= 0, average='micro')
  assert means(SEVERAL, logits, {'labels': truth})['f1'] == (
      pytest.approx(expected)
  )
  sums = np.zeros(2)
  for rows in (slice(0, 30), slice(30, 31), slice(31, 200)):
    found = SEVERAL.measures(logits[rows], {'labels': truth[rows]})['f1']
    sums += [np.sum(x) for x in found]
  assert sums[0] / sums[1] == pytest.approx(expected)


def test_mean_average_precision_is_that_of_scikit_learn():
  logits, truth = many()
  found = SEVERAL.of_split(logits, truth)
  assert found == {'mean_average_precision': pytest.approx(
      metrics.average_precision_score(truth, logits, average='macro')
  )}


def test_a_class_that_no_image_has_does_not_count_for_it():
  # Ranked by the first logit: present, absent, present.
  logits = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
  truth = np.array([[1, 0], [0, 0], [1, 0]])
  assert SEVERAL.of_split(logits, truth) == {
      'mean_average_precision': pytest.approx((1 + 2 / 3) / 2)
  }
  assert SEVERAL.of_split(logits, 0 * truth) == {'mean_average_precision': 0}


def columns(truth):
  return {'labels': truth, 'id': np.array([f'i{n}' for n in range(len(truth))])}


def test_one_of_the_present_classes_is_explained():
  _, truth = many(2000, 4)
  found = SEVERAL.explained(columns(truth), seed=0)
  assert found.dtype == np.int32
  some = truth.any(axis=1)
  assert (truth[np.arange(2000), found][some] == 1).all()
  # Each of two that are there, and each of four where none is: as often.
  pairs = found[(truth == [1, 0, 0, 1]).all(axis=1)]
  assert set(pairs) == {0, 3} and 0.3 < (pairs == 0).mean() < 0.7
  assert set(SEVERAL.explained(columns(0 * truth), 0)) == {0, 1, 2, 3}


def test_which_one_is_a_function_of_seed_and_id():
  _, truth = many(300, 4)
  whole = SEVERAL.explained(columns(truth), seed=3)
  order = np.random.default_rng(0).permutation(300)[:100]
  some = {name: column[order] for name, column in columns(truth).items()}
  np.testing.assert_array_equal(SEVERAL.explained(some, seed=3), whole[order])
  assert (SEVERAL.explained(columns(truth), seed=4) != whole).any()


def test_labels_are_drawn_evenly_from_sets_of_classes():
  truth = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 0], [0, 1]])
  found = SEVERAL.strata(truth)
  assert found.shape == (6,)
  same = (truth[:, None] == truth[None]).all(axis=-1)
  np.testing.assert_array_equal(found[:, None] == found[None], same)


def test_of_several_labels_the_share_that_is_found_by_class():
  truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])
  answers = np.array([[1, 1, 1], [0, 1, 0], [0, 1, 0]])
  np.testing.assert_allclose(
      SEVERAL.by_class(answers, truth, 3), [1 / 2, 1, np.nan]
  )


# --- Both ---------------------------------------------------------------------


@pytest.mark.parametrize('task', tasks.TASKS.values(), ids=lambda t: t.name)
def test_a_task_is_compiled_as_it_is_computed(task):
  logits, truth = many(8)
  batch = {'label': truth.argmax(-1).astype(np.int32), 'labels': truth}

  def everything(logits, batch):
    answers = task.answer(logits)
    return (
        task.loss(logits, batch), task.probabilities(logits), answers,
        task.top(logits), task.right(answers, batch[task.labels]),
        task.measures(logits, batch),
    )

  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
      jax.jit(everything)(logits, batch), everything(logits, batch),
  )
