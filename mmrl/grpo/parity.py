"""Whether a shortcut says what the plain way says: the comparisons on the first batch of a training.

In float32 every log-prob must agree. In half precision rounding alone moves single ones by tenths, and a few of many
sampled tokens fall on the other side of a boundary; there the means count, over all tokens and over the first of each
completion, which a wrong mask, position or cache moves by whole units. Shapes: B rows, C completion tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Completions = tuple[list[list[int]], list[list[float]]]  # token ids, and the log-probs under which each was drawn

EXACT, HALF = 1e-3, 0.05


def agree(gap: float, *, half: bool) -> bool:
    """Whether log-probs that are `gap` apart are the same but for rounding."""
    return gap < (HALF if half else EXACT)


def gap_of(ours_BC: Tensor, plain_BC: Tensor, valid_BC: Tensor, *, half: bool) -> float:
    """How far log-probs are apart: the largest difference, or in half precision the larger of the two means.

    >>> ours, plain = torch.tensor([[-1.0, -2.0], [-1.5, 0.0]]), torch.tensor([[-1.0, -2.5], [-1.5, -9.0]])
    >>> valid = torch.tensor([[True, True], [True, False]])
    >>> gap_of(ours, plain, valid, half=False), round(gap_of(ours, plain, valid, half=True), 4)
    (0.5, 0.1667)
    """
    apart_BC = (ours_BC - plain_BC).abs().float()
    parts = [apart_BC[valid_BC], apart_BC[:, 0][valid_BC[:, 0]]]
    return max((float(part.mean() if half else part.max()) for part in parts if part.numel()), default=0.0)


def gap_of_completions(ours: Completions, plain: Completions, *, half: bool) -> float:
    """`gap_of` the log-probs under which both drew, as far as they drew the same tokens; infinite where fewer than half
    of the completions begin alike. Greedy tokens have no log-probs: they must be the same."""
    if not any(map(any, plain[1])):
        return 0.0 if ours[0] == plain[0] else math.inf
    common = [_alike(one, other) for one, other in zip(ours[0], plain[0], strict=True)]
    if 2 * sum(length > 0 for length in common) < len(common):
        return math.inf
    width = max(common)
    drawn = [[row[:width] + [0.0] * (width - len(row)) for row in said] for _, said in (ours, plain)]
    valid_BC = torch.arange(width) < torch.tensor(common)[:, None]
    return gap_of(torch.tensor(drawn[0]), torch.tensor(drawn[1]), valid_BC, half=half)


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
