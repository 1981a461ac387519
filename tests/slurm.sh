#!/usr/bin/env bash
# The grid of pipelines/Snakefile over a real Slurm, on this machine alone: slurm.sh BINARIES, as `make slurm-check` calls it.
#
# In a folder of its own below ${TMPDIR:-/tmp}: munge, slurmctld and two slurmd, all on loopback, with nothing of the machine's own Slurm,
# if it has one. Two targets, two defences, two surrogates and two seeds of the demo, with few epochs. A stage is killed (SIGKILL: as the
# kernel does where memory runs out), another's job is cancelled (SIGTERM: as at the end of its time), and both must be run again, the
# cancelled one from where it was. What is there in the end must be `make`'s to the byte. A node has one core, and one GPU that is none (/dev/null), so that jobs that ask for a GPU
# are put where one is; they compute on the CPU.
#
# Needs no systemd, and confines no job by cgroups. The folder is removed at the end, unless something failed.
set -euo pipefail

root=$(realpath "$(dirname "$0")/..")

refuse() {
  echo "error: $*" >&2
  exit 2
}

[ $# -eq 1 ] || refuse "expected slurm.sh BINARIES, the folder of gro-train and the others"
binaries=$(realpath "$1")

PATH=$PATH:/usr/sbin:/sbin
missing=
for program in munged slurmctld slurmd sbatch srun squeue scancel scontrol; do
  command -v "$program" > /dev/null || missing="$missing $program"
done
[ -z "$missing" ] || refuse "there is no$missing; on Debian: apt-get install --no-install-recommends munge slurmctld slurmd slurm-client"
python=$(dirname "$(command -v snakemake || echo none)")/python
"$python" -c 'import snakemake_executor_plugin_slurm' 2> /dev/null ||
  refuse "there is no Snakemake with its executor for Slurm; make slurm-check installs them below target/, or: pip install --requirement tests/slurm.txt"
for program in gro gro-preprocess gro-train gro-defend gro-attack gro-evaluate; do
  [ -x "$binaries/$program" ] || refuse "there is no $binaries/$program; make build makes it"
done

home=$(mktemp -d "${TMPDIR:-/tmp}/gro-slurm-XXXXXX")
# munge wants its socket where everybody may look, and no socket's path may be long.
chmod 755 "$home"
export SLURM_CONF=$home/etc/slurm.conf PATH=$binaries:$PATH
# Started from within a job of another Slurm, or with its settings, ours would be another.
for name in $(compgen -e | grep -E '^(SLURM|SLURMD|SBATCH|SRUN|SQUEUE|SCANCEL|SINFO)_' | grep -v '^SLURM_CONF$'); do
  unset "$name"
done

# Ends what this script started, which is known by its process ids.
end() {
  local status=$? pids
  trap - EXIT
  # Asked twice, it ends all the same what it started.
  trap '' INT TERM
  [ -z "${snakemake:-}" ] || kill -9 "$snakemake" 2> /dev/null || true
  if [ -f "$home/slurmctld.pid" ] && timeout 10 scancel --user="$(id -un)" 2> /dev/null; then
    # A job whose node goes first would stay behind.
    for _ in $(seq 40); do
      [ -n "$(timeout 10 squeue --noheader 2> /dev/null)" ] || break
      sleep 0.5
    done
  fi
  for file in "$home"/slurmd-*.pid "$home/slurmctld.pid" "$home/munge/pid"; do
    [ -f "$file" ] || continue
    pids=$(cat "$file")
    kill "$pids" 2> /dev/null || true
    timeout 15 tail --pid="$pids" -f /dev/null || kill -9 "$pids" 2> /dev/null || true
  done
  if [ "$status" -eq 0 ]; then
    rm -rf "$home"
  else
    echo "failed, with status $status; logs and results are in $home" >&2
  fi
  exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- The cluster.
read -r controller first second < <("$python" -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in sockets))')
host=$(hostname)
user=$(id -un)
mkdir "$home/munge" "$home/etc" "$home/state"
(umask 077 && head -c 128 /dev/urandom > "$home/munge/key")
munged --socket="$home/munge/socket" --key-file="$home/munge/key" --pid-file="$home/munge/pid" \
  --log-file="$home/munge/log" --seed-file="$home/munge/seed"
cat > "$SLURM_CONF" << END
ClusterName=gro
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$home/munge/socket
# What a container allows.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
# A line for each job that ended, for us to read.
JobCompType=jobcomp/filetxt
JobCompLoc=$home/jobs
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool-%n
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd-%n.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd-%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# A node has what is written here, whatever the machine has.
SlurmdParameters=config_overrides
MailProg=/bin/true
# Seconds that a job has to end when it is asked to.
KillWait=10
GresTypes=gpu
NodeName=one NodeHostname=$host NodeAddr=127.0.0.1 Port=$first CPUs=1 RealMemory=2000 Gres=gpu:1
NodeName=two NodeHostname=$host NodeAddr=127.0.0.1 Port=$second CPUs=1 RealMemory=2000 Gres=gpu:1
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=60
END
echo 'Name=gpu File=/dev/null' > "$home/etc/gres.conf"
# The executor's `srun` starts without any SLURM_ variable, and so would look for the machine's own cluster.
mkdir "$home/bin"
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$home/bin/srun"
chmod +x "$home/bin/srun"
PATH=$home/bin:$PATH
slurmctld
slurmd -N one
slurmd -N two
for _ in $(seq 100); do
  [ "$(timeout 10 sinfo --noheader --Node --states=idle --format=%N 2> /dev/null | sort -u | xargs)" != 'one two' ] || break
  sleep 0.1
done
if [ "$(timeout 10 sinfo --noheader --Node --states=idle --format=%N | sort -u | xargs)" != 'one two' ]; then
  tail -n 20 "$home"/slurm*.log >&2
  echo 'error: the nodes did not come up' >&2
  exit 1
fi
echo "Slurm $(slurmctld -V | cut -d ' ' -f 2) is up with two nodes"

# --- What make makes.
FLAGS='--set train.epochs=40 --set distill.epochs=5 --set generate.sequences=60'
FLAGS="$FLAGS --set defend.gro.epochs=2 --set defend.gro.student_warmup_epochs=2"
for name in make slurm; do
  mkdir "$home/$name"
  cp -r "$root/Makefile" "$root/pipelines" "$home/$name/"
done
begun=$SECONDS
env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -C "$home/make" grid-demo CARGO=true BIN="$binaries" ARCHITECTURES='bert sas' \
  DEFENCES='none gro' FLAGS="$FLAGS --set seeds=[1,2]" > "$home/make.log" 2>&1 || { tail -n 20 "$home/make.log" >&2; exit 1; }
echo "make has filled the grid in $((SECONDS - begun)) s"

# --- What Snakemake makes over Slurm, though two of its jobs do not end.

# await STAGE WORDS: the process id of a stage of ours whose command line ends in these words.
await() {
  # As long as the script itself is there.
  while kill -0 $$ 2> /dev/null; do
    for pid in $(pgrep -x "$1"); do
      if [ "$(readlink "/proc/$pid/cwd")" = "$home/slurm" ] && tr '\0' ' ' < "/proc/$pid/cmdline" | grep -q -- "$2 \$"; then
        echo "$pid"
        return
      fi
    done 2> /dev/null
    sleep 0.2
  done
}

# job PID: the job of Slurm's that a process belongs to.
job() {
  tr '\0' '\n' < "/proc/$1/environ" | sed -n 's/^SLURM_JOB_ID=//p'
}

kill_one() {
  local pid
  pid=$(await gro-train '--out out/demo-bert/seed-2/target')
  job "$pid" > "$home/killed"
  kill -9 "$pid"
}

cancel_one() {
  local pid
  pid=$(await gro-train '--out out/demo-bert/seed-1/target')
  job "$pid" > "$home/cancelled"
  # It shall have something to save.
  sleep 1
  scancel "$(cat "$home/cancelled")"
}
kill_one &
cancel_one &

begun=$SECONDS
cd "$home/slurm"
# In the background, for a shell heeds no signal while it waits for a command in front.
snakemake -s pipelines/Snakefile --executor slurm --jobs 50 --default-resources mem_mb=1000 runtime=20 --retries 1 \
  --slurm-status-command squeue --slurm-init-seconds-before-status-checks 1 --slurm-no-account --slurm-keep-successful-logs \
  --config 'datasets=[demo]' 'targets=[bert,sas]' 'defences=[none,gro]' 'surrogates=[bert,sas]' 'seeds=[1,2]' threads=1 gpus=1 resume=true \
  "flags=$FLAGS" > "$home/snakemake.log" 2>&1 &
snakemake=$!
wait "$snakemake" || { tail -n 40 "$home/snakemake.log" >&2; exit 1; }
snakemake=
took=$((SECONDS - begun))

# --- What came of it.

# ended STATE: how many jobs ended so.
ended() {
  grep -c "JobState=$1 " "$home/jobs" || true
}

# expect NAME STATE: the job of ours that was so ended as such.
expect() {
  [ -s "$home/$1" ] || { echo "error: no job was $1; none was seen at work" >&2; exit 1; }
  grep -q "^JobId=$(cat "$home/$1") .*JobState=$2 " "$home/jobs" || { echo "error: the job that was $1 did not end as $2" >&2; exit 1; }
}
expect killed FAILED
expect cancelled CANCELLED
grep -rqs 'resuming after' .snakemake/slurm_logs/rule_train/*bert*seed-1* || { echo 'error: the cancelled job was begun anew' >&2; exit 1; }
nodes=$(sed -n 's/.* NodeList=\([^ ]*\) .*/\1/p' "$home/jobs" | sort -u | xargs)
[ "$nodes" = 'one two' ] || { echo "error: jobs ran on $nodes alone" >&2; exit 1; }
echo "Snakemake has filled it over Slurm in $took s: $(ended COMPLETED) jobs completed, $(ended FAILED) killed, $(ended CANCELLED) cancelled"
for folder in data out; do
  diff -rq --exclude=run.log --exclude=speed.csv --exclude='events.*' "$home/make/$folder" "$home/slurm/$folder" >&2 ||
    { echo "error: $folder/ is not what make makes" >&2; exit 1; }
done
echo "every byte is make's: $(find "$home/slurm/data" "$home/slurm/out" -type f | wc -l) files"
