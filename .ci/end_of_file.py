"""Lists the files, of those named, that do not end with exactly one newline."""

import pathlib
import sys

wrong = []
for name in sys.argv[1:]:
  content = pathlib.Path(name).read_bytes()
  if content and (content[-1:] != b'\n' or content.endswith(b'\n\n')):
    wrong.append(name)
print('\n'.join(wrong))
sys.exit(bool(wrong))
