"""Published benchmarks on their fixtures, and the records and numbers of a model that answers by a function."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data_engine.schema import Sample
from eval.benchmarks import find_benchmark
from eval.benchmarks.base import BenchmarkFiles
from eval.benchmarks.load import benchmark_samples, metrics_of
from eval.records import Record
from eval.sample_sets import SampleSet
from eval.score import evaluation_suite, scored
from mmrl.core.vision import CoordinateSpace
from rewards import Rollout
from rewards.judge_client.judge_spec import JudgeSpec
from tests.support.benchmarks import choice_rows, description_rows, text_rows
from tests.support.benchmarks.fixture import Fixture, png
from tests.support.clips import write_clip

FIXTURES: dict[str, Fixture] = {**choice_rows.FIXTURES, **text_rows.FIXTURES, **description_rows.FIXTURES}


def write_rows(directory: Path, rows: Any, suffix: str, name: str = "data") -> Path:
    """The rows as a file of the format, next to the media that rows name by path."""
    directory.mkdir(parents=True, exist_ok=True)
    for i in range(2):
        (directory / f"{i}.png").write_bytes(png(i))
    if "clip" in str(rows):
        write_clip(directory / "clip.mp4", 50, fps=25)
    if suffix == "dir":
        return write_files(directory, rows)
    file = directory / f"{name}.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
    elif suffix in ("tsv", "csv"):
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, list(rows[0]), delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(json.dumps(rows))
    return file


def benchmark(
    name: str, directory: Path, rows: Any = None, *, limit: int | None = None, shade: int | None = 255
) -> SampleSet:
    """The named benchmark on its fixture, or on other rows of its format; edits are of one `shade`."""
    file = write_rows(directory / "rows", FIXTURES[name].rows if rows is None else rows, FIXTURES[name].suffix)
    edits = str(write_edits(directory / "edits", name, shade)) if FIXTURES[name].edits else None
    data = BenchmarkFiles(path=str(file), limit=limit, edits=edits)
    return benchmark_samples(name, data, space=CoordinateSpace.pixel, media=directory / "media")


def answered(
    name: str, samples: Sequence[Sample], reply: Callable[[Sample], str], judge: JudgeSpec | None = None
) -> list[Record]:
    """The scored records of a model that says `reply`."""
    judges = {"judge": judge} if judge else {}
    suite = evaluation_suite(find_benchmark(name).scorers_with(judges), judges)
    records = [
        replace(_EMPTY, key=s.id, benchmark=name, item_id=s.id, task=s.task, source=s.source, response=reply(s),
                gold=s.answer, media=[m.row() for m in s.media], meta={**s.meta, "space": "pixel"},
                prompt=s.prompt)
        for s in samples
    ]  # fmt: skip
    return scored(records, suite, "test")


def numbers(
    name: str, samples: Sequence[Sample], reply: Callable[[Sample], str], judge: JudgeSpec | None = None
) -> dict[str, float | None]:
    """The benchmark's numbers of a model that says `reply`."""
    metrics = metrics_of(answered(name, samples, reply, judge))
    assert metrics is not None
    return metrics


def gold(sample: Sample) -> str:
    """The answer of a perfect model."""
    answer = sample.answer
    if "names" in answer:
        return answer["names"]["ABCDEFGH".index(answer["choice"])]
    if "choice" in answer:
        return answer["options"]["ABCDEFGH".index(answer["choice"])] if sample.task == "caption" else answer["choice"]
    if answer.get("choices"):
        return "ABCDEFGH"[answer["choices"].index(answer["text"])]
    if sample.task == "yesno":
        return "Yes" if answer["yesno"] else "No"
    if sample.task == "math":
        return f"\\boxed{{{answer['math']}}}"
    if sample.task == "grounding":
        return str(answer["boxes"][0])
    if sample.task == "temporal":
        return str(answer["spans"][0])
    if sample.task == "detection":
        return json.dumps(
            [{"bbox_2d": box, "label": label} for box, label in zip(answer["boxes"], answer["labels"], strict=True)]
        )
    if sample.task == "edit":
        return ""
    if sample.task == "caption":
        return _best_caption(answer)
    if not answer["text"]:
        return "unknown"
    return answer["text"] if isinstance(answer["text"], str) else answer["text"][0]


def _best_caption(answer: Any) -> str:
    if "truth" in answer:
        return f"There is {' and '.join(answer['truth'])}."
    if "units" in answer:
        return ". ".join(answer["units"])
    if "quiz" in answer and not isinstance(answer["quiz"], str):
        return " ".join(question["options"][question["right"]] for question in answer["quiz"])
    if "objects" in answer:
        return f"There is a {', a '.join(answer['objects'])}, near {answer['references'][0]}"
    return answer["references"][0]


def text_of(sample: Sample) -> str:
    """The question of a sample, without its media."""
    return sample.prompt[0]["content"][-1]["text"]


def score(reward: Any, reply: str, answer: Any, **options: Any) -> float | None:
    """The score that a reward gives a reply."""
    return reward([Rollout(reply, answer)], **options)[0].score


_EMPTY = Record("", "", "", "test", "", 0, "", "", "", [], [], [], "", 1, None)


def write_files(directory: Path, files: dict[str, Any]) -> Path:
    """A benchmark of several files as a directory."""
    for name, content in files.items():
        if name.endswith(".jsonl"):
            text = "".join(json.dumps(row) + "\n" for row in content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
        (directory / name).write_text(text)
    return directory


def write_edits(directory: Path, name: str, shade: int | None = 255) -> Path:
    """The edits of all items of a benchmark, of one shade of red; with None there are none."""
    directory.mkdir(parents=True, exist_ok=True)
    for path in FIXTURES[name].edits if shade is not None else ():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (shade or 0, 100, 100)).save(directory / path)
    return directory
