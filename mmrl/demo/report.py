"""The demo's report: scores before and after training, the curves between, and answers to look at, in one HTML file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from eval.records import ALL, TOTAL, Record, read_records, read_run
from eval.report import decoding
from mmrl.core.config import InputError
from mmrl.core.html import Html, element, page, table, write_page
from mmrl.pages.cards import Exhibit, card
from mmrl.pages.curves import charts
from mmrl.pages.rollout_pages import record_answer, record_exhibit

OUTCOMES = ("improved", "unchanged", "got worse")
CHANGED_MOST = (
    "Of each task the question whose greedy answer gained most. These are the best cases; a fair choice, with what got "
    "worse, stands further below."
)
DECODINGS = {"sampled": "Sampled at the training temperature", "greedy": "Greedy"}


@dataclass(frozen=True, slots=True)
class Pair:
    """A held-out question with its greedy answers before and after training."""

    before: Record
    after: Record

    @property
    def gain(self) -> float:
        """By how much its total score rose."""
        return (self.after.total or 0.0) - (self.before.total or 0.0)

    @property
    def outcome(self) -> str:
        """How its total score changed."""
        return OUTCOMES[1] if abs(self.gain) < 1e-9 else OUTCOMES[0] if self.gain > 0 else OUTCOMES[2]


def write_report(
    out: Path, *, summary: list[dict[str, Any]], runs: dict[str, Path], training: Path, samples: int = 12
) -> Path:
    """Write `out/report.html` from the rows of `summary`, the evaluation directories `runs` and the output of training.

    `runs` has `greedy_before` and `greedy_after`, whose answers are shown, and any others.
    """
    pairs = paired(read_records(runs["greedy_before"]), read_records(runs["greedy_after"]))
    picked = chosen(pairs, samples)
    content = page(
        "Before and after reinforcement learning",
        headline(summary),
        element("p", element("strong", learnt(summary))),
        element("h2", "Answers that changed most"),
        element("p", CHANGED_MOST, class_="dim"),
        *(card(_exhibit(pair, runs), badge=_change(pair)) for pair in changed_most(pairs)),
        element("h2", "During training"),
        charts(training),
        element("h2", "Held-out scores"),
        *(part for decoded in DECODINGS for part in scores(summary, decoded)),
        element("p", _how_to_read(runs), class_="dim"),
        element("h2", f"{len(picked)} questions before and after"),
        element("p", _how_chosen(pairs, picked), class_="dim"),
        *(card(_exhibit(pair, runs), badge=_change(pair)) for pair in picked),
        element("h2", "The evaluations"),
        evaluations(runs),
    )
    return write_page(content, out / "report.html")


def headline(summary: Sequence[Mapping[str, Any]]) -> Html:
    """The mean total over all tasks in large, for each decoding."""
    parts = []
    for row in sorted(summary, key=lambda row: list(DECODINGS).index(row["decoding"])):
        if row["task"] == ALL and row["reward"] == TOTAL:
            prior = "" if row["prior"] is None else f"; {row['prior']:.3f} from the text only"
            note = f"{row['difference']:+.3f}, 95 % interval {_interval(row)}{prior}"
            numbers = element("strong", f"{row['before']:.3f} → {row['after']:.3f}")
            parts.append(
                element(
                    "div",
                    f"{DECODINGS[row['decoding']]}, {row['n']} questions",
                    numbers,
                    element("span", note, class_="dim"),
                )
            )
    return element("div", *parts, class_="headline")


def learnt(summary: Sequence[Mapping[str, Any]]) -> str:
    """One line: the tasks whose greedy score rose for certain, those whose score fell, and those left in doubt."""
    told: dict[str, list[str]] = {"Learnt": [], "Unlearnt": [], "No certain change": []}
    for row in sorted(summary, key=lambda row: -row["difference"]):
        if row["decoding"] == "greedy" and row["reward"] == TOTAL and row["task"] != ALL:
            rose, fell = (row["low"] or 0.0) > 0, (row["high"] or 0.0) < 0
            change = f"{row['task']} {row['before']:.2f} → {row['after']:.2f}"
            told["Learnt" if rose else "Unlearnt" if fell else "No certain change"].append(change)
    return " ".join(f"{word}: {', '.join(changes)}." for word, changes in told.items() if changes)


def scores(summary: Sequence[Mapping[str, Any]], decoded: str) -> list[Html]:
    """The table of one decoding: totals, and every reward of every task."""
    rows = [row for row in summary if row["decoding"] == decoded]
    tasks = Counter(row["reward"] for row in rows if row["task"] != ALL)
    rows = [
        row for row in rows if row["task"] != ALL or tasks[row["reward"]] != 1
    ]  # the mean over one task would repeat it
    if not rows:
        return []
    reach = max([abs(row[end]) for row in rows for end in ("low", "high") if row[end] is not None], default=1.0) or 1.0
    head = ["task", "reward", "before", "after", "difference", "95 % interval", "", "text only", "n"]
    body = [
        [
            row["task"],
            row["reward"],
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            f"{row['difference']:+.3f}",
            _interval(row),
            _span(row, reach),
            "–" if row["prior"] is None else f"{row['prior']:.3f}",
            str(row["n"]),
        ]
        for row in rows
    ]
    strong = [place for place, row in enumerate(rows) if row["task"] == ALL and row["reward"] == TOTAL]
    return [element("h3", DECODINGS[decoded]), table(head, body, texts=2, strong=strong)]


def evaluations(runs: Mapping[str, Path]) -> Html:
    """A row for each evaluation: its model, how it was drawn, and what went wrong."""
    head = ["evaluation", "model", "decoding", "answers", "cut off", "unreadable"]
    body = []
    for name, place in runs.items():
        info, records = read_run(place), read_records(place)
        drawn = f"{decoding(info.protocol)}{', without pictures' if info.protocol['blind'] else ''}"
        cut = sum("truncated" in record.flags for record in records) / max(len(records), 1)
        unread = sum("unparsed" in record.kinds.values() for record in records) / max(len(records), 1)
        body.append([name, info.model, drawn, str(len(records)), f"{cut:.1%}", f"{unread:.1%}"])
    return table(head, body, texts=3)


def paired(before: Sequence[Record], after: Sequence[Record]) -> list[Pair]:
    """The first draws of the questions that both runs scored, in order of their ids."""
    olds, news = ({r.item_id: r for r in run if r.draw == 0 and r.total is not None} for run in (before, after))
    both = sorted(olds.keys() & news.keys())
    if not both:
        raise InputError("the greedy runs before and after have no scored question in common; evaluate the same data")
    return [Pair(olds[item], news[item]) for item in both]


def chosen(pairs: Sequence[Pair], samples: int) -> list[Pair]:
    """Up to `samples` pairs: tasks take turns, and so do the outcomes, beginning at another one with each task.

    Where a task has none left of an outcome, the next outcome has its turn. If any pair got worse, one of those is in.
    """
    waiting: dict[str, dict[str, list[Pair]]] = defaultdict(lambda: {outcome: [] for outcome in OUTCOMES})
    for pair in reversed(pairs):
        waiting[pair.before.task][pair.outcome].append(pair)
    picked: list[Pair] = []
    tasks = sorted(waiting)
    for turn in count():
        if len(picked) == min(samples, len(pairs)):
            break
        outcomes = waiting[tasks[turn % len(tasks)]]
        wanted = turn % len(tasks) + turn // len(tasks)
        order = [OUTCOMES[(wanted + i) % len(OUTCOMES)] for i in range(len(OUTCOMES))]
        stack = next((outcomes[outcome] for outcome in order if outcomes[outcome]), None)
        if stack:
            picked.append(stack.pop())
    worse = next((pair for pair in pairs if pair.outcome == OUTCOMES[2]), None)
    if picked and worse and all(pair.outcome != OUTCOMES[2] for pair in picked):
        picked[-1] = worse
    return sorted(picked, key=lambda pair: pair.before.task)


def changed_most(pairs: Sequence[Pair]) -> list[Pair]:
    """The pair of each task that gained most, the largest gain first; tasks without a gain are left out."""
    best: dict[str, Pair] = {}
    for pair in pairs:
        if pair.gain > max(1e-9, best[pair.before.task].gain if pair.before.task in best else 0.0):
            best[pair.before.task] = pair
    return sorted(best.values(), key=lambda pair: -pair.gain)


def _exhibit(pair: Pair, runs: Mapping[str, Path]) -> Exhibit:
    sides = {"before": pair.before, "after": pair.after}
    answers = [record_answer(one, runs[f"greedy_{side}"], kind=side, label=side) for side, one in sides.items()]
    return replace(record_exhibit([pair.before], runs["greedy_before"]), answers=answers)


def _change(pair: Pair) -> str:
    return f"{pair.outcome}: {pair.before.total:.2f} → {pair.after.total:.2f}"


def _interval(row: Mapping[str, Any]) -> str:
    return "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"


def _span(row: Mapping[str, Any], reach: float) -> Html | None:
    """The interval as a line and the difference as a dot; a second line marks zero."""
    if row["low"] is None:
        return None
    low, middle, high = (60 + row[key] / reach * 55 for key in ("low", "difference", "high"))
    zero = element("path", d="M60 0V18", class_="zero")
    above, below = round(row["low"], 3) > 0, round(row["high"], 3) < 0  # as in the printed numbers
    colour = "var(--after)" if above else "var(--before)" if below else "var(--dim)"
    line = element("path", d=f"M{low:.1f} 9H{high:.1f}", stroke=colour, stroke_width=2)
    dot = element("circle", cx=f"{middle:.1f}", cy=9, r=3.5, fill=colour)
    return element(
        "svg", zero, line, dot, viewBox="0 0 120 18", width=120, height=18, class_="span", aria_hidden="true"
    )


def _how_to_read(runs: Mapping[str, Path]) -> str:
    prior = f" Text only: {read_run(runs['blind']).model}, asked without the pictures." if "blind" in runs else ""
    return (
        "Both models answer the same questions. Intervals are 95 % bootstrap intervals of the paired difference, over "
        f"pictures. A blue line is entirely above zero, an orange line entirely below.{prior}"
    )


def _how_chosen(pairs: Sequence[Pair], picked: Sequence[Pair]) -> str:
    counted = (Counter(pair.outcome for pair in some) for some in (pairs, picked))
    total, chosen = (", ".join(f"{number[name]} {name}" for name in OUTCOMES) for number in counted)
    return (
        f"Of the {len(pairs)} questions answered greedily, by total score: {total}. Shown here: {chosen}. The tasks "
        "take turns, and in each task the three outcomes take turns, as far as there are any. The order is that of the "
        "ids, which are hashes. Nothing was picked by hand, and rare outcomes are shown more often than they occur. "
        "Boxes and spans are drawn as the rewards read them."
    )
