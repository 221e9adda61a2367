"""The dataset directory: whole or not there, the same bytes for the same samples, read back as it was written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.dataset.shards import DatasetWriter, read_manifest, read_samples, write_dataset
from data_engine.operator import Quarantined
from data_engine.schema import Sample, user_prompt, with_id
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from tests.support.clips import write_clip


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of raw media: two photographs, one with a wrong suffix, and a clip."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, file in (("china.jpg", "china.jpg"), ("flower.jpg", "flower.png")):
        Image.fromarray(load_sample_image(name)[:120, :160]).save(folder / file, "JPEG")
    write_clip(folder / "clip.mp4", 10)
    return folder


@pytest.fixture
def samples(raw: Path) -> list[Sample]:
    china, flower, clip = (probe(name, root=raw) for name in ("china.jpg", "flower.png", "clip.mp4"))
    rows: list[tuple[str, str, dict[str, Any], tuple[Media, ...]]] = [
        ("train", "yesno", {"yesno": True}, (china,)),
        ("train", "grounding", {"boxes": [[1.5, 2, 30, 40]]}, (flower,)),
        ("test", "temporal", {"spans": [[0.1, 0.3]]}, (clip,)),
        ("train", "text", {"text": ["Zoë 🦊", "zoe"]}, ()),
        ("train", "count", {"number": 2}, (china, clip)),
        ("test", "yesno", {"yesno": False}, (replace(flower, path=None, bytes=(raw / "flower.png").read_bytes()),)),
    ]
    made = [
        Sample("", "raw", task, user_prompt("Who?", [m.kind for m in media]), answer, media, {"split": split, "n": n})
        for n, (split, task, answer, media) in enumerate(rows)
    ]
    return [with_id(sample) for sample in made]


def files_of(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_samples_come_back_with_their_media(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_dataset(samples, out, root=raw)
    back = list(read_samples(out))
    assert sorted(sample.id for sample in back) == sorted(sample.id for sample in samples)
    given = {sample.id: sample for sample in samples}
    for sample in back:
        for media, before in zip(sample.media, given[sample.id].media, strict=True):
            assert media.path
            assert media.path.startswith(str(out))
            assert replace(media, path=before.path, bytes=before.bytes) == before
            assert probe(media.path).sha256 == media.sha256 == Path(media.path).stem
        assert replace(sample, media=given[sample.id].media) == given[sample.id]
    assert [sample.meta["n"] for sample in read_samples(out, split="train")] == [0, 1, 3, 4]
    assert [sample.meta["n"] for sample in read_samples(out, split="test")] == [2, 5]
    stored = sorted(path.suffix for path in (out / "media").rglob("*.*"))
    assert stored == [".jpg", ".jpg", ".mp4"]  # each content once, under the suffix of its content


def test_media_inside_the_shards(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    write_dataset(samples, tmp_path / "out", root=raw, embed_media=True)
    shutil.rmtree(raw)
    for sample in read_samples(tmp_path / "out"):
        for media in sample.media:
            assert media.path is None
            assert media.bytes
            assert hashlib.sha256(media.bytes).hexdigest() == media.sha256
            if media.kind == "image":
                assert load_image(media).size == (media.width, media.height)
    assert not (tmp_path / "out" / "media").exists()


def test_the_same_samples_give_the_same_bytes(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(raw, elsewhere)
    broken = Quarantined("bad_row", "row 3 is no object", "raw", "raw.jsonl:3", {"image": b"\xff\xd8"})
    for out, root in (("one", raw), ("two", elsewhere)):
        write_dataset([*samples, broken], tmp_path / out, root=root)
    first = files_of(tmp_path / "one")
    assert first == files_of(tmp_path / "two")
    assert set(first) > {"card.md", "manifest.json", "stats.parquet", "quarantine/part-00000.parquet"}
    manifest = read_manifest(tmp_path / "one")
    listed = {file["path"]: file["sha256"] for file in manifest["shards"] + manifest["other_files"]}
    assert listed == {path: digest for path, digest in first.items() if path.endswith(".parquet")}


def test_shards_hold_so_many_rows(tmp_path: Path) -> None:
    texts = [with_id(Sample("", "s", "math", user_prompt(f"{n}?"), {"math": str(n)})) for n in range(25)]
    manifest = write_dataset(texts, tmp_path / "out", rows_per_shard=10)
    assert [(shard["path"], shard["rows"]) for shard in manifest["shards"]] == [
        ("shards/train-00000.parquet", 10),
        ("shards/train-00001.parquet", 10),
        ("shards/train-00002.parquet", 5),
    ]
    assert [sample.answer["math"] for sample in read_samples(tmp_path / "out")] == [str(n) for n in range(25)]
    with pytest.raises(InputError, match="rows_per_shard"):
        DatasetWriter(tmp_path / "out", rows_per_shard=0)


def test_hugging_face_datasets_reads_it(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_dataset([*samples, Quarantined("bad_row", "row 3")], out, root=raw)
    files = {split: str(out / "shards" / f"{split}-*.parquet") for split in ("train", "test")}
    cache = str(tmp_path / "cache")
    for loaded in (
        datasets.load_dataset("parquet", data_files=files, cache_dir=cache),
        datasets.load_dataset(str(out), cache_dir=cache),
    ):
        assert {split: len(rows) for split, rows in loaded.items()} == {"train": 4, "test": 2}
        row = loaded["train"][0]
        assert json.loads(row["answer"]) == {"yesno": True}
        assert (out / row["media"][0]["path"]).is_file()


def test_every_input_is_accounted_for(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    broken = [Quarantined("bad_row", "row 3"), Quarantined("missing", "no file"), Quarantined("bad_row", "row 9")]
    manifest = write_dataset([*samples, *broken], tmp_path / "out", root=raw, read=12, dropped={"split: lost": 3})
    assert manifest["counts"] == {
        "in": 12,
        "kept": 6,
        "dropped": {"split: lost": 3},
        "quarantined": {"bad_row": 2, "missing": 1},
    }
    assert manifest["splits"] == {"test": 2, "train": 4}
    assert manifest["tasks"]["yesno"] == 2
    assert manifest["media"] == {"files": 3, "bytes": manifest["media"]["bytes"], "embedded": False}
    with pytest.raises(ValueError, match="read 13 samples, but kept 6, dropped 3 and quarantined 3"):
        write_dataset([*samples, *broken], tmp_path / "other", root=raw, read=13, dropped={"split: lost": 3})
    assert not (tmp_path / "other").exists()


def test_quarantine_and_stats_are_tables(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    row = {"image": b"\xff" * 9, "text": "lone \ud800 surrogate", 3: None}
    write_dataset(
        [samples[2], Quarantined("bad_row", "no \ud800", "raw", "raw.jsonl:3", row)], tmp_path / "out", root=raw
    )
    (broken,) = pq.read_table(tmp_path / "out/quarantine/part-00000.parquet").to_pylist()
    assert (broken["reason"], broken["where"]) == ("bad_row", "raw.jsonl:3")
    assert json.loads(broken["row"])["image"] == "<9 bytes>"
    (stats,) = pq.read_table(tmp_path / "out/stats.parquet").to_pylist()
    assert stats["id"] == samples[2].id
    assert (stats["split"], stats["videos"], stats["frames"], stats["seconds"]) == ("test", 1, 10, 0.4)


def test_media_that_vanish_or_change_are_quarantined(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    (raw / "clip.mp4").unlink()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(raw / "flower.png")
    with DatasetWriter(tmp_path / "out", root=raw) as writer:
        assert [writer.add(sample) for sample in samples] == [True, False, False, True, False, True]
    assert read_manifest(tmp_path / "out")["counts"]["quarantined"] == {"changed": 1, "missing": 2}
    assert list((tmp_path / "out" / "media").rglob("arriving")) == []


def test_the_card_describes_the_dataset(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    hostile = replace(samples[0], source="a|b\n<script>")
    write_dataset([*samples, hostile], tmp_path / "out", root=raw, name="Street signs", recipe="abc123")
    text = (tmp_path / "out" / "card.md").read_text()
    assert text.startswith("---\npretty_name: Street signs\n")
    assert "path: shards/test-*.parquet" in text
    assert "| train | 5 |" in text
    assert "abc123" in text
    assert "<script>" not in text
    assert str(tmp_path) not in text


def test_an_error_leaves_what_was_there(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_dataset(samples[:1], out, root=raw)
    before = files_of(out)

    def failing() -> Iterator[Sample]:
        yield from samples
        raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        write_dataset(failing(), out, root=raw)
    assert files_of(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]
    write_dataset(samples, out, root=raw)
    assert read_manifest(out)["counts"]["kept"] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_folder_that_is_not_a_dataset_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("important")
    with pytest.raises(InputError, match="thesis is not a dataset"):
        DatasetWriter(tmp_path / "thesis")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a dataset"):
        DatasetWriter(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    write_dataset([], tmp_path / "empty")
    assert list(read_samples(tmp_path / "empty")) == []


KILLED = """
import sys
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.dataset.shards import write_dataset
version, out = sys.argv[1:]
while True:
    texts = (with_id(Sample("", version, "math", user_prompt(f"{n}?"), {"math": str(n)})) for n in range(300))
    write_dataset(texts, out, rows_per_shard=50)
    print("written", flush=True)
