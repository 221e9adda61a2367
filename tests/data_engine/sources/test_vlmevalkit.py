"""VLMEvalKit TSV files become samples; broken rows are quarantined with their line."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.operator import Quarantined
from data_engine.schema import Sample
from data_engine.sources.vlmevalkit import vlmevalkit
from mmrl.core.config import InputError
from tests.support.faulty import form_fault


def test_rows_become_choices_and_broken_rows_name_their_place(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).save(buffer, "PNG")  # over the csv module's default limit
    image = base64.b64encode(buffer.getvalue()).decode()
    rows = [f"0\t{image}\tWhat is it?\tcat\tflower\tB", "1\t9\tWhat?\ta\tb\tA", f"2\t{'?' * 99}\tWhat?\ta\tb\tA", "3"]
    (tmp_path / "bench.tsv").write_text("\n".join(["index\timage\tquestion\tA\tB\tanswer", *rows]) + "\n")
    sample, *broken = vlmevalkit(path="bench.tsv", root=tmp_path)
    assert isinstance(sample, Sample)
    assert sample.answer == {"options": ["cat", "flower"], "choice": "B"}
    assert sample.media[0].bytes == buffer.getvalue()
    assert [(item.reason, item.where) for item in broken if isinstance(item, Quarantined)] == [
        ("image_reference", "bench.tsv:3"),
        ("bad_image", "bench.tsv:4"),
        ("bad_row", "bench.tsv:5"),
    ]


def rows_of(tmp_path: Path, columns: str, *rows: str) -> list[Sample | Quarantined]:
    """The samples of rows `ANSWER<tab>OPTION...` about one small picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    lines = [f"index\timage\tquestion\tanswer\t{columns}", *(f"7\t{picture}\tWhich?\t{row}" for row in rows)]
    (tmp_path / "bench.tsv").write_text("\n".join(lines) + "\n")
    return list(vlmevalkit(path="bench.tsv", root=tmp_path))


def test_the_answer_follows_its_option_over_empty_cells(tmp_path: Path) -> None:
    third, lettered, empty, beyond = rows_of(
        tmp_path, "A\tB\tC\tD", "C\tcat\t\tdog\tcow", "A\tB\tA\t \t", "B\tcat\t\tdog\tcow", "E\ta\tb\tc\td"
    )
    assert isinstance(third, Sample)
    assert third.answer == {"options": ["cat", "dog", "cow"], "choice": "B"}
    assert third.prompt[0]["content"][1]["text"] == "Which?\nA. cat\nB. dog\nC. cow"
    assert isinstance(lettered, Sample)
    assert lettered.answer == {"options": ["B", "A"], "choice": "A"}  # a column's name, though an option reads the same
    assert isinstance(empty, Quarantined)
    assert "that cell is empty; filled are A, C, D" in empty.why
    assert isinstance(beyond, Sample)  # the letter of no option; `validate` refuses it
    assert form_fault(beyond) is not None


def test_pictures_are_borrowed_from_rows_above_and_may_be_several(tmp_path: Path) -> None:
    red, blue = (picture(colour) for colour in ("red", "blue"))
    rows = [f'1\t{red}\t"Which,\nof two?"\ta', f"2\t{blue}\tWhich?\ta", "1001\t1\tAnd now?\ta", "1002\t2\tNow?\ta"]
    rows += [f"3\t['{red}', '{blue}']\tAlike?\ta", "4\t9\tWhich?\ta", "5\t[1, 2]\tWhich?\ta", "6\t['\tWhich?\ta"]
    content = "\r\n".join(["index\timage\tquestion\tanswer", *rows])
    (tmp_path / "bench.tsv").write_bytes(b"\xef\xbb\xbf" + content.encode())
    items = list(vlmevalkit(path="bench.tsv", root=tmp_path, task="text"))
    pictures = [[media.bytes for media in item.media] for item in items if isinstance(item, Sample)]
    first, second = base64.b64decode(red), base64.b64decode(blue)
    assert pictures == [[first], [second], [first], [second], [first, second]]
    broken = [(item.reason, item.where) for item in items if isinstance(item, Quarantined)]
    assert broken == [("image_reference", "bench.tsv:8"), ("bad_image", "bench.tsv:9"), ("bad_image", "bench.tsv:10")]


def test_a_hint_is_part_of_the_question(tmp_path: Path) -> None:
    items = rows_of(tmp_path, "hint\tA\tB", "A\tBill is tall.\tcat\tdog", "B\t\tcat\tdog", "B\tnan\tcat\tdog")
    asked = [item.prompt[0]["content"][1]["text"] for item in items if isinstance(item, Sample)]
    assert asked == ["Bill is tall.\nWhich?\nA. cat\nB. dog", *["Which?\nA. cat\nB. dog"] * 2]
    with pytest.raises(InputError, match="is a folder; name the TSV file itself"):
        vlmevalkit(path=".", root=tmp_path)


def picture(colour: str) -> str:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_reading_leaves_the_limit_of_the_csv_module_alone(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows_of(tmp_path, "A\tB", "A\ta\tb")
    assert csv.field_size_limit() == before


def test_a_table_without_its_columns_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "bench.tsv").write_text("index\tquestion\n")
    with pytest.raises(InputError, match="no column image, answer"):
        vlmevalkit(path="bench.tsv", root=tmp_path)


def test_a_field_over_the_limit_is_one_broken_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_engine.sources.delimited.MAX_FIELD", 200)
    lines = ["index\timage\tquestion\tanswer", f"0\t{'A' * 300}\tWhat?\tx", "1\t0\tWhat?\tx"]
    (tmp_path / "bench.tsv").write_text("\n".join(lines) + "\n")
    reasons = [item.reason for item in vlmevalkit(path="bench.tsv", root=tmp_path) if isinstance(item, Quarantined)]
    assert reasons == ["bad_row", "image_reference"]
