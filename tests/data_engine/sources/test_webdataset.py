"""Tar files of questions and pictures are read as streams."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from data_engine.sources.row_format import Rows
from data_engine.sources.webdataset import webdataset
from tests.support.rows import refused, sound


def tar_of(root: Path, name: str, members: Mapping[str, bytes | None]) -> str:
    """The name of a new tar file; a member without content is a link out of it."""
    with tarfile.open(root / name, "w") as tar:
        for member, content in members.items():
            entry = tarfile.TarInfo(member)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return name


def test_a_webdataset_is_a_stream_of_rows(root: Path) -> None:
    picture = (root / "a.png").read_bytes()
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count", "image": "/etc/passwd"}).encode()
    members = {"x/001.png": picture, "x/001.json": asked, "x/002.txt": b"What?", "x/002.0.png": picture}
    members |= {"x/002.1.PNG": picture, "x/002.cls": b"3\n", "../../003.png": picture, "../../003.json": asked}
    links = {"x/004.png": None, "x/004.json": asked, "x/005.json": b"{", "x/006.json": b"[1]"}
    path = tar_of(root, "t.tar", {**members, **links})
    before = sorted(root.parent.rglob("*"))
    items = list(webdataset(path=path, root=root, rows=Rows(task="count")))
    samples = sound(items[:3])
    assert [(sample.answer, len(sample.media)) for sample in samples] == [
        ({"number": 2}, 1),
        ({"number": 3}, 2),
        ({"number": 2}, 1),
    ]
    assert all(media.bytes == picture for sample in samples for media in sample.media)
    assert refused(items) == [("not_a_file", "t.tar: x/004"), ("bad_json", "t.tar: x/005"), ("bad_row", "t.tar: x/006")]
    assert sorted(root.parent.rglob("*")) == before  # nothing was unpacked


@pytest.mark.parametrize("size", [2048, 2500, 3000])
def test_a_tar_that_breaks_off_gives_the_rows_before(root: Path, size: int) -> None:
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    tar_of(root, "t.tar", {"1.json": asked, "2.json": asked, "3.png": bytes(2000)})
    (root / "t.tar").write_bytes((root / "t.tar").read_bytes()[:size])
    items = list(webdataset(path="t.tar", root=root))
    assert len(sound(items[:2])) == 2
    assert refused(items) == [("truncated", "t.tar")]


def test_what_is_behind_the_readable_part_of_a_tar_is_not_lost_in_silence(root: Path) -> None:
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    whole = (root / tar_of(root, "t.tar", {"1.json": asked, "2.json": asked})).read_bytes()
    damaged = bytearray(whole)
    damaged[1024 + 148 : 1024 + 156] = b"99999999"  # the checksum of the second header
    for content, start in ((bytes(damaged), 1024), (whole + whole, len(whole))):
        (root / "t.tar").write_bytes(content)
        *samples, last = webdataset(path="t.tar", root=root)
        assert len(sound(samples)) == (1 if start == 1024 else 2)
        assert isinstance(last, Quarantined)
        assert last.reason == "truncated"
        assert f"from byte {start} on the tar file cannot be read" in last.why


def test_no_question_of_a_tar_is_kept_without_its_picture(root: Path) -> None:
    picture = (root / "a.png").read_bytes()
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    named = json.dumps({"question": "How many?", "answer": 2, "task": "count", "images": ["a.png", "b.png"]}).encode()
    by_kind = {"1.json": asked, "2.json": asked, "1.png": picture, "2.png": picture}
    whole = {"3.png": picture, "._3.png": b"\0\5\x16\7", "3.json": asked, "4.json": named, "4.png": picture}
    path = tar_of(root, "t.tar", {**by_kind, **whole, "5.json": named, "6.json": asked})
    items = list(webdataset(path=path, root=root))
    kept = [(item.meta["where"], len(item.media)) for item in items if isinstance(item, Sample)]
    assert kept == [("t.tar: 3", 1), ("t.tar: 6", 0)]
    apart = [("scattered", f"t.tar: {key}") for key in (1, 2, 1, 2)]
    assert refused(items) == [*apart, ("missing", "t.tar: 4"), ("missing", "t.tar: 5")]


def test_the_pictures_of_a_tar_are_shown_in_the_order_of_their_numbers(root: Path) -> None:
    pictures = {f"s.{number}.png": bytes([number]) for number in range(12)}
    asked = json.dumps({"question": "Which?", "answer": 2, "task": "count"}).encode()
    members: dict[str, bytes | None] = {name: pictures[name] for name in sorted(pictures)}
    (sample,) = sound(webdataset(path=tar_of(root, "t.tar", {**members, "s.json": asked}), root=root))
    assert [media.bytes for media in sample.media] == [bytes([number]) for number in range(12)]


def test_a_small_tar_does_not_grow_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_engine.sources.webdataset.MAX_SAMPLE", 1500)
    hole = tarfile.TarInfo("1.0.jpg")
    hole.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(hole.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 2**20  # the size with the holes; what is stored is nothing
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    full = tar_of(root, "t.tar", {"2.0.jpg": bytes(1000), "2.1.jpg": bytes(1000), "3.jpg": bytes(1000), "3.cls": b"1"})
    (root / full).write_bytes(bytes(header) + (root / full).read_bytes())
    refusals = refused(webdataset(path="t.tar", root=root, rows=Rows(task="count")))
    assert refusals == [("not_a_file", "t.tar: 1"), ("bomb", "t.tar: 2"), ("no_question", "t.tar: 3")]


@pytest.mark.parametrize("size", [-512, 2**60])
def test_a_size_that_cannot_be_ends_a_tar(root: Path, size: int) -> None:
    lying = tarfile.TarInfo("1.npy")
    lying.size = size
    (root / "t.tar").write_bytes(lying.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert ("truncated", "t.tar") in refused(webdataset(path="t.tar", root=root, rows=Rows(task="count")))


def test_only_the_pictures_that_a_sample_asks_about_are_shown(root: Path) -> None:
    picture = (root / "a.png").read_bytes()
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    mask = tar_of(root, "m.tar", {"1.png": picture, "1.mask.png": picture + b"1", "1.json": asked})
    (item,) = webdataset(path=mask, root=root)
    assert isinstance(item, Quarantined)
    assert item.reason == "unread_media"
    assert "mask.png" in item.why
    (sample,) = sound(webdataset(path=mask, root=root, rows=Rows(ignore=["mask.png"])))
    assert len(sample.media) == 1
    pair = tar_of(root, "p.tar", {"1.right.png": picture + b"r", "1.left.png": picture, "1.json": asked})
    (sample,) = sound(webdataset(path=pair, root=root, rows=Rows(columns={"images": ["left.png", "right.png"]})))
    assert [media.bytes for media in sample.media] == [picture, picture + b"r"]


def test_names_that_are_there_twice_or_hold_dots_are_told(root: Path) -> None:
    picture = (root / "a.png").read_bytes()
    asked = json.dumps({"question": "How many?", "answer": 2, "task": "count"}).encode()
    dotted = {
        f"22.0{day}.{suffix}": content for day in (5, 6) for suffix, content in (("png", picture), ("json", asked))
    }
    assert refused(webdataset(path=tar_of(root, "d.tar", dotted), root=root)) == [("dotted_name", "d.tar: 22")]
    with tarfile.open(root / "t.tar", "w") as tar:
        for name, content in (("1.png", picture), ("1.png", picture), ("1.json", asked)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert refused(webdataset(path="t.tar", root=root)) == [("twice", "t.tar: 1")]


def test_pairs_of_pictures_and_texts_are_captions(root: Path) -> None:
    about = json.dumps({"caption": "A red wall.", "url": "https://example.org/1.png", "key": "1"}).encode()
    members = {"1.png": (root / "a.png").read_bytes(), "1.txt": b"A red wall.\n", "1.json": about}
    rows = Rows(task="caption", question="Describe the picture.", columns={"answer": "txt"})
    (sample,) = sound(webdataset(path=tar_of(root, "laion.tar", members), root=root, rows=rows))
    assert sample.answer == {"references": ["A red wall."]}
    assert sample.prompt[0]["content"][1]["text"] == "Describe the picture."
    assert "1.png" in sample.meta["media_names"]
