"""Reward-model benchmarks in their published layouts: how rows become choices, and which numbers they report.

VL-RewardBench, Multimodal RewardBench, RewardBench 2, ViLBench (best of N), MR2Bench and RABench (rankings), and both
sets named EditReward-Bench.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eval.benchmarks.base import Medium, Row
from eval.benchmarks.cells import clip, listed, listed_texts, picture
from eval.preferences.items import ALL, Choice, ranked
from eval.preferences.numbers import (
    Judged,
    Numbers,
    best_of_n_numbers,
    by_group,
    editreward_pairs_numbers,
    editreward_ranking_numbers,
    ranking_numbers,
    rewardbench_2_numbers,
)
from mmrl.core.config import InputError
from mmrl.core.media.item import Media

Show = Callable[[Medium], Media]

LETTERS = "ABCD"
VL_GROUPS = {  # groups by prefixes of ids; all other ids are general (VLFeedback, WildVision)
    "hallucination": ("rlaif-v", "rlhf-v", "hallucination_pair", "povid"),
    "reasoning": ("mathverse", "mmmu", "reasoning"),
}


@dataclass(frozen=True, slots=True)
class PreferenceSet:
    """A published set of preferences: its columns, its choices and its numbers.

    With `strict`, equal scores are wrong; in other sets they count in part.
    """

    hub: str
    columns: tuple[str, ...]
    choices: Callable[[Iterable[Row], Show], Iterator[Choice]]
    numbers: Callable[[Judged], Numbers]
    split: str = "test"
    strict: bool = False


def vl_rewardbench(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Pairs with `human_ranking` (0 is better), shown the other way round where both texts together have an odd length.

    `human_ranking` ranks the responses in the order of the file.
    """
    for row in rows:
        texts, ranks = listed_texts(row["response"]), [int(rank) for rank in listed(row["human_ranking"])]
        _check(sorted(ranks) == list(range(len(texts))), f"{row['id']}: human_ranking {ranks} ranks {len(texts)} texts")
        turn = -1 if sum(map(len, texts)) % 2 else 1
        name = str(row["id"])
        group = next((g for g, heads in VL_GROUPS.items() if name.lower().startswith(heads)), "general")
        yield Choice(
            _named(name, row["query"], *sorted(texts)), str(row["query"]), tuple(texts[::turn]), tuple(ranks[::turn]),
            group, media=_media(row["image"], show),
        )  # fmt: skip


