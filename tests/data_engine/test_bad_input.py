"""A folder of broken files through `mmrl data build`: the rest is built, the counts add up, each has its reason."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.schema import Sample
from data_engine.validate.checks import CHECKS
from mmrl.commands.data import app
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from tests.data_engine.sources.test_formats import Attack
from tests.support.faulty import FAULTY, filmed, photo, sample, saved

KEPT = ""
ELSEWHERE = {  # checks that a row of JSON lines under the usual limits does not meet
    "box_not_finite": "bad_json",
    "not_text": "bad_json",  # NaN is no JSON
    "box_area": KEPT,
    "no_source": KEPT,  # a recipe names its sources
}
DROPPED = ("answer_in_question", "same_sample")
DAY = {"question": "Is it day?", "task": "yesno", "answer": "yes"}
RECIPE = """
sources:
  - {fn: jsonl, name: rows, args: {path: rows.jsonl}}
  - {fn: parquet, name: table, args: {path: table.parquet, rows: {task: grounding}}}
  - {fn: jsonl, name: turned, args: {path: turned.jsonl, rows: {task: grounding, boxes: xywh, exif: ignored}}}
operators: [{fn: validate}, {fn: unique_ids}]
"""


class Built(NamedTuple):
    """A dataset made of bad input, and the expected end of each row: its place -> reason, or `KEPT`."""

    folder: Path
    expected: dict[str, str]
    printed: str


def row_of(sample: Sample, folder: Path, code: str) -> dict[str, Any]:
    """The row of a JSON-lines file that asks the same; what is kept names its code, or all would ask the same."""
    media = [{name: value for name, value in asdict(item).items() if name != "bytes"} for item in sample.media]
    for item in media:
        item["path"] = item["path"].removeprefix(f"{folder}/")
    prompt = sample.prompt
    if CHECKS[code].mode in ("keep", "fix"):
        prompt = [*prompt, {"role": "user", "content": [{"type": "text", "text": f"I mean {code}."}]}]
    return {"prompt": prompt, "task": sample.task, "answer": sample.answer, "media": media, "meta": dict(sample.meta)}


def rows_of(data: Path) -> list[tuple[dict[str, Any], str]]:
    """Rows, and the reason that each is to have."""
    rows: list[tuple[dict[str, Any], str]] = []
    for code, make in FAULTY.items():
        folder = data / code
        folder.mkdir()
        reason = KEPT if CHECKS[code].mode in ("keep", "fix") else code
        rows.append((row_of(make(folder), data, code), ELSEWHERE.get(code, reason)))
    (data.parent / "outside.png").write_bytes(b"of somebody else")
    (data / "link.png").symlink_to(data.parent / "outside.png")
    saved(data, "whole.png", photo())
    deep = np.asarray(photo().convert("L")).astype(np.uint16) * 257
    for name, row in {
        "16 bits": saved(data, "deep.png", Image.fromarray(deep)),
        "a palette": saved(data, "palette.png", photo().quantize(16)),
        "motion": saved(data, "moving.gif", photo().convert("P"), save_all=True, append_images=[photo().rotate(90)]),
        "time": filmed(data, "uneven.mp4", frames=5, times=[0, 40, 400, 440, 900]),
    }.items():
        rows.append(
            (row_of(replace(row, prompt=sample(row.media[0], f"Is it {name}?").prompt), data, "no_split"), KEPT)
        )
    return [
        *rows,
        *(({**DAY, "image": path}, "outside_root") for path in ("link.png", "../outside.png", "/etc/hostname")),
        *(({**DAY, "image": path}, "remote") for path in ("http://169.254.169.254/a.png", "file:///etc/hostname")),
        ({**DAY, "question": "<image> like <image>?", "image": "whole.png"}, "marker_mismatch"),
        ({**DAY, "question": "Is it late?", "meta": {"id": 7}}, KEPT),
        ({**DAY, "question": "Is it early?", "meta": {"id": 7}}, "duplicate_id"),
        ({**DAY, "question": "Is it late?", "meta": {"id": 7}}, "same_sample"),
    ]


def turned(data: Path) -> dict[str, Any]:
    """A black picture with a white box, stored lying on its side, and a row that says where the box is in the file."""
    stored = np.zeros((60, 100, 3), np.uint8)
    stored[10:20, 30:70] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(stored).save(data / "turned.png", exif=exif)
    return {"question": "Where is the box?", "image": "turned.png", "boxes": [30, 10, 40, 10]}


def mmrl(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "mmrl", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("bad")
    data = folder / "data"
    data.mkdir()
    rows = rows_of(data)
    (data / "rows.jsonl").write_text("\n".join(json.dumps(row) for row, _ in rows))
    box = {"image": "whole.png", "question": "Where?", "boxes": [[1.0, 2.0, float("nan"), 4.0]]}
    pq.write_table(pa.Table.from_pylist([box]), data / "table.parquet")
    (data / "turned.jsonl").write_text(json.dumps(turned(data)))
    (folder / "recipe.yaml").write_text(RECIPE)
    command = ("data", "build", folder / "recipe.yaml", f"root={data}", "--workers", "2", "--out", folder / "out")
    ended = mmrl(*command)
    assert ended.returncode == 0, ended.stderr
    expected = {f"rows.jsonl:{number}": reason for number, (_, reason) in enumerate(rows, start=1)}
    expected |= {"table.parquet:1": "box_not_finite", "turned.jsonl:1": KEPT}
    return Built(folder, expected, ended.stdout + ended.stderr)


def test_every_row_ends_as_expected_and_says_why(built: Built) -> None:
    refused = pq.read_table(built.folder / "out" / "quarantine").to_pylist()
    endings = {row["where"]: row["reason"] for row in refused}
    endings |= {str(sample.meta["where"]): KEPT for sample in read_samples(built.folder / "out")}
    dropped = {where for where, reason in built.expected.items() if reason in DROPPED}
    assert endings == {where: reason for where, reason in built.expected.items() if where not in dropped}
    for row in refused:
        assert row["where"] in row["why"]
        assert len(row["why"]) > len(row["where"]) + 20
        assert row["reason"] in built.printed


def test_the_counts_add_up(built: Built) -> None:
    counts, reasons = read_manifest(built.folder / "out")["counts"], Counter(built.expected.values())
    assert counts["in"] == len(built.expected)
    assert counts["kept"] == reasons.pop(KEPT)
    assert counts["dropped"] == {"validate: answer_in_question": 1, "unique_ids: same_sample": 1}
    wanted = {reason: n for reason, n in reasons.items() if reason not in DROPPED}
    assert counts["quarantined"] == wanted
    assert counts["in"] == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())


def test_a_box_follows_the_rotation_of_its_picture(built: Built) -> None:
    (turned,) = (sample for sample in read_samples(built.folder / "out") if sample.source == "turned")
    path = built.folder / "out" / str(turned.media[0].path)
    rows, columns = np.nonzero(np.asarray(load_image(path))[..., 0])
    assert turned.answer["boxes"] == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    assert (turned.media[0].width, turned.media[0].height) == (60, 100)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(built: Built) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    before = digests(built.folder / "out")
    command = ("data", "build", built.folder / "recipe.yaml", f"root={built.folder / 'data'}", "--workers", "1")
    ended = mmrl(*command, "--out", built.folder / "out", preexec_fn=little_room)
    assert ended.returncode == 2
    *progress, error = ended.stderr.splitlines()
    assert "no room to write" in error
    assert all(" samples in " in line for line in progress)
    assert digests(built.folder / "out") == before


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{fn: refcoco, args: {refs: bad.p, instances: i.json, images: .}}", "it names .*mkdir"),
        ("{fn: parquet, args: {path: a.parquet, rows: {task: yesno}}}", "has no column question or prompt"),
        ("{fn: verl, args: {path: a.parquet}}", "needs the columns prompt and reward_model"),
        ("{fn: refcoco_table, args: {path: a.parquet}}", "needs the columns bbox"),
    ],
)
def test_files_that_cannot_be_meant_end_the_run_before_it_writes(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.p").write_bytes(pickle.dumps([Attack(str(tmp_path / "made"))]))
    (tmp_path / "i.json").write_text('{"images": [], "annotations": []}')
    pq.write_table(pa.Table.from_pylist([{"text": "Red?"}]), tmp_path / "a.parquet")
    (tmp_path / "recipe.yaml").write_text(f"sources: [{source}]")
    command = ["build", str(tmp_path / "recipe.yaml"), f"root={tmp_path}", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out").exists()
