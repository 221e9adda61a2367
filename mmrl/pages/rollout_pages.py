"""`mmrl view OUT`: rollouts of a training run, records of an evaluation or samples of a dataset, as a page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.schema import Sample
from eval.records import RECORDS, Record, read_records, read_run
from eval.report import decoding
from mmrl.core.config import InputError, nearest
from mmrl.core.html import Html, element, page
from mmrl.core.media.item import Media
from mmrl.core.media.kept import located
from mmrl.grpo.rollout_rows import files_by_step, rollout_rows
from mmrl.pages.cards import Answer, Exhibit, card
from mmrl.pages.curves import charts
from rewards import Verdict

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shown:
    """The content of a page: some of the `total` exhibits."""

    title: str
    about: str
    exhibits: list[Exhibit]
    total: int
    curves: Html | None = None


def chosen(out: Path, *, step: int | None, task: str | None, limit: int) -> Shown:
    """The exhibits of the directory `out`, of any kind."""
    kind = kind_of(out)
    if kind == "training run":
        return rollouts(out, step, task, limit)
    if kind and step is not None:
        raise InputError(f"--step {step} is for training runs, {out} is the output of another job ({kind})")
    if kind == "supervised training":
        return Shown(
            f"Training in {out}", "A supervised stage has no rollouts; these are its curves.", [], 0, charts(out)
        )
    if kind == "evaluation":
        return records(out, task, limit)
    if kind == "dataset":
        return samples(out, task, limit)
    inside = [str(place) for place in sorted([*out.glob("*"), *out.glob("*/*")]) if kind_of(place)]
    hint = f"look at one of {', '.join(inside)}" if inside else "give the output of mmrl train, eval run or data build"
    raise InputError(f"{out} holds no rollouts, records or samples; {hint}")


def kind_of(out: Path) -> str | None:
    """The kind of run that wrote a directory."""
    signs = {
        "training run": "rollouts",
        "supervised training": "metrics.jsonl",
        "evaluation": RECORDS,
        "dataset": "manifest.json",
    }
    return next((kind for kind, sign in signs.items() if (out / sign).exists()), None)


def as_page(selection: Shown) -> Html:
    """The page."""
    about = [element("p", text, class_="dim") for text in (selection.about, left_out(selection)) if text]
    return page(selection.title, *about, selection.curves, *map(card, selection.exhibits))


def left_out(selection: Shown) -> str:
    """A sentence on what is not on the page, or nothing."""
    rest = selection.total - len(selection.exhibits)
    return (
        f"{rest:,} of {selection.total:,} prompts are not shown; those shown are evenly spread. --limit shows more."
        if rest
        else ""
    )


def rollouts(out: Path, step: int | None, task: str | None, limit: int) -> Shown:
    """The prompts of one step of a training run, each with its group of completions."""
    files = files_by_step(out)
    step = _newest(files, task) if step is None else step
    if step not in files:
        raise InputError(
            f"{out} has no rollouts of step {step}; it has {len(files)} steps, from {min(files)} to {max(files)}"
        )
    groups = _grouped(rollout_rows(files[step]), lambda row: row["id"])
    kept = _of_task(groups, task, lambda group: group[0]["task"])
    about = f"Step {step} of the {len(files)} steps from {min(files)} to {max(files)}; --step shows another."
    exhibits = [_rollout_exhibit(group, out) for group in spread(kept, len(kept), limit)]
    return Shown(f"Rollouts of {out}", about, exhibits, len(kept), charts(out))


def _newest(files: Mapping[int, Path], task: str | None) -> int:
    """The last step, or the last one with rollouts of the task if there is one."""
    import pyarrow.parquet as pq

    for step in sorted(files, reverse=True) if task is not None else ():
        try:
            tasks = pq.read_table(files[step], columns=["task"])["task"].to_pylist()
        except (OSError, ValueError):  # damaged: said when it is read
            return step
        if task in tasks:
            return step
    return max(files)


def records(out: Path, task: str | None, limit: int) -> Shown:
    """The prompts of an evaluation, each with its draws."""
    info = read_run(out)
    groups = _grouped(read_records(out), lambda record: record.item_id)
    kept = _of_task(groups, task, lambda group: group[0].task)
    protocol = info.protocol
    blind = ", asked without the media" if protocol["blind"] else ""
    about = f"{protocol['benchmark']} ({protocol['split']}), model {info.model}, {decoding(protocol)}{blind}."
    exhibits = [record_exhibit(group, out) for group in spread(kept, len(kept), limit)]
    return Shown(f"Records of {out}", about, exhibits, len(kept))


def samples(out: Path, task: str | None, limit: int) -> Shown:
    """The samples of a dataset with their gold answers."""
    tasks = read_manifest(out)["tasks"]
    if task is not None and task not in tasks:
        raise InputError(f"no task {task!r} in {out}; {nearest(task, tasks)}")
    total = tasks[task] if task else sum(tasks.values())
    kept = (sample for sample in read_samples(out) if task in (None, sample.task))
    about = ", ".join(f"{count:,} {name}" for name, count in sorted(tasks.items()))
    exhibits = [_sample_exhibit(sample) for sample in spread(kept, total, limit)]
    return Shown(f"Samples of {out}", f"{about}.", exhibits, total)


def record_exhibit(draws: Sequence[Record], run: Path) -> Exhibit:
    """The records of one item, in the folder `run`, as an exhibit."""
    first = draws[0]
    answers = [record_answer(record, run, kind="answer", label=str(record.draw)) for record in draws]
    media, golds = located(first.media, run), located(first.gold_media, run)
    about = f"{first.source} · {first.item_id}"
    return Exhibit(first.task, about, first.prompt, first.gold, media, answers, run, golds)


def record_answer(record: Record, run: Path, *, kind: str, label: str) -> Answer:
    """The completion of a record, or what was made in the folder `run`, with its verdicts."""
    total = [] if record.total is None else [f"total {record.total:.2f}"]
    verdicts = {
        name: Verdict(score, record.why.get(name, ""), record.kinds[name])  # pyright: ignore[reportArgumentType]
        for name, score in record.scores.items()
    }
    facts = [*total, *([] if record.made else [f"{record.tokens} tokens"]), *record.flags]
    return Answer(
        kind,
        label,
        record.opened + record.response,
        verdicts,
        facts,
        record.meta.get("space", "pixel"),
        record.seen_size,
        record.turns,
        located(record.made, run),
        located(record.film, run),
    )


def spread(items: Iterable[Item], total: int, limit: int) -> list[Item]:
    """`limit` of the `total` items in their order, evenly spread; all if there are no more.

    >>> spread("abcdefgh", 8, 3)
    ['a', 'c', 'f']
    """
    places = {i * total // limit for i in range(limit)} if total > limit else range(total)
    return [item for place, item in enumerate(items) if place in places]


def _rollout_exhibit(group: Sequence[Mapping[str, Any]], run: Path) -> Exhibit:
    first = group[0]
    answers = [
        Answer(
            "answer",
            str(row["draw"]),
            row.get("opened", "") + row["completion"],
            _verdicts(row),
            (
                f"advantage {row['advantage']:+.2f}",
                *([] if row.get("made") else [f"{row['tokens']} tokens"]),
                *(["injected"] if row.get("injected") else []),
                *([f"{row['branch_after']} of them shared with {row['branch_of']}"] if row.get("branch_after") else []),
            ),
            row["space"],
            row["seen_size"],
            json.loads(row.get("turns") or "[]"),
            *([Media(**entry) for entry in row.get(column, ())] for column in ("made", "film")),
        )
        for row in group
    ]
    media, golds = located(first["media"], run), located(first.get("gold_media", ()), run)
    asked = json.loads(first["prompt"]), json.loads(first["answer"])
    return Exhibit(first["task"], first["id"], *asked, media, answers, run, golds)


def _verdicts(row: Mapping[str, Any]) -> dict[str, Verdict]:
    names = [column.removeprefix("score/") for column in row if column.startswith("score/")]
    try:
        return {name: Verdict(row[f"score/{name}"], row[f"why/{name}"], row[f"kind/{name}"]) for name in names}
    except (KeyError, ValueError) as error:
        raise InputError(f"the rollouts of sample {row['id']} are damaged: {error}") from None


def _sample_exhibit(sample: Sample) -> Exhibit:
    names = sample.source, sample.meta.get("split", ""), sample.meta.get("where", ""), sample.id
    about = " · ".join(str(name) for name in names if name)
    return Exhibit(sample.task, about, sample.prompt, sample.answer, sample.media)


def _grouped(items: Iterable[Item], key: Callable[[Item], str]) -> list[list[Item]]:
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())


def _of_task(groups: list[list[Item]], task: str | None, task_of: Callable[[list[Item]], str]) -> list[list[Item]]:
    """The groups of a task, all if none is named."""
    known = {task_of(group) for group in groups}
    if task is not None and task not in known:
        raise InputError(f"no task {task!r} there; {nearest(task, known)}")
    return [group for group in groups if task in (None, task_of(group))]
