"""The state of a rollout batch: what the trainer knows about rows that TRL passes around as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from accelerate.utils import gather
from torch import Tensor

from mmrl.model.encoding import Encoded
from mmrl.tools.turns import Turn
from rewards import Verdict


class Branch(NamedTuple):
    """The number in its group (`draw`) of the rollout from which one branches off, and how many tokens they share."""

    draw: int
    tokens: int


UNSET = torch.empty(0)
OF_THE_STEP = (
    "samples",
    "drawn_at",
    "completions",
    "verdicts",
    "rewards_BK",
    "turns",
    "branches",
)  # not needed any more when the loss is computed


@dataclass(slots=True)
class RolloutBatch:
    """B rollouts of this process. Shapes: B rows, C completion tokens, K rewards.

    TRL calls its hooks one after the other and passes token ids only. `MultimodalGRPOTrainer` sets `trainer.batch`
    at the two places where such a chain of calls begins (a generation, a loss); the hooks read it from there. A
    generation fills the fields from `drawn_at` on in the order in which they stand here.
    """

    rows: Sequence[Encoded]  # the encoded prompt of each rollout; one object for all rollouts of a prompt
    temperatures_BC: Tensor | None = None  # sampling temperature of each completion token, if there is a schedule
    samples: Sequence[Mapping[str, Any]] = ()  # the row of the dataset of each rollout
    copies: Sequence[int] = ()  # how many groups of the same prompt come before that of a rollout
    drawn_at: Sequence[int] = ()  # the optimizer step whose weights drew each completion
    injected_B: Tensor = UNSET  # which completions are the gold answer instead of the policy's own
    completions: Sequence[tuple[str, int]] = ()  # (text, number of tokens)
    verdicts: Sequence[Mapping[str, Verdict]] = ()  # by the name of the reward
    rewards_BK: Tensor = UNSET  # NaN where a reward has no score
    own: Sequence[Sequence[bool]] = ()  # with tools: which tokens behind the prompt the policy has drawn
    turns: Sequence[Sequence[Turn]] = ()  # with tools: what was said, and what came of its calls; else empty
    branches: Sequence[Branch | None] = ()  # with trees: where each rollout has branched off; else None


def gathered(tensor: Tensor) -> Tensor:
    """`tensor` of all processes, concatenated along its first dimension."""
    return cast(Tensor, gather(tensor))
