"""Panels: a row an image, with what is known of it."""

from etils import epath
from impactx_jax.evaluation.measure_maps import Measured
from impactx_jax.report import figures
from impactx_jax.report import panels
import matplotlib.image
import numpy as np
import pytest

CLASSES = ('cat', 'dog', 'owl')


def make_measured(labels, right, count=3):
  generator = np.random.default_rng(0)
  by_name = {
      name: generator.normal(size=(count, 8, 8, 1)).astype(np.float32)
      for name in ('partition', 'impactx')
  }
  return Measured(
      method='impactx',
      reference='partition',
      images=generator.random((count, 8, 8, 1), np.float32),
      labels=labels,
      right=right,
      predicted=np.array([0, 1, 2]),
      probabilities=np.eye(3, dtype=np.float32)[[0, 1, 2]] * 0.75,
      maps=by_name,
      curves={name: np.linspace([1] * 3, [0] * 3, 5).T for name in by_name},
      values={},
      randomised_accuracy={},
  )


def test_of_a_finished_run_each_image_has_a_row(finished_workdir):
  picture = matplotlib.image.imread(finished_workdir / 'report' / 'panels.png')
  height, width = picture.shape[:2]
  assert width == 960 and height == round(100 * (2 * 2.1 + 0.6))
  assert picture.std() > 0.05


@pytest.mark.parametrize(('labels', 'titles'), [
    (np.array([0, 2, 2]), ['cat 75 %', 'dog 75 %\n(true: owl)', 'owl 75 %']),
    (
        np.array([[1, 0, 0], [1, 0, 1], [0, 0, 1]]),
        ['cat 75 %', 'dog 75 %\n(true: cat, owl)', 'owl 75 %'],
    ),
])
def test_a_title_says_what_is_predicted_and_the_truth_if_it_is_another(
    monkeypatch, tmp_path, labels, titles
):
  drawn = {}
  monkeypatch.setattr(
      figures, 'save', lambda path, picture: drawn.update({path: picture})
  )
  path = epath.Path(tmp_path / 'panels.png')
  measured = make_measured(labels, np.array([True, False, True]))
  panels.draw(path, measured, class_names=CLASSES, count=8)
  rows = np.reshape(drawn[path].axes, (3, 4))
  assert [axis.get_title() for axis in rows[:, 0]] == titles
  assert rows[0, 1].get_title().startswith('SHAP')
  assert rows[0, 2].get_title().startswith('IMPACTX')
