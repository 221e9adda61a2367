"""Whether shared prompts give the log-probs of plain ones: both are computed on the first batch and compared.

In float32 every log-prob must agree. In half precision rounding alone moves single log-probs by tenths, and a few of
many sampled tokens fall on the other side of a boundary. There the means are compared, over all tokens and over the
first token of each completion: a wrong mask, position or cache moves them by whole units.
Shapes: B rows, C completion tokens.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmrl.grpo.batch import gathered
from mmrl.grpo.engines.base import Completions

logger = logging.getLogger(__name__)

EXACT, HALF = 1e-3, 0.05
NOTHING = -1.0  # the gap where there was nothing to compare
DECIDED = "shared_prefix.json"  # in a checkpoint: a resumed run that decided again could differ in the last digits


class PrefixSharing:
    """Where prompts are shared: `packing` in scoring, `behind` there too if tools have shown media behind the prompt,
    `prefix_cache` in sampling; None until the first batch decides.

    All processes decide the same. The decision is part of a checkpoint.
    """

    def __init__(self, trainer: Any, *, allowed: bool) -> None:
        self.trainer = trainer
        self.packing: bool | None = None if allowed else False
        self.behind: bool | None = None if allowed else False
        self.prefix_cache: bool | None = None if allowed else False

    @property
    def half(self) -> bool:
        """Whether the policy computes in half precision."""
        args, model = self.trainer.args, self.trainer.accelerator.unwrap_model(self.trainer.model)
        return args.bf16 or args.fp16 or model.dtype != torch.float32

    def agreed(self, what: str, gap: float) -> bool | None:
        """Whether log-probs that differ by `gap` in this process agree in all processes; logs the decision. None if no
        process has compared any (`NOTHING`)."""
        worst = float(gathered(torch.tensor([gap], device=self.trainer.accelerator.device)).max())
        if worst == NOTHING:
            return None
        same = agree(worst, half=self.half)
        logger.info("shared-prefix %s %s: log-probs differ by %.1e", what, "on" if same else "off", worst)
        return same

    def save(self, checkpoint: Path) -> None:
        """Write the decisions into a checkpoint directory."""
        decided = {"sharing": self.packing, "behind": self.behind, "prefilling": self.prefix_cache}
        (checkpoint / DECIDED).write_text(json.dumps(decided))

    def restore(self, checkpoint: Path) -> None:
        """Read the decisions of a checkpoint directory, if it has them."""
        if (checkpoint / DECIDED).exists():
            decided = json.loads((checkpoint / DECIDED).read_text())
            self.packing, self.prefix_cache = decided["sharing"], decided["prefilling"]
            self.behind = decided.get("behind")


def agree(gap: float, *, half: bool) -> bool:
    """Whether log-probs that differ by `gap` are the same except for rounding."""
    return gap < (HALF if half else EXACT)


def gap_of(shared_BC: Tensor, plain_BC: Tensor, valid_BC: Tensor, *, half: bool) -> float:
    """How far log-probs are apart: the largest difference, or in half precision the larger of the two means.

    >>> shared, plain = torch.tensor([[-1.0, -2.0], [-1.5, 0.0]]), torch.tensor([[-1.0, -2.5], [-1.5, -9.0]])
    >>> valid = torch.tensor([[True, True], [True, False]])
    >>> gap_of(shared, plain, valid, half=False), round(gap_of(shared, plain, valid, half=True), 4)
    (0.5, 0.1667)
    """
    difference_BC = (shared_BC - plain_BC).abs().float()
    parts = [difference_BC[valid_BC], difference_BC[:, 0][valid_BC[:, 0]]]
    return max((float(part.mean() if half else part.max()) for part in parts if part.numel()), default=0.0)


def gap_of_completions(shared: Completions, plain: Completions, *, half: bool) -> float:
    """`gap_of` the log-probs under which both were drawn, as far as the same tokens were drawn.

    Infinite if fewer than half of the completions begin with the same token. Greedy tokens have no log-probs: they
    must all be equal.
    """
    if not any(map(any, plain.logprobs)):
        return 0.0 if shared.ids == plain.ids else math.inf
    common = [_common_prefix(ids, others) for ids, others in zip(shared.ids, plain.ids, strict=True)]
    if 2 * sum(length > 0 for length in common) < len(common):
        return math.inf
    width = max(common)
    shared_BC, plain_BC = (
        torch.tensor([row[:width] + [0.0] * (width - len(row)) for row in side.logprobs]) for side in (shared, plain)
    )
    valid_BC = torch.arange(width) < torch.tensor(common)[:, None]
    return gap_of(shared_BC, plain_BC, valid_BC, half=half)


def _common_prefix(ids: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(ids, others, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(others)))
