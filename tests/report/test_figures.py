"""Colours and names by hand; pictures of what is at their ends."""

import base64

from etils import epath
from impactx_jax.report import figures
import numpy as np
import pytest

CLASSES = ('cat', 'dog', 'owl')


@pytest.mark.parametrize(('name', 'title'), [
    ('partition', 'SHAP'), ('grad_cam', 'Grad-CAM'), ('impactx', 'IMPACTX'),
    ('baseline', 'A'), ('mine', 'mine'),
])
def test_explainers_methods_and_files_have_titles(name, title):
  assert figures.title_of(name) == title


@pytest.mark.parametrize(('label', 'text'), [
    (np.int32(1), 'dog'), (2, 'owl'), (np.array([1, 0, 1]), 'cat, owl'),
    (np.array([0, 0, 0]), 'none'), (np.array([0, 1, 0]), 'dog'),
])
def test_a_label_is_named_and_so_are_several(label, text):
  assert figures.label_text(label, CLASSES) == text


@pytest.mark.parametrize('picture', [
    figures.perturbation({'partition': np.ones((2, 5)), 'a': np.ones((2, 5))}),
    figures.sparkline({'partition': np.linspace(1, 0, 5)}),
    figures.training({'baseline': [{'validation/accuracy': 0.5}]}),
    figures.per_class({'baseline': np.array([0.5, np.nan, 1])}, CLASSES),
    figures.trials(['a', 'b'], np.array([0.5, 0.6]), np.array([0.1, 0.1])),
    figures.differences([], {'to A': []}),
    figures.front({'guided': [{'test/f1': 0.5, 'test/guided_epg': 0.1}]}),
    figures.front({'mine': [{'test/accuracy': 1, 'test/cross_entropy': 0.1}]}),
    figures.differences(
        ['impactx', 'abn'], {'to A': [(1.0, np.nan, np.nan), None]}
    ),
])
def test_every_figure_is_a_picture(picture, tmp_path):
  path = epath.Path(tmp_path / 'picture.png')
  figures.save(path, picture)
  assert path.read_bytes().startswith(b'\x89PNG')
  kind, content = figures.svg(picture).split(',')
  assert kind == 'data:image/svg+xml;base64'
  assert b'<svg' in base64.b64decode(content)


@pytest.mark.filterwarnings('error')
def test_a_map_without_curves_is_in_the_legend_all_the_same():
  curves = {'partition': np.ones((2, 5)), 'swapped': np.full((2, 5), np.nan)}
  (axes,) = figures.perturbation(curves).axes
  first, second = axes.lines
  assert np.isfinite(first.get_ydata()).all()
  assert not np.isfinite(second.get_ydata()).any()
  assert len(axes.get_legend().get_texts()) == 2


def test_curves_of_many_maps_can_be_told_apart():
  curves = {f'map {i}': np.linspace([1.0], [0.0], 5).T for i in range(12)}
  (axes,) = figures.perturbation(curves).axes
  looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
  assert len(looks) == len(axes.lines) == 12
