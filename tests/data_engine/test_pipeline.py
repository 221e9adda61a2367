"""The pipeline: every sample is accounted for, bad input is quarantined by name, and workers change nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.dataset.shards import read_samples
from data_engine.engine.pipeline import AccountingError, run
from data_engine.recipe import Recipe, plan
from data_engine.sources.synthesis import digits_video
from mmrl.core.config import InputError, RunError, validate

LAB = "tests.support.lab"
MIXED = ["small.jpg", "large.webp", "small.jpg", "large.webp"]


def recipe(**fields: Any) -> Recipe:
    return validate(Recipe, fields, where="recipe")


def digests(directory: Path) -> dict[str, str]:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    return {str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def quarantined(directory: Path) -> list[dict[str, str]]:
    return pq.read_table(directory / "quarantine").to_pylist()


def photo(path: Path) -> Path:
    Image.fromarray(load_sample_image("china.jpg")).save(path)
    return path


def sound_only(path: Path) -> None:
    """An MP4 file with an audio stream and no video stream."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def counting(*operators: Any, n: int = 100, **fields: Any) -> Recipe:
    named = [operator if isinstance(operator, dict) else {"fn": f"{LAB}:{operator}"} for operator in operators]
    return recipe(
        sources=[{"fn": f"{LAB}:numbers", "args": {"n": n}}], operators=[{"fn": "validate"}, *named], **fields
    )


def test_one_and_two_workers_write_the_same_bytes(tmp_path: Path) -> None:
    made = recipe(
        sources=[
            {"fn": "easy_vqa", "args": {"split": "test"}, "limit": 300},
            {"fn": "digits_video", "args": {"n": 2, "side": 64}},
            {"fn": "digits_grounding", "args": {"n": 20, "side": 64}},
        ],
        operators=[
            {"fn": "validate"},
            {"fn": "exact_duplicates"},
            {"fn": "only_tasks", "args": {"tasks": ["choice", "yesno", "grounding", "temporal"]}},
            {"fn": "split", "args": {"shares": {"train": 0.8, "test": 0.2}}},
            {"fn": "balance", "args": {"by": ["task"], "cap": 100}},
        ],
        mix={"easy_vqa": 5, "digits_video": 0.1, "digits_grounding": 1},
    )
    first = run(made, out=tmp_path / "one")
    two = run(made, out=tmp_path / "two", workers=2)
    assert first == two
    assert first.kept == {"easy_vqa": 100, "digits_video": 2, "digits_grounding": 20}
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert {sample.task for sample in read_samples(tmp_path / "one")} == {"choice", "yesno", "grounding", "temporal"}


def test_every_sample_is_kept_dropped_or_quarantined(tmp_path: Path) -> None:
    counts = run(counting("is_odd", {"fn": "sample", "args": {"n": 30}}), out=tmp_path / "out")
    dropped = {"is_odd: odd": 50, "sample: not_sampled": 20}
    assert counts.as_dict() == {
        "read": {"numbers": 100},
        "kept": {"numbers": 30},
        "dropped": dropped,
        "quarantined": {},
    }


