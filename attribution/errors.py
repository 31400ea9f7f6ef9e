"""The error a user can mend, and how it is worded."""

from collections.abc import Iterable
import difflib


class InputError(ValueError):
  """Something the user gave is wrong: `main` prints it and exits with 2.

  The message is one paragraph that says what was given, what is allowed and
  what to change.
  """


def unknown_choice(
    what: str, given: object, allowed: Iterable[str], flag: str
) -> InputError:
  """Returns the error for a name that is not in a registry.

  Args:
    what: What the name stands for, such as "masker".
    given: The name that was given.
    allowed: The names that exist.
    flag: The flag that changes it, such as "--config.attribution.masker".
  """
  allowed = sorted(allowed)
  near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  return InputError(
      f'Unknown {what} {given!r}.{hint} Allowed: {", ".join(allowed)}. '
      f'Change it with {flag}=NAME.'
  )
