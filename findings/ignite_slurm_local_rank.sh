#!/usr/bin/env bash
# What happens   torchrun that SLURM starts once a node (srun --ntasks-per-node=1) gives each of its processes a LOCAL_RANK.
#                The first call of ignite.distributed after torch's own init_process_group overwrites that variable with
#                SLURM_LOCALID, which is that of the one task: 0 in every process. Whatever reads LOCAL_RANK later takes the
#                first GPU of the node. idist.get_rank() is right all the same, idist.get_local_rank() is not.
# Versions       PyTorch-Ignite 0.5.5, torch 2.14.1
# One expects    LOCAL_RANK to stay what torchrun set, as it does without SLURM's variables.
# Source         ignite/distributed/comp_models/native.py: a job of SLURM is known by SLURM_JOB_ID alone. The variables below
#                are drawn; no SLURM is needed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet pytorch-ignite==0.5.5 torch==2.14.1 numpy==2.4.6
cat > ranks.py <<'PYTHON'
import os

import ignite
import ignite.distributed as idist
import torch

before = os.environ["LOCAL_RANK"]
torch.distributed.init_process_group("gloo")
rank, local = idist.get_rank(), idist.get_local_rank()
after = os.environ["LOCAL_RANK"]
print(f"ignite {ignite.__version__} torch {torch.__version__} rank {rank}: LOCAL_RANK {before} -> {after}, Ignite's {local}")
torch.distributed.destroy_process_group()
PYTHON
run() { OMP_NUM_THREADS=1 venv/bin/torchrun --standalone --nproc_per_node 2 ranks.py 2>/dev/null | sort; }
plain=$(run)
slurm=$(SLURM_JOB_ID=7 SLURM_LOCALID=0 SLURM_PROCID=0 SLURM_NTASKS=1 SLURM_JOB_NODELIST=localhost run)
printf 'torchrun alone:\n%s\nunder SLURM:\n%s\n' "$plain" "$slurm"
grep -q "rank 1: LOCAL_RANK 1 -> 1, Ignite's 1" <<< "$plain"
grep -q "rank 1: LOCAL_RANK 1 -> 0, Ignite's 0" <<< "$slurm"
