"""Runs in the files of other harnesses."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from eval.export import export
from mmrl.core.config import InputError
from tests.eval.test_records import RIGHT, WRONG, grounding, written, yesno


def test_lmms_eval_reads_results_and_samples(tmp_path: Path) -> None:
    records = [yesno("a", RIGHT), yesno("a", WRONG, draw=1), yesno("b", RIGHT), grounding("c", WRONG)]
    files = export(written(tmp_path / "run", records), "lmms_eval", tmp_path / "theirs")
    (results,) = (tmp_path / "theirs").glob("*_results.json")
    stamp = results.name.removesuffix("_results.json")
    assert {file.name for file in files} == {
        results.name,
        f"{stamp}_samples_pets_yesno.jsonl",
        f"{stamp}_samples_pets_grounding.jsonl",
    }
    whole = json.loads(results.read_text())
    assert whole["results"]["pets_yesno"]["accuracy,none"] == pytest.approx(2 / 3)
    assert whole["results"]["pets_yesno"]["accuracy_stderr,none"] > 0
    assert whole["n-samples"]["pets_yesno"] == {"original": 2, "effective": 2}
    assert whole["higher_is_better"]["pets_yesno"]["accuracy"] is True
    lines = (tmp_path / "theirs" / f"{stamp}_samples_pets_yesno.jsonl").read_text().splitlines()
    first, second = map(json.loads, lines)
    assert (first["doc_id"], first["resps"], first["accuracy"]) == (0, [RIGHT, WRONG], 0.5)
    assert (second["resps"], second["filtered_resps"], second["input"]) == (RIGHT, "yes", "Is it a cat?")


def test_vlmevalkit_reads_predictions(tmp_path: Path) -> None:
    choice = replace(yesno("c", "B\tor\nC"), gold={"choice": "B", "options": ["cat", "dog"]})
    run = written(tmp_path / "run", [yesno("a", RIGHT), choice], {"format": {"fn": "think_format"}})
    table, listing = export(run, "vlmevalkit", tmp_path / "theirs")
    assert (table.name, listing.name) == ("a_pets.tsv", "a_pets.json")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["prediction"] for row in rows] == [RIGHT, "B\tor\nC"]
    assert [row["answer"] for row in rows] == ["Yes", "B"]
    assert (rows[0]["A"], rows[1]["A"], rows[1]["B"]) == ("", "cat", "dog")
    assert json.loads(listing.read_text())[1]["prediction"] == "B\tor\nC"


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    run = written(tmp_path / "run", [yesno("a", RIGHT), yesno("a", WRONG, draw=1)])
    with pytest.raises(InputError, match=r"several draws an item.*sampling\.samples=1"):
        export(run, "vlmevalkit", tmp_path / "theirs")
    with pytest.raises(InputError, match="unknown layout 'lmms'; did you mean lmms_eval"):
        export(run, "lmms", tmp_path / "theirs")
