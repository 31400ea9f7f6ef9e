"""Tests for how errors are worded: of an argument, or of a flag."""

import pathlib
import pickle

import attribution
from attribution.errors import differences
from attribution.errors import InputError
from attribution.errors import unknown_choice
import pytest

_FLAG = '--config.attribution.'


@pytest.mark.parametrize(('given', 'said', 'said_of_a_flag'), [
    (('It is 0.',), 'It is 0.', 'It is 0.'),
    (
        ('It is 0.', 'grid'),
        'It is 0. Change it with grid=VALUE.',
        'It is 0. Change it with --config.attribution.grid=VALUE.',
    ),
    (
        ('It is 0.', 'grid', 'N'),
        'It is 0. Change it with grid=N.',
        'It is 0. Change it with --config.attribution.grid=N.',
    ),
    (
        ('It is 0.', '--method', 'NAME'),
        'It is 0. Change it with --method=NAME.',
        'It is 0. Change it with --method=NAME.',
    ),
])
def test_the_advice_is_of_an_argument_or_of_a_flag(given, said, said_of_a_flag):
  error = InputError(*given)
  assert str(error) == said
  assert error.problem == 'It is 0.'
  flag = error.prefixed(_FLAG)
  assert str(flag) == said_of_a_flag
  assert (flag.problem, flag.value) == (error.problem, error.value)
  assert str(flag.prefixed(_FLAG)) == said_of_a_flag  # Once is enough.


def test_an_error_without_an_argument_is_itself():
  error = InputError('It is 0.')
  assert error.prefixed(_FLAG) is error


def test_it_crosses_a_process_boundary():
  error = pickle.loads(pickle.dumps(InputError('It is 0.', 'grid', 'N')))
  assert str(error) == 'It is 0. Change it with grid=N.'
  assert (error.problem, error.argument) == ('It is 0.', 'grid')


@pytest.mark.parametrize(('argument', 'advice'), [
    ('masker', 'Change it with masker=NAME.'),
    ('--config.model.name', 'Change it with --config.model.name=NAME.'),
])
def test_an_unknown_choice_names_what_is_near(argument, advice):
  error = unknown_choice('masker', 'blurr', ['mean', 'blur'], argument)
  assert str(error) == (
      "Unknown masker 'blurr'. Did you mean 'blur'? Allowed: blur, mean. "
      + advice
  )
  assert error.argument == argument
  far = unknown_choice('masker', 'xyz', ['mean', 'blur'], argument, 'M')
  assert 'Did you mean' not in str(far)
  assert str(far).endswith('=M.')


@pytest.mark.parametrize('given', ['KernelSHAP', 'kernel-shap', 'Kernel Shap'])
def test_capitals_and_dashes_make_no_other_name(given):
  error = unknown_choice('explainer', given, ['kernel_shap', 'rise'], 'x')
  assert "Did you mean 'kernel_shap'?" in str(error)


def test_only_main_speaks_of_flags():
  package = pathlib.Path(attribution.__file__).parent
  for path in package.rglob('*.py'):
    if path != package / 'main.py':
      source = path.read_text().replace(f"'{_FLAG}' + it", '')
      for flag in ('--config', '--stage', '--workdir'):
        assert flag not in source, path


@pytest.mark.parametrize(('found', 'wanted', 'said'), [
    ({'a': 1, 'b': {'c': 2}}, {'a': 1, 'b': {'c': 2}}, ''),
    ({'a': 1}, {'b': 2}, 'a (there: 1; now: None); b (there: None; now: 2)'),
    ({'a': {'b': 1}}, {'a': {'b': 1, 'c': 3}}, 'a.c (there: None; now: 3)'),
    ({'a': {'b': 1}}, {'a': 5}, "a (there: {'b': 1}; now: 5)"),
])
def test_differences_are_named_down_to_the_entry(found, wanted, said):
  assert differences(found, wanted) == said
