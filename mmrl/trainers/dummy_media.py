"""A dummy row with the media kinds that a batch lacks, so that all processes run the same modules.

Where gradients or weights are sharded (DeepSpeed ZeRO, FSDP), every process has to use every part of the model as often
as the others. A process whose batch shows no picture would leave them waiting in the vision tower for ever. Such a
batch gets one short row more, which shows the missing kinds of media. The row has no tokens to learn, so that its
gradient is zero.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from mmrl.core.config import InputError
from mmrl.core.media.item import MediaKind
from mmrl.model.encoding import Encoded, blank_prompt, kinds_of


class DummyMedia:
    """The rows to add: none if nothing is sharded, and no media of kinds that the training set does not have; with
    `tools` any kind, since their results may show all that the processor takes."""

    def __init__(self, trainer: Any, processor: Any, dataset: Dataset, *, tools: bool = False) -> None:
        self.kinds: set[MediaKind] = set()
        if (trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled) and trainer.args.world_size > 1:
            self.kinds = kinds_of(processor) if tools else media_kinds(dataset)
        self.made = functools.cache(functools.partial(blank_prompt, processor))

    def lacking(self, rows: Sequence[Encoded]) -> list[Encoded]:
        """The rows to add to a batch of `rows`: one or none."""
        missing = tuple(sorted(self.kinds - {kind for row in rows for kind in row.kinds}))
        return [self.made(missing)] if missing else []


def check_alike(trainer: Any, dataset: Dataset) -> None:
    """Refuse prompts that show different kinds of media to a trainer that is sharded and adds no dummy rows."""
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    shown = {tuple(sorted({media["kind"] for media in row})) for row in dataset.with_format(None)["media"]}
    if sharded and trainer.args.world_size > 1 and len(shown) > 1:
        kinds = "; ".join(sorted(" and ".join(f"{kind}s" for kind in row) or "no media" for row in shown))
        raise InputError(
            f"the prompts of this stage show different kinds of media ({kinds}), and with sharded weights or gradients "
            "every batch must show the same; train on one kind of prompts, or without deepspeed and fsdp"
        )


def media_kinds(dataset: Dataset) -> set[MediaKind]:
    """The kinds of media that occur in a training set."""
    return {media["kind"] for row in dataset.with_format(None)["media"] for media in row}
