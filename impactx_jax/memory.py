"""How a process on a CPU gets its memory: once, and not anew at each step."""

import ctypes

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MOST = 2**31 - 1


def keep() -> bool:
  """Has malloc keep what is freed, for the console programs to begin with.

  XLA asks malloc for the memory of a program each time it runs it, and glibc
  returns large blocks to the system when they are freed: each training step
  of a large backbone would then wait for tens of thousands of empty pages.
  One arena for all threads, because only the first can grow beyond 64 MiB: to
  be called before JAX starts any.

  Returns:
    Whether the C library has these settings, as glibc does.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):
    return False
  return all([
      mallopt(_ARENA_MAX, 1), mallopt(_MMAP_THRESHOLD, _MOST),
      mallopt(_TRIM_THRESHOLD, _MOST),
  ])
