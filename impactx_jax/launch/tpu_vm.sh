#!/usr/bin/env bash
# Runs impactx on every host of a Cloud TPU VM or pod slice.
#
#   impactx_jax/launch/tpu_vm.sh NAME ZONE --config=cifar10_lenet5 \
#       --workdir=gs://BUCKET/run --config.data.data_dir=gs://BUCKET/tfds
#
# NAME is a TPU VM that exists in ZONE. The checkout is copied to each host,
# installed with the [tpu] extra, and started with --distributed, which joins
# the hosts. The workdir must be seen by all of them: a bucket.
set -euo pipefail
if [ $# -lt 3 ]; then
  echo "usage: $0 NAME ZONE --config=… --workdir=gs://… [--config.FIELD=…]" >&2
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
on_all 'rm -rf impactx_jax && mkdir impactx_jax &&
  tar -xzf impactx_jax.tar.gz -C impactx_jax && cd impactx_jax &&
  python3 -m venv .venv && .venv/bin/pip install -q -e ".[tpu]"'
on_all "cd impactx_jax && .venv/bin/impactx --distributed $(printf '%q ' "$@")"
