"""Pictures of the report, as data that a page holds itself."""

import base64
from collections.abc import Sequence
import io

from attribution import explainers
from attribution import files
from etils import epath
from impactx_jax import methods
from matplotlib import figure
from matplotlib import image as image_lib
import numpy as np

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = (
    '#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
    '#000000', '#999999',
)
STYLES = ('-', '--', '-.', ':')
# Measures of a front that are shares.
SHARES = {
    'accuracy': 'accuracy', 'f1': 'F1', 'guided_epg': 'EPG of the guided map',
    'guided_iou': 'IoU of the guided map',
}
CONTROLS = {
    'swapped': 'own map, another image',
    'class_mean': 'mean map of the class',
    'mean': 'mean map',
    'mean_mask': 'mean mask',
}


def title_of(name: str) -> str:
  """Returns how a picture calls a method or an explainer."""
  explainer, of_a, rest = name.rpartition('_of_a')
  if of_a and not rest:
    return f'{title_of(explainer)} of A'
  if name in explainers.EXPLAINERS:
    return explainers.EXPLAINERS[name].title or name
  return CONTROLS.get(name, methods.title(name))


def label_text(label: np.ndarray, class_names: Sequence[str]) -> str:
  """Returns the name of a class, or of those of several that are there."""
  if np.ndim(label) == 0:
    return class_names[label]
  present = [class_names[k] for k in np.flatnonzero(label)]
  return ', '.join(present) or 'none'


def png(pixels: np.ndarray) -> str:
  """Returns uint8 [H, W, 3] as a data URL."""
  file = io.BytesIO()
  image_lib.imsave(file, pixels, format='png')
  return _data_url('image/png', file.getvalue())


def svg(picture: figure.Figure) -> str:
  """Returns a figure as a data URL."""
  file = io.BytesIO()
  picture.savefig(file, format='svg', metadata={'Date': None})
  return _data_url('image/svg+xml', file.getvalue())


def save(path: epath.Path, picture: figure.Figure) -> None:
  """Writes a figure as a PNG."""
  file = io.BytesIO()
  picture.savefig(file, format='png', facecolor='white')
  files.write_atomically(
      path, lambda name: epath.Path(name).write_bytes(file.getvalue())
  )


def _data_url(kind: str, content: bytes) -> str:
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def _axes(width: float, height: float):
  picture = figure.Figure(figsize=(width, height), layout='constrained')
  axes = picture.subplots()
  axes.spines[['top', 'right']].set_visible(False)
  return picture, axes


