"""`mmrl demo edit`: what an edit is taken for, the summary, the page, and the size of the checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from data_engine.schema import Sample
from data_engine.sources.editing.edit_pairs import edits, versions
from mmrl.core.config import read_yaml
from mmrl.core.media.image import load_image
from mmrl.demo.editor.report import write_report
from mmrl.demo.editor.steps import CHECKPOINT, HERE, METRICS, Edit, edited, found, summarised
from mmrl.demo.steps import curated

CHANGES = read_yaml(HERE / "recipe.yaml")["sources"][0]["args"]["changes"]


@pytest.fixture(scope="module")
def samples() -> Sequence[Sample]:
    return list(edits(n=6, side=16, changes=CHANGES, split="test"))


def test_an_edit_is_what_it_is_nearest_to(samples: Sequence[Sample]) -> None:
    for sample in samples:
        source = load_image(sample.media[0])
        known = {**versions(source, sample.meta["change"], sample.meta["place"], CHANGES), "unchanged": source}
        for kind, picture in known.items():
            blurred = Image.blend(picture, Image.new("RGB", picture.size), 0.02)
            near = found(sample, blurred, 0.5)
            assert near.kind == kind
            assert 0 < near.distance < 0.02


def test_the_summary_is_paired_and_begins_with_right(samples: Sequence[Sample]) -> None:
    picture = load_image(samples[0].media[0])
    before = [Edit(sample, picture, "partial", 0.1, 0.2) for sample in samples]
    after = [Edit(sample, picture, "right" if i else "partial", 0.05, 0.8) for i, sample in enumerate(samples)]
    rows = summarised(before, after)
    assert [row["metric"] for row in rows] == list(METRICS)
    assert list(rows[0]) == ["metric", "before", "after", "n", "difference", "low", "high"]
    assert (rows[0]["before"], rows[0]["after"], rows[0]["n"]) == (0, pytest.approx(5 / 6), 6)
    assert rows[0]["low"] < rows[0]["difference"] < rows[0]["high"]
    assert rows[1]["difference"] == pytest.approx(0.6)
    assert rows[2]["difference"] == pytest.approx(-0.05)


def test_the_checkpoint_edits_held_out_photographs_and_the_page_shows_them(
    samples: Sequence[Sample], tmp_path: Path
) -> None:
    made = edited(CHECKPOINT, samples, 4)
    assert [edit.made.size for edit in made] == [(16, 16)] * 6
    assert [edit.made for edit in made] == [edit.made for edit in edited(CHECKPOINT, samples, 4)]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.1}\n{"step": 2, "reward": 0.2}\n')
    page = write_report(
        tmp_path, summary=summarised(made, made), before=made, after=made, training=tmp_path / "train"
    ).read_text()
    assert page.count('class="card"') == 6
    assert all(sample.answer["instruction"] in page for sample in samples)


def test_test_photographs_and_instructions_are_in_no_training_sample(tmp_path: Path) -> None:
    from data_engine.dataset.shards import read_samples

    data = curated(tmp_path / "data", HERE)
    asked = {split: {s.answer["instruction"] for s in read_samples(data, split=split)} for split in ("train", "test")}
    assert not asked["train"] & asked["test"]
    assert len(list(read_samples(data, split="test"))) == 300


def test_the_checkpoint_is_at_most_ten_megabytes() -> None:
    assert sum(file.stat().st_size for file in CHECKPOINT.rglob("*") if file.is_file()) <= 10e6


@pytest.mark.slow
def test_the_command_trains_and_ends_with_the_summary_and_the_page(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mmrl", "demo", "edit", "flow.max_steps=2", "--out", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [row["metric"] for row in rows] == list(METRICS)
    assert rows[0]["n"] == 300
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_warm_checkpoint_is_rebuilt_by_its_command(samples: Sequence[Sample], tmp_path: Path) -> None:
    places = ["--out", str(tmp_path / "run"), "--checkpoint", str(tmp_path / "checkpoint"), "--vae-steps", "2"]
    line = [sys.executable, "-m", "mmrl.demo.editor.warm", *places, "sft.max_steps=2", "sft.logging_steps=1"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    rebuilt, packaged = (
        {file.relative_to(place): file.stat().st_size for file in place.rglob("*") if file.is_file()}
        for place in (tmp_path / "checkpoint", CHECKPOINT)
    )
    assert rebuilt.keys() == packaged.keys()
    assert all(rebuilt[file] == size for file, size in packaged.items() if file.suffix == ".safetensors")
    assert len(edited(tmp_path / "checkpoint", samples, 2)) == len(samples)
