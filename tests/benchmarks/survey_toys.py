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
from collections.abc import Callable
import functools
import itertools
import json
import pathlib
import time
from typing import NamedTuple

from flax import linen as nn
from impactx_jax import relevance
from impactx_jax.evaluation import statistics
from impactx_jax.report import console
from impactx_jax.report import figures
import jax
import jax.numpy as jnp
from matplotlib import figure
import numpy as np
import optax
from sklearn import datasets

PLAIN = 'plain'
EVALUATIONS = 100  # Over a training.


class Toy(NamedTuple):
  """A data set, a network and a training.

  Attributes:
    draw: Seed -> (train x [N, D], train y [N], test x, test y).
    hidden: Widths of the hidden layers.
    iterations: Steps, or epochs.
    batch: Examples a step.
    rate: Of SGD with momentum 0.9.
    methods: By name, what they do; see `loss_of`.
    control: Of which method the gain is held against.
  """

  draw: Callable[[int], tuple[np.ndarray, ...]]
  hidden: tuple[int, ...]
  iterations: int
  batch: int
  rate: float
  methods: dict[str, tuple]
  control: str


class Net(nn.Module):
  """Dense layers, cut after the first: f¹ is what follows its ReLU.

  Attributes:
    hidden: Widths.
  """

  hidden: tuple[int, ...]

  def setup(self):
    self.layers = [nn.Dense(width) for width in (*self.hidden, 2)]

  def __call__(self, x):
    return self.after(self.until(x))

  def until(self, x):
    return nn.relu(self.layers[0](x)) if self.hidden else x

  def after(self, features):
    rest = self.layers[1:] if self.hidden else self.layers
    for layer in rest[:-1]:
      features = nn.relu(layer(features))
    return rest[-1](features)


def _of_sklearn(seed: int, train: int, test: int, **options):
  x, y = datasets.make_classification(
      n_samples=train + test, n_redundant=0, random_state=seed, **options
  )
  x = x.astype(np.float32)
  return x[:train], y[:train], x[train:], y[train:]


def noisy(seed: int):
  """Two dimensions tell the class, three are noise; a tenth is mislabelled."""
  return _of_sklearn(
      seed, 350, 50, n_features=5, n_informative=2, n_clusters_per_class=2,
      flip_y=0.1,
  )


def misleading(seed: int):
  """The last dimension's sign is the label in train, and chance in test."""
  x, y, test_x, test_y = _of_sklearn(
      seed, 350, 50, n_features=3, n_informative=3, n_clusters_per_class=2,
      flip_y=0.05,
  )
  rng = np.random.default_rng(seed)

  def cue(signs):
    size = np.abs(rng.normal(size=len(signs)))
    return ((2 * signs - 1) * size).astype(np.float32)[:, None]

  cues = cue(y), cue(rng.integers(0, 2, len(test_y)))
  return np.hstack([x, cues[0]]), y, np.hstack([test_x, cues[1]]), test_y


def one_dimension(seed: int):
  """Both dimensions tell the class in train; test varies along the first.

  The first draw of a seed in which either has means of the classes that are
  more than one apart: elsewhere there is nothing to be told along it.
  """
  draws = (
      _of_sklearn(
          seed + 10_000 * i, 200, 200, n_features=2, n_informative=2,
          n_clusters_per_class=1, flip_y=0.0,
      )
      for i in itertools.count()
  )
  x, y, test_x, test_y = next(
      (x, y, *test) for x, y, *test in draws
      if (np.abs(x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0)) > 1).all()
  )
  test_x[:, 1] = x[:, 1].mean()
  return x, y, test_x, test_y


TOYS = {
    'toy1': Toy(noisy, (64, 32, 16), 500, 32, 0.01, {
        PLAIN: (),
        'attention': ('attention', 'own'),
        'attention, in test of the answer': ('attention', 'own', 'answer'),
        'attention, in test of the truth': ('attention', 'own', 'truth'),
        "another example's": ('attention', 'other'),
        'random': ('attention', 'random'),
    }, "another example's"),
    'toy2': Toy(misleading, (5,), 200, 50, 0.01, {
        PLAIN: (),
        'guided dropout': ('dropout', 'most'),
        'as many at random': ('dropout', 'random'),
        'least relevant': ('dropout', 'least'),
    }, 'as many at random'),
    'toy3': Toy(one_dimension, (), 200, 50, 0.001, {
        PLAIN: (),
        'ground truth': ('truth', (1.0, 0.0), False),
        'detached': ('truth', (1.0, 0.0), True),
        'the other dimension': ('truth', (0.0, 1.0), False),
    }, 'the other dimension'),
}


def loss_of(net: Net, method: tuple, params, x, y, key) -> jax.Array:
  """Returns a batch's loss.

  Args:
    net: The network.
    method: () or what is done, and to what: ('attention', whose relevance),
      ('dropout', which units), ('truth', r_A, whether the maximum is detached).
    params: Of the network.
    x: [B, D].
    y: int [B].
    key: Of what is random.
  """
  features = net.apply(params, x, method='until')
  found = features * jax.grad(_logit(net, params, y))(features)
  kind, *rest = method or ('',)
  if kind == 'attention':
    if rest[0] == 'other':
      found = jnp.roll(found, 1, axis=0)
    elif rest[0] == 'random':
      found = jax.random.permutation(key, found.ravel()).reshape(found.shape)
    features = features * relevance.attention(found)
  elif kind == 'dropout':
    score = {
        'most': jnp.abs(found), 'least': -jnp.abs(found),
        'random': jax.random.uniform(key, found.shape),
    }[rest[0]]
    features = relevance.guided_dropout(features, score, 0.25)
  logits = net.apply(params, features, method='after')
  loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
  if kind == 'truth':
    truth, detached = rest
    loss += relevance.ground_truth_loss(
        found, jnp.array([truth]), detached=detached
    ).mean()
  return loss


