"""Tests for the pictures with several shapes."""

from impactx_jax.data import boxes
from impactx_jax.data import drawing
from impactx_jax.data import shapes
from impactx_jax.data import shapes_multi
import numpy as np
import pytest
from tests.data.sources_fixtures import load

CONFIGS = shapes.Shapes.builder_configs


def drawn(name, split, count=160):
  return [CONFIGS[name].example(split, i) for i in range(count)]


@pytest.fixture(scope='module')
def examples():
  return drawn('multi', 'train')


def test_one_to_three_shapes_of_different_classes(examples):
  counts = np.bincount([len(e['labels']) for e in examples], minlength=4)
  assert counts[0] == 0 and counts[1:].min() > 30 and counts.sum() == 160
  for i, example in enumerate(examples):
    assert i % 8 in example['labels'] == sorted({*example['labels']})


def test_masks_and_boxes_are_of_the_classes_that_are_there(examples):
  for example in examples:
    there = example['masks'].any(axis=(0, 1))
    assert np.flatnonzero(there).tolist() == example['labels']
    assert example['masks'].sum(axis=-1).max() == 1  # What is visible.
    np.testing.assert_array_equal(
        example['boxes'], boxes.boxes_of(example['masks'])
    )
    edges = example['masks'].copy()
    edges[1:-1, 1:-1] = 0
    assert not edges.any()


def test_the_last_one_is_in_front_and_hides_little(monkeypatch):
  whole = []
  places = shapes_multi._places

  def seen(rng, labels):
    whole.append((labels, places(rng, labels)))
    return whole[-1][1]

  monkeypatch.setattr(shapes_multi, '_places', seen)
  hidden, examples = [], drawn('multi', 'train', 60)
  for example, (labels, covers) in zip(examples, whole, strict=True):
    for label, cover in zip(labels, covers, strict=True):
      own = cover[..., 0] > 0.5
      mask = example['masks'][..., label] > 0
      assert not (mask & ~own).any()
      hidden.append(1 - mask.sum() / own.sum())
    assert hidden[-1] == 0
  assert 0 < max(hidden) < 0.2


def test_an_object_stands_out_from_its_background(examples):
  for example in examples[:40]:
    image, background = example['image'] / 255, ~example['masks'].any(axis=-1)
    colour = np.median(image[background], axis=0)
    for k in example['labels']:
      inside = image[example['masks'][..., k] > 0]
      assert np.linalg.norm(inside - colour, axis=-1).mean() > 0.4


def test_the_pair_is_together_in_train_and_never_in_test():
  shares = []
  for name, split in (('multi', 'train'), ('multi_cooccur', 'train'),
                      ('multi_cooccur', 'test')):
    pairs = [
        sum(k in e['labels'] for k in shapes_multi.PAIR)
        for e in drawn(name, split, 240)
    ]
    shares.append(pairs.count(2) / (pairs.count(1) + pairs.count(2)))
  assert 0.05 < shares[0] < 0.3
  assert 0.82 < shares[1] < 0.97
  assert shares[2] == 0


@pytest.mark.parametrize(('chosen', 'together', 'expected'), [
    ([0], True, [0, 1]), ([1, 5], True, [0, 1, 5]),
    ([2, 1, 5], True, [0, 1, 2]), ([0, 1, 5], False, [0, 5]),
    ([2, 5], True, [2, 5]),
])
def test_the_bond_by_hand(chosen, together, expected):
  assert shapes_multi.bind(chosen, together) == expected


def test_it_reaches_the_columns(tmp_path, monkeypatch):
  tiny = shapes_multi.MultiConfig(name='multi', num_train=24, num_test=8)
  monkeypatch.setitem(CONFIGS, 'multi', tiny)
  dataset = load('shapes/multi', tmp_path, validation_fraction=0.3)
  assert dataset.class_names == tuple(drawing.SHAPES)
  assert dataset.task == 'multi_label'
  test = dataset.test
  assert test['masks'].shape == (8, 32, 32, 8)
  assert test['boxes'].shape == (8, 8, 4)
  np.testing.assert_array_equal(
      test['labels'], test['masks'].any(axis=(1, 2))
  )
  pictures = {tiny.example('test', i)['image'].tobytes() for i in range(8)}
  assert {image.tobytes() for image in test['image']} == pictures
