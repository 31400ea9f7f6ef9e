"""Our explainers against captum's, on the same weights.

  python -m tests.benchmarks.parity [--data_dir=DIR | --npz=FILE]

A LeNet-5 is trained; each image is explained by ours and by captum's explainer
of the same kind, which computes with the same parameters in PyTorch, in an
environment that is made for it (or given, with --peer_python). `kernel_shap`,
of all sets of 2x2 cells, is held against captum's exact ShapleyValues. What
draws, draws other numbers there: the distance of these falls with the draws.

The last line is `exact=…`: the largest relative L2 distance of the maps of what
does not draw.
"""

import json
import os
import pathlib

import attribution
from attribution import maskers
from attribution.explainers import regions as region_lib
from impactx_jax.report import console
import jax
import numpy as np
from tests.benchmarks import common

GRID = 2  # captum goes through all orders.
STEPS = 32
DRAWS = 2048
NOISE = 0.1
CELLS = region_lib.cells(32, 32, GRID)[0]
# Ours -> captum's.
THEIRS = {
    'occlusion': 'FeatureAblation',
    'kernel_shap': 'ShapleyValues',
    'input_x_gradient': 'InputXGradient',
    'integrated_gradients': 'IntegratedGradients',
    'grad_cam': 'LayerGradCam',
    'smooth_grad': 'NoiseTunnel(Saliency)',
    'expected_gradients': 'GradientShap',
}
DRAWN = ('smooth_grad', 'expected_gradients')


def main() -> None:
  parser = common.parser(__doc__)
  parser.add_argument('--images', type=int, default=8)
  parser.add_argument('--train_steps', type=int, default=2000)
  parser.add_argument('--peer_python', default='', help='that has captum')
  parser.add_argument('--out', default='', help='a JSON file')
  arguments = parser.parse_args()

  data = common.load_images(arguments.npz, arguments.data_dir)
  params = common.train_lenet(
      data['train_images'], data['train_labels'], steps=arguments.train_steps
  )
  images = data['test_images'][:arguments.images]
  baselines = data['train_images'][:64]
  scores = np.asarray(jax.jit(common.score_fn)(params, images))
  labels = scores.argmax(axis=1)
  theirs, _ = common.ask_captum(
      arguments.peer_python, params,
      {'images': images, 'labels': labels, 'regions': CELLS,
       'hidden': np.asarray(maskers.BLUR.background(images)),
       'baselines': baselines},
      {'steps': STEPS, 'draws': DRAWS, 'noise': NOISE},
  )
  common.check_scores(theirs, scores)
  options = {
      'occlusion': {'grid': GRID},
      'kernel_shap': {'grid': GRID, 'max_evals': 2**GRID**2},
      'integrated_gradients': {'integration_steps': STEPS},
      'grad_cam': {'layer': 'trunk/conv2'},
      'smooth_grad': {'integration_steps': DRAWS, 'noise': NOISE},
      'expected_gradients': {
          'integration_steps': DRAWS, 'baselines': baselines
      },
  }
  rows, found_all, largest = [], [], 0.0
  for name, peer in THEIRS.items():
    ours = attribution.explain(
        common.score_fn, images, labels, variables=params, explainer=name,
        **options.get(name, {}),
    )
    found = theirs[name].transpose(0, 2, 3, 1)
    if name in ('occlusion', 'kernel_shap'):  # A region's value at each pixel.
      pixels = np.bincount(CELLS.ravel())[CELLS][..., None]
      found = np.repeat(found[..., :1], 3, axis=3) / (3 * pixels)
    if name == 'grad_cam':
      found = np.repeat(found, 3, axis=3) / 3
    axes = (1, 2, 3)
    gap = np.sqrt(((ours - found) ** 2).sum(axes) / (found**2).sum(axes))
    if name not in DRAWN:
      largest = max(largest, gap.max())
    found_all.append({
        'ours': name, 'captum': peer, 'mean': f'{gap.mean():.1e}',
        'largest': f'{gap.max():.1e}',
    } | ({'draws': DRAWS} if name in DRAWN else {}))
    rows.append([
        name, peer, f'{gap.mean():.1e}', f'{gap.max():.1e}',
        f'{DRAWS:,} draws' if name in DRAWN else '',
    ])
  print(
      f'{jax.devices()[0].device_kind} ({len(os.sched_getaffinity(0))} cores '
      f'used), jax {jax.__version__}; {len(images)} images'
  )
  print(console.table(
      ['ours', "captum's", 'mean distance', 'largest', ''], rows
  ))
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps(found_all, indent=1))
  print(f'exact={largest:.1e}')


if __name__ == '__main__':
  main()
