"""Benchmarks stay out: what was planted is found by what it shares, and the index holds no question and no picture."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_engine.cli import app
from data_engine.leaks import LeakIndex, write_index
from data_engine.ops.base import Dropped
from data_engine.ops.decontaminate import decontaminate
from data_engine.schema import Sample
from data_engine.shards import write_dataset
from mmrl.config import InputError
from tests.test_duplicates import ask, chart, jpeg, photos, with_logo

QUESTION = "Is there a large red bus next to the old stone bridge in this picture?"
OTHER = "Does the woman at the left of the table hold a yellow cup in her hand?"


def benchmark() -> list[Sample]:
    return [ask(f"{QUESTION} ({number})", jpeg(image)) for number, image in enumerate(photos(4))]


def planted() -> dict[str, Sample]:
    """Training samples by what they share with the first sample of the benchmark."""
    first, fresh = photos(1)[0], photos(12)[-1]
    return {
        "source_id": benchmark()[0],
        "both": ask(QUESTION.replace("large ", "") + " (0)", jpeg(first, 30)),
        "image": ask(OTHER, jpeg(with_logo(first))),
        "text": ask(f"{QUESTION} (0)", jpeg(fresh)),
        "clean": ask(OTHER, jpeg(chart(3))),
    }


def index_file(folder: Path) -> Path:
    write_index(benchmark(), "held_out", folder / "held_out.parquet")
    return folder / "held_out.parquet"


@pytest.mark.parametrize("kind", ["source_id", "both", "image", "text", "clean"])
def test_a_leak_is_named_by_its_evidence(tmp_path: Path, kind: str) -> None:
    leaks = LeakIndex([index_file(tmp_path)]).leaks(planted()[kind], text=0.5)
    first = [leak for leak in leaks if leak.id == benchmark()[0].id]
    assert [leak.by for leak in first] == ([] if kind == "clean" else [kind])


def test_leaks_are_dropped_or_flagged_by_the_evidence_asked_for(tmp_path: Path) -> None:
    paths, samples = [index_file(tmp_path)], planted()
    ends = Counter(
        outcome.reason if isinstance(outcome, Dropped) else "kept"
        for outcome in (decontaminate(one, against=paths) for one in samples.values())
    )
    assert ends == {f"leak_of_held_out_by_{kind}": 1 for kind in ("source_id", "both", "image")} | {"kept": 2}
    assert decontaminate(samples["image"], against=paths, by=("both",)) == samples["image"]
    flagged = decontaminate(samples["image"], against=paths, action="flag")
    leak = {"benchmark": "held_out", "id": benchmark()[0].id, "by": "image"}
    assert flagged == replace(samples["image"], meta={"leaks": [leak]})
    assert asdict(LeakIndex(paths).leaks(samples["image"], text=0.5)[0]) == leak


def test_the_index_holds_no_question(tmp_path: Path) -> None:
    content = index_file(tmp_path).read_bytes()
    assert b"stone bridge" not in content
    assert content == index_file(tmp_path).read_bytes()  # and the same benchmark gives the same bytes


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_text("notes")
    with pytest.raises(InputError, match=r"notes\.parquet cannot be read as a fingerprint file"):
        LeakIndex([tmp_path / "notes.parquet"])


def test_the_commands_write_an_index_and_list_the_pairs(tmp_path: Path) -> None:
    write_dataset(benchmark(), tmp_path / "exam")
    write_dataset(planted().values(), tmp_path / "train")
    made = CliRunner().invoke(app, ["index", str(tmp_path / "exam"), "--out", str(tmp_path)])
    assert made.exit_code == 0, made.output
    found = CliRunner().invoke(app, ["leaks", str(tmp_path / "train"), "--against", str(tmp_path / "exam.parquet")])
    assert found.exit_code == 0, found.output
    assert "exam" in found.output
    assert "both" in found.output
