#!/usr/bin/env bash
# The suite on every supported Python, each in an empty environment:
#
#   tests/matrix.sh [ARGUMENT OF PYTEST …]
#
# 3.11 with the oldest jax that pyproject.toml allows, 3.12 and 3.13 with the
# newest. An interpreter that is not there is skipped; with pyenv, name those to
# use first: PYENV_VERSION=3.11.7:3.12.1:3.13.0 tests/matrix.sh. Exits with the
# worst exit status of any of them, with 1 where there was none to run on.
set -uo pipefail
cd "$(dirname "$0")/.."
oldest=$(sed -n 's/^ *"jax>=\([0-9.]*\),.*/\1/p' pyproject.toml)
: "${oldest:?pyproject.toml has no lower bound of jax}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
worst=0
ran=0
report=()

run_on() {
  local version=$1 environment="$folder/$1"
  shift
  "python$version" -m venv "$environment" || return
  local python="$environment/bin/python"
  if [ "$version" = 3.11 ]; then
    "$python" -m pip install -q '.[test]' "jax==$oldest" "jaxlib==$oldest"
  else
    "$python" -m pip install -q '.[test]'
  fi || return
  "$python" -c 'import jax; print("jax", jax.__version__)'
  "$python" -m pytest "$@"
}

for version in 3.11 3.12 3.13; do
  echo "== Python $version"
  if ! "python$version" --version >/dev/null 2>&1; then
    echo "There is no python$version here: skipped."
    report+=("$version: skipped, no such interpreter")
    continue
  fi
  run_on "$version" "$@"
  status=$?
  ran=$((ran + 1))
  report+=("$version: exit status $status")
  if [ "$status" -gt "$worst" ]; then worst=$status; fi
  rm -rf "${folder:?}/$version"
done
echo "== Summary"
printf '%s\n' "${report[@]}"
[ "$ran" -gt 0 ] || worst=1
exit "$worst"
