"""What is preferred to what: candidates of an answer; and pairs of samples, whose `meta["pair"]` is theirs alone and of
which `meta["preferred"]` says which."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.text import shown


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


def candidates_of(answer: Mapping[str, Any], where: str) -> list[str]:
    """The candidates of an answer; InputError, with `where` it stands, if they are not texts of which one is preferred
    to the others."""
    candidates, preferred = answer.get("candidates"), answer.get("preferred")
    if not isinstance(candidates, list) or len(candidates) < 2:
        raise InputError(f"{where}: candidates must be a list of at least two texts, got {shown(candidates)}")
    if type(preferred) is not int or not 0 <= preferred < len(candidates):
        raise InputError(
            f"{where}: preferred must be the number of one of {len(candidates)} candidates, from 0, got "
            f"{shown(preferred)}"
        )
    for number, text in enumerate(candidates):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: candidate {number} must be a text that is not blank, got {shown(text)}")
    check_apart(candidates, [(preferred, number) for number in range(len(candidates)) if number != preferred], where)
    return candidates


def check_apart(candidates: Sequence[str], pairs: Iterable[tuple[int, int]], where: str) -> None:
    """InputError for two candidates, of those in these places, that are the same text but for blanks around it."""
    for first, second in pairs:
        if candidates[first].strip() == candidates[second].strip():
            raise InputError(f"{where}: candidates {first} and {second} are equal, so neither can be preferred")
