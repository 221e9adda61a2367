"""JSON arrays are read as streams; a broken part of a JSON file costs only itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from data_engine.sources import json_lines
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import json_array, jsonl
from tests.support.rows import refused, sound, write


@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_an_array_is_read_as_a_stream(root: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK", chunk)
    rows = [{"question": f"Réd [{n}]?", "answer": n} for n in (1, 12, 123)]
    samples = sound(json_array(path=write(root, "a.json", rows), root=root, rows=Rows(task="count")))
    assert [sample.answer["number"] for sample in samples] == [1, 12, 123]
    assert [sample.meta["where"] for sample in samples] == ["a.json:2", "a.json:6", "a.json:10"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": 1}', "x.json:1"),
        ("", "x.json:1"),
        ("[", "x.json:1"),
        ('[\n{"question": "a"', "x.json:2"),
        ("[12", "x.json:1"),
        ('[\n\n{"a": NaN}]', "x.json:3"),
        ("[" * 100_000, "x.json:1"),
    ],
)
def test_a_broken_array_names_its_place(root: Path, text: str, where: str) -> None:
    (root / "x.json").write_text(text)
    assert refused(json_array(path="x.json", root=root)) == [("bad_json", where)]


def test_an_entry_that_is_too_deep_is_one_broken_row(root: Path) -> None:
    (root / "x.json").write_text(
        '[{"a": ' + "[" * 40 + "]" * 40 + '},\n{"question": "?", "answer": 1, "task": "count"}]'
    )
    items = list(json_array(path="x.json", root=root))
    assert refused(items) == [("bad_json", "x.json:1")]
    assert len(sound(items[1:])) == 1


@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_lost_rows_of_an_array_are_reported(root: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK", chunk)
    good = '{"question": "?", "answer": 1, "task": "count"}'
    (root / "x.json").write_text(f'[{good},\n{{"a": NaN, "b": [-Infinity]}},\n{good}]\n \n [{good}]\n')
    items = list(json_array(path="x.json", root=root))
    assert [item.meta["where"] for item in items if isinstance(item, Sample)] == ["x.json:1", "x.json:3"]
    assert refused(items) == [("bad_json", "x.json:2"), ("bad_json", "x.json:5")]
    assert isinstance(items[-1], Quarantined)
    assert "after the ] of the array there is more, and it is unread" in items[-1].why
    (root / "x.json").write_text(f"[{good}]\n \n")
    assert len(sound(json_array(path="x.json", root=root))) == 1


def test_an_entry_that_never_ends_is_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_ENTRY", 1000)
    (root / "x.json").write_text('[{"a": "' + "x" * 500_000)
    assert refused(json_array(path="x.json", root=root)) == [("bad_json", "x.json:1")]


def test_a_line_that_is_too_long_is_one_broken_row(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_ENTRY", 1000)
    good = json.dumps({"question": "?", "answer": 1, "task": "count"})
    (root / "x.jsonl").write_text(f"{good}\n{'x' * 3500}\n{good}\n{'y' * 1000}\n{'z' * 999}\n{good}\n{'x' * 2500}")
    items = list(jsonl(path="x.jsonl", root=root))
    assert [item.meta["where"] for item in items if isinstance(item, Sample)] == ["x.jsonl:1", "x.jsonl:3", "x.jsonl:6"]
    broken = [("bad_json", f"x.jsonl:{number}") for number in (2, 4, 5, 7)]
    assert refused(items) == broken


def test_a_key_that_stands_twice_breaks_its_row_alone(root: Path) -> None:
    """json would keep the last one without a word."""
    good = '{"question": "?", "answer": 1, "task": "count"}'
    twice = '{"question": "?", "answer": 1, "answer": 2, "task": "count"}'
    inside = '{"question": "!", "answer": {"number": 1, "number": 2}, "task": "count"}'
    (root / "x.jsonl").write_text("\n".join([good, twice, inside]))
    (root / "x.json").write_text(f"[{good},\n{twice},\n{inside}]")
    for items in (list(jsonl(path="x.jsonl", root=root)), list(json_array(path="x.json", root=root))):
        assert len(sound(items[:1])) == 1
        assert [reason for reason, _ in refused(items)] == ["bad_json"] * 2
        assert "the key 'answer' stands there twice" in items[1].why  # pyright: ignore[reportAttributeAccessIssue]
