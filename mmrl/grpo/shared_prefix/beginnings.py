"""Completions that begin alike as trees of parts: what is shared stands once in a packed row (`packing.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mmrl.grpo.shared_prefix.attention import PADDING
from mmrl.model.encoding import Encoded


class Part(NamedTuple):
    """Token ids that stand `start` tokens behind the prompt in the completions of these `rows`, some of which may end
    within; `behind` it they part."""

    rows: list[int]
    start: int
    ids: list[int]
    behind: list[Part]

    @property
    def tokens(self) -> int:
        """How many tokens of a packed row it takes: before each part the last token is repeated."""
        return 1 + len(self.ids) + sum(part.tokens for part in self.behind)


def parts_by_prompt(rows: Sequence[Encoded], completions: Sequence[list[int]]) -> dict[int, list[Part]]:
    """The parts of the completions of each prompt, by the id of the prompt's object.

    A completion with media that tools have returned is a part of its own: its media are not compared.
    """
    alike: dict[int, dict[int, list[int]]] = {id(row.asked): {} for row in rows}
    alone: dict[int, list[Part]] = {prompt: [] for prompt in alike}
    for number, (row, ids) in enumerate(zip(rows, completions, strict=True)):
        if row.behind:
            alone[id(row.asked)].append(Part([number], 0, ids, []))
        else:
            alike[id(row.asked)][number] = ids
    return {prompt: [*parts_of(alike[prompt]), *alone[prompt]] for prompt in alike}


def parts_of(completions: Mapping[int, list[int]], start: int = 0) -> list[Part]:
    """The completions, by their number, from token `start` on. A beginning is shared if that saves tokens.

    >>> [part] = parts_of({0: [7, 8, 9, 1], 1: [7, 8, 9, 2], 2: [7, 8]})
    >>> part.rows, part.ids, part.tokens, [one.ids for one in part.behind]
    ([0, 1, 2], [7, 8, 9], 8, [[1], [2]])
    """
    groups: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for number, ids in completions.items():
        groups.setdefault(tuple(ids[start : start + 1]), {})[number] = ids
    return [part for group in groups.values() for part in _parts(group, start)]


def _parts(completions: Mapping[int, list[int]], start: int) -> list[Part]:
    """One part with what follows it, or parts that share nothing; all completions have the same token at `start`."""
    going, stop = completions, start
    while True:
        going = {number: ids for number, ids in going.items() if len(ids) > stop}
        if len({ids[stop] for ids in going.values()}) != 1:
            break
        stop = stop + 1 if len(going) > 1 else len(next(iter(going.values())))
    ids = max(completions.values(), key=len)[start:stop]
    whole = Part(list(completions), start, ids, parts_of(going, stop) if going else [])
    apart = [one._replace(start=start, ids=ids + one.ids) for one in whole.behind]
    if not apart or sum(one.tokens for one in apart) > whole.tokens:
        return [whole]
    ended = [number for number in completions if number not in going]
    return [apart[0]._replace(rows=apart[0].rows + ended), *apart[1:]]


class Line:
    """A packed row, the parts behind their prompt: token ids, the segment of each, the segment that this one goes on
    from, positions of text. `places` has (completion, its token, place in this row, how many tokens) of all parts."""

    def __init__(self, prompt: Sequence[int], parts: Sequence[Part]) -> None:
        self.prompt, self.count = prompt, 0
        self.ids = list(prompt[:-1])
        self.segments, self.parents, self.steps = [0] * len(self.ids), [0] * len(self.ids), list(range(len(self.ids)))
        self.places: list[tuple[int, int, int, int]] = []
        for part in parts:
            self._add(part)

    def _add(self, part: Part, parent: int = 0, last: int | None = None) -> None:
        """Write a part, which goes on from the segment `parent` with the token `last`, and all behind it."""
        self.count += 1
        own, ids = self.count, [self.prompt[-1] if last is None else last, *part.ids]
        self.places += [(row, part.start, len(self.ids) + 1, len(part.ids)) for row in part.rows]
        before = len(self.prompt) - 1 + part.start
        self.steps += range(before, before + len(ids))
        self.ids += ids
        self.parents += [parent] * len(ids)
        self.segments += [own] * len(ids)
        if part.behind:
            self.segments[-1] = PADDING  # it is repeated before what follows
        for one in part.behind:
            self._add(one, own, ids[-1])