def multimodal_rewardbench(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Pairs with the better of `Output1` and `Output2`; safety and reasoning are split by how their ids begin."""
    for row in rows:
        name, kind, better = str(row["ID"]), str(row["Category"]).lower(), str(row["Better"])
        _check(better in ("Output1", "Output2"), f"{name}: Better is {better!r}, expected Output1 or Output2")
        if kind == "safety":
            kind = "safety/bias" if name.lower().startswith("pairs") else "safety/toxicity"
        elif kind == "reasoning":
            kind = "reasoning/math" if name.lower().startswith("math") else "reasoning/coding"
        texts = (str(row["Output1"]), str(row["Output2"]))
        ranks = ranked(int(better == "Output2"), 2)
        yield Choice(name, str(row["Text"]), texts, ranks, kind, media=_media(row["Image"], show))


def rewardbench_2(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Lists of chosen and rejected texts, the chosen ones first; those of the subset Ties are several."""
    for row in rows:
        good, bad = (listed_texts(row[key]) for key in ("chosen", "rejected"))
        _check(bool(good and bad), f"{row['id']}: {len(good)} chosen and {len(bad)} rejected texts; expected both")
        ranks = (*[0] * len(good), *[1] * len(bad))
        kind = str(row["subset"])
        yield Choice(_named(kind, row["id"]), str(row["prompt"]), (*good, *bad), ranks, kind, meta={"id": row["id"]})


def vilbench(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Solutions of a problem and which of them end in the right answer (`correct`, flags); a solution is a text or a
    list of steps. Problems without a right solution stay in.

    The published candidates were not available, so the columns are ours.
    """
    for row in rows:
        solutions = [s if isinstance(s, list | tuple) else [s] for s in listed(row["solutions"])]
        parts = [tuple(map(str, steps)) for steps in solutions]
        right = [bool(flag) for flag in listed(row["correct"])]
        _check(len(parts) == len(right) and all(parts), f"{row['id']}: {len(parts)} solutions, {len(right)} flags")
        stepwise = tuple(parts) if any(len(steps) > 1 for steps in parts) else ()
        texts = tuple("\n".join(steps) for steps in parts)
        ranks = tuple(int(not flag) for flag in right)
        kind = str(row.get("source") or "all")
        media = _media(row.get("image"), show)
        yield Choice(str(row["id"]), str(row["question"]), texts, ranks, kind, media=media, steps=stepwise)


def mr2bench(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Answers about a picture or a video and their `rankings`, from 1, the best; equal ones are ties. Empty answers are
    left out, as in the released code.

    The columns are those in which the paper's code reads rankings; the published files were not at hand (INFERRED).
    """
    for number, row in enumerate(rows):
        film = (show(clip(row)),) if row.get("video") else ()
        media = (*film, *_media(row.get("image"), show))
        kind = media[0].kind if media else "text"
        name, texts, ranks = (
            _named(kind, row.get("id", number)),
            listed_texts(row["responses"]),
            listed(row["rankings"]),
        )
        whole = all(isinstance(rank, int) for rank in ranks)
        _check(whole and len(texts) == len(ranks), f"{name}: rankings {ranks} of {len(texts)} responses")
        kept = [(text, rank) for text, rank in zip(texts, ranks, strict=True) if text.strip()]
        _check(len(kept) > 1, f"{name}: {len(kept)} responses that are not empty; expected two or more")
        best = min(rank for _, rank in kept)
        answers, places = tuple(text for text, _ in kept), tuple(rank - best for _, rank in kept)
        yield Choice(name, str(row["prompt"]), answers, places, kind, media=media)


def rabench(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Answers to a prompt by the names of models, and their `scores` under a `principle`, which stands before the
    prompt here, so that every reward sees it.

    The columns are those of the paper's judge; the published files were not at hand (INFERRED).
    """
    for number, row in enumerate(rows):
        name, texts, scores = str(row.get("id", number)), _by_name(row["responses"]), _by_name(row["scores"])
        _check(texts.keys() == scores.keys(), f"{name}: responses of {sorted(texts)}, scores of {sorted(scores)}")
        _check(len(texts) > 1, f"{name}: {len(texts)} responses; expected two or more")
        found = [scores[model] for model in texts]
        _check(all(isinstance(score, int | float) for score in found), f"{name}: scores {found} are no numbers")
        yield Choice(
            name, f"{row['principle']}\n\n{row['prompt']}", tuple(map(str, texts.values())),
            tuple(sum(other > score for other in found) for score in found), str(row.get("category") or ALL),
        )  # fmt: skip


def editreward_ranking(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Groups of 2, 3 or 4 edits in a human order (TIGER-Lab/EditReward-Bench).

    A row is either one pair of a group (`candidate_1`, `candidate_2`; `comparison_type` AvsC names them; `id` begins
    with the group's up to "_") or a whole group (`candidate_1` to `candidate_4`); `ranking` is C>A>B or A=B=Good.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        size = str(row.get("dataset") or "")
        alone = not row.get("comparison_type") or size == "2pair"
        groups[_named(size, row["id"] if alone else str(row["id"]).split("_")[0])].append(row)
    for name, group in groups.items():
        edits: dict[str, Media] = {}
        beaten: dict[str, set[str]] = defaultdict(set)
        for row in group:
            letters = _letters(row)
            for place, letter in enumerate(letters, 1):
                if letter not in edits:
                    edits[letter] = _single(row[f"candidate_{place}"], show, name)
            for better, worse in _orders(str(row["ranking"]), letters, name):
                beaten[worse].add(better)
        letters = sorted(edits)
        ranks = tuple(len(beaten[letter]) for letter in letters)
        complete = sorted(ranks) == list(range(len(ranks)))
        _check(complete or (len(ranks) == 2 and ranks == (0, 0)), f"{name}: the rankings of the group give no order")
        first = group[0]
        yield Choice(
            name, str(first["instruction"]), ("",) * len(letters), ranks, f"K={len(letters)}", "edit",
            {"instruction": str(first["instruction"])}, (_single(first["source_image"], show, name),),
            tuple(edits[letter] for letter in letters), counts=complete,
        )  # fmt: skip


def editreward_pairs(rows: Iterable[Row], show: Show) -> Iterator[Choice]:
    """Pairs of edits, the first preferred, by task and dimension (EditScore/EditReward-Bench)."""
    for row in rows:
        keys = listed_texts(row["key"])
        name = _named(row["dimension"], *keys)
        edits = tuple(_single(output, show, name) for output in listed(row["output_images"]))
        _check(len(edits) == 2, f"{name}: {len(edits)} output images; expected 2, the first preferred")
        yield Choice(
            name, str(row["instruction"]), ("", ""), (0, 1), str(row["task_type"]), "edit",
            {"instruction": str(row["instruction"])}, (_single(row["input_image"], show, name),), edits,
            meta={"dimension": str(row["dimension"])},
        )  # fmt: skip


def _letters(row: Row) -> str:
    if named := re.fullmatch(r"([A-D])\s*vs\.?\s*([A-D])", str(row.get("comparison_type") or "")):
        return named[1] + named[2]
    return "".join(letter for place, letter in enumerate(LETTERS, 1) if row.get(f"candidate_{place}") is not None)


def _orders(ranking: str, letters: str, name: str) -> list[tuple[str, str]]:
    """The (better, worse) pairs of a ranking such as C>A>B; none of A=B=Good.

    >>> _orders("C>A>B", "ABC", "x"), _orders("A<B", "AB", "x"), _orders("A=B=Bad", "AB", "x")
    ([('C', 'A'), ('C', 'B'), ('A', 'B')], [('B', 'A')], [])
    """
    plain = ranking.replace(" ", "")
    if re.fullmatch(r"[A-D](=[A-D])*(=(Good|Bad))?", plain):
        return []
    order = plain.split(">") if ">" in plain else plain.split("<")[::-1]
    _check(sorted(order) == sorted(letters), f"{name}: ranking {ranking!r} does not order {', '.join(letters)}")
    return [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]


def _by_name(cell: Any) -> dict[str, Any]:
    """The mapping in a cell, or in its text as JSON; a parquet file holds None for the names that other rows have.

    >>> _by_name('{"a": 1, "b": null}')
    {'a': 1}
    """
    values = json.loads(cell) if isinstance(cell, str) else cell
    _check(isinstance(values, Mapping), f"expected a mapping from the names of models, got {cell!r:.80}")
    return {name: value for name, value in values.items() if value is not None}


def _media(cell: Any, show: Show) -> tuple[Media, ...]:
    return tuple(show(medium) for medium in picture(cell))


def _single(cell: Any, show: Show, name: str) -> Media:
    media = _media(cell, show)
    _check(len(media) == 1, f"{name}: a picture is missing")
    return media[0]


def _named(*parts: Any) -> str:
    return "/".join(str(part) for part in parts if str(part))


def _check(holds: bool, wrong: str) -> None:
    if not holds:
        raise InputError(wrong)


SETS: Mapping[str, PreferenceSet] = {
    "vl_rewardbench": PreferenceSet(
        "MMInstruction/VL-RewardBench", ("id", "query", "response", "image", "human_ranking"), vl_rewardbench, by_group
    ),
    "multimodal_rewardbench": PreferenceSet(
        "facebook/multimodal_rewardbench",
        ("ID", "Text", "Image", "Output1", "Output2", "Better", "Category"),
        multimodal_rewardbench,
        by_group,
    ),
    "rewardbench_2": PreferenceSet(
        "allenai/reward-bench-2", ("id", "prompt", "chosen", "rejected", "subset"), rewardbench_2, rewardbench_2_numbers
    ),
    "vilbench": PreferenceSet(
        "UCSC-VLAA/ViLBench", ("id", "question", "solutions", "correct"), vilbench, best_of_n_numbers
    ),
    "mr2bench": PreferenceSet("yinuoy/MR2Bench", ("prompt", "responses", "rankings"), mr2bench, ranking_numbers),
    "rabench": PreferenceSet(
        "RABench of zhuohaoyu/RewardAnything", ("principle", "prompt", "responses", "scores"), rabench, ranking_numbers
    ),
    "editreward_ranking": PreferenceSet(
        "TIGER-Lab/EditReward-Bench",
        ("id", "instruction", "source_image", "candidate_1", "candidate_2", "ranking"),
        editreward_ranking,
        editreward_ranking_numbers,
        split="train",
    ),
    "editreward_pairs": PreferenceSet(
        "EditScore/EditReward-Bench",
        ("key", "instruction", "input_image", "output_images", "dimension", "task_type"),
        editreward_pairs,
        editreward_pairs_numbers,
        split="train",
        strict=True,
    ),
}
