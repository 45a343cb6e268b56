#!/usr/bin/env bash
# A private SLURM cluster on this machine, for trying the profile and for the tests: two nodes on loopback, the first
# with a GPU that is none. Needs slurm-wlm and munge (install.sh), no root. Nothing is written outside its folder.
# With ACCOUNTING=yes it has accounts, too, and one named my_project; for that it needs slurmdbd and mariadb-server.
#
#   eval "$(tests/slurm/cluster.sh up [FOLDER])"       start it, and let this shell's SLURM programs find it
#   tests/slurm/cluster.sh down [FOLDER]               stop it, with all its jobs, and remove the folder
#   tests/slurm/cluster.sh start-node NAME [FOLDER]    start the daemon of a node (n1 or n2) that was stopped
set -Eeuo pipefail

PATH=$PATH:/usr/sbin # of users who are not root, too
NODES=2
CPUS=4 # that SLURM believes in, of each node
command=${1:-}
if [ "$command" = start-node ]; then node=${2:?a node: n1 or n2} && shift; fi
folder=$(realpath -m "${2:-${TMPDIR:-/tmp}/frugal-slurm-$(id -u)}")
# What this cluster has started knows it by this variable, and `down` finds it so.
export FRUGAL_CLUSTER=$folder
export SLURM_CONF=$folder/slurm.conf

# The daemons of this cluster and all their descendants: the jobs.
processes() {
  python3 - "$folder" <<'PYTHON'
import os, sys
mark, parents, found = f"FRUGAL_CLUSTER={sys.argv[1]}".encode(), {}, set()
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        parents[int(pid)] = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        if mark in open(f"/proc/{pid}/environ", "rb").read().split(b"\0"):
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")).startswith(("munged", "slurm", "mariadbd")):
                found.add(int(pid))
    except OSError:
        continue  # it has ended, or is somebody else's
grown = -1
while grown != len(found):
    grown = len(found)
    found |= {pid for pid, parent in parents.items() if parent in found}
print(*found)
PYTHON
}

# Repeat a command until it succeeds; fails if it never does.
in_the_end() {
  for _ in $(seq 1500); do # five minutes: a guard against what never starts
    if "$@" &>/dev/null; then return; fi
    sleep 0.2
  done
  return 1
}

all_nodes_are_idle() {
  [ "$(sinfo --noheader --Node --partition=cpu --states=idle --format=%N | wc -l)" -ge "$NODES" ]
}

start_node() {
  mkdir -p "$folder/spool/$1"
  slurmd -N "$1" >&2
}

down() {
  [ -e "$SLURM_CONF" ] || return 0
  if timeout 10 scancel --user="$(id -un)" 2>/dev/null; then
    for _ in $(seq 50); do
      [ -z "$(timeout 10 squeue --noheader 2>/dev/null)" ] && break
      sleep 0.2
    done
  fi
  for signal in TERM KILL; do
    pids=$(processes)
    # shellcheck disable=SC2086 (one word each)
    [ -z "$pids" ] || kill -s "$signal" $pids 2>/dev/null || true
    for _ in $(seq 50); do
      [ -z "$(processes)" ] && break
      sleep 0.1
    done
  done
  rm -rf "$folder"
}

