"""Class and map from one forward pass, against SHAP on the same model.

  python -m tests.benchmarks.latency --workdir=DIR

DIR holds a trained IMPACTX. Times, for one image at a time and in turn, the
network's forward pass, which gives class and map, and the explainers that
would give a map of the same network with the run's number of evaluations:
`partition` and the shap library. Prints milliseconds an image and ratios: the
median of the rounds, the smallest and the largest.
"""

import argparse
import time

from impactx_jax import inference
from impactx_jax.evaluation import explaining
from impactx_jax.report import console
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import trained
import numpy as np


def measure(workdir: str, rounds: int) -> dict[str, list[float]]:
  """Returns seconds an image for each way, one value a round."""
  home = artefact.open_workdir(workdir)
  config = configs.read(home)
  attribution = config.attribution
  model = inference.load(home)
  method, variables = trained.restore(
      artefact.trained(home, model.method, config)
  )
  images = np.random.default_rng(0).integers(
      0, 256, (rounds + 1, *model.image_shape), np.uint8
  )
  masker = explaining.masker(attribution, images)

  def explainer(name):
    explain = explaining.explainer(
        method, attribution, masker, explainer=name
    )
    return lambda image: explain(
        variables, image / np.float32(255), np.zeros(1, np.int32)
    )

  ways = {
      'one forward pass': model.predict,
      'partition': explainer('partition'),
      'shap': explainer('shap_partition'),
  }
  seconds: dict[str, list[float]] = {name: [] for name in ways}
  for i, image in enumerate(images):
    for name, way in ways.items():
      repeats = 20 if name == 'one forward pass' else 1
      start = time.perf_counter()
      for _ in range(repeats):
        way(image[None])
      if i:  # The first round compiles.
        seconds[name].append((time.perf_counter() - start) / repeats)
  return seconds


def main() -> None:
  """Measures and prints."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--rounds', type=int, default=15)
  arguments = parser.parse_args()
  seconds = measure(arguments.workdir, arguments.rounds)
  base = np.array(seconds['one forward pass'])
  rows = []
  for name, values in seconds.items():
    ratio = np.array(values) / base
    rows.append([
        name,
        f'{1e3 * np.median(values):.2f}',
        f'{np.median(ratio):,.0f} ({ratio.min():,.0f} to {ratio.max():,.0f})',
    ])
  print(console.table(['', 'ms an image', 'times the forward pass'], rows))


if __name__ == '__main__':
  main()
