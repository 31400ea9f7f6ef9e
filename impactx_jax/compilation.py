"""The persistent compilation cache of the console programs."""

import os
import pathlib

import jax

CACHE_BYTES = 4 * 2**30  # What was used longest ago goes first.
VARIABLE = 'JAX_COMPILATION_CACHE_DIR'  # JAX's own.


def default_dir() -> str:
  """Returns the user's choice, or a folder in the user's cache directory."""
  if named := os.environ.get(VARIABLE):
    return named
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return str(pathlib.Path(base) / 'impactx_jax' / 'xla')


def use_cache(directory: str) -> None:
  """Keeps compiled programs in a folder, for this and later processes.

  With a bound on its size JAX locks the folder for each reading and writing,
  so that several processes can share it. A folder that the environment names
  is JAX's business, and other programs': it is left as it is.

  Args:
    directory: Made where it is not; '' for no cache, also where the environment
      names one.
  """
  if not directory:
    jax.config.update('jax_enable_compilation_cache', False)
    return
  if directory == os.environ.get(VARIABLE) or not _is_writable(directory):
    return
  jax.config.update('jax_compilation_cache_dir', directory)
  jax.config.update('jax_compilation_cache_max_size', CACHE_BYTES)
  # All that takes longer to compile than to read; JAX's own bound is a second.
  if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.05)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def cache_dir() -> str:
  """Returns the folder in use, '' for none."""
  used = jax.config.jax_enable_compilation_cache
  return (used and jax.config.jax_compilation_cache_dir) or ''


def _is_writable(directory: str) -> bool:
  """A cache that cannot be written to is none, and no error."""
  try:
    os.makedirs(directory, exist_ok=True)
  except OSError:
    return False
  return os.access(directory, os.W_OK)
