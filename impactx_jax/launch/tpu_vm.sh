#!/usr/bin/env bash
# Runs impactx on every host of a Cloud TPU VM or pod slice.
#
#   impactx_jax/launch/tpu_vm.sh NAME ZONE --config=cifar10_lenet5 \
#       --workdir=gs://BUCKET/run --config.data.data_dir=gs://BUCKET/tfds
#
# NAME is a TPU VM that exists in ZONE, with Python 3.11 or newer. The latest
# commit of this checkout is copied to each host (what is not committed is not),
# installed with the [tpu] extra, and started with --distributed, which joins
# the hosts. The workdir must be seen by all of them: a bucket.
set -euo pipefail
usage="usage: $0 NAME ZONE --config=… --workdir=gs://… [--config.FIELD=…]"
case "$*" in *--workdir=gs://*) ;; *) set -- ;; esac
if [ $# -lt 3 ]; then
  echo "$usage" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
root=$(cd "$(dirname "$0")/../.." && pwd)
on_all() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="$1"
}
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git -C "$root" archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$name":impactx_jax.tar.gz \
  --zone="$zone" --worker=all
on_all 'for python in python3.13 python3.12 python3.11 python3; do
    "$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" \
      2>/dev/null && break
    python=
  done
  [ "$python" ] || { echo "This host has no Python 3.11 or newer: install" \
    "python3.11 and python3.11-venv, or choose another image." >&2; exit 2; }
  rm -rf impactx_jax && mkdir impactx_jax &&
  tar -xzf impactx_jax.tar.gz -C impactx_jax && cd impactx_jax &&
  "$python" -m venv .venv && .venv/bin/pip install -q -e ".[tpu]"'
on_all "cd impactx_jax && .venv/bin/impactx --distributed $(printf '%q ' "$@")"