@pytest.mark.parametrize("operator", ["forgetful", "impatient"])
def test_an_operator_that_loses_samples_stops_the_run(tmp_path: Path, operator: str) -> None:
    with pytest.raises(AccountingError, match=f"{operator} took"):
        run(counting(operator), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_changed_sample_gets_a_new_id(tmp_path: Path) -> None:
    louder = {"fn": f"{LAB}:louder", "args": {"word": "now"}}
    run(counting(n=3), out=tmp_path / "before")
    run(counting(louder, n=3), out=tmp_path / "after")
    before, after = ({sample.id for sample in read_samples(tmp_path / name)} for name in ("before", "after"))
    assert len(before | after) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_dies_costs_one_sample(tmp_path: Path, workers: int) -> None:
    counts = run(counting("deadly"), out=tmp_path / "out", workers=workers)
    assert counts.quarantined == {"worker_died": 1}
    assert counts.kept == {"numbers": 99}
    assert "(exit code 1)" in quarantined(tmp_path / "out")[0]["why"]


def test_a_process_that_the_system_ends_for_lack_of_memory_costs_no_sample(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"SIGKILL.* memory is short.* fewer workers"):
        run(counting("ended"), out=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_after_a_process_died_the_bytes_are_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    made = counting("is_odd", "deadly", "is_third", n=1500)
    first, three = (run(made, out=tmp_path / str(workers), workers=workers) for workers in (1, 3))
    assert first == three
    assert first.quarantined == {"worker_died": 1}
    assert digests(tmp_path / "1") == digests(tmp_path / "3")


def test_a_file_that_takes_too_long_to_decode_costs_its_samples(tmp_path: Path) -> None:
    """Nothing gets through to a decoder that is at work, so its process is ended, as if it hung."""
    Image.new("RGB", (9000, 7000)).save(tmp_path / "large.webp", lossless=True, quality=0, method=0)  # 34 bytes
    photo(tmp_path / "small.jpg")
    rows = [
        {"image": name, "question": f"Is it day {n}?", "task": "yesno", "answer": "yes"} for n, name in enumerate(MIXED)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def built(seconds: float, workers: int) -> dict[str, int]:
        source = {"fn": "jsonl", "args": {"path": "rows.jsonl"}}
        check = {"fn": "validate", "args": {"limits": {"seconds": seconds}}}
        made = recipe(sources=[source], operators=[check], root=tmp_path)
        return run(made, out=tmp_path / "out", workers=workers).quarantined

    assert built(60, workers=1) == {}
    assert built(0.01, workers=0) == {}  # this process is not to be ended
    assert built(0.1, workers=1) == {"too_slow": 2}
    assert [row["where"] for row in quarantined(tmp_path / "out")] == ["rows.jsonl:2", "rows.jsonl:4"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_faulty_operator_is_named_with_the_sample(tmp_path: Path, workers: int) -> None:
    with pytest.raises(RuntimeError, match=r"operator faulty failed on numbers sample \w+: .*no attribute 'nothing'"):
        run(counting("faulty", n=3), out=tmp_path / "out", workers=workers)


def test_bad_input_is_quarantined_under_its_name_and_the_rest_is_built(tmp_path: Path) -> None:
    photo(tmp_path / "good.jpg")
    (tmp_path / "torn.jpg").write_bytes(photo(tmp_path / "whole.jpg").read_bytes()[:20_000])
    clip = next(digits_video(n=1, side=64)).media[0].bytes
    assert clip is not None
    (tmp_path / "clip.mp4").write_bytes(clip)
    sound_only(tmp_path / "sound.mp4")
    (tmp_path / "cut.mp4").write_bytes(clip[: len(clip) // 2])
    yesno = {"question": "Is it day?", "task": "yesno", "answer": "yes"}
    box = {"question": "Where?", "task": "grounding", "image": "good.jpg"}
    when = {"question": "When?", "video": "clip.mp4"}
    rows = [
        ({**yesno, "image": "good.jpg"}, None, ""),
        ({**yesno, "image": "nowhere.jpg"}, "missing", "no media file at"),
        ({**yesno, "image": "torn.jpg"}, "truncated", "get the whole file"),
        ({**yesno, "video": "sound.mp4"}, "no_stream", "video"),
        ({**yesno, "video": "cut.mp4"}, "", "cut.mp4"),
        ({**box, "boxes": [10, 10, 60, 60]}, None, ""),
        ({**box, "boxes": [600, 10, 700, 60]}, "box_outside", "640x427"),
        ({**yesno, "question": "<image><image>?", "image": "good.jpg"}, "marker_mismatch", "marks ['image', 'image']"),
        ({**when, "spans": [[0.5, 1.5]]}, None, ""),
        ({**when, "spans": [[3.0, 99.0]]}, "span_outside", "99"),
        ('{"question"', "bad_json", "JSON"),
    ]
    lines = [row if isinstance(row, str) else json.dumps(row) for row, _, _ in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    counts = run(recipe(sources=[{"fn": "jsonl", "args": {"path": "rows.jsonl"}}], root=tmp_path), out=tmp_path / "out")
    assert counts.kept == {"jsonl": 3}
    refused = quarantined(tmp_path / "out")
    by_place = {row["where"]: row for row in refused}
    for number, (_, reason, hint) in enumerate(rows, start=1):
        row = by_place.pop(f"rows.jsonl:{number}", None)
        if reason is None:
            assert row is None
            continue
        assert row is not None
        assert row["source"] == "jsonl"
        assert row["reason"] == reason or not reason
        assert f"rows.jsonl:{number}" in row["why"]
        assert hint in row["why"]
    assert not by_place


PLAN_ERRORS = [
    ({"sources": [{"fn": "easy_vqq"}]}, "unknown source 'easy_vqq'; did you mean easy_vqa"),
    (
        {"sources": [{"fn": "easy_vqa", "args": {"splitt": 1}}]},
        "source easy_vqa: unknown key splitt .*did you mean split",
    ),
    ({"sources": [{"fn": "easy_vqa", "args": {"options": 1}}]}, "options: .* greater than or equal to 2 .got 1"),
    ({"sources": [{"fn": "jsonl"}]}, "source jsonl: missing key path"),
    ({"sources": [{"fn": "jsonl", "args": {"path": "nowhere"}}]}, "source jsonl: no JSONL file at .*nowhere"),
    ({"sources": [{"fn": "easy_vqa"}] * 2}, "2 sources are called easy_vqa"),
    ({"operators": [{"fn": "shuffle"}]}, "the first operator must be validate.*got shuffle"),
    ({"operators": [{"fn": "validate"}, {"fn": "splt"}]}, "unknown operator 'splt'; did you mean split"),
    ({"operators": [{"fn": "validate"}, {"fn": "os.path:join"}]}, "os.path:join is not an operator; put it"),
    ({"operators": [{"fn": "validate"}, {"fn": "my.lab:x"}]}, "cannot import operator 'my.lab:x'"),
    ({"operators": [{"fn": "validate"}, {"fn": "split", "args": {"shares": {"a": 0}}}]}, "must be above 0"),
    ({"mix": {"easy_vqq": 1}}, "unknown source easy_vqq; did you mean easy_vqa"),
    ({"mix": {}}, "mix does not weigh easy_vqa"),
]


@pytest.mark.parametrize(("fields", "message"), PLAN_ERRORS)
def test_a_wrong_recipe_is_refused_before_any_work(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(recipe(**{"sources": [{"fn": "easy_vqa"}], **fields}))
