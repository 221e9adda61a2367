#!/bin/sh
# accelerate 1.15.0 with torch 2.14.1: a FullyShardedDataParallelPlugin is ignored on CPU, and nothing says so.
#
# `Accelerator(cpu=True, fsdp_plugin=...)` in two processes gives plain DDP: every process holds all weights. There is
# no warning, and `accelerator.state.fsdp_plugin` is not set. torch's own `fully_shard` works on CPU with gloo, in the
# same processes: there each holds half of the weights. A test of FSDP on machines without GPU thus passes without
# having sharded anything.
#
# Seen: MULTI_CPU, DistributedDataParallel, 10,000 of 10,000 numbers in each process; with fully_shard 5,000.
set -eu
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 accelerate==1.15.0
cat > "$folder/train.py" <<'PYTHON'
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from torch.distributed.fsdp import fully_shard

accelerator = Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin(fsdp_version=2))
prepared = accelerator.prepare_model(torch.nn.Linear(1000, 10, bias=False))
by_torch = fully_shard(torch.nn.Linear(1000, 10, bias=False))
if accelerator.is_main_process:
    held = sum(weight.numel() for weight in prepared.parameters())
    half = sum(weight.to_local().numel() for weight in by_torch.parameters())
    print(accelerator.distributed_type.value, type(prepared).__name__, held, accelerator.is_fsdp2, half)
accelerator.end_training()
PYTHON
OMP_NUM_THREADS=1 "$folder/venv/bin/torchrun" --nproc-per-node 2 "$folder/train.py" > "$folder/seen" 2> "$folder/warnings"
cat "$folder/seen"
if grep -i fsdp "$folder/warnings"; then echo "there is a warning now"; exit 1; fi
printf 'MULTI_CPU DistributedDataParallel 10000 False 5000\n' | diff - "$folder/seen" || { echo "the behaviour has changed"; exit 1; }
