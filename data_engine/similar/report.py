"""How much of each benchmark a dataset contains: which samples, by which evidence, from which source."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple, get_args

from rich.table import Table
from rich.text import Text

from data_engine.schema import Sample
from data_engine.similar.index import STRONGEST, Evidence, Leak, LeakIndex
from mmrl.core.text import printable


class Pair(NamedTuple):
    """A sample and its match in a benchmark."""

    sample: Sample
    leak: Leak


@dataclass(frozen=True, slots=True)
class Leakage:
    """The overlap of a benchmark of `size` samples with a dataset.

    `found` counts those of its samples that are there, by evidence; `sources` (source -> evidence -> how many of the
    benchmark's samples it holds). Tülu 3 (2411.15124) leaves out a source that holds more than 2 % of a benchmark.
    """

    benchmark: str
    size: int
    found: dict[str, int]
    sources: dict[str, dict[str, int]]
    pairs: list[Pair]

    def as_dict(self) -> dict[str, Any]:
        """The counts, and the pairs by their ids."""
        pairs = [
            {"sample": pair.sample.id, "benchmark_sample": pair.leak.id, "by": pair.leak.by} for pair in self.pairs
        ]
        about = {"benchmark": self.benchmark, "samples": self.size, "found": self.found, "sources": self.sources}
        return {**about, "pairs": pairs}


def leakage(samples: Iterable[Sample], index: LeakIndex, *, text: float) -> list[Leakage]:
    """The overlap of each benchmark of the index with the samples."""
    pairs: dict[str, list[Pair]] = {name: [] for name in index.sizes}
    for sample in samples:
        for leak in index.leaks(sample, text=text):
            pairs[leak.benchmark].append(Pair(sample, leak))
    return [_of(name, index.sizes[name], matched) for name, matched in sorted(pairs.items())]


def leakage_table(overlaps: Sequence[Leakage]) -> Table:
    """A table with the share of each benchmark that was found, in total and by source; `yours` are the samples of the
    dataset that match."""
    table = Table("benchmark", "from", "samples", *get_args(Evidence), "share", "yours")
    for overlap in overlaps:
        for source, counts in [("all sources", overlap.found), *sorted(overlap.sources.items())]:
            share = sum(counts.values()) / max(overlap.size, 1)
            numbers = [f"{counts.get(by, 0):,}" for by in get_args(Evidence)]
            table.add_row(
                *(Text(printable(name)) for name in (overlap.benchmark, source)),
                f"{overlap.size:,}",
                *numbers,
                f"{share:.1%}",
                f"{len({pair.sample.id for pair in overlap.pairs if source in ('all sources', pair.sample.source)}):,}",
            )
        table.add_section()
    table.caption = Text("source_id: the same picture of a public dataset, or the same sample")
    return table


def pairs_table(overlaps: Sequence[Leakage], n: int) -> Table:
    """A table of `n` samples of the dataset for each benchmark, each with its strongest match."""
    table = Table("sample", "benchmark", "its sample", "by", "picture")
    more = []
    for overlap in overlaps:
        strongest: dict[str, Pair] = {}
        for pair in sorted(overlap.pairs, key=lambda pair: STRONGEST.index(pair.leak.by)):
            strongest.setdefault(pair.sample.id, pair)
        for sample, leak in list(strongest.values())[:n]:
            names = " ".join(PurePath(item.path).name if item.path else "(in the shard)" for item in sample.media)
            table.add_row(*(Text(printable(text)) for text in (sample.id, overlap.benchmark, leak.id, leak.by, names)))
        if len(strongest) > n:
            more.append(f"and {len(strongest) - n:,} more samples that match {overlap.benchmark}: --n shows more")
    table.caption = Text("\n".join(more)) if more else None
    return table


def _of(benchmark: str, size: int, pairs: list[Pair]) -> Leakage:
    by_source: dict[str, list[Leak]] = defaultdict(list)
    for pair in pairs:
        by_source[pair.sample.source].append(pair.leak)
    sources = {source: _strongest(leaks) for source, leaks in sorted(by_source.items())}
    return Leakage(benchmark, size, _strongest([pair.leak for pair in pairs]), sources, pairs)


def _strongest(leaks: Sequence[Leak]) -> dict[str, int]:
    """The number of benchmark samples found, each counted under its strongest evidence."""
    evidence: dict[str, Evidence] = {}
    for leak in sorted(leaks, key=lambda leak: STRONGEST.index(leak.by), reverse=True):
        evidence[leak.id] = leak.by
    return dict(sorted(Counter(evidence.values()).items()))
