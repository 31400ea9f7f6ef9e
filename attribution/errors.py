"""The error a user can mend, and how it is worded."""

from collections.abc import Iterable
import difflib
import math
import numbers
from typing import Any


class InputError(ValueError):
  """Something the user gave is wrong.

  The message is one paragraph: what was given, what is allowed, and what to
  change. A command-line program prints it, says the flag instead of the
  argument (`prefixed`), and exits with 2.

  Attributes:
    problem: What is wrong, in sentences.
    argument: The argument that mends it, or ''.
    value: What stands for its value in the advice, such as 'N' or 'NAME'.
  """

  def __init__(self, problem: str, argument: str = '', value: str = 'VALUE'):
    """Words the message; without an argument it is the problem alone."""
    self.problem, self.argument, self.value = problem, argument, value
    advice = f' Change it with {argument}={value}.' if argument else ''
    super().__init__(problem + advice)

  def prefixed(self, prefix: str) -> 'InputError':
    """Returns the same said of a flag, such as '--config.attribution.' + it.

    Itself, where there is no argument or where it is a flag already.
    """
    if not self.argument or self.argument.startswith('--'):
      return self
    return InputError(self.problem, prefix + self.argument, self.value)


def differences(
    found: dict[str, Any], wanted: dict[str, Any], prefix: str = ''
) -> str:
  """Names the entries in which two dicts differ, '' for none.

  Of a dict inside both, the entries of that: 'explainer.grid (there: 8; …'.
  """
  named = []
  for name in sorted(found.keys() | wanted.keys()):
    there, now = found.get(name), wanted.get(name)
    if isinstance(there, dict) and isinstance(now, dict):
      named.append(differences(there, now, f'{prefix}{name}.'))
    elif there != now:
      named.append(f'{prefix}{name} (there: {there!r}; now: {now!r})')
  return '; '.join(filter(None, named))


def unknown_choice(
    what: str,
    given: object,
    allowed: Iterable[str],
    argument: str,
    value: str = 'NAME',
) -> InputError:
  """Returns the error for a name that is not in a registry.

  Args:
    what: What the name stands for, such as "masker".
    given: The name that was given.
    allowed: The names that exist.
    argument: The argument or the flag that changes it, such as "masker".
    value: What stands for its value in the advice.
  """
  allowed = sorted(allowed)
  # Capitals, dashes and spaces do not make another name: 'Kernel SHAP'.
  plain = {name.replace('_', '').lower(): name for name in allowed}
  asked = ''.join(c for c in str(given).lower() if c not in '_- ')
  near = difflib.get_close_matches(asked, plain, n=1, cutoff=0.5)
  hint = f' Did you mean {plain[near[0]]!r}?' if near else ''
  names = ', '.join(name or "''" for name in allowed)
  return InputError(
      f'Unknown {what} {given!r}.{hint} Allowed: {names}.',
      argument,
      value,
  )


def check_number(name: str, value: float, least: float = 0.0) -> None:
  """Raises InputError for what is no finite number, or too small a one."""
  real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not real or not least <= value < math.inf:
    raise InputError(
        f'{name} is {value!r}; it must be a number, {least:g} or more.', name,
        'X',
    )


def check_at_least(name: str, value: int, least: int) -> None:
  """Raises InputError for what is no whole number, or too small a one."""
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise InputError(
        f'{name} is {value!r}; it must be a whole number.', name, 'N'
    )
  if value < least:
    raise InputError(
        f'{name} is {value}; it must be {least} or more.', name, 'N'
    )
