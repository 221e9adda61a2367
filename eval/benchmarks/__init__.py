"""Published benchmarks under their names, as the family files declare them."""

from __future__ import annotations

from eval.benchmarks import (
    captions,
    choice,
    descriptions,
    detection,
    documents,
    editing,
    exams,
    grounding,
    hallucination,
    mathematics,
    video,
)
from eval.benchmarks.base import Benchmark
from mmrl.core.config import InputError, nearest

FAMILIES = (
    *(grounding, detection, choice, exams, documents, mathematics),
    *(hallucination, descriptions, captions, editing, video),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for family in FAMILIES for benchmark in family.BENCHMARKS}


def find_benchmark(name: str) -> Benchmark:
    """The registered benchmark of that name."""
    if name not in BENCHMARKS:
        raise InputError(f"no benchmark {name!r}; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]
