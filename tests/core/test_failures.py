"""Whatever a command raises, it says one line of at most 500 characters; a traceback goes to a file."""

from __future__ import annotations

import errno
import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli import run
from mmrl.core.config import Config, InputError, RunError, load
from tests.core.test_config import Outer

RAISED: dict[str, tuple[Exception, int, str]] = {
    "wrong input": (InputError("a key\nis wrong"), 2, "mmrl it: a key is wrong"),
    "a run that ends": (RunError("the loss is NaN"), 1, "mmrl it: the loss is NaN"),
    "a long message": (InputError(f"{'x' * 10**6} is too long"), 2, "is too long"),
    "control characters": (InputError("a\x1b[2Jb"), 2, r"a\x1b[2Jb"),
    "a full disk": (OSError(errno.ENOSPC, "No space", "/runs/a"), 1, "no room for /runs/a (No space left on device)"),
    "a full disk in Rust": (
        ValueError('IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'),
        1,
        "no room (No space left on device); make room and run it again",
    ),
    "a read-only place": (OSError(errno.EROFS, "", "/mnt/a"), 2, "/mnt/a: Read-only file system; name another place"),
    "a file for a folder": (NotADirectoryError(errno.ENOTDIR, "", "/a/b"), 2, "/a/b: Not a directory; name another"),
    "no memory": (MemoryError(), 1, "out of memory"),
    "anything else": (KeyError("depth"), 1, "KeyError: 'depth'; the traceback is in "),
    "too deep": (RecursionError("maximum recursion depth exceeded"), 1, "RecursionError: maximum"),
}
raised: list[Exception] = []


def command(*_: Any, **__: Any) -> None:
    raise raised[-1]


@pytest.mark.parametrize("name", RAISED)
def test_an_error_is_one_short_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, status, text = RAISED[name]
    raised.append(error)
    with pytest.raises(SystemExit) as ended:
        run("mmrl it", "tests.core.test_failures:command", [])
    line = capsys.readouterr().err
    assert ended.value.code == status
    assert line.count("\n") == 1
    assert len(line) <= 501
    assert text in line
    if found := re.search(r"the traceback is in (\S+\.txt)", line):
        kept = Path(found[1])
        assert type(error).__name__ in kept.read_text()
        assert "in command" in kept.read_text()
        kept.unlink()
    else:
        assert "KeyError" not in line


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": b"extends: a.yaml"}, "extends itself"),
        ({"a.yaml": b"extends: b.yaml", "b.yaml": b"extends: ./a.yaml"}, "extends itself"),
        ({"a.yaml": b"extends: {b.yaml: 1}"}, "or a list of paths, got {'b.yaml': 1}"),
        ({"a.yaml": b"extends: [b.yaml]", "b.yaml": b"extends: [a.yaml]"}, "extends itself"),
        ({"a.yaml": "name: Käse".encode("latin-1")}, "is not a text in UTF-8"),
        ({"a.yaml": b"name: &a [*a]"}, "an alias is within itself"),
        ({"a.yaml": b"name: " + b"[" * 5000}, "nested too deeply"),
        ({"a.yaml": b"name: {[a]: b}"}, "a key is not a plain value"),
        ({"a.yaml": b"name: a\ninner: {weight: .inf}"}, "inner.weight: Input should be a finite number"),
        ({"a.yaml": b"name: a\ninner: {weight: .nan}"}, "inner.weight: Input should be a finite number"),
    ],
)
def test_a_config_that_cannot_be_meant_is_an_input_error(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(message)):
        load(Outer, tmp_path / "a.yaml")


def test_values_that_repeat_themselves_are_neither_unfolded_nor_printed(tmp_path: Path) -> None:
    """A few lines of aliases stand for a billion values."""
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]" for below, name in itertools.pairwise(names)]
    (tmp_path / "a.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="more than 100,000 values, with all its aliases"):
        load(Outer, tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("\n".join([*lines[:4], "name: *d"]))
    with pytest.raises(InputError) as refused:
        load(Outer, tmp_path / "a.yaml")
    assert "name: Input should be a valid string" in str(refused.value)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("name=no", "no"),
        ("name=off", "off"),
        ("name=2026", "2026"),
        ("name=2026-11-29", "2026-11-29"),
        ("name=1e3", "1e3"),
        ("name=runs/a #1", "runs/a #1"),
        ("name=[a]", "[a]"),
        ("name='a b'", "a b"),
        ("name=true", "true"),
    ],
)
def test_a_text_stays_as_it_was_typed(override: str, name: str) -> None:
    assert load(Outer, None, [override]).name == name


def test_a_list_of_texts_is_a_list() -> None:
    class Listed(Config):
        names: list[str]
        place: Path | None = None

    listed = load(Listed, None, ["names=[a, no]", "place=2026"])
    assert (listed.names, listed.place) == (["a", "no"], Path("2026"))
    assert load(Listed, None, ["names=[]", "place=null"]).place is None


def test_a_comment_in_an_override_is_refused_where_it_would_be_cut() -> None:
    with pytest.raises(InputError, match=r"what follows # is a comment in YAML; put the value in quotes of its own"):
        load(Outer, None, ["name=a", "many={x: {weight: 1}} # twice"])
