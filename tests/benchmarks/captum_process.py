"""captum in a process of its own, for `accuracy_per_second` and `parity`.

  python captum_process.py FOLDER

Needs PyTorch, captum and NumPy, and nothing of this project. It reads the
parameters of LeNet-5 and the images, and writes what it is asked for: the
values of regions and the seconds that they took, for growing budgets, or a map
of each of the methods that this project has too.
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
    self.stages = nn.ModuleList([
        nn.Sequential(nn.Conv2d(a, b, 5), nn.ReLU(), nn.MaxPool2d(2))
        for a, b in ((3, 6), (6, 16))
    ])
    self.dense = nn.ModuleList(
        [nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)]
    )
    with torch.no_grad():
      for i, (layer, *_) in enumerate(self.stages):
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
    for stage in self.stages:
      x = stage(x)
    x = x.permute(0, 2, 3, 1).flatten(1)  # As the kernels have it.
    for layer in self.dense[:-1]:
      x = layer(x).relu()
    return self.dense[-1](x).softmax(-1)


def by_budget(model, images, hidden, labels, regions, asked):
  """Returns values of regions, [N, d], and seconds, by method and budget."""
  count = int(regions.max()) + 1
  _, first = np.unique(regions.numpy(), return_index=True)

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

  values, seconds = {}, {}
  for name, explain in (
      ('ShapleyValueSampling', sampling), ('KernelShap', kernel)
  ):
    explain(min(asked['budgets']))  # Once for nothing, as for the others.
    for budget in asked['budgets']:
      torch.manual_seed(0)
      start = time.perf_counter()
      maps = explain(budget)
      seconds[f'{name}/{budget}'] = time.perf_counter() - start
      # captum gives each pixel of a region the region's whole value.
      flat = maps[:, 0].reshape(len(maps), -1)
      values[f'{name}/{budget}'] = flat[:, first].numpy()
  return values, seconds


def one_map_each(model, images, hidden, labels, regions, asked):
  """Returns maps [N, C, H, W] by the names that they have here."""
  few = {'feature_mask': regions, 'target': labels}
  steps = asked['steps']
  cam = attr.LayerGradCam(model, model.stages[1]).attribute(
      images, labels, relu_attributions=True
  )
  saliency = attr.NoiseTunnel(attr.Saliency(model))
  return {
      'occlusion': attr.FeatureAblation(model).attribute(
          images, hidden, **few
      ),
      'kernel_shap': attr.ShapleyValues(model).attribute(
          images, hidden, perturbations_per_eval=16, **few
      ),
      'input_x_gradient': attr.InputXGradient(model).attribute(
          images, labels
      ),
      'integrated_gradients': attr.IntegratedGradients(model).attribute(
          images, hidden, labels, n_steps=steps, method='riemann_middle'
      ),
      'grad_cam': attr.LayerAttribution.interpolate(
          cam, images.shape[2:], 'bilinear'
      ),
      'smooth_grad': saliency.attribute(
          images, nt_samples=asked['draws'], nt_samples_batch_size=16,
          stdevs=asked['noise'], abs=False, target=labels,
      ),
      'expected_gradients': attr.GradientShap(model).attribute(
          images, torch.from_numpy(
              asked['baselines'].transpose(0, 3, 1, 2)
          ), n_samples=asked['draws'], stdevs=0.0, target=labels,
      ),
  }


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  data = dict(np.load(folder / 'data.npz'))
  asked = json.loads((folder / 'asked.json').read_text())
  torch.set_num_threads(asked['threads'])
  torch.manual_seed(0)
  model = LeNet5(dict(np.load(folder / 'params.npz'))).eval()
  images, hidden = (
      torch.from_numpy(data[name].transpose(0, 3, 1, 2)).contiguous()
      for name in ('images', 'hidden')
  )
  labels = torch.from_numpy(data['labels'].astype(np.int64))
  regions = torch.from_numpy(data['regions'].astype(np.int64))[None, None]
  given = model, images, hidden, labels, regions, asked
  seconds = {}
  if 'budgets' in asked:
    with torch.no_grad():
      values, seconds = by_budget(*given)
  else:
    asked['baselines'] = data['baselines']
    values = {k: v.detach().numpy() for k, v in one_map_each(*given).items()}
  with torch.no_grad():
    values['scores'] = model(images).numpy()
  np.savez(folder / 'values.npz', **values)
  (folder / 'seconds.json').write_text(json.dumps(seconds))


if __name__ == '__main__':
  main()
