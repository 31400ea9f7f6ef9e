"""What the guard of predicted maps notices, and how often it cries wolf.

  python -m tests.benchmarks.guard --workdir=DIR [--method=NAME] [--images=N]

DIR is the workdir of a finished run, whose --stage=evaluate has calibrated the
guard. Prints the share of alarms on test images; on the same blurred, under
noise and, as pictures of something else, scikit-learn's digits and uniform
noise; and, of 200 test images, on the tenth whose map is the worst (rank
correlation with Owen values of 2,000 evaluations) and on the others, with the
mean rank correlation of what is trusted and of what is not.

The figures are kept in DIR/guard_benchmark.json. The last line is
`false_alarms=… detected_worst=… blurred=… noisy=… other=…`.
"""

import argparse
import dataclasses

from attribution import files
from attribution.maskers import blur
from attribution.maskers import Masker
from attribution.metrics import agreement
from impactx_jax import inference
from impactx_jax.data import columns as column_lib
from impactx_jax.evaluation import explaining
from impactx_jax.report import console
from impactx_jax.stages import provenance
from impactx_jax.stages import runs
from impactx_jax.stages import trained
import numpy as np
from PIL import Image
from sklearn import datasets

REFERENCE, NOISE, WORST = 2000, 0.1, 0.1
CLOSE = 200  # Images of each kind that Owen values are made of.
HEADER = ['pictures', 'alarms %', 'rank corr.', 'of trusted', 'of doubtful']


def digits(count: int, shape: tuple[int, int, int]) -> np.ndarray:
  """Pictures of another data set, float32 [N, H, W, C]."""
  found = datasets.load_digits().images[:count] * 255 / 16
  return np.stack([
      np.repeat(np.asarray(Image.fromarray(x.astype(np.uint8)).resize(
          shape[1::-1], Image.Resampling.BILINEAR
      ))[..., None], shape[2], axis=-1)
      for x in found
  ]).astype(np.float32) / 255


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--method', default='', help='of those trained there')
  parser.add_argument('--images', type=int, default=500, help='of the test')
  arguments = parser.parse_args()

  run = runs.resolve(None, arguments.workdir)
  name = arguments.method or run.config.method.name
  model = inference.load(arguments.workdir, name)
  dataset = runs.dataset(run)
  images = column_lib.to_float(column_lib.sample(
      dataset.test, arguments.images, run.config.seed
  )['image'])
  stream = np.random.default_rng(0)
  noisy = images + stream.normal(0, NOISE, images.shape)
  pictures = {
      'test images': images,
      'blurred (5 pixels)': np.asarray(blur(images, 5)),
      f'noise of {NOISE}': np.clip(noisy, 0, 1).astype(np.float32),
      'digits': digits(len(images), images.shape[1:]),
      'uniform noise': stream.random(images.shape, np.float32),
  }
  found = {n: model.predict(x, check=True) for n, x in pictures.items()}
  alarms = {n: 100 * np.mean(~x.trusted) for n, x in found.items()}

  network = trained.restore(run.trained(name))
  masker = Masker(**model.guard.masker)
  owen = explaining.owen_values(
      network[0], run.config.attribution, masker, REFERENCE
  )
  rows, ranks = [], {}
  for n, x in found.items():
    x = type(x)(*(part[:CLOSE] for part in x))
    classes = network[0].task.top(x.probabilities)
    ranks[n] = agreement.rank_correlation(
        x.attribution, owen(network[1], pictures[n][:CLOSE], classes)
    )
    rows.append([
        n, f'{alarms[n]:.1f}', f'{ranks[n].mean():.3f}',
        *(
            f'{ranks[n][chosen].mean():.3f}' if chosen.any() else ''
            for chosen in (x.trusted, ~x.trusted)
        ),
    ])
  print(f'\n{console.table(HEADER, rows)}')
  own = ranks['test images']
  worst = own <= np.quantile(own, WORST)
  trusted = found['test images'].trusted[:CLOSE]
  detected, others = (100 * np.mean(~trusted[x]) for x in (worst, ~worst))
  print(
      f'\nOf the worst {100 * WORST:g} % of the maps it doubts '
      f'{detected:.0f} %, '
      f'of the others {others:.1f} %. {model.guard.evaluations} evaluations an '
      f'image; set to {100 * model.guard.false_alarms:g} % on '
      f'{model.guard.images} validation images.'
  )
  made = provenance.collect()
  files.write_json(run.workdir / 'guard_benchmark.json', {
      'table': [dict(zip(HEADER, row, strict=True)) for row in rows],
      'detected': {'worst': detected, 'others': others},
      'guard': dataclasses.asdict(model.guard),
      'provenance': {k: v for k, v in made.items() if k != 'command'},
  })
  print(
      f'false_alarms={alarms["test images"]:.1f} detected_worst={detected:.1f} '
      f'blurred={alarms["blurred (5 pixels)"]:.1f} '
      f'noisy={alarms[f"noise of {NOISE}"]:.1f} other={alarms["digits"]:.1f}'
  )


if __name__ == '__main__':
  main()
