#!/bin/sh
#SBATCH --job-name=autobee-sweep
#SBATCH --array=0-99
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --requeue
#SBATCH --output=sweep-%a.log
# One part of a sweep. `sbatch docs/sweeps/slurm.sh`; the array may be any size, parts that were ended are requeued.
set -u
: "${SIM:=./target/release/autobee-sim}" "${SEEDS:=0..1000000}" "${OUT:=sweep}" "${TIME:=55m}"
part=${SLURM_ARRAY_TASK_ID:-0}
parts=${SLURM_ARRAY_TASK_COUNT:-1}
"$SIM" sweep --seeds "$SEEDS" --shard "$part/$parts" --time "$TIME" --jobs "${SLURM_CPUS_PER_TASK:-2}" --out "$OUT"
code=$?
# Failures that were found are a result.
[ "$code" -eq 1 ] && exit 0
exit "$code"
