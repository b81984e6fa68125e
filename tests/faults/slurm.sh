#!/usr/bin/env bash
# launch/slurm.sbatch on a real Slurm cluster of one node, which this script starts and ends itself.
#   bash tests/faults/slurm.sh [script] [train]      as root; both, if neither is named
# script: what becomes of jobs that are preempted, cancelled or fail, with a stand-in for wsrnn.
# train: two processes train, are preempted, save, are requeued, resume and finish.
# $PYTHON has the package. Exits with 77, and the reason, where it cannot run; with 1, if a check fails.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$(mktemp -d)"
PATH="$folder/bin:$PATH:/usr/sbin:/sbin"
python="$(command -v "${PYTHON:-$here/.venv/bin/python}" || true)"
packages=(slurmctld slurmd slurm-client munge)

skip() { echo "skipped: $*"; exit 77; }
fail() {
  echo "FAILED: $*"
  tail -n 20 "$folder"/*.out "$folder/slurmctld.log"
  exit 1
}

tools() { command -v sbatch slurmctld slurmd munged > /dev/null; }

# Without systemd and cgroups, on its own ports and socket: another cluster here stays what it is.
start() {
  local host
  host="$(hostname -s)"
  mkdir "$folder"/{bin,state,spool}
  chmod 755 "$folder"
  (umask 077 && head -c 1024 /dev/urandom > "$folder/munge.key")
  cat > "$folder/slurm.conf" << EOF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthInfo=socket=$folder/munge.sock
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=normal Nodes=$host Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=$host PriorityTier=2
EOF
  export SLURM_CONF="$folder/slurm.conf"
  munged --force --foreground --key-file="$folder/munge.key" --socket="$folder/munge.sock" \
    --pid-file="$folder/munged.pid" --seed-file="$folder/munged.seed" 2> "$folder/munged.log" &
  until [ -S "$folder/munge.sock" ]; do sleep 0.1; done
  slurmctld -D 2> /dev/null &
  slurmd -D 2> /dev/null &
  until [ "$(sinfo --noheader --partition=normal --format=%T 2> /dev/null)" = idle ]; do sleep 0.2; done
}

stop() {
  scancel --user="$(id -un)" || true
  while [ -n "$(squeue --noheader)" ]; do sleep 0.2; done
  # shellcheck disable=SC2046  # one word for each daemon
  kill $(jobs -p) && wait
  rm -rf "$folder"
}

field() { scontrol show job "$1" | grep -o "\b$2=[^ ]*" | head -n 1 | cut -d= -f2; }

# `await SECONDS WHAT COMMAND`: until the command succeeds.
await() {
  local end=$((SECONDS + $1))
  until eval "$3" 2> /dev/null; do
    [ $SECONDS -lt $end ] || fail "after $1 s there is no $2"
    sleep 0.2
  done
}
is() { [ "$(field "$1" JobState)" = "$2" ]; }
# Slurm lets a requeued job wait for some minutes.
release() { scontrol update jobid="$1" StartTime=now; }
# From a folder without .venv, whose wsrnn would come before the one on the PATH.
submit() { (cd "$folder" && sbatch --parsable "$@"); }
script="$here/launch/slurm.sbatch"

# A job of a higher tier takes both processors.
preempt() {
  local urgent
  urgent="$(submit --partition=urgent --ntasks=2 --output=/dev/null --wrap=true)"
  await 60 "job $1 that waits again" "is $1 PENDING"
  await 60 "urgent job that ran" "is $urgent COMPLETED"
  release "$1"
}

check_script() {
  local job array
  cat > "$folder/bin/wsrnn" << 'EOF'
#!/usr/bin/env bash
echo "life ${SLURM_RESTART_COUNT:-0} process $SLURM_PROCID: $*"
trap 'exit 75' TERM
[ "$1" != fail ] || exit 1
[ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || exit 0
while sleep 0.1; do :; done
EOF
  chmod +x "$folder/bin/wsrnn"
  sbatch --test-only --ntasks=2 "$script" train FILE

  job="$(submit --ntasks=2 "$script" train FILE)"
  await 20 "two processes" "[ \$(grep -c 'life 0' $folder/wsrnn-$job.out) -eq 2 ]"
  preempt "$job"
  await 20 "second life" "is $job COMPLETED"
  [ "$(field "$job" Restarts)" -eq 1 ] || fail "job $job was restarted $(field "$job" Restarts) times"
  echo "preempted: job $job was requeued once and finished"

  printf -- '--variant a --out runs/a\n--variant b --out runs/b\n' > "$folder/lines"
  array="$(submit --array=1-2 "$script" @lines train FILE)"
  await 20 "two tasks" "[ \$(cat $folder/wsrnn-*.out | grep -c 'FILE --variant') -eq 2 ]"
  # The task whose job id is that of the array: a requeue by that id would take both.
  scancel --signal=TERM "${array}_2"
  await 20 "task 2 that waits again" "is ${array}_2 PENDING"
  sleep 1
  is "${array}_1" RUNNING || fail "task 1 is $(field "${array}_1" JobState)"
  echo "sweep: one task was requeued, the other runs"

  scancel "$array"
  await 20 "cancelled task" "is ${array}_1 CANCELLED"
  await 20 "cancelled task" "is ${array}_2 CANCELLED"
  job="$(submit --ntasks=1 "$script" fail)"
  await 20 "failed job" "is $job FAILED"
  [ "$(field "${array}_1" Restarts)$(field "$job" Restarts)" = 00 ] || fail "requeued after all"
  echo "cancelled and failed: neither was requeued"
}

check_train() {
  local job run="$folder/run" steps=800 rows="$folder/run/metrics.jsonl"
  printf '#!/bin/sh\nexec "%s" -m wsrnn "$@"\n' "$python" > "$folder/bin/wsrnn"
  chmod +x "$folder/bin/wsrnn"
  export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" JAX_PLATFORMS=cpu
  job="$(submit --ntasks=2 "$script" train "$here/tests/tiny.py" --out "$run" \
    --steps $steps --save-every 400 --eval-every 400)"
  await 150 "training" "[ -s $rows ]"
  preempt "$job"
  echo "preempted: $(grep -o 'stopped at step [0-9]*' "$folder/wsrnn-$job.out") of $steps"
  await 150 "finished job" "is $job COMPLETED"
  [ "$(field "$job" Restarts)" -eq 1 ] || fail "job $job was restarted $(field "$job" Restarts) times"
  "$python" - "$rows" "$steps" << 'EOF' || fail "metrics.jsonl has holes or repeats"
import json, sys
rows = [json.loads(row) for row in open(sys.argv[1])]
steps = [row["step"] for row in rows if "loss" in row]  # others are validations
sys.exit(steps != list(range(1, int(sys.argv[2]) + 1)))
EOF
  echo "requeued, resumed, finished: each of $steps steps is there once"
}

[ "$(id -u)" -eq 0 ] || skip "a Slurm cluster of its own needs root"
if ! tools; then
  command -v apt-get > /dev/null || skip "Slurm is not installed, and there is no apt-get"
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install \
    --yes --no-install-recommends "${packages[@]}"; } > "$folder/apt.log" 2>&1 || skip "apt-get cannot install ${packages[*]}"
fi
trap stop EXIT
start
[ $# -gt 0 ] || set -- script train
for part in "$@"; do "check_$part"; done
echo "passed in $SECONDS s"
