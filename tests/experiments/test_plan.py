"""What is compared: seeds and methods, as the flags name them."""

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax.commands import table as table_program
from impactx_jax.experiments import over_seeds
import pytest


@pytest.mark.parametrize(('text', 'seeds'), [
    ('5', (0, 1, 2, 3, 4)),
    ('1', (0,)),
    ('3,', (3,)),
    ('2-2', (2,)),
    ('3,5-9', (3, 5, 6, 7, 8, 9)),
    (' 7 , 1 ', (7, 1)),
    ('0-2,10', (0, 1, 2, 10)),
])
def test_seeds_are_a_number_or_a_list(text, seeds):
  assert over_seeds.Plan.parse(text, []).seeds == seeds


@pytest.mark.parametrize('text', [
    '', ' ', '0', ',', 'many', '1.5', '1,1', '1-3,2', '1,x', '-1', '1-', '-',
    '5-3', '1--3', '1,9-5', '1 2',
])
def test_seeds_that_cannot_be_read_are_refused(text):
  with pytest.raises(InputError, match='--seeds=') as error:
    over_seeds.Plan.parse(text, ['impactx'])
  assert f'--seeds={text} ' in str(error.value)


def test_methods_are_run_with_all_seeds_or_the_first_ones():
  plan = over_seeds.Plan.parse('5', ['impactx', ' abn:3', 'wae:9'])
  assert plan.names == {'baseline': 5, 'impactx': 5, 'abn': 3, 'wae': 5}


def test_a_is_always_among_them_and_first():
  for names in ([], ['impactx', 'baseline'], ['abn', 'baseline:1']):
    assert next(iter(over_seeds.Plan.parse('2', names).names)) == 'baseline'


def test_runs_go_seed_by_seed():
  plan = over_seeds.Plan.parse('4,7', ['impactx', 'abn:1'])
  assert plan.runs() == [
      (4, 'baseline'), (4, 'impactx'), (4, 'abn'), (7, 'baseline'),
      (7, 'impactx'),
  ]


@pytest.mark.parametrize(('item', 'nearest'), [
    ('impactz', 'impactx'), ('impactx_lamda0', methods.CONTROL), ('anb', 'abn'),
    ('Baseline', 'baseline'),
])
def test_an_unknown_method_is_refused_with_the_nearest(item, nearest):
  with pytest.raises(InputError) as error:
    over_seeds.Plan.parse('5', ['impactx', item])
  for part in (repr(item), f'Did you mean {nearest!r}?', 'wae', '--methods='):
    assert part in str(error.value)


@pytest.mark.parametrize(
    'item', ['abn:', 'abn:0', 'abn:-1', 'abn:x', 'abn:1.5', 'abn::3', 'abn:1:2']
)
def test_a_method_without_a_number_of_seeds_is_refused(item):
  with pytest.raises(InputError, match=r'--methods=abn:N') as error:
    over_seeds.Plan.parse('5', [item])
  assert repr(item) in str(error.value)


@pytest.mark.parametrize('item', ['', ' ', ':3'])
def test_a_method_without_a_name_is_refused(item):
  with pytest.raises(InputError, match='--methods='):
    over_seeds.Plan.parse('5', [item])


def test_files_of_ones_own_are_methods():
  plan = over_seeds.Plan.parse('5', ['a/mine.py:2', 'b/other.py', 'abn'])
  assert plan.names == {
      'baseline': 5, 'a/mine.py': 2, 'b/other.py': 5, 'abn': 5
  }


@pytest.mark.parametrize('names', [
    ['a/mine.py', 'b/mine.py'], ['abn', 'a/abn.py'], ['a/baseline.py'],
])
def test_files_that_would_be_called_alike_are_refused(names):
  with pytest.raises(InputError) as error:
    over_seeds.Plan.parse('5', names)
  for part in ('--methods', names[-1], 'Rename'):
    assert part in str(error.value)


def test_the_flags_defaults_are_a_plan():
  defaults = (table_program.SEEDS.default, table_program.METHODS.default)
  plan = over_seeds.Plan.parse(*defaults)
  assert len(plan.seeds) == 5 and len(plan.names) == 4
