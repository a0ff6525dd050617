#!/usr/bin/env bash
# The Snakefile on a real SLURM: one node on loopback, from Debian's packages, with one pretended GPU.
# Run as root on Debian or Ubuntu; CI doesn't. Everything it starts and makes is gone at its end.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
conf=/etc/slurm/slurm.conf  # where jobs look, too
[ ! -e $conf ] || { echo "$conf exists: this machine has a SLURM of its own"; exit 1; }

stop() {
  for name in slurmd slurmctld munged; do
    [ -f "$work/$name.pid" ] && kill "$(cat "$work/$name.pid")" 2>/dev/null || true
  done
  sleep 1
  rm -rf "$work" $conf /etc/slurm/gres.conf
}
trap stop EXIT
fail() { echo "FAILED: $*"; tail -n 20 "$work"/*.log; tail -n 40 "$work"/checkout/figures/.snakemake/slurm_logs/*/*.log || true; exit 1; }

command -v slurmctld munged >/dev/null || { apt-get update -qq; apt-get install -y -qq slurm-wlm munge >/dev/null; }

echo "== SLURM on loopback"
node=$(hostname -s)
head -c 1024 /dev/urandom > "$work/munge.key"
chmod 700 "$work" && chmod 400 "$work/munge.key"
mkdir -p /etc/slurm
cat > $conf <<CONF
ClusterName=oneNode
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=36817
SlurmdPort=36818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobCompType=jobcomp/filetxt
JobCompLoc=$work/finished.txt
MinJobAge=3600
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=16 RealMemory=128000 Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
echo "NodeName=$node Name=gpu File=/dev/null" > /etc/slurm/gres.conf
mkdir "$work/state" "$work/spool"
munged --force --key-file "$work/munge.key" --socket "$work/munge.socket" --pid-file "$work/munged.pid" \
  --log-file "$work/munged.log" --seed-file "$work/munge.seed"
slurmctld
slurmd
for _ in $(seq 30); do sinfo -h -o %t 2>/dev/null | grep -q idle && break; sleep 1; done
sinfo -o "%P %D %t %c %m %G" || fail "no SLURM"
sinfo -h -o %t | grep -q idle || fail "the node isn't idle"

echo "== the plugin, in an environment of its own over .venv"
python=$repo/.venv/bin/python
"$python" -m venv "$work/venv"
"$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/under.pth"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$(sed -nE 's/^slurm = \["(.*)"\]/\1/p' "$repo/pyproject.toml")" 2>&1 | grep -v WARNING || true

echo "== two tiny papers"
cd "$repo"
"$python" - "$work/checkout" <<'PY'
import sys
from pathlib import Path
from tests.checkout import CLAIM, FIGURE, Checkout

checkout = Checkout(Path(sys.argv[1]))
checkout.add("one", FIGURE, CLAIM)
checkout.add("two", CLAIM)
PY
mkdir "$work/profile"
cp papers/profiles/slurm/config.yaml "$work/profile"
cat >> "$work/profile/config.yaml" <<'YAML'
slurm-no-account: true  # this cluster keeps no accounts
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 5
seconds-between-status-checks: 5
YAML
cd "$work/checkout"
export PYTHONPATH=$PWD
run() { "$work/venv/bin/python" -m shared.compendium.runner "$@" --profile "$work/profile"; }

echo "== small scale"
run --all || fail "the small run"
for slug in one two; do grep -q '"verdict": "held"' "figures/$slug/results.json" || fail "$slug has no results"; done

echo "== paper scale"
run one --scale paper || fail "the run at paper scale"
grep -q '"scale": "paper"' figures/one/paper/results.json || fail "no results at paper scale"

echo "== what SLURM says"
scontrol -o show jobs | grep -oE "JobId=[0-9]+|JobState=\w+|Comment=\S+|TRES=\S+|TresPerNode=\S+|TresPerJob=\S+|NumCPUs=[0-9]+" | paste -sd' ' | sed 's/ JobId/\nJobId/g'
[ "$(scontrol -o show jobs | grep -c JobState=COMPLETED)" = 3 ] || fail "three jobs should have gone through SLURM"
[ "$(scontrol -o show jobs | grep -c TresPerJob=gres:gpu:1)" = 1 ] || fail "one job should have had a GPU"
cat "$work/finished.txt"
echo "PASSED: three notebooks ran as SLURM jobs, the one at paper scale with one GPU"
