"""captum in a process of its own, for `tests.benchmarks.accuracy_per_second`.

  python captum_process.py FOLDER

Needs PyTorch, captum and NumPy, and nothing of this project. It reads the
parameters of LeNet-5 and the images, explains regions of these with each method
and budget that it is asked for, and writes the values and the seconds.
"""

import json
import pathlib
import sys
import time

from captum import attr
import numpy as np
import torch
from torch import nn


class LeNet5(nn.Module):
  """The same as impactx_jax.models.lenet, channels first."""

  def __init__(self, params):
    super().__init__()
    self.convolutions = nn.ModuleList([nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)])
    self.dense = nn.ModuleList(
        [nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)]
    )
    with torch.no_grad():
      for i, layer in enumerate(self.convolutions):
        kernel = params[f"['trunk']['conv{i + 1}']['kernel']"]
        layer.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1)))
        layer.bias.copy_(
            torch.from_numpy(params[f"['trunk']['conv{i + 1}']['bias']"])
        )
      for i, layer in enumerate(self.dense):
        kernel = params[f"['head']['dense{i + 1}']['kernel']"]
        layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
        layer.bias.copy_(
            torch.from_numpy(params[f"['head']['dense{i + 1}']['bias']"])
        )

  def forward(self, x):
    for layer in self.convolutions:
      x = nn.functional.max_pool2d(layer(x).relu(), 2)
    x = x.permute(0, 2, 3, 1).flatten(1)  # As the kernels have it.
    for layer in self.dense[:-1]:
      x = layer(x).relu()
    return self.dense[-1](x).softmax(-1)


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  data = dict(np.load(folder / 'data.npz'))
  asked = json.loads((folder / 'asked.json').read_text())
  torch.set_num_threads(asked['threads'])
  model = LeNet5(dict(np.load(folder / 'params.npz'))).eval()
  images, hidden = (
      torch.from_numpy(data[name].transpose(0, 3, 1, 2)).contiguous()
      for name in ('images', 'hidden')
  )
  labels = torch.from_numpy(data['labels'].astype(np.int64))
  regions = torch.from_numpy(data['regions'].astype(np.int64))[None, None]
  count = int(regions.max()) + 1
  _, first = np.unique(data['regions'], return_index=True)

  def sampling(budget):
    # An order is a score for each region; the two ends are two more.
    return attr.ShapleyValueSampling(model).attribute(
        images, hidden, target=labels, feature_mask=regions,
        n_samples=max(1, (budget - 2) // count), perturbations_per_eval=16,
    )

  def kernel(budget):
    explainer = attr.KernelShap(model)
    return torch.cat([
        explainer.attribute(
            images[i:i + 1], hidden[i:i + 1], target=labels[i],
            feature_mask=regions, n_samples=budget, perturbations_per_eval=512,
        ) for i in range(len(images))
    ])

  methods = {'ShapleyValueSampling': sampling, 'KernelShap': kernel}
  values, seconds = {}, {}
  with torch.no_grad():
    np.save(folder / 'scores.npy', model(images).numpy())
    for name, explain in methods.items():
      explain(min(asked['budgets']))  # Once for nothing, as for the others.
      for budget in asked['budgets']:
        torch.manual_seed(0)
        start = time.perf_counter()
        maps = explain(budget)
        seconds[f'{name}/{budget}'] = time.perf_counter() - start
        # captum gives each pixel of a region the region's whole value.
        flat = maps[:, 0].reshape(len(maps), -1)
        values[f'{name}/{budget}'] = flat[:, first].numpy()
  np.savez(folder / 'values.npz', **values)
  (folder / 'seconds.json').write_text(json.dumps(seconds))


if __name__ == '__main__':
  main()
