#!/usr/bin/env bash
# Install wsrnn into .venv, if it is not there yet, and run it on this machine.
#   bash launch/local.sh train [ARGS]      any wsrnn subcommand
#   bash launch/local.sh test  [ARGS]      the tests, by pytest
#   bash launch/local.sh --processes N [--devices K] train [ARGS]
#                                          N processes that train one run, each with K simulated devices
# $PYTHON chooses the interpreter (>= 3.11), $WSRNN_EXTRAS the extras (such as cuda).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$here/.venv"

fail() { echo "local.sh: $*" >&2; exit 2; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python >= 3.11 found${PYTHON:+ ($PYTHON is none)}: install one, or name it in \$PYTHON"
}

# The stamp holds what the environment was made from: it is made again when that changes.
install() {
  local extras="$1" stamp python
  stamp="$extras $here $(cksum < "$here/pyproject.toml")"
  [ "$(cat "$venv/.stamp" 2>/dev/null)" = "$stamp" ] && return
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python="$(find_python)" || exit 2
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "cannot make $venv (on Debian: apt install python3-venv)"
  fi
  echo "local.sh: installing into $venv" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$here[$extras]" >&2 ||
    fail "the installation failed: see above"
  echo "$stamp" > "$venv/.stamp"
}

# As on N machines: process 0 is the coordinator, at a free port. Signals go to all of them.
run_processes() {
  local i port status code=0 signalled=""
  local -a pids=()
  port="$("$venv/bin/python" -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')"
  export WSRNN_COORDINATOR="localhost:$port" WSRNN_PROCESSES="$processes"
  trap 'signalled=1; kill -TERM "${pids[@]}" 2>/dev/null || true' TERM
  trap 'signalled=1; kill -INT "${pids[@]}" 2>/dev/null || true' INT
  set -m  # a group for each, so that a terminal's Ctrl-C comes once, from here
  for ((i = 0; i < processes; i++)); do
    WSRNN_PROCESS="$i" "$venv/bin/python" -m wsrnn "$@" &
    pids+=("$!")
  done
  for i in "${pids[@]}"; do
    while true; do
      signalled=""
      wait "$i" && status=0 || status=$?
      [ -n "$signalled" ] && [ "$status" -gt 128 ] || break  # a signal interrupts wait
    done
    [ "$code" != 0 ] || code="$status"
  done
  exit "$code"
}

processes=1
while [[ "${1:-}" == --* ]]; do
  [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || fail "$1 takes a number above 0"
  case "$1" in
    --processes) processes="$2" ;;
    --devices) export JAX_NUM_CPU_DEVICES="$2" ;;
    *) fail "unknown option $1: --processes N and --devices K stand before the command" ;;
  esac
  shift 2
done
[ $# -gt 0 ] || fail "say what to run: test, or a command of wsrnn, such as train (--help lists them)"
command="$1"
shift
# What is there already stays: a user's train must not undo the tester's extras.
extras="$(cut -d' ' -f1 "$venv/.stamp" 2>/dev/null || true)"
[ "$command" = test ] && [[ ",$extras," != *,dev,* ]] && extras="${extras:+$extras,}dev"
[ -n "${WSRNN_EXTRAS:-}" ] && [[ ",$extras," != *",$WSRNN_EXTRAS,"* ]] && extras="${extras:+$extras,}$WSRNN_EXTRAS"
install "${extras:-cpu}"
if [ "$command" = test ]; then
  cd "$here"
  # Compiling takes most of the time and one core: -n 0 runs all in one process, as debuggers need.
  exec "$venv/bin/python" -m pytest -n auto --maxprocesses 4 --dist worksteal "$@"
fi
[ "$processes" = 1 ] || run_processes "$command" "$@"
exec "$venv/bin/python" -m wsrnn "$command" "$@"
