"""Memory that is freed and asked for again is there already."""

import subprocess
import sys

import pytest

CODE = """
import resource
from impactx_jax import memory

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept, found = memory.keep(), []
for size in 3 * [2**26]:
  before = faults()
  b'x' * size
  found.append(faults() - before)
print(int(kept), *found)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='for glibc')
def test_freed_memory_is_kept():
  done = subprocess.run(
      [sys.executable, '-c', CODE], capture_output=True, text=True, check=True
  )
  kept, first, *later = map(int, done.stdout.split())
  if kept:
    assert first > 1000 > 10 * max(later)
