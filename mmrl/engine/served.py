"""What an engine has to serve, and the refusal of one that serves something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.engine.asking import Drawing, Question
from mmrl.engine.client import START


@dataclass(frozen=True, slots=True)
class Served:
    """What the engine has to serve: a checkpoint, its kind, the size of its vocabulary, its dtype, the largest rank of
    LoRA adapters (0: none), and whether they are in the vision tower too."""

    checkpoint: Path
    model_type: str
    vocabulary: int
    dtype: str = "auto"
    lora_rank: int = 0
    tower: bool = False


TOLD = ("model_type", "vocabulary", "dtype", "length", "logprobs", "lora")


def check_described(told: Any, served: Served, where: str) -> None:
    """Refuse an engine of another model, vocabulary or dtype, or one started in a way that cannot serve."""
    if not isinstance(told, Mapping) or not all(name in told for name in TOLD):
        raise InputError(f"{where} does not say what it serves ({str(told)[:100]}); {START}")
    for what, have, want in (
        ("model type", told["model_type"], served.model_type),
        ("vocabulary", told["vocabulary"], served.vocabulary),
        ("dtype", told["dtype"], told["dtype"] if served.dtype == "auto" else served.dtype),
        ("logprobs_mode", told["logprobs"], "processed_logprobs"),
    ):
        if have != want:
            raise InputError(f"{where} has {what} {have}, and {want} is needed; {START}, of {served.checkpoint}")
    if told["lora"] < served.lora_rank:
        raise InputError(
            f"{where} takes adapters up to rank {told['lora']} (0: none), lora.r is {served.lora_rank}; start it with "
            f"`mmrl serve MODEL --lora-rank {served.lora_rank}`"
        )


def check_lengths(questions: Sequence[Question], drawing: Drawing, length: int) -> None:
    """Refuse questions that do not fit the engine's context of `length` tokens."""
    longest = max((len(question.ids) for question in questions), default=0)
    if longest + drawing.length > length:
        raise InputError(
            f"a prompt of {longest} tokens with {drawing.length} new ones does not fit the engine's max_model_len of "
            f"{length}; raise vllm.arguments.max_model_len (mmrl serve: max_model_len=...), or shorten them"
        )
