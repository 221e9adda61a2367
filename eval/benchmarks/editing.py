"""Edited pictures that a model made before: GEdit-Bench and ImgEdit-Bench, scored by a judge.

`edits` names the directory that they are in, in the official layout; run with `engine: given`. An edit that is missing
or does not decode scores 0. With another judge than the published one, and our words for its prompts, numbers are not
those of the papers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.benchmarks.base import EDITS, Benchmark, Item, Medium, Metrics, Row, default, picture
from eval.benchmarks.metrics import groups, mean, prefixed, unparsed_share
from eval.records import Record
from eval.scorers.editing import NO_EDIT
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def gedit(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of GEdit-Bench; its edit is `fullset/<task_type>/<language>/<key>.png`."""
    key, kind, language = str(row["key"]), str(row["task_type"]), str(row["instruction_language"])
    source = picture(row.get("input_image") or row.get("input_image_raw"))
    if len(source) != 1:
        raise InputError(f"{key}: input_image and input_image_raw hold no picture")
    meta = {"group": kind, "language": language, "intersection": bool(row.get("Intersection_exist"))}
    made = edited(Path(row[EDITS]), "fullset", kind, language, key)
    yield _item(f"{language}/{key}", str(row["instruction"]), {}, (*source, made), meta)


def gedit_metrics(records: Sequence[Record]) -> Metrics:
    """SC, PQ and overall by language, on all and on the intersection: means over groups, and over items (`micro`)."""
    found: Metrics = {}
    for language, spoken in groups(records, "language").items():
        both = [record for record in spoken if record.meta["intersection"]]
        for subset, some in (("full", spoken), ("intersection", both)):
            kinds = groups(some, "group")
            for name in ("SC", "PQ", "overall"):
                parts = {kind: mean(_part(one, name) for one in group) for kind, group in kinds.items()}
                found[f"judge_{language}.{subset}.{name}"] = mean(parts.values())
                if name == "overall":
                    found[f"judge_{language}.{subset}.micro"] = mean(_part(one, name) for one in some)
                    found |= prefixed(f"judge_{language}.{subset}", parts)
    return {**found, "unparsed": unparsed_share(records, "judge_overall")}


def imgedit(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An entry of ImgEdit-Bench's JSON: `id` is the path of the source, the edit is `<key>.png`."""
    key, kind = str(row["key"]), str(row.get("edit_type") or "hard")
    made = edited(Path(row[EDITS]), key)
    yield _item(key, str(row["prompt"]), {"kind": kind}, (*picture(row["id"]), made), {"kind": kind})


def imgedit_metrics(records: Sequence[Record]) -> Metrics:
    """The mean score from 0 to 5 over items, and of each type rounded to 2 decimals.

    Replies of the judge that cannot be read count 0; `excluding_unread` leaves them out, as the released code does.
    """
    scored = [record for record in records if record.scores.get("judge_imgedit") is not None]
    read = [record for record in scored if record.why["judge_imgedit"].startswith("{")]
    parts = {kind: _rounded(_score(one, "score") for one in group) for kind, group in groups(scored, "kind").items()}
    return {
        "judge_imgedit": mean(_score(one, "score") for one in scored),
        "judge_imgedit.as_said": mean(_score(one, "as_said") for one in scored),
        "judge_imgedit.excluding_unread": mean(_score(one, "score") for one in read),
        "judge_imgedit.unread": float(len(scored) - len(read)),
        **prefixed("judge_imgedit", parts),
        "unparsed": unparsed_share(records, "judge_imgedit"),
    }


def edited(root: Path, *parts: str) -> Medium:
    """The edited picture of that name, with any of the usual endings, below `root` and never outside."""
    stem = Path(os.path.normpath(root.joinpath(*parts)))
    if not stem.is_relative_to(root) or stem == root:
        raise InputError(f"{'/'.join(parts)!r} names no file below {root}")
    files = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    return Medium(str(next((file for file in files if file.is_file()), files[0])), made=True)


def _item(name: str, instruction: str, answer: Any, media: tuple[Medium, ...], meta: dict[str, Any]) -> Item:
    return Item(name, "edit", instruction, {"instruction": instruction, **answer}, media, meta)


def _part(record: Record, name: str) -> float | None:
    """SC, PQ or overall of a record, from 0 to 10; what the judge said unreadably is 0."""
    score = record.scores.get("judge_overall")
    if score is None or name == "overall":
        return None if score is None else 10 * score
    why = record.why["judge_overall"]
    return (json.loads(why) if why.startswith("{") else NO_EDIT["gedit"])[name]


def _score(record: Record, name: str) -> float:
    why = record.why["judge_imgedit"]
    return (json.loads(why) if why.startswith("{") else NO_EDIT["imgedit"])[name]


def _rounded(values: Iterable[float]) -> float | None:
    found = list(values)
    return round(fmean(found), 2) if found else None


_IMGEDIT = {"judge_imgedit": default("eval.scorers.editing:imgedit")}
BENCHMARKS = [
    Benchmark(
        "gedit", "stepfun-ai/GEdit-Bench", ("key", "task_type", "instruction", "instruction_language"), gedit, {},
        gedit_metrics, "train", edits=True, needs="edited pictures, and a judge that sees pictures",
        judged={"judge_overall": default("eval.scorers.editing:gedit")},
    ),
    Benchmark(
        "imgedit_basic", "sysuyy/ImgEdit, basic_edit.json", ("key", "id", "prompt", "edit_type"), imgedit, {},
        imgedit_metrics, "", 737, edits=True, judged=_IMGEDIT, needs="edited pictures, and a judge that sees pictures",
    ),
    Benchmark(
        "imgedit_hard", "sysuyy/ImgEdit, UGE_edit.json", ("key", "id", "prompt"), imgedit, {}, imgedit_metrics, "", 47,
        edits=True, judged=_IMGEDIT, needs="edited pictures, and a judge that sees pictures",
    ),
]  # fmt: skip
