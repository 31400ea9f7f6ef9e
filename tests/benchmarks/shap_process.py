"""shap in a process of its own, for `tests.benchmarks.attribution`.

Reads requests from standard input, one JSON object a line, and answers each
with one line. It drives the same parameters through the same forward pass.
"""

import json
import sys
import time

from attribution.explainers.shap_partition import shap_partition
import numpy as np
from tests.benchmarks import common


def main() -> None:
  folder = sys.argv[1]
  data = dict(np.load(f'{folder}/data.npz'))
  params = common.load_params(folder)
  explainers = {}
  # Whatever a library prints must not come between the answers.
  answers, sys.stdout = sys.stdout, sys.stderr
  for line in sys.stdin:
    request = json.loads(line)
    batch_size = request['batch_size']
    if batch_size not in explainers:
      explainers[batch_size] = shap_partition(
          common.score_fn,
          max_evals=request['max_evals'],
          batch_size=batch_size,
      )
    rows = slice(request['start'], request['stop'])
    start = time.perf_counter()
    maps = explainers[batch_size](
        params, data['images'][rows], data['labels'][rows]
    )
    seconds = time.perf_counter() - start
    np.save(f'{folder}/maps.npy', maps)
    print(json.dumps({'seconds': seconds}), file=answers, flush=True)


if __name__ == '__main__':
  main()
