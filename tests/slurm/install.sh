#!/usr/bin/env bash
# SLURM for the tests, where it is not there and can be had: as root, on Debian or Ubuntu.
set -euo pipefail
PATH=$PATH:/usr/sbin
if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then
  exit 0
elif [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "SLURM is not installed, and this is no root on Debian: the tests of SLURM will be skipped" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
options=(--quiet -o Acquire::Retries=1 -o Acquire::http::Timeout=30)
apt-get update "${options[@]}"
apt-get install "${options[@]}" --yes --no-install-recommends slurm-wlm munge
