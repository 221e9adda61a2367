"""`mmrl data stats`: the measures of a build show how many samples other thresholds would keep."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from data_engine.dataset.shards import read_manifest, write_dataset
from data_engine.engine.pipeline import run
from data_engine.measure.measures import condition
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from mmrl.commands.data import app
from mmrl.commands.thresholds import _counts, measures_of, uses_of
from mmrl.core.config import InputError
from tests.data_engine.ops.test_duplicates import ask, jpeg, photos


def noted(number: int, *pictures: bytes, **measures: float) -> Sample:
    return ask(f"{number}?", *pictures, meta={"measures": measures})


def counts(directory: Path, *conditions: str) -> list[str]:
    return _counts(*measures_of(directory), [condition(text) for text in conditions])


def test_a_threshold_is_tried_on_kept_and_dropped_samples(tmp_path: Path) -> None:
    samples = [noted(number, entropy=float(number), words=10.0 * number) for number in range(1, 6)]
    write_dataset([*samples, ask("?")], tmp_path / "data")
    dropped = [
        {"entropy": 0.5, "words": 5.0, "reason": "min_entropy: too_uniform"},
        {"entropy": 0.1, "words": 5.0, "reason": "min_entropy: too_uniform"},
        {"entropy": 0.5, "words": 5.0, "reason": "near_duplicates: near_duplicate"},
    ]
    pq.write_table(pa.Table.from_pylist(dropped), tmp_path / "data" / "dropped.parquet")
    assert counts(tmp_path / "data", "entropy>=0.4") == ["6", "6", "0", "1", "1", "0"]  # what was not measured passes
    assert counts(tmp_path / "data", "entropy>=3") == ["6", "4", "2", "0", "1", "0"]
    assert counts(tmp_path / "data", "entropy >= 3", "words<=40") == ["6", "3", "3", "0", "1", "0"]
    result = CliRunner().invoke(app, ["stats", str(tmp_path / "data"), "--keep", "entropy>=3", "--keep", "words<=40"])
    assert result.exit_code == 0, result.output
    assert "all of them" in result.output
    with pytest.raises(InputError, match="'entrpy>=3' is not a condition on a measure"):
        condition("entrpy>=3")


def test_measures_are_shown_as_bars_and_pictures_by_how_many_samples_show_them(tmp_path: Path) -> None:
    first, other = (jpeg(picture) for picture in photos(2))
    samples = [noted(number, first, entropy=float(number)) for number in range(4)] + [
        noted(9, first, other, entropy=9.0)
    ]
    write_dataset(samples, tmp_path / "data")
    uses = uses_of(tmp_path / "data", [shard["path"] for shard in read_manifest(tmp_path / "data")["shards"]])
    assert sorted(uses.values()) == [1, 5]
    result = CliRunner().invoke(app, ["stats", str(tmp_path / "data")], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "in 5 samples" in result.output
    assert "█" in result.output


def test_a_build_keeps_the_measures_of_dropped_samples(tmp_path: Path) -> None:
    operators = [
        {"fn": "validate"},
        {"fn": "text_length", "args": {"max_words": 1}},
        {"fn": "tests.support.lab:is_odd"},
    ]
    made = {"sources": [{"fn": "tests.support.lab:numbers", "args": {"n": 9}}], "operators": operators}
    run(Recipe.model_validate(made), out=tmp_path / "loose")
    operators[1] = {"fn": "text_length", "args": {"min_words": 2}}
    run(Recipe.model_validate(made | {"operators": operators}), out=tmp_path / "strict")
    assert counts(tmp_path / "loose", "words<=1") == ["5", "5", "0", "0", "0", "0"]  # odd ones would not come back
    assert counts(tmp_path / "strict", "words>=1") == ["0", "0", "0", "9", "0", "0"]
    dropped = measures_of(tmp_path / "strict")[1]
    assert set(dropped["reason"].to_pylist()) == {"text_length: text_too_short"}


def test_what_an_earlier_filter_dropped_was_not_measured_by_later_ones_and_passes(tmp_path: Path) -> None:
    write_dataset([noted(1, entropy=3.0, words=3.0)], tmp_path / "data")
    dropped = [
        *({"entropy": 0.5, "words": None, "reason": "min_entropy: too_uniform"} for _ in range(6)),
        {"entropy": 3.0, "words": 1.0, "reason": "text_length: text_too_short"},
        {"entropy": None, "words": None, "reason": "text_length: damaged"},
    ]
    pq.write_table(pa.Table.from_pylist(dropped), tmp_path / "data" / "dropped.parquet")
    assert counts(tmp_path / "data", "entropy>=0.1") == ["1", "1", "0", "6", "0", "0"]
    assert counts(tmp_path / "data", "words>=1") == ["1", "1", "0", "1", "0", "0"]
    assert counts(tmp_path / "data", "entropy>=0.1", "words>=1") == ["1", "1", "0", "7", "0", "6"]


def test_a_split_counts_its_dropped_samples_and_those_without_a_split(tmp_path: Path) -> None:
    write_dataset([noted(1, entropy=3.0)], tmp_path / "data")
    splits = ["train", "train", "test", ""]
    dropped = [{"entropy": 0.5, "split": split, "reason": "min_entropy: too_uniform"} for split in splits]
    pq.write_table(pa.Table.from_pylist(dropped), tmp_path / "data" / "dropped.parquet")
    command = ["stats", str(tmp_path / "data"), "--keep", "entropy>=0.1", "--split"]
    result = CliRunner().invoke(app, [*command, "train"], env={"COLUMNS": "200"})
    assert " 1 │ 1 │ 0 │ 3 │ 0 │ 0 " in " ".join(result.output.split())
    assert "Of those dropped, 1 had no split yet and count here." in " ".join(result.output.split())
    with pytest.raises(InputError, match="has no split 'trian'; did you mean train"):
        CliRunner().invoke(app, [*command, "trian"], catch_exceptions=False)
    with pytest.raises(InputError, match="no dataset at"):
        CliRunner().invoke(app, ["stats", str(tmp_path), "--keep", "entropy>=0.1"], catch_exceptions=False)
