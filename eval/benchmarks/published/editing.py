"""Edited images: GEdit-Bench and ImgEdit-Bench, scored by a judge.

With `engine: flow` a policy makes them. With `engine: given` they were made before, and `edits` is their directory, in
the official layout. An edit that is missing or does not decode scores 0. With another judge and with our words for the
prompts, numbers differ from those of the papers.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from eval.benchmarks.base import EDITS, Benchmark, Item, Medium, Metrics, Row, default
from eval.benchmarks.cells import picture
from eval.benchmarks.metrics import groups, mean, prefixed, unparsed_share
from eval.benchmarks.scoring import by_protocol, prompt
from eval.records import Record
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.base import Rollout, Verdict, gold, unparsed
from rewards.chat_client.faults import Unreadable
from rewards.judge_client import replies
from rewards.judge_client.client import Judge
from rewards.judge_client.judge_media import Shown
from rewards.judge_client.judged_reward import verdict_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NO_EDIT = {"gedit": {"SC": 0.0, "PQ": 0.0}, "imgedit": {"score": 0.0, "as_said": 0.0}}


def gedit_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """A row of GEdit-Bench; its edit is `fullset/<task_type>/<language>/<key>.png`."""
    key, kind, language = str(row["key"]), str(row["task_type"]), str(row["instruction_language"])
    source = picture(row.get("input_image") or row.get("input_image_raw"))
    if len(source) != 1:
        raise InputError(f"{key}: input_image and input_image_raw are both empty; expected one image")
    meta = {"group": kind, "language": language, "intersection": bool(row.get("Intersection_exist"))}
    made = _made(row, "fullset", kind, language, key)
    yield _item(f"{language}/{key}", str(row["instruction"]), {}, (*source, *made), meta)


def gedit_metrics(records: Sequence[Record]) -> Metrics:
    """SC, PQ and overall by language, on all and on the intersection: means over groups, and over items (`micro`)."""
    numbers: Metrics = {}
    for language, spoken in groups(records, "language").items():
        both = [record for record in spoken if record.meta["intersection"]]
        for subset, some in (("full", spoken), ("intersection", both)):
            kinds = groups(some, "group")
            for name in ("SC", "PQ", "overall"):
                parts = {kind: mean(_part(record, name) for record in group) for kind, group in kinds.items()}
                numbers[f"judge_{language}.{subset}.{name}"] = mean(parts.values())
                if name == "overall":
                    numbers[f"judge_{language}.{subset}.micro"] = mean(_part(record, name) for record in some)
                    numbers |= prefixed(f"judge_{language}.{subset}", parts)
    return {**numbers, "unparsed": unparsed_share(records, "judge_overall")}


@by_protocol
async def gedit_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """sqrt(SC x PQ) / 10: SC is the lower of two semantic scores, PQ the lower of two scores of quality (GEdit-Bench).

    Gold: `instruction`. A missing edit is 0. `why` holds SC and PQ as JSON.
    """
    if len(rollout.all_media) < 2:
        return unparsed(json.dumps(NO_EDIT["gedit"]))
    source, edit = _shown(rollout)
    read = partial(_scores, count=2, low=0, high=10)
    semantic, quality = await asyncio.gather(
        verdict_of(judge, prompt("gedit_semantics"), data=_instruction(rollout), shown=(source, edit), parse=read),
        verdict_of(judge, prompt("gedit_quality"), data={}, shown=(edit,), parse=read),
    )
    sc, pq = min(semantic), min(quality)
    return Verdict(math.sqrt(sc * pq) / 10, json.dumps({"SC": sc, "PQ": pq, "prompt": prompt("gedit_semantics").name}))


def imgedit_items(row: Row, space: CoordinateSpace) -> Iterator[Item]:
    """An entry of ImgEdit-Bench's JSON: `id` is the path of the source, the edit is `<key>.png`."""
    key, kind = str(row["key"]), str(row.get("edit_type") or "hard")
    made = _made(row, key)
    yield _item(key, str(row["prompt"]), {"kind": kind}, (*picture(row["id"]), *made), {"kind": kind})


def imgedit_metrics(records: Sequence[Record]) -> Metrics:
    """The mean score from 0 to 5 over items, and of each type rounded to 2 decimals.

    Replies of the judge that cannot be read count 0; `excluding_unread` leaves them out, as the released code does.
    """
    scored = [record for record in records if record.scores.get("judge_imgedit") is not None]
    read = [record for record in scored if record.why["judge_imgedit"].startswith("{")]
    kinds = groups(scored, "kind")
    parts = {kind: _rounded(_score(record, "score") for record in kinds[kind]) for kind in kinds}
    return {
        "judge_imgedit": mean(_score(record, "score") for record in scored),
        "judge_imgedit.as_said": mean(_score(record, "as_said") for record in scored),
        "judge_imgedit.excluding_unread": mean(_score(record, "score") for record in read),
        "judge_imgedit.unread": float(len(scored) - len(read)),
        **prefixed("judge_imgedit", parts),
        "unparsed": unparsed_share(records, "judge_imgedit"),
    }


