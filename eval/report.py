"""Reports: the mean of every reward on every task, with its interval and the shares of failures."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from eval.benchmarks.load import metrics_of
from eval.metrics import Estimate, mean_estimate
from eval.pass_at_k import draw_rows
from eval.records import ALL, TOTAL, Record, RunInfo, read_records, read_run
from eval.report_tables import markdown_table, report_tables
from eval.space_check import space_check, space_warning
from mmrl.core.config import InputError
from mmrl.core.files import write_atomic

_MISSING = ("abstained", "failed")


@dataclass(frozen=True, slots=True)
class Cell:
    """A score of one record with its kind, its item and its cluster."""

    item: str
    cluster: str
    score: float | None
    kind: str


def report(out: Path, records: Sequence[Record] | None = None) -> dict[str, Any]:
    """The report on the run in `out`, also written there as `report.json` and `report.md`.

    `records` are those in `out`, if they were read before.
    """
    content = reported(out, records)
    write_atomic(out / "report.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_atomic(out / "report.md", markdown(content))
    return content


def reported(out: Path, records: Sequence[Record] | None = None) -> dict[str, Any]:
    """The report on the run in `out`, as numbers; nothing is written."""
    info, records = read_run(out), read_records(out) if records is None else records
    check_scorer(out, info, records)
    live, silent = applicable(records)
    rows = [
        {"task": task, "reward": reward, **summary(cells, info.max_unjudged)}
        for (task, reward), cells in table(records, live, uncounted(info)).items()
    ]
    return {
        "run": {"model": info.model, **info.protocol, "scorer": info.scorer, "seconds": info.seconds},
        "records": len(records),
        "planned": info.planned,
        "truncated": _share("truncated" in record.flags for record in records),
        "tokens": _costs(records),
        "rows": rows,
        "draws": draw_rows(records, live),
        "metrics": metrics_of(records, info.max_unjudged),
        "boxes": space_check(records),
        "silent": [{"task": task, "reward": reward} for task, reward in silent],
    }


def check_scorer(out: Path, info: RunInfo, records: Sequence[Record]) -> None:
    """Refuse records that another suite than that of `run.json` scored, as a killed rescoring may leave them."""
    scorer = info.scorer
    if foreign := sum(record.scorer != scorer for record in records):
        raise InputError(
            f"{foreign} of {len(records)} records in {out} were scored by another suite; run mmrl eval score {out}"
        )


def applicable(records: Iterable[Record]) -> tuple[set[tuple[str, str]], list[tuple[str, str]]]:
    """The (task, reward) pairs with a verdict to show, and those where the reward abstained every time."""
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for reward, kind in record.kinds.items():
            kinds[record.task, reward].add(kind)
    silent = [pair for pair, seen in kinds.items() if seen == {"abstained"}]
    return set(kinds) - set(silent), sorted(silent)


def uncounted(info: RunInfo) -> set[str]:
    """The rewards that a total does not count: variants of weight 0."""
    return {name for name, spec in info.suite["rewards"].items() if spec["weight"] == 0}


def table(
    records: Iterable[Record], live: set[tuple[str, str]], uncounted_rewards: Collection[str] = ()
) -> dict[tuple[str, str], list[Cell]]:
    """The cells of every (task, reward), the mix (`all`) and the weighted sum (`total`) included, in order of names.

    The kind of the total ignores the `uncounted_rewards`.
    """
    cells: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for record in records:
        kinds = {reward: kind for reward, kind in record.kinds.items() if (record.task, reward) in live}
        scores = {**{reward: record.scores[reward] for reward in kinds}, TOTAL: record.total}
        counted = {kind for reward, kind in kinds.items() if reward not in uncounted_rewards}
        kinds[TOTAL] = next((kind for kind in ("failed", "abstained", "unparsed") if kind in counted), "scored")
        cluster = record.cluster
        for reward, score in scores.items():
            cell = Cell(record.item_id, cluster, score, kinds[reward])
            cells[record.task, reward].append(cell)
            cells[ALL, reward].append(cell)
    order = sorted(cells, key=lambda pair: (pair[0] != ALL, pair[0], pair[1] != TOTAL, pair[1]))
    return {pair: cells[pair] for pair in order}


def summary(cells: Sequence[Cell], max_unjudged: float) -> dict[str, Any]:
    """The mean score with its interval and the shares of failures.

    The mean is withheld when more than `max_unjudged` of the cells have no verdict (a total has none when one of the
    rewards that it counts has none), because the rest does not represent the whole.
    """
    scored = [cell for cell in cells if cell.score is not None]
    estimate = mean_estimate([cell.score or 0.0 for cell in scored], [cell.cluster for cell in scored])
    unjudged = _share(cell.kind in _MISSING for cell in cells)
    withheld = unjudged > max_unjudged
    if withheld:
        estimate = Estimate(None, None, None, None, estimate.n, estimate.clusters)
    shares = {kind: _share(cell.kind == kind for cell in cells) for kind in ("unparsed", *_MISSING)}
    return {**asdict(estimate), **shares, "withheld": withheld}


def markdown(content: Mapping[str, Any]) -> str:
    """The report as markdown."""
    lines = [f"# {title(content)}", "", about(content)]
    for table in report_tables(content):
        lines += ["", f"## {table.title}", "", *markdown_table(table)]
    if decode := content["run"].get("decode"):
        lines += ["", decoded(decode)]
    lines += [line for warning in warnings(content) for line in ("", warning)]
    if content["silent"]:
        pairs = ", ".join(f"{pair['reward']} on {pair['task']}" for pair in content["silent"])
        lines += ["", f"Without any verdict, and left out: {pairs}."]
    return "\n".join(lines) + "\n"


def title(content: Mapping[str, Any]) -> str:
    """The benchmark and the split that were evaluated."""
    return f"{content['run']['benchmark']} ({content['run']['split']})"


def about(content: Mapping[str, Any]) -> str:
    """A sentence on the model, how its answers were drawn, and how many there are."""
    run, blind = content["run"], ", asked without the media" if content["run"]["blind"] else ""
    cut = "" if run["decoding"] == "pictures" else f", {content['truncated']:.1%} cut off by the token limit"
    return f"Model {run['model']}, {decoding(run)}{blind}; {content['records']} records{cut}."


def decoded(decode: Mapping[str, Any]) -> str:
    """A sentence on how rewards guided the answers and how to read the scores."""
    names = ", ".join(decode.get("rewards") or {}) or ("the model itself" if decode["method"] == "psrd" else "")
    guided = f"Decoded by {decode['method']}{f', guided by {names}' if names else ''}."
    if decode.get("gold"):
        guided += " The guide saw the gold answers: these are scores of an oracle."
    elif decode.get("rewards"):
        guided += " Scores by the reward that guides are optimistic: go by the others."
    return guided


def setting(value: Any) -> str:
    """A value of a protocol in a few words.

    >>> setting({"method": "best_of_n", "n": 8, "soft": None, "rewards": {"form": {"fn": "think_format"}}})
    'best_of_n (n 8, rewards form)'
    """
    if not isinstance(value, Mapping) or "method" not in value:
        return str(value)
    parts = {name: ", ".join(part) if isinstance(part, Mapping) else part for name, part in value.items()}
    method = parts.pop("method")
    return f"{method} ({', '.join(f'{name} {part}' for name, part in parts.items() if part not in (None, ''))})"


def _costs(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """The mean and the median of the tokens of an answer and of the costs of guided decoding."""
    costs: dict[str, list[float]] = defaultdict(list)
    for record in records:
        tokens = {} if record.made else {"tokens": record.tokens}
        for name, value in {**tokens, **record.spent}.items():
            costs[name].append(value)
    return {name: {"mean": fmean(values), "median": median(values)} for name, values in costs.items()}


def decoding(run: Mapping[str, Any]) -> str:
    """How the answers of a run were drawn, in words."""
    if run["decoding"] == "pictures":
        return f"pictures made in {run['steps']} steps"
    return f"sampled at temperature {run['temperature']:g}" if run["decoding"] == "sampled" else "greedy"


def incomplete(content: Mapping[str, Any]) -> str:
    """A warning that the run was stopped early, or nothing; the longest prompts are answered first."""
    if content["records"] >= content["planned"]:
        return ""
    return f"Incomplete: {content['records']} of {content['planned']} records, those of the longest prompts."


def warnings(content: Mapping[str, Any]) -> list[str]:
    """Warnings that concern all numbers of a report."""
    texts = incomplete(content), space_warning(content["boxes"], content["run"].get("space", ""))
    return [text for text in texts if text]


def _share(flags: Iterable[bool]) -> float:
    flags = list(flags)
    return sum(flags) / len(flags) if flags else 0.0
