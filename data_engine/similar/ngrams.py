"""Which texts contain most of another text: runs of eight words, as hashes in order."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from data_engine.words import words

RUN = 8  # words; of a shorter text, all of it
COMMON = 0.1  # a run that more than this share of a benchmark's texts contain is part of its instructions, not evidence
FEW = 10  # texts that may contain a run whatever their share


def shingles(text: str) -> np.ndarray:
    """The hashes of the runs of eight words of a text, uint64, in order; a shorter text is one run."""
    tokens = words(text)
    runs = [tokens[at : at + RUN] for at in range(max(len(tokens) - RUN + 1, 1))]
    return np.array([_hash(" ".join(run)) for run in runs], np.uint64)


class ShingleIndex:
    """The shingles of texts, and a search for texts that another text contains."""

    def __init__(self) -> None:
        self._texts: list[np.ndarray] = []
        self._groups: list[str] = []
        self._places: dict[int, list[int]] = defaultdict(list)
        self._sizes = Counter[str]()
        self._holders = Counter[tuple[str, int]]()  # (group, run) -> how many texts of the group hold it

    def add(self, text: np.ndarray, group: str = "") -> int:
        """Append the shingles of a text of a group (a benchmark); returns its place."""
        place = len(self._texts)
        self._texts.append(text)
        self._groups.append(group)
        self._sizes[group] += 1
        for run in set(text.tolist()):
            self._places[run].append(place)
            self._holders[group, run] += 1
        return place

    def matches(self, text: np.ndarray, share: float) -> list[int]:
        """The places of texts of which more than `share` of the words stand in runs that this text contains too.

        Source: Tülu 3 (arXiv 2411.15124), with share 0.5.

        >>> index, train = ShingleIndex(), "we saw that the quick brown fox jumps over the lazy dog yesterday"
        >>> test = "the quick brown fox jumps over the lazy dog near the river bank today ok"  # 9 of its 15 words
        >>> index.matches(shingles(train), 0.5), index.add(shingles(test)), index.matches(shingles(train), 0.5)
        ([], 0, [0])
        >>> index.matches(shingles(train), 0.6)
        []
        """
        held = {run for run in text.tolist() if run in self._places}
        places = {place for run in held for place in self._places[run]}
        return [place for place in sorted(places) if self._covered(place, held) > share]

    def _covered(self, place: int, held: set[int]) -> float:
        """The share of the words of the text at `place` in runs of `held`, without the benchmark's instructions."""
        runs, group = self._texts[place].tolist(), self._groups[place]
        telling = _covering(runs, (run for run in runs if not self._is_common(run, group)))
        if not telling:
            return 0.0
        common = {run for run in held if self._is_common(run, group)}
        return len(_covering(runs, held - common) & telling) / len(telling)

    def _is_common(self, run: int, group: str) -> bool:
        return self._holders[group, run] > max(FEW, COMMON * self._sizes[group])


def _covering(runs: list[int], wanted: Iterable[int]) -> set[int]:
    """The places of the words that stand in runs that are wanted."""
    wanted = set(wanted)
    width = RUN if len(runs) > 1 else 1
    return {at + step for at, run in enumerate(runs) if run in wanted for step in range(width)}


def _hash(run: str) -> int:
    return int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "little")
