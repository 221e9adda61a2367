"""Broken files: whatever a file holds, validation ends soon, in little memory, and names the fault."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.validate.checks import CHECKS
from mmrl.core.media.damage import ADAM7
from mmrl.core.media.files import MediaError
from mmrl.core.media.probe import probe
from tests.support.broken import BOMBS, FAULTS, Ending, bombs, broken, judged, originals, png, scanned

SECONDS, MEGABYTES = 5.0, 1500.0


def faults(endings: Sequence[Ending]) -> list[Ending]:
    """Forbidden endings: hangs, crashes, exceptions, and files that nobody knows a reason for."""
    return [ending for ending in endings if ending.seconds > SECONDS or ending.verdict not in {"kept", *CHECKS}]


def test_broken_files_are_classified_in_bounded_time_and_memory(tmp_path: Path) -> None:
    whole = originals(tmp_path)
    endings, megabytes = judged(chain(whole.items(), bombs(), broken(whole, 130)), tmp_path)
    assert len(endings) == len(whole) + len(BOMBS) + 130
    assert faults(endings) == []
    assert megabytes < MEGABYTES
    verdicts = {ending.name: ending.verdict for ending in endings}
    assert {name: verdicts[name] for name in whole if verdicts[name] != "kept"} == {"sound.mp4": "no_stream"}
    kept = {name for name in BOMBS if verdicts[name] == "kept"}
    assert kept == {"limit.png", "limit-alpha.png", "limit-deep.png", "scans-limit.jpg", "canvas-limit.gif"}
    refused = {name for name in BOMBS if verdicts[name] == "bomb"}
    assert refused == {"large.png", "longest.png", "scans.jpg", "canvas.gif"}
    assert len(set(verdicts.values())) > 8


@pytest.mark.slow
def test_two_thousand_broken_files(tmp_path: Path) -> None:
    endings, megabytes = judged(chain(bombs(), broken(originals(tmp_path), 2000, seed=1)), tmp_path)
    slowest = sorted(endings, key=lambda ending: -ending.seconds)[:5]
    print(f"\n{len(endings)} files, at most {megabytes:.0f} MB, slowest {slowest}")
    print(Counter(ending.verdict for ending in endings).most_common())
    assert len(endings) == 2000 + len(BOMBS)
    assert faults(endings) == []
    assert megabytes < MEGABYTES


def test_breaking_is_by_seed() -> None:
    files = {"a.jpg": bytes(range(256)) * 20, "b.mp4": bytes(5000)}
    made = list(broken(files, 60))
    assert made == list(broken(files, 60))
    assert made != list(broken(files, 60, seed=1))
    assert {name.split("-")[1] for name, _ in made} == set(FAULTS)


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    content = io.BytesIO()
    Image.fromarray(load_sample_image("china.jpg")).save(content, "JPEG")
    return content.getvalue()


def reason(content: bytes) -> str | None:
    try:
        probe(content, "image")
    except MediaError as error:
        return error.reason
    return None


def test_a_jpeg_whose_missing_part_was_filled_in_is_truncated(jpeg: bytes) -> None:
    """Pillow shows all of these with a grey part, and says nothing."""
    half = len(jpeg) // 2
    assert reason(jpeg) is None
    assert reason(jpeg + b"more") is None
    assert reason(jpeg[:half] + b"\xff\xd9") == "truncated"
    assert reason(jpeg[:half] + bytes(len(jpeg) - half)) == "truncated"
    assert reason(jpeg[:half] + bytes(2000) + jpeg[half + 2000 :]) == "truncated"


def test_a_jpeg_of_endless_passes_is_a_bomb(jpeg: bytes) -> None:
    assert reason(scanned(100, 10)) is None
    assert reason(scanned(100, 100)) == "bomb"
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert reason(jpeg[:-2] + scan * 100 + jpeg[-2:]) == "bomb"


def test_bytes_after_a_picture_do_not_count_as_scans(jpeg: bytes) -> None:
    """Phones write a film behind the picture, cameras a thumbnail into its head."""
    assert reason(jpeg + b"\xff\xda film" * 200) is None
    assert reason(scanned(100, 10) + b"\xff\xda film" * 200) is None
    body = b"\xff\xda note" * 200
    note = b"\xff\xe1" + (2 + len(body)).to_bytes(2) + body
    assert reason(jpeg[:2] + note + jpeg[2:]) is None


@pytest.mark.parametrize(("depth", "colour"), [(8, 2), (16, 0), (8, 6), (1, 0)])
def test_a_png_with_fewer_rows_than_it_declares_is_truncated(depth: int, colour: int) -> None:
    assert reason(png(33, 50, 50, depth, colour)) is None
    assert reason(png(33, 50, 49, depth, colour)) == "truncated"


def test_a_png_whose_checksums_are_wrong_is_damaged() -> None:
    content = png(33, 50, 50)
    for chunk in (b"IHDR", b"IDAT"):
        at = content.index(chunk) - 4
        end = at + 8 + int.from_bytes(content[at : at + 4])
        assert reason(content[:end] + bytes(4) + content[end + 4 :]) == "unreadable"


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (33, 70)])
def test_an_interlaced_png_has_all_of_its_passes(size: tuple[int, int]) -> None:
    grey = np.asarray(Image.fromarray(load_sample_image("china.jpg")).convert("L").resize(size))
    rows = [row for x, y, right, down in ADAM7 for row in grey[y::down, x::right] if row.size]
    packed = b"".join(b"\0" + row.tobytes() for row in rows)
    assert reason(_interlaced(size, packed)) is None
    assert reason(_interlaced(size, packed[:-1])) == "truncated"


def _interlaced(size: tuple[int, int], packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")]
    framed = [struct.pack(">I", len(data)) + name + data + zlib.crc32(name + data).to_bytes(4) for name, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)
