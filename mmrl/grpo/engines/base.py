"""What a trainer asks of who draws its completions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mmrl.grpo.batch import RolloutBatch

Keys = Sequence[tuple[int | str, ...]]  # of random numbers: seed, step, micro-step, prompt, place in the group, copy


class Completions(NamedTuple):
    """Token ids, the log-probs under which each token was drawn (NaN if the policy did not draw it), and the optimizer
    step whose weights drew them."""

    ids: list[list[int]]
    logprobs: list[list[float]]
    step: int = 0


class RolloutEngine(Protocol):
    """`LocalRollouts`, `ServedRollouts`, `AheadRollouts` or `TreeRollouts`.

    `apart`: a later turn may be drawn at any time, because what else is drawn then is nothing to it.
    """

    apart: bool

    def completions(
        self, batch: RolloutBatch, keys: Keys, group: int, temperature: Any, *, length: int | None = None
    ) -> Completions:
        """A completion for each row of `batch`, drawn with the random numbers of its key; of up to `length` tokens, by
        default `max_completion_length`."""
        ...

    def push(self) -> None:
        """Draw with the policy's weights of this step from now on."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...

    def save(self, checkpoint: Path) -> None:
        """Write what a resumed run needs into a checkpoint directory. All processes must call it."""
        ...

    def restore(self, checkpoint: Path) -> None:
        """Read it."""
        ...
