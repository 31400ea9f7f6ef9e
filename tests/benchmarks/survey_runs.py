"""The survey's three toys: their data, networks and trainings.

The engine of `survey_toys`, which says what they are.
"""

from collections.abc import Callable
import functools
import itertools
from typing import NamedTuple

from flax import linen as nn
from impactx_jax import relevance
import jax
import jax.numpy as jnp
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