"""


def test_a_kill_leaves_the_old_dataset_or_the_new(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, f"version{attempt}", str(out)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout
        process.stdout.readline()  # one is there: it is being replaced
        time.sleep(0.02 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert [int(sample.answer["math"]) for sample in read_samples(out)] == list(range(300))
    write_dataset([], out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def damage_shard(out: Path) -> None:
    (out / "shards" / "test-00000.parquet").write_bytes(b"no parquet")


def remove_shard(out: Path) -> None:
    (out / "shards" / "test-00000.parquet").unlink()


def remove_media(out: Path) -> None:
    for path in (out / "media").rglob("*.mp4"):
        path.unlink()


def link_media_out(out: Path) -> None:
    for path in (out / "media").rglob("*.mp4"):
        path.unlink()
        path.symlink_to(Path(__file__))


def rewrite_first(out: Path, **values: Any) -> None:
    shard = out / "shards" / "test-00000.parquet"
    table = pq.read_table(shard)
    rows = table.to_pylist()
    rows[0] |= values
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_shard, r"test-00000\.parquet, row 0: not a row of a dataset"),
        (remove_shard, r"test-00000\.parquet, row 0: no media file"),
        (remove_media, r"test-00000\.parquet, row 0: no media file at .*\.mp4"),
        (link_media_out, "row 0: .* lies outside"),
        (lambda out: rewrite_first(out, answer="{"), "row 0: not a row of a dataset"),
        (lambda out: rewrite_first(out, media=[{"kind": "image", "path": "../raw/china.jpg"}]), "lies outside"),
        (lambda out: rewrite_first(out, media=[{"kind": "image", "path": "/etc/hosts"}]), "lies outside"),
        (lambda out: rewrite_first(out, media=[{"kind": "image", "path": "http://a.b/c.jpg"}]), "is remote"),
        (lambda out: (out / "manifest.json").write_text("{}"), "manifest.json is damaged"),
        (lambda out: (out / "manifest.json").unlink(), "no manifest.json"),
    ],
)
def test_a_damaged_dataset_names_shard_and_row(
    harm: Callable[[Path], object], message: str, samples: list[Sample], raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_dataset(samples, out, root=raw)
    harm(out)
    with pytest.raises(InputError, match=message):
        list(read_samples(out))


def test_a_manifest_cannot_point_outside(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    for name in ("out", "other"):
        write_dataset(samples, tmp_path / name, root=raw)
    path = tmp_path / "out" / "manifest.json"
    path.write_text(path.read_text().replace("shards/test-", "../other/shards/test-"))
    with pytest.raises(InputError, match="lies outside"):
        list(read_samples(tmp_path / "out"))


def test_unknown_splits_are_named(samples: list[Sample], raw: Path, tmp_path: Path) -> None:
    write_dataset(samples, tmp_path / "out", root=raw)
    with pytest.raises(InputError, match=r"no split 'tets'; did you mean test\?"):
        read_samples(tmp_path / "out", split="tets")
    for split in ("../up", "a/b", "", 3, "a-b"):
        bad = replace(samples[0], meta={"split": split})
        with (
            pytest.raises(InputError, match="a split is named by"),
            DatasetWriter(tmp_path / "bad", root=raw) as writer,
        ):
            writer.add(bad)
    assert not (tmp_path / "bad").exists()
