"""Weights that are divided among processes, by DeepSpeed ZeRO-3 or FSDP2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from accelerate.utils import DistributedType
from accelerate.utils.modeling import get_non_persistent_buffers
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from mmrl.core.config import InputError


def check_sharding(args: Any, block: str) -> None:
    """Refuse `fsdp` where accelerate leaves it out in silence: in one process, and on a CPU."""
    if args.fsdp and args.distributed_state.distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):
        raise InputError(
            f"{block}.fsdp={args.fsdp} divides nothing in one process or on a CPU; start several processes with a GPU "
            "each (torchrun --nproc_per_node 4 -m mmrl train ...), or leave it out"
        )


def in_one_piece(model: nn.Module) -> AbstractContextManager[Any]:
    """A context in which every process has all weights of `model`, also if ZeRO-3 or FSDP2 divides them.

    All processes must enter it. In it `model.state_dict()` must not be called: FSDP2 divides the weights again for it.
    """
    if not is_deepspeed_zero3_enabled():
        return gathered_by_fsdp(model)
    import deepspeed

    return deepspeed.zero.GatheredParameters(list(model.parameters()))


@contextmanager
def gathered_by_fsdp(model: Any) -> Iterator[None]:
    """The same, for FSDP2 alone: then forwards may differ in number from process to process, as in generation."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    groups: list[Any] = [group for part in parts for group in part._get_fsdp_state()._fsdp_param_groups]
    after_forward = [group.post_forward_mesh_info for group in groups]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
        for group, mesh in zip(groups, after_forward, strict=True):
            group.post_forward_mesh_info = mesh


def gathered_state(model: nn.Module) -> dict[str, Tensor] | None:
    """What FSDP2 has gathered of `model`, for use in place of its `state_dict()`; None if FSDP2 does not divide it."""
    if not any(isinstance(module, FSDPModule) for module in model.modules()):
        return None
    passing = get_non_persistent_buffers(model, recurse=True, fqns=True)
    buffers = {name: value for name, value in model.named_buffers() if name not in passing}
    return {**dict(model.named_parameters()), **buffers}


def own_part(weight: Tensor) -> Tensor:
    """The part of a weight, or of a gradient, that this process holds."""
    if isinstance(weight, DTensor):
        return weight.to_local()
    return getattr(weight, "ds_tensor", weight)
