"""Evaluations as one page each: a run with its scores and its best and worst items, or two runs with what flipped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from statistics import fmean

from eval.compare import compare
from eval.records import ALL, TOTAL, Record, read_records
from eval.report import about, decoded, report, setting, title, warnings
from eval.report_tables import ReportTable, comparison_table, report_tables
from mmrl.core.html import Html, element, joined, page, table, write_page
from mmrl.pages.cards import card
from mmrl.pages.rollout_pages import record_answer, record_exhibit
from rewards.parse.extract import yes_no

SHOWN = 6  # items of each kind


def run_page(out: Path, place: Path, *, limit: int = SHOWN) -> Path:
    """The report of the run in `out` as a page at `place`."""
    content, records = report(out), read_records(out)
    decode = content["run"].get("decode")
    items = _by_item(records)
    ranked = sorted((item for item in items if _total(item) is not None), key=lambda item: _total(item) or 0.0)
    worst = in_turn(ranked)[:limit]
    best = in_turn([item for item in ranked[::-1] if item not in worst])[:limit]
    body = page(
        title(content),
        element("p", about(content)),
        *(element("p", warning) for warning in warnings(content)),
        element("p", decoded(decode)) if decode else None,
        *map(_table, report_tables(content)),
        _outcomes(records),
        _gallery("Worst items", worst, out),
        _gallery("Best items", best, out),
    )
    return write_page(body, place)


def compare_page(before: Path, after: Path, place: Path, *, limit: int = SHOWN) -> Path:
    """How the run in `after` differs from the one in `before`, as a page at `place`, with the items that flipped."""
    content = compare(before, after)
    old, new = ({item[0].item_id: item for item in _by_item(read_records(out))} for out in (before, after))
    whole = next(row for row in content["rows"] if (row["task"], row["reward"]) == (ALL, TOTAL))
    changes = [
        f"{name}: {setting(change['before'])} → {setting(change['after'])}"
        for name, change in content["protocol"].items()
    ]
    sections = [
        _flips(kind, [(old[item], new[item]) for item in whole[key][:limit]], len(whole[key]), (before, after))
        for kind, key in (("Gained", "gained"), ("Lost", "lost"))
    ]
    body = page(
        f"{after.name} against {before.name}",
        *(element("p", change) for change in changes),
        _table(comparison_table(content["rows"])),
        *sections,
    )
    return write_page(body, place)


def _table(given: ReportTable) -> Html:
    return joined(element("h2", given.title), table(given.columns, given.rows, texts=given.texts, strong=given.strong))


def _outcomes(records: Sequence[Record]) -> Html | None:
    """How answers of each task relate to the gold ones: for yes and no, and letters, a table of confusion."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for record in records:
        gold = record.gold.get("choice", record.gold.get("yesno")) if isinstance(record.gold, Mapping) else None
        if gold is not None:
            right = ("yes" if gold else "no") if isinstance(gold, bool) else str(gold)
            counts[record.task][right, _word_of(record)] += 1
    if not counts:
        return None
    sections = [element("h2", "Confusion by task")]
    for task, pairs in sorted(counts.items()):
        columns = sorted({answer for _, answer in pairs})
        rows = [
            [gold, *(str(pairs[gold, answer]) for answer in columns)] for gold in sorted({gold for gold, _ in pairs})
        ]
        sections += [element("h3", task), table(["gold, answered:", *columns], rows)]
    return joined(*sections)


def _word_of(record: Record) -> str:
    """An answer in a word: its letter, yes, no, other or unparsed."""
    if "unparsed" in record.kinds.values() or record.answer_text is None:
        return "unparsed"
    if isinstance(record.gold.get("yesno"), bool):
        said = yes_no(record.answer_text)  # as the reward reads it
        return "other" if said is None else "yes" if said else "no"
    text = record.answer_text.strip(" .()\"'*").lower()
    return text.upper() if len(text) == 1 and text.isalpha() else "other"


def _gallery(title: str, items: Sequence[Sequence[Record]], run: Path) -> Html | None:
    if not items:
        return None
    return joined(element("h2", title), *(card(record_exhibit(item, run)) for item in items))


def _flips(
    title: str, items: Sequence[tuple[Sequence[Record], Sequence[Record]]], total: int, runs: tuple[Path, Path]
) -> Html:
    cards = []
    for old, new in items:
        answers = [record_answer(record, runs[0], kind="before", label="A") for record in old[:1]]
        answers += [record_answer(record, runs[1], kind="after", label="B") for record in new[:1]]
        cards.append(card(replace(record_exhibit(old, runs[0]), answers=answers)))
    return joined(element("h2", title), element("p", f"{total} items, {len(items)} shown."), *cards)


def in_turn(items: Sequence[Sequence[Record]]) -> list[Sequence[Record]]:
    """Items in their order, but the tasks take turns, so that none fills a gallery."""
    queues: dict[str, list[Sequence[Record]]] = defaultdict(list)
    for item in items:
        queues[item[0].task].append(item)
    rounds = zip_longest(*queues.values())
    return [item for round_ in rounds for item in round_ if item is not None]


def _by_item(records: Sequence[Record]) -> list[list[Record]]:
    items: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        items[record.item_id].append(record)
    return list(items.values())


def _total(draws: Sequence[Record]) -> float | None:
    totals = [record.total for record in draws if record.total is not None]
    return fmean(totals) if totals else None
