"""How near to exact Shapley values, for how many evaluations and seconds?

  python -m tests.benchmarks.accuracy_per_second [--data_dir=DIR | --npz=FILE]

A LeNet-5 is trained, and for each image the exact Shapley values of 4x4 cells
are computed from all 65,536 sets of them (blurred where hidden). Then ours,
shap's and captum's explainers explain the same images with growing budgets.
The error is the distance of the 16 values from the exact ones over their
length; of RISE, which has another scale, with the best scale for each image.
Maps of pixels are summed over the cells.

captum runs in an environment of its own, which is made for it with
--peers=shap,captum (or is given, with --peer_python); all of them have the same
cores. Each explains once before it is timed.

The last lines are the differences in error, paired by image, of our Kernel SHAP
to each other at 2,000 evaluations, with 95 % bootstrap intervals, and
`error_at_2000=… seconds=… shap_error_at_2000=… shap_seconds=…`, of ours and
shap's that is nearest there.
"""

import dataclasses
import json
import os
import pathlib
import time

import attribution
from attribution import maskers
from attribution import model_fn
from attribution.explainers import regions as region_lib
from attribution.metrics import intervals
from impactx_jax.report import console
import jax
from matplotlib import figure
from matplotlib import ticker
import numpy as np
import shap
from tests.benchmarks import common
from tqdm.auto import tqdm

GRID = 4
CELLS = region_lib.cells(32, 32, GRID)[0]
BUDGETS = (50, 100, 250, 500, 1000, 2000, 4000)
SCALED = ('RISE',)  # Not in the scale of the score.
BEST = 'Kernel SHAP'  # Of ours, compared with the others
AT = (1982, 2000)  # at so many evaluations.


def ours(images, labels, params):
  """Yields name, evaluations, values [N, 16], seconds an image."""
  base = {'variables': params}
  asked = [
      (name, title, {'max_evals': n} | ({'grid': GRID} if cells else {}))
      for name, title, cells in (
          ('partition', 'partition', False),
          ('kernel_shap', 'Kernel SHAP', True),
          ('permutation_shap', 'Permutation SHAP', True),
          ('rise', 'RISE', False),
      ) for n in BUDGETS
  ]
  asked += [
      ('partition_grid', 'partition_grid', {'grid': n}) for n in (2, 4, 8)
  ]
  asked += [
      (name, title, {'integration_steps': n}) for name, title in (
          ('integrated_gradients', 'Integrated Gradients'),
          ('expected_gradients', 'Expected Gradients'),
      ) for n in (2, 8, 32, 128)
  ]
  for name, title, options in tqdm(asked, desc='ours', unit='explainer'):
    explainer = attribution.Explainer(
        common.score_fn, explainer=name, **base, **options
    )
    explainer(images, labels)
    start = time.perf_counter()
    maps = explainer(images, labels)
    seconds = (time.perf_counter() - start) / len(images)
    yield title, explainer.evaluations, summed(maps), seconds


def summed(maps):
  """Sums maps [N, 32, 32, C] over the cells, [N, 16]."""
  side = 32 // GRID
  return maps.reshape(len(maps), GRID, side, GRID, side, -1).sum(
      axis=(2, 4, 5)
  ).reshape(len(maps), -1)


def shaps(images, labels, params):
  """Yields the same of shap's explainers, which drive the same forward pass."""
  hidden = np.asarray(maskers.BLUR.background(images))
  score = model_fn.numpy_callable(common.score_fn, 256)

  def partition(budget):
    explainer = attribution.Explainer(
        common.score_fn, variables=params, explainer='shap_partition',
        max_evals=budget, batch_size=50,
    )
    return summed(explainer(images, labels))

  def each(explain):
    def call(budget):
      values = []
      for image, background, label in zip(images, hidden, labels, strict=True):
        def of_sets(sets, image=image, background=background, label=label):
          shown = np.asarray(sets, bool)[:, CELLS][..., None]
          masked = np.where(shown, image, background)
          return score(params, masked)[:, label]

        values.append(explain(of_sets, budget))
      return np.stack(values)
    return call

  none, every = np.zeros((1, GRID**2)), np.ones((1, GRID**2))

  def kernel(fn, budget):
    explainer = shap.KernelExplainer(fn, none)
    return explainer.shap_values(
        every, nsamples=budget, silent=True, l1_reg=0
    )[0]

  def permutation(fn, budget):
    explainer = shap.PermutationExplainer(fn, none)
    return explainer(every, max_evals=budget, silent=True).values[0]

  methods = {
      'shap PartitionExplainer': partition,
      'shap KernelExplainer': each(kernel),
      'shap PermutationExplainer': each(permutation),
  }
  asked = [(name, n) for name in methods for n in BUDGETS]
  for name, budget in tqdm(asked, desc='shap', unit='explainer'):
    np.random.seed(0)
    if budget == BUDGETS[0]:
      methods[name](budget)
    start = time.perf_counter()
    values = methods[name](budget)
    yield name, budget, values, (time.perf_counter() - start) / len(images)


def captums(images, labels, params, python):
  """Yields the same of captum's explainers."""
  values, seconds = common.ask_captum(
      python, params,
      {'images': images, 'labels': labels, 'regions': CELLS,
       'hidden': np.asarray(maskers.BLUR.background(images))},
      {'budgets': BUDGETS},
  )
  common.check_scores(
      values, np.asarray(jax.jit(common.score_fn)(params, images))
  )
  for key, found in seconds.items():
    name, _, budget = key.partition('/')
    yield f'captum {name}', int(budget), values[key], found / len(images)


def error(name, values, exact):
  """Returns the relative distance of each image's values, [N]."""
  if name in SCALED:
    best = (values * exact).sum(axis=1) / (values**2).sum(axis=1)
    values = best[:, None] * values
  distance = np.linalg.norm(values - exact, axis=1)
  return distance / np.linalg.norm(exact, axis=1)


