"""What nearly all texts of a group share, as an instruction around their questions, and the texts without it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable

from data_engine.words import words

RUN = 5  # words that follow each other
SHARE = 0.9  # of the texts of a group that hold a run: then it is part of their instruction
LEAST = 3  # texts of a group: of two, nobody knows what is instruction
COUNTED = 1000  # texts of a group that are looked at, the first ones


class CommonRuns:
    """Counts the runs of words of texts by group; then texts can be read without those that are common.

    >>> common = CommonRuns()
    >>> for thing in ("car", "dog", "bus"):
    ...     common.add(f"Look at the whole picture first. Locate the {thing}.", "a source")
    >>> common.without("Look at the whole picture first. Locate the dog.", "a source")
    'dog'
    """

    def __init__(self) -> None:
        self._sizes = Counter[Hashable]()
        self._holders = defaultdict[Hashable, Counter[int]](Counter)  # group -> hash of a run -> texts that hold it

    def add(self, text: str, group: Hashable) -> None:
        """Count the runs of a text of the group."""
        if self._sizes[group] < COUNTED:
            self._sizes[group] += 1
            self._holders[group].update(set(_runs(words(text))))

    def without(self, text: str, group: Hashable) -> str:
        """The words of a text outside of the runs that are common in its group."""
        size, holders, tokens = self._sizes[group], self._holders[group], words(text)
        if size < LEAST:
            return " ".join(tokens)
        common = {at for at, run in enumerate(_runs(tokens)) if holders[run] >= SHARE * size}
        covered = {at + step for at in common for step in range(RUN)}
        return " ".join(token for at, token in enumerate(tokens) if at not in covered)


def _runs(tokens: list[str]) -> list[int]:
    return [hash(tuple(tokens[at : at + RUN])) for at in range(len(tokens) - RUN + 1)]
