"""A run in the files of other harnesses: those of lmms-eval, and the prediction tables of VLMEvalKit."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from statistics import fmean
from string import ascii_uppercase
from typing import Any

from eval.benchmarks import BENCHMARKS
from eval.benchmarks.load import ITEM
from eval.benchmarks.published.choice import TURN
from eval.benchmarks.published.documents import submission
from eval.records import ALL, RECORDS, TOTAL, Record, RunInfo, read_records, read_run
from eval.report import check_scorer, report
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError, nearest
from mmrl.core.files import write_atomic
from mmrl.core.messages import pieces_of


def export(out: Path, layout: str, to: Path) -> list[Path]:
    """The files written to directory `to`: the run in `out` in the layout `lmms_eval`, `vlmevalkit` or `docvqa`."""
    if layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}; {nearest(layout, LAYOUTS)}")
    info, records = read_run(out), read_records(out)
    check_scorer(out, info, records)
    if any(record.made for record in records):
        raise InputError(f"{out} holds pictures, for which {layout} has no place; they are in {out / 'made'}")
    to.mkdir(parents=True, exist_ok=True)
    files = LAYOUTS[layout](out, info, records)
    for name, content in files.items():
        write_atomic(to / name, content)
    return [to / name for name in files]


def lmms_eval(out: Path, info: RunInfo, records: Sequence[Record]) -> dict[str, str]:
    """`<date>_results.json`, and `<date>_samples_<task>.jsonl` for every task, a line per item with all its draws."""
    stamp = datetime.fromtimestamp((out / RECORDS).stat().st_mtime, UTC).strftime("%Y%m%d_%H%M%S")
    content = report(out)
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_task[record.task].append(record)
    benchmark = info.protocol["benchmark"]
    several = len(by_task) > 1 or benchmark not in BENCHMARKS
    names = {task: _plain(f"{benchmark}_{task}" if several else benchmark) for task in by_task}
    results: dict[str, dict[str, Any]] = {name: {"alias": name} for name in names.values()}
    for row in content["rows"]:
        if row["task"] != ALL:
            reward = row["reward"]
            results[names[row["task"]]] |= {f"{reward},none": row["mean"], f"{reward}_stderr,none": row["error"]}
    if not several:  # the numbers that the benchmark reports
        [name] = results
        numbers = {f"{key},none": value for key, value in (content["metrics"] or {}).items() if value is not None}
        results[name] = {**numbers, **results[name]}
    items = {task: _items(task_records) for task, task_records in by_task.items()}
    counts = {names[task]: dict.fromkeys(("original", "effective"), len(items[task])) for task in items}
    whole = {
        "results": results,
        "group_subtasks": {name: [] for name in results},
        "configs": {name: {"task": name, "metadata": info.protocol} for name in results},
        "versions": dict.fromkeys(results, info.protocol["version"]),
        "n-shot": dict.fromkeys(results, 0),
        "higher_is_better": {
            name: {key.partition(",")[0]: True for key in scores if "," in key and "_stderr," not in key}
            for name, scores in results.items()
        },
        "n-samples": counts,
        "config": {"model": info.model, "model_args": "", "gen_kwargs": "", "scorer": info.scorer},
        "model_source": "mmrl",
        "model_name": info.model,
        "date": stamp,
    }
    files = {f"{stamp}_results.json": json.dumps(whole, indent=2, ensure_ascii=False) + "\n"}
    for task, task_items in items.items():
        lines = [json.dumps(_sample(number, draws), ensure_ascii=False) for number, draws in enumerate(task_items)]
        files[f"{stamp}_samples_{names[task]}.jsonl"] = "\n".join(lines) + "\n"
    return files


def vlmevalkit(out: Path, info: RunInfo, records: Sequence[Record]) -> dict[str, str]:
    """`<model>_<benchmark>.tsv` and `.json`: index, question, options, answer and prediction, without the pictures."""
    if any(record.draw for record in records):
        raise InputError(f"{out} holds several draws an item, and a VLMEvalKit table one; run with sampling.samples=1")
    rows = [_table_row(record) for record in records]
    columns = [*dict.fromkeys(key for row in rows for key in row if key != "prediction"), "prediction"]
    name = _plain(f"{Path(info.model).name}_{info.protocol['benchmark']}")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return {f"{name}.tsv": text.getvalue(), f"{name}.json": json.dumps(rows, indent=2, ensure_ascii=False) + "\n"}


def docvqa(out: Path, info: RunInfo, records: Sequence[Record]) -> dict[str, str]:
    """`submission.json` of DocVQA and InfographicVQA: the answers to questions whose gold is not public."""
    name = info.protocol["benchmark"]
    if not name.startswith(("docvqa", "infovqa")) or any(record.draw for record in records):
        raise InputError(f"{out} is a run of {name}; a submission takes one draw of docvqa_test or infovqa_test")
    return {"submission.json": json.dumps(submission(records), indent=2, ensure_ascii=False) + "\n"}


# A key of an item's meta: the column of VLMEvalKit's files.
GROUPED = {"category": "category", "ability": "l2-category", "subject": "subject", "kind": "type", "subtask": "subtask"}
LAYOUTS = {"lmms_eval": lmms_eval, "vlmevalkit": vlmevalkit, "docvqa": docvqa}


def _items(records: Sequence[Record]) -> list[list[Record]]:
    """The draws of each item."""
    ordered = sorted(records, key=lambda record: (record.item_id, record.draw))
    return [list(draws) for _, draws in groupby(ordered, key=lambda record: record.item_id)]


def _sample(number: int, draws: Sequence[Record]) -> dict[str, Any]:
    """A line of a samples file; a score is the mean of the draws that have one."""
    first = draws[0]
    question, target = question_of(first), dumps(first.gold)
    doc = {"id": first.item_id, "question": question, "answer": first.gold, "source": first.source}
    responses = [record.response for record in draws]
    answers = [record.answer_text or "" for record in draws]
    scores: dict[str, float | None] = {}
    for name in first.scores:
        values = [score for record in draws if (score := record.scores.get(name)) is not None]
        scores[name] = fmean(values) if values else None
    totals = [record.total for record in draws if record.total is not None]
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "input": question,
        "resps": responses[0] if len(draws) == 1 else responses,
        "filtered_resps": answers[0] if len(draws) == 1 else answers,
        "doc_hash": _hash(dumps(doc)),
        "prompt_hash": _hash(question),
        "target_hash": _hash(target),
        **scores,
        TOTAL: fmean(totals) if totals else None,
    }


def _table_row(record: Record) -> dict[str, Any]:
    gold = record.gold if isinstance(record.gold, Mapping) else {"answer": record.gold}
    options = dict(zip(ascii_uppercase, gold.get("options") or (), strict=False))
    answer = next((gold[key] for key in ("choice", "number", "math", "answer") if key in gold), None)
    if "yesno" in gold:
        answer = "Yes" if gold["yesno"] else "No"
    if gold.get("text"):
        answer = gold["text"][0] if isinstance(gold["text"], list) else gold["text"]
    known = {"index": _index(record), "question": question_of(record), **options, **_groups(record)}
    return {**known, "answer": dumps(gold) if answer is None else answer, "prediction": record.response}


def _index(record: Record) -> Any:
    """The index of an item in its published file; a rotation of options adds a million for each turn."""
    item = str(record.meta.get(ITEM, record.item_id))
    number, slash, turn = item.partition("/")
    if number.isdecimal() and turn.isdecimal():
        return int(number) + TURN * int(turn)
    return int(item) if item.isdecimal() and not slash else item


def _groups(record: Record) -> dict[str, Any]:
    """The columns by which the benchmark groups its items, under their published names."""
    return {
        GROUPED[name]: value
        for name in GROUPED
        if (value := record.meta.get(name)) is not None and isinstance(value, str | int | float)
    }


def question_of(record: Record) -> str:
    """The text of the prompt, `<image>` and `<video>` where the media are."""
    return "\n".join(piece for message in record.prompt for piece in pieces_of(message["content"]))


def _plain(name: str) -> str:
    """A name that is safe as a file's."""
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "run"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
