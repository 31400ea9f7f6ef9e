"""The survey's three toys: explanations in features, units and the loss.

  python -m tests.benchmarks.survey_toys [--seeds=20] [--unit=step|epoch]

Weber et al. (2023), section 2.2 and appendix A: dense networks on few points,
of which some dimensions are noise or mislead. Toy 1 multiplies the first hidden
layer by a mask of its relevance; toy 2 sets the most relevant unit to 0; toy 3
asks for relevance along the dimension that holds in the test split. Relevance
is Input×Gradient of the true class's logit, which is LRP-0 of such networks,
biases included. Each beside plain training and controls: the relevance of
another example, random relevance of that distribution, as many units off at
random or the least relevant, other ground truths. Nothing is masked in the test
split, where the true class is not known, but for two rows that show what masks
do there: of the class that is answered, and of the true one, which tells it.

Prints the test accuracy over the last tenth of the training, and its spread
from one evaluation to the next, a mean over seeds; differences are paired, with
95 % intervals.
"""

import argparse
import json
import pathlib
import time

from impactx_jax.evaluation import statistics
from impactx_jax.report import console
from impactx_jax.report import figures
from matplotlib import figure
import numpy as np
from tests.benchmarks import survey_runs


def last(curves: np.ndarray) -> np.ndarray:
  """Returns the mean of the last tenth of each curve, in per cent."""
  return 100 * curves[:, -survey_runs.EVALUATIONS // 10 :].mean(axis=1)


def rows_of(name: str, found: dict) -> list[dict]:
  """Returns a line for each method: how it does, and against what."""
  toy, rows = survey_runs.TOYS[name], []
  for title, curves in found.items():
    ours, gaps = last(curves['accuracy']), []
    for other in (survey_runs.PLAIN, toy.control):
      if other == title:
        gaps.append('')
        continue
      gap = statistics.paired_interval(ours, last(found[other]['accuracy']))
      gaps.append(f'{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]')
    tail = curves['accuracy'][:, survey_runs.EVALUATIONS // 2 :]
    size = np.abs(curves['weights']).sum(axis=2)
    rows.append({'name': f'{name}: {title}', 'cells': [
        f'{ours.mean():.2f}', f'{100 * tail.std(axis=1).mean():.2f}',
        f'{curves["loss"][:, -1].mean():.3f}',
        f'{100 * (size[:, -1] / size.sum(axis=1)).mean():.1f}', *gaps,
    ]})
  return rows


def draw(name: str, found: dict) -> figure.Figure:
  """Draws test accuracy and loss over the training, and the data of seed 0."""
  picture = figure.Figure(figsize=(12, 3.6), layout='constrained')
  axes = picture.subplots(1, 3)
  x, y, test_x, test_y = survey_runs.TOYS[name].draw(0)
  dims = (0, x.shape[1] - 1)
  for place, label in ((x, y), (test_x, test_y)):
    marker = 'o' if place is x else 'x'
    for k in (0, 1):
      axes[0].scatter(
          *place[label == k][:, dims].T, s=12, marker=marker,
          color=figures.COLOURS[k], alpha=0.6,
      )
  axes[0].set(title='seed 0: train (dots), test (crosses)',
              xlabel=f'dimension {dims[0]}', ylabel=f'dimension {dims[1]}')
  for i, (title, curves) in enumerate(found.items()):
    for axis, field, scale in (
        (axes[1], 'accuracy', 100), (axes[2], 'loss', 1)
    ):
      axis.plot(
          np.arange(1, survey_runs.EVALUATIONS + 1) / survey_runs.EVALUATIONS,
          scale * curves[field].mean(axis=0), color=figures.COLOURS[i],
          label=title,
      )
  axes[1].set(title='test accuracy, %', xlabel='share of the training')
  axes[2].set(title='test loss, nats', xlabel='share of the training')
  axes[1].legend(frameon=False, fontsize=8)
  for axis in axes:
    axis.spines[['top', 'right']].set_visible(False)
  return picture


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--seeds', type=int, default=20)
  parser.add_argument('--unit', default='step', choices=('step', 'epoch'),
                      help='of the iterations, which the paper does not say')
  parser.add_argument('--out', default='', help='a JSON file of all figures')
  parser.add_argument('--figures', default='', help='a folder for pictures')
  arguments = parser.parse_args()
  if arguments.seeds < 2:
    raise SystemExit('--seeds must be 2 or more, for intervals.')
  rows, line, seconds = [], [], {}
  for name, toy in survey_runs.TOYS.items():
    start = time.monotonic()
    found = survey_runs.run(name, arguments.seeds, arguments.unit)
    seconds[name] = time.monotonic() - start
    rows += rows_of(name, found)
    method = list(toy.methods)[1]
    for word, other in (('gain', survey_runs.PLAIN), ('control', toy.control)):
      gap = last(found[method]['accuracy']) - last(found[other]['accuracy'])
      line.append(f'{name}_{word}={gap.mean():.2f}')
    if arguments.figures:
      folder = pathlib.Path(arguments.figures)
      folder.mkdir(parents=True, exist_ok=True)
      draw(name, found).savefig(folder / f'survey_{name}.png', dpi=110)
  print(console.table(
      ['', 'test %', 'its spread in time', 'test loss',
       'weight on the last dimension, %', 'to plain', 'to the control'],
      [[row['name'], *row['cells']] for row in rows],
  ))
  print(f'{arguments.seeds} seeds, a unit of one {arguments.unit}; '
        + ', '.join(f'{n} {s:.1f} s' for n, s in seconds.items()))
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps({
        'unit': arguments.unit, 'seeds': arguments.seeds, 'rows': rows,
        'seconds': seconds,
    }, indent=1))
  print(' '.join(line))


if __name__ == '__main__':
  main()
