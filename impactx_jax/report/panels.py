"""Panels like the paper's figures 3 to 5: image, maps and MoRF curves."""

from collections.abc import Sequence
from typing import Any

from attribution import plotting
from etils import epath
from impactx_jax.report import figures
from matplotlib import figure
import numpy as np

COLOURS = {'reference': figures.COLOURS[0], 'method': figures.COLOURS[1]}


def draw(
    path: epath.Path, measured: Any, *, class_names: Sequence[str], count: int
) -> None:
  """Draws one row an image: image, both maps, and their MoRF curves.

  Each map is summed over its channels and scaled by its own largest
  magnitude, with zero at the middle of the colours.

  Args:
    path: Of the PNG.
    measured: An `evaluation.measured.Measured`.
    class_names: [K].
    count: How many images.
  """
  method, reference = measured.method, measured.reference
  images, labels = measured.images[:count], measured.labels
  predicted = measured.predicted
  probability = measured.probabilities[np.arange(len(predicted)), predicted]
  reference_maps, maps = measured.maps[reference], measured.maps[method]
  reference_curves, curves = measured.curves[reference], measured.curves[method]
  count = len(images)
  picture = figure.Figure(
      figsize=(9.6, 2.1 * count + 0.6), layout='constrained', dpi=100
  )
  axes = picture.subplots(
      count, 4, squeeze=False, width_ratios=(1, 1, 1, 1.5)
  )
  for i in range(count):
    axis = axes[i, 0]
    plotting.draw_image(axis, images[i])
    right = measured.right[i]
    title = f'{class_names[predicted[i]]} {100 * probability[i]:.0f} %'
    if not right:
      title += f'\n(true: {figures.label_text(labels[i], class_names)})'
    axis.set_title(title, fontsize=9, color='black' if right else '#A00000')
    for axis, values, name in (
        (axes[i, 1], reference_maps[i], figures.title_of(reference)),
        (axes[i, 2], maps[i], figures.title_of(method)),
    ):
      plotting.draw_map(axis, values.sum(-1))
      if i == 0:
        axis.set_title(f'{name}\nred for, blue against', fontsize=9)
    for axis in axes[i, :3]:
      axis.set(xticks=[], yticks=[])
    axis = axes[i, 3]
    steps = np.linspace(0, 100, curves.shape[1])
    axis.plot(
        steps,
        reference_curves[i],
        color=COLOURS['reference'],
        label=figures.title_of(reference),
    )
    axis.plot(
        steps,
        curves[i],
        color=COLOURS['method'],
        linestyle='--',
        label=figures.title_of(method),
    )
    axis.set(ylim=(0, 1.02), xlim=(0, 100))
    axis.tick_params(labelsize=7)
    axis.spines[['top', 'right']].set_visible(False)
    if i == 0:
      axis.set_title('MoRF: probability as regions become noise', fontsize=9)
      axis.legend(fontsize=8, frameon=False)
  axes[-1, 3].set_xlabel('% of the image replaced', fontsize=8)
  figures.save(path, picture)


def draw_one(
    path: epath.Path, image: np.ndarray, values: np.ndarray, *, title: str
) -> None:
  """Draws an image, its map, and the map laid over the image.

  Args:
    path: Of the PNG.
    image: float32 [H, W, C] in [0, 1].
    values: float [H, W, C'], the map.
    title: Over the image.
  """
  picture = figure.Figure(figsize=(9, 3.3), layout='constrained', dpi=100)
  axes = picture.subplots(1, 3)
  for axis, pixels, text in (
      (axes[0], plotting.to_rgb(image), title),
      (axes[1], plotting.relevance_colours(values), 'predicted map'),
      (axes[2], plotting.overlay(image, values), 'red for, blue against'),
  ):
    axis.imshow(pixels)
    axis.set_title(text, fontsize=10)
    axis.set(xticks=[], yticks=[])
  figures.save(path, picture)