def _style(i: int) -> str:
  """Another style when the colours begin again."""
  return STYLES[(i + i // len(COLOURS)) % len(STYLES)]


def perturbation(curves: dict[str, np.ndarray]) -> figure.Figure:
  """Draws mean curves with bands of two standard errors.

  Args:
    curves: By map, float [N, R + 1]; images with NaN are left out.
  """
  picture, axes = _axes(8.5, 4)
  for i, (name, values) in enumerate(curves.items()):
    values = values[~np.isnan(values).any(axis=1)]
    if not len(values):  # It is in the legend, at least.
      values = np.full((1, values.shape[1]), np.nan)
    steps = np.linspace(0, 100, values.shape[1])
    mean = values.mean(axis=0)
    error = 2 * values.std(axis=0) / np.sqrt(len(values))
    colour = COLOURS[i % len(COLOURS)]
    axes.fill_between(
        steps, mean - error, mean + error, color=colour, alpha=0.12, lw=0
    )
    axes.plot(
        steps, mean, _style(i), color=colour,
        label=title_of(name),
    )
  axes.set(
      xlim=(0, 100), ylim=(0, None), xlabel='% of the image replaced',
      ylabel='probability of the predicted class',
  )
  # Beside the curves, which fill the axes where there are many.
  axes.legend(
      frameon=False, fontsize=9, loc='center left', bbox_to_anchor=(1, 0.5)
  )
  return picture


def sparkline(curves: dict[str, np.ndarray]) -> figure.Figure:
  """Draws the curves of one image, small; by map, float [R + 1]."""
  picture, axes = _axes(2.4, 1.5)
  for i, (name, values) in enumerate(curves.items()):
    axes.plot(
        np.linspace(0, 100, len(values)), values, _style(i),
        color=COLOURS[i], label=title_of(name),
    )
  axes.set(xlim=(0, 100), ylim=(0, 1.02), xticks=[0, 100], yticks=[0, 1])
  axes.tick_params(labelsize=8)
  axes.legend(frameon=False, fontsize=7)
  return picture


def training(histories: dict[str, Sequence[dict[str, float]]]) -> figure.Figure:
  """Draws validation accuracy by epoch, a line for each trained network."""
  picture, axes = _axes(7, 3.5)
  for i, (name, history) in enumerate(histories.items()):
    accuracy = [100 * epoch['validation/accuracy'] for epoch in history]
    axes.plot(
        np.arange(1, len(history) + 1), accuracy, _style(i),
        color=COLOURS[i % len(COLOURS)], label=title_of(name),
    )
  axes.set(xlabel='epoch', ylabel='validation accuracy, %')
  axes.legend(frameon=False, fontsize=9)
  return picture


def front_measures(point: dict[str, float]) -> dict[str, tuple[str, float]]:
  """Returns the title and the scale of each measure of a front's point."""
  names = [n.removeprefix('test/') for n in point if n.startswith('test/')]
  return {
      name: (f'{SHARES[name]}, %', 100.0) if name in SHARES else (name, 1.0)
      for name in names
  }


def front(
    fronts: dict[str, Sequence[dict[str, float]]]
) -> figure.Figure:
  """Draws where the networks of fronts are on the test split.

  Args:
    fronts: By network, its points, one at least, with the same 'test/NAME':
      the first of these is drawn over each of the others.
  """
  measures = front_measures(next(iter(fronts.values()))[0])
  above, *beside = measures
  (title_above, scale_above) = measures[above]
  picture = figure.Figure(
      figsize=(4.4 * len(beside) + 1.8, 3.6), layout='constrained'
  )
  for axes, name in zip(
      picture.subplots(1, len(beside), squeeze=False)[0], beside, strict=True
  ):
    for i, (network, points) in enumerate(fronts.items()):
      found = [
          (measures[name][1] * point[f'test/{name}'],
           scale_above * point[f'test/{above}'])
          for point in points
      ]
      axes.plot(
          *np.array(found).T, 'os^Dv<>p'[i % 8], markersize=5,
          color=COLOURS[i % len(COLOURS)], label=title_of(network),
      )
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set(xlabel=measures[name][0], ylabel=title_above)
  axes.legend(
      frameon=False, fontsize=9, loc='center left', bbox_to_anchor=(1, 0.5)
  )
  return picture


def per_class(
    accuracies: dict[str, np.ndarray], class_names: Sequence[str]
) -> figure.Figure:
  """Draws test accuracy of each class, a row of dots for each network."""
  picture, axes = _axes(7, 0.6 + 0.28 * len(class_names))
  rows = np.arange(len(class_names))[::-1]
  for i, (name, values) in enumerate(accuracies.items()):
    axes.plot(
        100 * values, rows, 'os^Dv<>p'[i % 8], color=COLOURS[i % len(COLOURS)],
        label=title_of(name), alpha=0.85,
        # Smaller ones lie on larger ones where they are equal.
        markersize=max(3, 8 - 2 * i),
    )
  axes.set_yticks(rows, class_names)
  axes.grid(axis='y', alpha=0.25)
  axes.set(xlabel='test accuracy, %')
  axes.legend(  # Above, where its markers are not taken for values.
      frameon=False, fontsize=9, ncols=len(accuracies), loc='lower left',
      bbox_to_anchor=(0, 1),
  )
  return picture


def trials(
    labels: Sequence[str], accuracies: np.ndarray, errors: np.ndarray
) -> figure.Figure:
  """Draws a row for each trial: a dot, and one standard error either way.

  Trials that share their validation images differ by less than these bars say.

  Args:
    labels: Of the T rows, the first on top.
    accuracies: float [T] in [0, 1].
    errors: float [T], the standard error of each.
  """
  picture, axes = _axes(9, 0.9 + 0.28 * len(labels))
  rows = np.arange(len(labels))[::-1]
  axes.errorbar(
      100 * accuracies, rows, xerr=100 * errors, fmt='o', color=COLOURS[0],
      ecolor=COLOURS[7],
  )
  axes.set_yticks(rows, labels, fontsize=8)
  axes.grid(axis='y', alpha=0.25)
  axes.set(xlabel='validation accuracy, % ± one standard error of each')
  return picture


def differences(
    rows: Sequence[str], panels: dict[str, Sequence[tuple[float, ...] | None]]
) -> figure.Figure:
  """Draws differences with their intervals, and where there is none.

  Args:
    rows: Names of the R methods, the first on top.
    panels: By what they are compared with, of each method (mean, low, high)
      in points; NaN for ends that are not known, None for no comparison.
  """
  picture = figure.Figure(
      figsize=(2 + 3.5 * len(panels), 1.1 + 0.32 * len(rows)),
      layout='constrained',
  )
  places = np.arange(len(rows))[::-1]
  for axes, (title, values) in zip(
      picture.subplots(1, len(panels), sharey=True, squeeze=False)[0],
      panels.items(), strict=True,
  ):
    for place, found in zip(places, values, strict=True):
      if found is not None:
        mean, low, high = found
        axes.plot([low, high], [place, place], '-|', color=COLOURS[0], lw=2.5)
        axes.plot(mean, place, 'o', color=COLOURS[1], markersize=4)
    axes.axvline(0, color=COLOURS[7], lw=0.8)
    axes.spines[['top', 'right']].set_visible(False)
    axes.grid(axis='y', alpha=0.25)
    axes.set(title=title, xlabel='points of test accuracy, 95 % interval')
    axes.set_yticks(places, [title_of(name) for name in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
  return picture
