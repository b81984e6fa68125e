#!/usr/bin/env bash
# One run on all workers of a Cloud TPU slice, to its end: create the slice or use it, copy this
# clone, install, run; after a preemption again, and the run continues from the step it saved.
#   bash launch/tpu_vm.sh NAME ZONE TYPE train FILE --out DIR [ARGS]
# DIR: a folder that all workers share. $TPU_SETUP: a command for each worker before the run, such as
# the mount of that folder. $TPU_CREATE: more arguments of `create`, such as "--spot --network=N".
# $TPU_VERSION: the image, if not the one below. The slice is left running: the last line deletes it.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

say() { echo "tpu_vm.sh: $*" >&2; }

if [ $# -lt 4 ]; then
  say "usage: bash launch/tpu_vm.sh NAME ZONE TYPE train FILE --out DIR [ARGS]"
  exit 2
fi
name="$1" zone="$2" type="$3"
shift 3
case "$type" in
  v5litepod-*) version=v2-alpha-tpuv5-lite ;;
  v5p-*) version=v2-alpha-tpuv5 ;;
  v6e-*) version=v2-alpha-tpuv6e ;;
  *) version=tpu-ubuntu2204-base ;;
esac
read -ra create <<< "${TPU_CREATE:-}"

tpu() { gcloud compute tpus tpu-vm "$1" "$name" --zone="$zone" "${@:2}"; }
state() { tpu describe --format='value(state)' 2> /dev/null || true; }
on_all() { tpu ssh --worker=all --command="$1"; }
make() {
  say "creating $name: $type in $zone"
  tpu create --accelerator-type="$type" --version="${TPU_VERSION:-$version}" ${create[@]+"${create[@]}"}
}

# Returns when the slice is ready. A first creation that fails is a mistake in its arguments; one
# that fails after a preemption waits for capacity.
provide() {
  local now
  while now="$(state)" && [ "$now" != READY ]; do
    case "$now" in
      "") make || { [ "$tries" -gt 0 ] && sleep 60; } || return ;;
      PREEMPTED | TERMINATED) tpu delete --quiet ;;
      STOPPED) tpu start ;;
      *) sleep 10 ;;
    esac
  done
}

# The images' own Python is older than 3.11. A lost connection leaves processes behind: they go first.
# shellcheck disable=SC2016  # the workers expand it
install='set -e; cd wsrnn; tar xzf ../wsrnn.tar.gz; python3 -m pip install --user --quiet uv
export PATH="$HOME/.local/bin:$PATH"; uv venv --quiet --allow-existing --python 3.12
uv pip install --quiet ".[tpu]"'
stop='pkill -TERM -x wsrnn; while pgrep -x wsrnn > /dev/null; do sleep 1; done;'
printf -v command ' %q' "$@"

run() {
  on_all "mkdir -p wsrnn; $stop ${TPU_SETUP:-true}" &&
    gcloud compute tpus tpu-vm scp "$archive" "$name:wsrnn.tar.gz" --zone="$zone" --worker=all &&
    on_all "$install" &&
    on_all "cd wsrnn && exec .venv/bin/wsrnn$command"
}

archive="$(mktemp -d)/wsrnn.tar.gz"
trap 'rm -rf "$(dirname "$archive")"' EXIT
trap 'say "stopping the run on all workers"; on_all "$stop" || true; exit 130' INT TERM
tar czf "$archive" -C "$here" --exclude=.git --exclude=.venv --exclude=runs --exclude='.*_cache' .

tries=0 code=75
while [ "$code" -ne 0 ]; do
  provide
  code=0
  run || code=$?
  tries=$((tries + 1))
  # 75: preempted after a save. A slice that is gone took the connection with it.
  if [ "$code" -ne 0 ] && [ "$code" -ne 75 ] && [ "$(state)" = READY ]; then
    say "ended with $code; when its cause is removed, the same command continues the run"
    break
  fi
done
say "to delete the slice: gcloud compute tpus tpu-vm delete $name --zone=$zone"
exit "$code"
