"""The order of the training data: by the seed and the epoch alone, so that a resumed run repeats it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler


class EpochSampler(Sampler[int]):
    """TRL's RepeatSampler in an order that depends on the seed and the epoch alone.

    The epoch is asked for: `set_epoch` does not reach the sampler of a resumed run with several processes.
    """

    def __init__(self, repeat: RepeatSampler, seed: int, *, epoch: Callable[[], int]) -> None:
        self.repeat = repeat
        self.seed = seed
        self.epoch = epoch
        self._order = lru_cache(maxsize=1)(self._ordered)

    def __iter__(self) -> Any:
        return self._begun(self.epoch())

    def __len__(self) -> int:
        return len(self.repeat)

    def generation(self, number: int, rows: int) -> list[int]:
        """The places in the dataset of all `rows` of a generation, counted from the beginning of the training."""
        stretch = rows * self.repeat.repeat_count
        epoch, place = divmod(number, len(self.repeat) // stretch)
        return self._order(epoch)[place * stretch : place * stretch + rows]

    def _ordered(self, epoch: int) -> list[int]:
        return list(self._begun(epoch))

    def _begun(self, epoch: int) -> Any:
        if self.repeat.shuffle:
            self.repeat.generator.manual_seed(
                self.seed + epoch
            )  # read when the first place is asked for, and only then
        return iter(self.repeat)
