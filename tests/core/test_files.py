"""Files and folders that appear whole or not at all, in the place of others, under several writers at once."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrl.core.config import InputError
from mmrl.core.files import (
    appearing,
    check_writable,
    exchange_by_renames,
    put_in_place,
    restore,
    sha256_of,
    write_atomic,
)


def folder_of(path: Path, text: str) -> None:
    path.mkdir()
    (path / "which").write_text(text)


def folders(parent: Path, *names: str) -> None:
    for name in names:
        folder_of(parent / name, name)


def half_written(path: Path, write: Callable[[Path, str], object]) -> None:
    with appearing(path) as staging:
        write(staging, "new")
        raise RuntimeError("half")


def contents(parent: Path) -> dict[str, str]:
    return {path.name: (path / "which" if path.is_dir() else path).read_text() for path in parent.iterdir()}


@pytest.mark.parametrize("content", ["zwölf\n", b"\xff\x00"])
def test_a_file_is_written_in_folders_that_are_made(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("write", [folder_of, Path.write_text])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path, write: Callable[[Path, str], object]) -> None:
    write(tmp_path / "place", "old")
    with pytest.raises(RuntimeError, match="half"):
        half_written(tmp_path / "place", write)
    assert contents(tmp_path) == {"place": "old"}


def test_nothing_shows_before_the_block_ends(tmp_path: Path) -> None:
    folders(tmp_path, "data")
    with appearing(tmp_path / "data") as staging:
        staging.mkdir()
        (staging / "which").write_text("new")
        assert (tmp_path / "data" / "which").read_text() == "data"
    assert contents(tmp_path) == {"data": "new"}


def test_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    writers = [threading.Thread(target=write_atomic, args=(tmp_path / "file", text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "file").read_text() in texts
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("exchange", [put_in_place, exchange_by_renames])
def test_a_folder_takes_the_place_of_another(exchange: Callable[[Path, Path], None], tmp_path: Path) -> None:
    folders(tmp_path, "old", "new")
    exchange(tmp_path / "new", tmp_path / "old")
    assert contents(tmp_path) == {"old": "new"}


def test_a_kill_between_two_renames_is_undone(tmp_path: Path) -> None:
    folders(tmp_path, ".out.old", ".out.partial")
    restore(tmp_path / "out")
    assert contents(tmp_path) == {"out": ".out.old", ".out.partial": ".out.partial"}
    folders(tmp_path, ".out.old")
    restore(tmp_path / "out")
    assert contents(tmp_path) == {"out": ".out.old", ".out.partial": ".out.partial"}


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "old")
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "folder" / "file")
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize(("name", "why"), [("", "it is a folder"), ("file/below", "Not a directory|File exists")])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"{tmp_path / name} cannot be written: .*({why}).*; name another file"):
        check_writable(tmp_path / name)


def test_a_hash_is_of_the_content_however_it_is_given(tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    (tmp_path / "file").write_bytes(content)
    expected = hashlib.sha256(content).hexdigest()
    assert {sha256_of(tmp_path / "file"), sha256_of(content), sha256_of(io.BytesIO(content))} == {expected}
