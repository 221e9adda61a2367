"""The registry of published benchmarks. Each file in `published` declares some."""

from __future__ import annotations

from eval.benchmarks.base import Benchmark
from eval.benchmarks.published import (
    amber,
    caparena,
    captionqa,
    captions,
    choice,
    decapbench,
    descriptions,
    detection,
    documents,
    editing,
    grounding,
    hallucination,
    mathverse,
    mathvista,
    mmmu,
    moments,
    tempcompass,
    video,
    vqa,
)
from mmrl.core.config import InputError, nearest

FILES = (
    *(grounding, detection, choice, mmmu, documents, vqa, mathvista, mathverse, hallucination, amber, descriptions),
    *(captions, decapbench, captionqa, caparena, editing, video, tempcompass, moments),
)
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for file in FILES for benchmark in file.BENCHMARKS}


def find_benchmark(name: str) -> Benchmark:
    """The registered benchmark of that name."""
    if name not in BENCHMARKS:
        raise InputError(f"no benchmark {name!r}; {nearest(name, BENCHMARKS)}")
    return BENCHMARKS[name]