def tested(net: Net, method: tuple, params, x, y) -> jax.Array:
  """Returns the logits of the test split.

  Args:
    net: The network.
    method: As `loss_of` takes it. Attention may say whose relevance masks in
      test as well: that of the 'answer' without a mask, or of the 'truth',
      which tells the network what it is asked.
    params: Of the network.
    x: [N, D].
    y: int [N].
  """
  logits = net.apply(params, x)
  if method[2:] in (('answer',), ('truth',)):
    classes = y if method[2] == 'truth' else logits.argmax(-1)
    features = net.apply(params, x, method='until')
    found = features * jax.grad(_logit(net, params, classes))(features)
    features *= relevance.attention(found)
    logits = net.apply(params, features, method='after')
  return logits


def _logit(net: Net, params, classes):
  """Returns f¹ [B, F] -> the sum of the logits of the classes."""

  def logit(features):
    logits = net.apply(params, features, method='after')
    return jnp.take_along_axis(logits, classes[:, None], axis=1).sum()

  return logit


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def train(toy: Toy, method: tuple, steps: int, data, seed):
  """Trains a network, of one seed.

  Args:
    toy: What is trained on what; hashable by its place in `TOYS`.
    method: As `loss_of` takes it.
    steps: In all.
    data: Of the seed.
    seed: int32 [].

  Returns:
    The parameters, test accuracy and test loss at `EVALUATIONS` places.
  """
  toy = TOYS[toy]
  net = Net(toy.hidden)
  x, y, test_x, test_y = data
  keys = jax.random.split(jax.random.key(seed), 3)
  params = net.init(keys[0], x)
  optimiser = optax.sgd(toy.rate, momentum=0.9)
  per_epoch = len(x) // toy.batch

  def step(state, i):
    params, slots = state
    order = jax.random.permutation(
        jax.random.fold_in(keys[1], i // per_epoch), len(x)
    )
    rows = jax.lax.dynamic_slice(
        order, ((i % per_epoch) * toy.batch,), (toy.batch,)
    )
    slopes = jax.grad(
        functools.partial(loss_of, net, method)
    )(params, x[rows], y[rows], jax.random.fold_in(keys[2], i))
    updates, slots = optimiser.update(slopes, slots)
    return (optax.apply_updates(params, updates), slots), None

  def stretch(state, first):
    state, _ = jax.lax.scan(step, state, first + jnp.arange(every))
    logits = tested(net, method, state[0], test_x, test_y)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, test_y)
    return state, ((logits.argmax(-1) == test_y).mean(), losses.mean())

  every = steps // EVALUATIONS
  (params, _), curves = jax.lax.scan(
      stretch, (params, optimiser.init(params)),
      every * jnp.arange(EVALUATIONS),
  )
  return params, *curves


def run(name: str, seeds: int, unit: str) -> dict[str, dict[str, np.ndarray]]:
  """Trains every method of a toy with every seed.

  Returns:
    For each method `accuracy` and `loss`, [seeds, EVALUATIONS], and `weights`,
    of the first layer, [seeds, D, F].
  """
  toy = TOYS[name]
  drawn = [toy.draw(seed) for seed in range(seeds)]
  data = [np.stack(parts) for parts in zip(*drawn, strict=True)]
  steps = toy.iterations
  if unit == 'epoch':
    steps *= data[0].shape[1] // toy.batch
  found = {}
  for title, method in toy.methods.items():
    params, accuracies, losses = jax.vmap(
        functools.partial(train, name, method, steps)
    )(data, np.arange(seeds))
    found[title] = {
        'accuracy': np.asarray(accuracies), 'loss': np.asarray(losses),
        'weights': np.asarray(params['params']['layers_0']['kernel']),
    }
  return found


def last(curves: np.ndarray) -> np.ndarray:
  """Returns the mean of the last tenth of each curve, in per cent."""
  return 100 * curves[:, -EVALUATIONS // 10 :].mean(axis=1)


def rows_of(name: str, found: dict) -> list[dict]:
  """Returns a line for each method: how it does, and against what."""
  toy, rows = TOYS[name], []
  for title, curves in found.items():
    ours, gaps = last(curves['accuracy']), []
    for other in (PLAIN, toy.control):
      if other == title:
        gaps.append('')
        continue
      gap = statistics.paired_interval(ours, last(found[other]['accuracy']))
      gaps.append(f'{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]')
    tail = curves['accuracy'][:, EVALUATIONS // 2 :]
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
  x, y, test_x, test_y = TOYS[name].draw(0)
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
          np.arange(1, EVALUATIONS + 1) / EVALUATIONS,
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
  for name, toy in TOYS.items():
    start = time.monotonic()
    found = run(name, arguments.seeds, arguments.unit)
    seconds[name] = time.monotonic() - start
    rows += rows_of(name, found)
    method = list(toy.methods)[1]
    for word, other in (('gain', PLAIN), ('control', toy.control)):
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
