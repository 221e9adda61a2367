"""The leaks of benchmarks into a dataset as one page: how much of each, and pairs to look at, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from data_engine.schema import Sample
from data_engine.similar.index import Evidence
from data_engine.similar.report import Leakage, Pair
from mmrl.core.html import Html, element, joined, page, table, write_page
from mmrl.pages.cards import Exhibit, card

SHOWN = 12  # pairs of each benchmark and kind of evidence
MEANING = {
    "source_id": "The same picture of a public dataset, or the same sample.",
    "image": "A picture that looks the same; the question is another.",
    "text": "The same question; the picture is another. Short questions are often alike by chance.",
    "both": "A picture that looks the same, and the same question.",
}


def leak_page(leakages: Sequence[Leakage], originals: Mapping[str, Sample], place: Path, *, limit: int = SHOWN) -> Path:
    """Write the page; `originals` are the samples of benchmarks by id, as far as they are at hand."""
    head = ["benchmark", "from", "samples", *get_args(Evidence), "share"]
    rows, strong = [], []
    for leakage in leakages:
        strong.append(len(rows))
        for source, counts in [("all sources", leakage.found), *sorted(leakage.sources.items())]:
            numbers = [str(counts.get(by, 0)) for by in get_args(Evidence)]
            share = sum(counts.values()) / max(leakage.size, 1)
            rows.append([leakage.benchmark, source, str(leakage.size), *numbers, f"{share:.1%}"])
    body = page(
        "Benchmarks found in a dataset",
        element("p", "Samples of each benchmark that the dataset holds, each counted by its strongest evidence."),
        table(head, rows, texts=2, strong=strong),
        *(_benchmark(leakage, originals, limit) for leakage in leakages),
    )
    return write_page(body, place)


def _benchmark(leakage: Leakage, originals: Mapping[str, Sample], limit: int) -> Html:
    parts = [element("h2", leakage.benchmark)]
    for by in get_args(Evidence):
        pairs = [pair for pair in leakage.pairs if pair.leak.by == by]
        if pairs:
            about = f"{len(pairs)} pairs{f', {limit} of them here' if len(pairs) > limit else ''}. {MEANING[by]}"
            parts += [element("h3", f"by {by}"), element("p", about, class_="dim")]
            parts += [_pair(pair, originals.get(pair.leak.id)) for pair in pairs[:limit]]
    return joined(*parts) if leakage.pairs else joined(*parts, element("p", "Nothing of it was found."))


def _pair(pair: Pair, original: Sample | None) -> Html:
    sides = [card(_exhibit("dataset", pair.sample))]
    if original is None:
        sides.append(element("p", f"sample {pair.leak.id} of the benchmark, which is not at hand", class_="missing"))
    else:
        sides.append(card(_exhibit("benchmark", original)))
    return element("div", *sides, class_="pair")


def _exhibit(where: str, sample: Sample) -> Exhibit:
    return Exhibit(where, f"{sample.source} · {sample.id}", sample.prompt, sample.answer, sample.media)
