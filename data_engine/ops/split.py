"""The split operator: training and held-out samples that share no image, video or text-only question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator

from data_engine.operator import Dropped, Spool, Weights, stream
from data_engine.schema import SPLIT_NAME, Sample
from data_engine.seeding import digest, fraction
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError, nearest


def _splits(shares: dict[str, float]) -> dict[str, float]:
    if odd := [name for name in shares if not SPLIT_NAME.fullmatch(name)]:
        raise ValueError(f"{', '.join(map(repr, odd))} cannot be the name of a split; use letters, digits and _")
    return shares


Shares = Annotated[Weights, AfterValidator(_splits)]  # split -> share


@stream
def split(samples: Iterator[Sample], *, shares: Shares, seed: int = 0) -> Iterator[Sample | Dropped]:
    """Write `meta["split"]` by the hash of the media, in `shares` (split -> share): no image or video is in two splits.

    Samples that share an image or video go into the same split. A split that the source gave is kept. Where linked
    samples were given different splits, the last of these in `shares` keeps its samples, and the others are dropped.
    """
    spool, linked = Spool(), _Linked()
    firsts: list[int] = []  # one media key per sample: it leads to the sample's group
    for sample in samples:
        spool.add(sample)
        firsts.append(linked.join(_media_keys(sample)))

    names = list(shares)
    given: dict[int, set[str]] = defaultdict(set)
    for sample, first in zip(spool, firsts, strict=True):
        if "split" in sample.meta:
            given[linked.group(first)].add(_known(sample, names))

    drawn = {group: _drawn(fraction("split", seed, key), shares) for group, key in linked.smallest_keys().items()}
    for sample, first in zip(spool, firsts, strict=True):
        group = linked.group(first)
        chosen = max(given[group], key=names.index) if given[group] else drawn[group]
        if sample.meta.get("split", chosen) == chosen:
            yield replace(sample, meta={**sample.meta, "split": chosen})
        else:
            yield Dropped(sample, f"media_in_{chosen}")


def _media_keys(sample: Sample) -> list[str]:
    """The keys that link a sample to others: the hashes of its media, or its question if it has no media."""
    return [media.sha256 or "" for media in sample.media] or [digest(dumps(sample.prompt))]


def _known(sample: Sample, names: list[str]) -> str:
    name = sample.meta["split"]
    if name not in names:
        hint = nearest(str(name), names)
        raise InputError(f"source {sample.source} has samples of the split {name!r}, which shares lack; {hint}")
    return name


def _drawn(draw: float, shares: Mapping[str, float]) -> str:
    """The name whose part of [0, 1) holds `draw`."""
    reach, total = 0.0, sum(shares.values())
    for name, share in shares.items():
        reach += share / total
        if draw < reach:
            return name
    return [name for name, share in shares.items() if share][-1]  # float sums may end just below 1


class _Linked:
    """Groups of keys that occurred together (union-find)."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._parent: list[int] = []

    def join(self, keys: list[str]) -> int:
        """Put the keys into one group; the index of the first."""
        indices = [self._index.setdefault(key, len(self._index)) for key in keys]
        self._parent.extend(range(len(self._parent), len(self._index)))
        for index in indices[1:]:
            self._parent[self.group(index)] = self.group(indices[0])
        return indices[0]

    def group(self, index: int) -> int:
        """The group of the key at `index`."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def smallest_keys(self) -> dict[int, str]:
        """The smallest key of each group, which does not depend on the order of the keys."""
        smallest: dict[int, str] = {}
        for key, index in self._index.items():
            group = self.group(index)
            smallest[group] = min(key, smallest.get(group, key))
        return smallest
