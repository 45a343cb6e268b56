#!/usr/bin/env bash
# SLURM for the tests, where it is not there and can be had: as root, on Debian or Ubuntu.
set -euo pipefail
PATH=$PATH:/usr/sbin
missing=()
for program in slurmctld slurmd munged slurmdbd mariadbd; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ "${#missing[@]}" -eq 0 ]; then
  exit 0
elif [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "error: ${missing[*]}: not installed, and this is no root on Debian or Ubuntu, which could install them" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
options=(--quiet -o Acquire::Retries=1 -o Acquire::http::Timeout=30)
apt-get update "${options[@]}"
apt-get install "${options[@]}" --yes --no-install-recommends slurm-wlm munge slurmdbd mariadb-server