@by_protocol
async def imgedit_judged(rollout: Rollout, *, judge: Judge) -> Verdict:
    """The mean of three scores from 1 to 5, rounded to 2 decimals, divided by 5 (ImgEdit-Bench).

    By the protocol no score exceeds the first one. `as_said` in `why` is the mean without this rule, as in the released
    code. Gold: `instruction` and `kind`. A missing edit is 0.
    """
    if len(rollout.all_media) < 2:
        return unparsed(json.dumps(NO_EDIT["imgedit"]))
    scores = await verdict_of(
        judge,
        prompt("imgedit"),
        data={**_instruction(rollout), "kind": str(gold(rollout, "kind"))},
        shown=_shown(rollout),
        parse=partial(_scores, count=3, low=1, high=5),
    )
    score = round(fmean(min(value, scores[0]) for value in scores), 2)
    return Verdict(
        score / 5, json.dumps({"score": score, "as_said": round(fmean(scores), 2), "prompt": prompt("imgedit").name})
    )


def _made(row: Row, *parts: str) -> tuple[Medium, ...]:
    """The edited image that the run was given for a row; none if its policy makes them."""
    return (edited(Path(row[EDITS]), *parts),) if EDITS in row else ()


def edited(root: Path, *parts: str) -> Medium:
    """The edited image with this name and any of SUFFIXES below `root`; InputError for a name that leads outside."""
    stem = Path(os.path.normpath(root.joinpath(*parts)))
    if not stem.is_relative_to(root) or stem == root:
        raise InputError(f"{'/'.join(parts)!r} is not the name of a file below {root}")
    files = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    return Medium(str(next((file for file in files if file.is_file()), files[0])), made=True)


def _item(name: str, instruction: str, answer: Any, media: tuple[Medium, ...], meta: dict[str, Any]) -> Item:
    return Item(name, "edit", instruction, {"instruction": instruction, **answer}, media, meta)


def _part(record: Record, name: str) -> float | None:
    """SC, PQ or overall of a record, from 0 to 10; 0 if the reply of the judge is unreadable."""
    score = record.scores.get("judge_overall")
    if score is None or name == "overall":
        return None if score is None else 10 * score
    why = record.why["judge_overall"]
    return (json.loads(why) if why.startswith("{") else NO_EDIT["gedit"])[name]


def _score(record: Record, name: str) -> float:
    why = record.why["judge_imgedit"]
    return (json.loads(why) if why.startswith("{") else NO_EDIT["imgedit"])[name]


def _rounded(values: Iterable[float]) -> float | None:
    score = mean(values)
    return None if score is None else round(score, 2)


def _shown(rollout: Rollout) -> tuple[Shown, ...]:
    return tuple(Shown(item, label) for item, label in zip(rollout.all_media, ("Original:", "Edit:"), strict=False))


def _instruction(rollout: Rollout) -> dict[str, str]:
    return {"instruction": str(gold(rollout, "instruction"))}


def _scores(reply: dict[str, Any], *, count: int, low: float, high: float) -> list[float]:
    scores = reply.get("score")
    if not isinstance(scores, list) or len(scores) != count:
        raise Unreadable(f"score is {scores!r:.50}, not a list of {count} numbers")
    return [replies.in_range(score, "score", low, high) for score in scores]


_edits = partial(Benchmark, scorers={}, edits=True, needs="edited pictures, and a judge that sees pictures")
_imgedit = partial(
    _edits,
    items=imgedit_items,
    metrics=imgedit_metrics,
    known_by="judge_imgedit",
    split="",
    judged={"judge_imgedit": default("eval.benchmarks.published.editing:imgedit_judged")},
)
BENCHMARKS = [
    _edits(
        name="gedit",
        about="Edited images of a model. The root of semantics times quality, from 0 to 10.",
        hub="stepfun-ai/GEdit-Bench",
        columns=("key", "task_type", "instruction", "instruction_language"),
        items=gedit_items,
        metrics=gedit_metrics,
        known_by="judge_en.full.overall",
        split="train",
        judged={"judge_overall": default("eval.benchmarks.published.editing:gedit_judged")},
    ),
    _imgedit(
        name="imgedit_basic",
        about="Edited images of a model. The mean of three scores from 1 to 5, also by type of edit.",
        hub="sysuyy/ImgEdit, basic_edit.json",
        columns=("key", "id", "prompt", "edit_type"),
        rows=737,
    ),
    _imgedit(
        name="imgedit_hard",
        about="As imgedit_basic, on hard instructions.",
        hub="sysuyy/ImgEdit, UGE_edit.json",
        columns=("key", "id", "prompt"),
        rows=47,
    ),
]
