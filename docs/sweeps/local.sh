#!/bin/sh
# A sweep in several processes on this machine: `PARTS=4 SEEDS=0..1000 OUT=sweep docs/sweeps/local.sh`.
set -u
: "${SIM:=./target/release/autobee-sim}" "${SEEDS:=0..1000}" "${OUT:=sweep}" "${PARTS:=2}"
here=$(dirname "$0")
part=0
while [ "$part" -lt "$PARTS" ]; do
  SIM=$SIM SEEDS=$SEEDS OUT=$OUT SLURM_ARRAY_TASK_ID=$part SLURM_ARRAY_TASK_COUNT=$PARTS SLURM_CPUS_PER_TASK=1 \
    sh "$here/slurm.sh" &
  part=$((part + 1))
done
wait
"$SIM" merge "$OUT"