configure() {
  mkdir -p "$folder"/{run,spool,state,log,bin,munge}
  chmod 700 "$folder/munge"
  (umask 077 && head -c 1024 /dev/urandom >"$folder/munge/key")
  user=$(id -un) host=$(hostname -s)
  read -r -a ports < <(python3 - <<'PYTHON'
import socket
free = [socket.socket() for _ in range(5)]
for one in free:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in free))
PYTHON
  )
  {
    cat <<CONF
ClusterName=frugal
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/run/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
$(accounting_lines)
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# The machine has fewer cores and less memory than the nodes claim, and no GPU.
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
KillWait=10
MinJobAge=86400
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
CONF
    for number in $(seq "$NODES"); do
      echo "NodeName=n$number NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[$number]} CPUs=$CPUS Boards=1" \
        "SocketsPerBoard=1 CoresPerSocket=$CPUS ThreadsPerCore=1 RealMemory=250000" \
        "$([ "$number" -gt 1 ] || echo Gres=gpu:1)"
    done
    echo "PartitionName=cpu Nodes=n[1-$NODES] Default=YES MaxTime=1-00:00:00"
    echo "PartitionName=gpu Nodes=n1 MaxTime=1-00:00:00"
  } >"$SLURM_CONF"
  echo "NodeName=n1 Name=gpu File=/dev/null" >"$folder/gres.conf" # a GPU has to be some device
  printf 'CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\nCgroupAutomount=no\n' \
    >"$folder/cgroup.conf"
  # Jobs forget where slurm.conf is, which on a real cluster stands in /etc.
  printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" >"$folder/bin/srun"
  chmod +x "$folder/bin/srun"
}

accounting_lines() {
  if [ -z "${ACCOUNTING:-}" ]; then
    echo AccountingStorageType=accounting_storage/none
    return
  fi
  cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=${ports[3]}
AccountingStoragePass=$folder/run/munge.socket
AccountingStorageEnforce=associations
CONF
}

# The database of accounts and jobs, and the daemon before it.
start_accounting() {
  local password database=("--no-defaults" "--datadir=$folder/database" "--socket=$folder/run/mariadb.socket")
  password=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
  mariadb-install-db "${database[@]}" --user="$user" --auth-root-authentication-method=normal --skip-test-db \
    >"$folder/log/mariadb-install-db.log" 2>&1
  setsid mariadbd "${database[@]}" --user="$user" --bind-address=127.0.0.1 --port="${ports[4]}" --skip-name-resolve \
    --pid-file="$folder/run/mariadbd.pid" --log-error="$folder/log/mariadbd.log" </dev/null &>/dev/null &
  in_the_end test -S "$folder/run/mariadb.socket"
  mariadb --no-defaults --socket="$folder/run/mariadb.socket" --user=root >&2 <<SQL
CREATE USER slurm@127.0.0.1 IDENTIFIED BY '$password';
GRANT ALL ON slurm_acct_db.* TO slurm@127.0.0.1;
SQL
  (umask 077 && cat >"$folder/slurmdbd.conf") <<CONF
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=${ports[3]}
SlurmUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=${ports[4]}
StorageUser=slurm
StoragePass=$password
StorageLoc=slurm_acct_db
PidFile=$folder/run/slurmdbd.pid
LogFile=$folder/log/slurmdbd.log
CONF
  slurmdbd >&2
  in_the_end sacctmgr --noheader show cluster
  sacctmgr --immediate --quiet add cluster frugal >/dev/null
  sacctmgr --immediate --quiet add account my_project >/dev/null
  sacctmgr --immediate --quiet add user "$user" Account=my_project >/dev/null
}

up() {
  for program in munged slurmctld slurmd srun sbatch ${ACCOUNTING:+slurmdbd sacctmgr mariadbd mariadb-install-db}; do
    command -v "$program" >/dev/null || { echo "error: $program is not installed: tests/slurm/install.sh" >&2 && exit 1; }
  done
  down
  configure
  trap 'tail -n 20 "$folder"/log/*.log >&2 || true; echo "error: the cluster does not start" >&2; down' ERR
  munged --force --key-file="$folder/munge/key" --socket="$folder/run/munge.socket" --seed-file="$folder/munge/seed" \
    --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" >&2
  [ -z "${ACCOUNTING:-}" ] || start_accounting
  slurmctld -i >&2
  for number in $(seq "$NODES"); do start_node "n$number"; done
  in_the_end all_nodes_are_idle
  echo "export SLURM_CONF=$SLURM_CONF PATH=$folder/bin:\$PATH"
}

case "$command" in
  up) up ;;
  down) down ;;
  start-node) start_node "$node" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
