"""Where the pictures of benchmarks come from, and fingerprints by which training data is kept clear of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from data_engine.leaks import write_index
from eval.benchmark import BenchmarkData
from eval.benchmarks.load import named_benchmark
from mmrl.vision import CoordinateSpace

COCO_TRAIN, COCO_VAL = ("COCO train2014",), ("COCO val2014",)
ORIGINS: dict[str, tuple[str, ...]] = {
    "refcoco": COCO_TRAIN,
    "pope": COCO_VAL,
    "chair": COCO_VAL,
    "object_halbench": COCO_VAL,
    "amber": ("COCO val2014 in part",),
    "hallusionbench": ("COCO val2014 in part",),
    "coco_detection": ("COCO val2017",),
    "coco_captions": COCO_VAL,
    "coco_karpathy": COCO_VAL,
    "vqav2": COCO_VAL,
    "mathvista": (
        *("Geometry3K", "GeoQA+", "UniGeo", "GEOS", "TQA", "IconQA", "FigureQA", "PlotQA", "DVQA", "ChartQA", "DocVQA"),
        *("TextVQA", "VQA2.0", "A-OKVQA", "ScienceQA", "TabMWP", "and others, 28 in all"),
    ),
    "mathverse": ("GeoQA", "Geometry3K", "and others"),
    "seedbench": ("CC3M", "Something-Something", "EPIC-Kitchens", "Breakfast"),
}
_SOURCE_KEYS = ("file_name", "image_source", "source")


def origins(name: str) -> tuple[str, ...]:
    """The data that a benchmark's pictures were taken from, as far as it is known.

    >>> origins("refcoco_testA"), origins("gqa")
    (('COCO train2014',), ())
    """
    return next((found for key, found in ORIGINS.items() if name.startswith(key)), ())


def index_benchmark(name: str, data: BenchmarkData, path: Path) -> int:
    """Write the fingerprints of a benchmark for the operator `decontaminate`; how many items there are.

    A fingerprint holds the hash and the perceptual hashes of every picture, the shingles of the question with its
    options, and what the benchmark says of the picture's source: no pictures, and no texts.
    """
    with TemporaryDirectory() as media:
        samples = named_benchmark(name, data, space=CoordinateSpace.pixel, media=Path(media)).load()
        named = (
            replace(s, meta={**s.meta, "where": next((str(s.meta[k]) for k in _SOURCE_KEYS if s.meta.get(k)), "")})
            for s in samples
        )
        return write_index(named, name, path)