def draw(rows, path):
  """Draws error over evaluations, and over seconds."""
  drawn = figure.Figure(figsize=(11, 5), layout='constrained')
  axes = drawn.subplots(1, 2, sharey=True)
  names = list(dict.fromkeys(row['name'] for row in rows))
  for i, name in enumerate(names):
    mine = [row for row in rows if row['name'] == name]
    style = {
        'shap': ('--', 's'), 'captum': (':', '^'),
    }.get(name.split()[0], ('-', 'o'))
    for axis, key in zip(axes, ('evaluations', 'ms'), strict=True):
      axis.plot(
          [row[key] for row in mine], [row['error'] for row in mine],
          linestyle=style[0], marker=style[1], markersize=4,
          color=f'C{i % 10}', label=name,
      )
  for axis, label in zip(
      axes, ('model evaluations an image', 'milliseconds an image'), strict=True
  ):
    axis.set(xscale='log', yscale='log', xlabel=label)
    axis.grid(alpha=0.3, which='both')
  axes[0].yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
  axes[0].yaxis.set_major_formatter(ticker.FormatStrFormatter('%g'))
  axes[0].yaxis.set_minor_formatter(ticker.NullFormatter())
  axes[0].set_ylabel('distance from exact Shapley values / their length')
  handles, labels = axes[0].get_legend_handles_labels()
  drawn.legend(handles, labels, loc='outside right center', frameon=False)
  drawn.savefig(path, dpi=150)


def main() -> None:
  parser = common.parser(__doc__)
  parser.add_argument('--images', type=int, default=64)
  parser.add_argument('--train_steps', type=int, default=8000)
  parser.add_argument('--peers', default='shap', help='of shap,captum')
  parser.add_argument('--peer_python', default='', help='that has captum')
  parser.add_argument('--out', default='', help='a JSON file')
  parser.add_argument('--figure', default='', help='a PNG file')
  arguments = parser.parse_args()
  peers = [name for name in arguments.peers.split(',') if name]
  if unknown := set(peers) - {'shap', 'captum'}:
    parser.error(f'--peers={arguments.peers}: {", ".join(unknown)} is unknown; '
                 'give some of shap,captum.')

  data = common.load_images(arguments.npz, arguments.data_dir)
  params = common.train_lenet(
      data['train_images'], data['train_labels'], steps=arguments.train_steps
  )
  images = data['test_images'][:arguments.images]
  scores = np.asarray(jax.jit(common.score_fn)(params, data['test_images']))
  right = np.mean(scores.argmax(axis=1) == data['test_labels'])
  labels = scores[:arguments.images].argmax(axis=1)  # The predicted class.
  explainer = attribution.Explainer(
      common.score_fn, variables=params, explainer='kernel_shap', grid=GRID,
      max_evals=2**GRID**2,
  )
  start = time.perf_counter()
  exact = summed(np.concatenate([
      explainer(images[i:i + 8], labels[i:i + 8])
      for i in tqdm(range(0, len(images), 8), desc='exact', unit='batch')
  ]))
  took = (time.perf_counter() - start) / len(images)

  found = [*ours(images, labels, params)]
  if 'shap' in peers:
    found += shaps(images, labels, params)
  if 'captum' in peers:
    found += captums(images, labels, params, arguments.peer_python)
  rows = []
  for name, evaluations, values, seconds in found:
    errors = error(name, values, exact)
    rows.append({
        'name': name, 'evaluations': evaluations, 'ms': 1e3 * seconds,
        'error': float(np.median(errors)),
        'low': float(np.quantile(errors, 0.25)),
        'high': float(np.quantile(errors, 0.75)),
        'errors': errors.round(5).tolist(),
    })
  cores = len(os.sched_getaffinity(0))
  print(
      f'{jax.devices()[0].device_kind} ({cores} cores used), jax '
      f'{jax.__version__}, shap {shap.__version__}; {len(images)} images, '
      f'accuracy {100 * right:.1f} %; exact values {took:.2f} s an image'
  )
  print(console.table(
      ['explainer', 'evaluations', 'ms an image', 'error', 'middle half'],
      [[row['name'], f'{row["evaluations"]:,}', f'{row["ms"]:.2f}',
        f'{row["error"]:.3f}', f'{row["low"]:.3f} to {row["high"]:.3f}']
       for row in rows],
  ))
  if arguments.figure:
    draw(rows, arguments.figure)

  there = [row for row in rows if row['evaluations'] in AT]
  ours_there = next(row for row in there if row['name'] == BEST)
  differences = []
  for row in there:
    if row is not ours_there:
      between = intervals.bootstrap_interval(
          np.subtract(ours_there['errors'], row['errors'])
      )
      print(
          f'{BEST} - {row["name"]}: {between.mean:+.3f} '
          f'[{between.low:+.3f}, {between.high:+.3f}]'
      )
      differences.append({'to': row['name']} | dataclasses.asdict(between))

  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps({
        'cores': cores, 'jax': jax.__version__, 'shap': shap.__version__,
        'images': len(images), 'accuracy': float(right), 'rows': rows,
        'differences': differences,
    }, indent=1) + '\n')

  def nearest(start):
    mine = [row for row in there if row['name'].startswith(start)]
    return min(mine, key=lambda row: row['error'])

  compared = {'': ours_there}
  if 'shap' in peers:
    compared['shap_'] = nearest('shap ')
  print(' '.join(
      f'{prefix}error_at_2000={row["error"]:.3f} '
      f'{prefix}seconds={row["ms"] / 1e3:.4f}'
      for prefix, row in compared.items()
  ))


if __name__ == '__main__':
  main()
