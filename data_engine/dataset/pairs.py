"""Pairs of samples of which one is preferred: `meta["pair"]` is theirs alone, `meta["preferred"]` says which."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from data_engine.schema import Sample
from mmrl.core.config import InputError


def pair_places(ids: Sequence[str], metas: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """The positions (preferred, other) of every pair, in the order in which pairs first appear.

    >>> pair_places("ab", [{"pair": 7, "preferred": False}, {"pair": 7, "preferred": True}])
    [(1, 0)]
    """
    sides: dict[Hashable, list[int]] = {}
    for place, (name, meta) in enumerate(zip(ids, metas, strict=True)):
        label, preferred = meta.get("pair"), meta.get("preferred")
        if label is None or not isinstance(label, str | int) or not isinstance(preferred, bool):
            raise InputError(
                f"sample {name} has meta pair={label!r} and preferred={preferred!r}; pairs are wanted: a label that "
                "two samples share, and true for the one that people prefer, false for the other"
            )
        sides.setdefault(label, []).append(place)
    for label, places in sides.items():
        pair = [(ids[place], metas[place]["preferred"]) for place in places]
        if sorted(preferred for _, preferred in pair) != [False, True]:
            cut = "; is it cut by `limit` or `split`?" if len(places) == 1 else ""
            raise InputError(f"pair {label!r} has the sides {pair}; it must have two, one of them preferred{cut}")
        if pair[0][0] == pair[1][0]:
            raise InputError(f"pair {label!r} has the same sample {ids[places[0]]} on both sides; they must differ")
    return [(a, b) if metas[a]["preferred"] else (b, a) for a, b in sides.values()]


def picture_pairs(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """(preferred, other) of pairs of pictures: two samples with one prompt and equal media, but for the last picture.

    InputError, with the sample's id, for others.
    """
    places = pair_places([sample.id for sample in samples], [sample.meta for sample in samples])
    pairs = [(samples[better], samples[other]) for better, other in places]
    for better, other in pairs:
        names = f"samples {better.id} and {other.id} are a pair of pictures (meta.pair)"
        for sample in (better, other):
            if not sample.media or sample.media[-1].kind != "image":
                raise InputError(f"{names}; the last of the media of {sample.id} is no picture")
        if better.prompt != other.prompt or better.media[:-1] != other.media[:-1]:
            raise InputError(f"{names}; their prompts and media must be equal, but for the last picture")
        if better.media[-1] == other.media[-1]:
            raise InputError(f"{names}; they show the same picture, so neither can be preferred")
    return pairs
