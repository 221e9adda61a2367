"""Every registered benchmark on rows in its own layout: what oracles score, and what bad files get."""

import json
import logging
from pathlib import Path

import pytest

from eval.benchmark import BenchmarkData
from eval.benchmarks import BENCHMARKS, named
from eval.benchmarks.files import files_of
from eval.benchmarks.load import metrics_of, named_benchmark
from mmrl.config import InputError
from mmrl.vision import CoordinateSpace
from tests.benchmark_rows import MMBENCH, POPE, ROWS, answered, benchmark, gold, numbers, png, write_rows

LOWER_IS_BETTER = {"chair_i", "chair_s", "object_hal.response_rate", "object_hal.mention_rate"}
NO_SCORE = {"length", "yes_ratio", "unparsed", "text_only"}
NOT_A_SHARE = "points"


def last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def test_every_benchmark_has_a_fixture() -> None:
    assert set(ROWS) == set(BENCHMARKS)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_the_gold_oracle_is_right_everywhere(name: str, tmp_path: Path) -> None:
    samples = benchmark(name, tmp_path).load()
    found = numbers(name, samples, gold)
    assert found["unparsed"] == 0
    for key, value in found.items():
        if name == "amber_discriminative" and value is None:
            assert key.startswith("state.")  # no gold "no" there, so nothing to find
        elif key in LOWER_IS_BETTER:
            assert value == 0, key
        elif last(key) not in NO_SCORE and not key.startswith(NOT_A_SHARE):
            assert value == pytest.approx(0.95 if name == "textvqa" else 1, abs=0.06), key


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_silent_model_scores_nothing_and_fails_always(name: str, tmp_path: Path) -> None:
    samples = benchmark(name, tmp_path).load()
    records = answered(name, samples, lambda _: "")
    assert all(record.scores["accuracy"] == 0 and record.kinds["accuracy"] == "unparsed" for record in records)
    found = metrics_of(records)
    assert found is not None
    assert found["unparsed"] == 1
    official = {"official", "chair_i", "chair_s", "length"}  # POPE's published parser hears a yes in silence
    assert {v for k, v in found.items() if k.split(".")[0] not in official and last(k) != "unparsed"} <= {0, None}


@pytest.mark.parametrize(
    "name", sorted(name for name in BENCHMARKS if "choice" in named(name).rewards["accuracy"]["fn"])
)
def test_random_guessing_scores_one_over_the_options(name: str, tmp_path: Path) -> None:
    """Every letter in turn is what a guess is on average."""
    chosen = [sample for sample in benchmark(name, tmp_path).load() if sample.task == "choice"]
    for sample in chosen:
        options = sample.answer["options"]
        hits = [answered(name, [sample], lambda _, i=i: "ABCDEFGH"[i])[0] for i in range(len(options))]
        assert sum(hit.scores["accuracy"] or 0 for hit in hits) == 1
        assert {hit.kinds["accuracy"] for hit in hits} == {"scored"}


def test_guessing_yes_or_no_is_right_half_the_time(tmp_path: Path) -> None:
    samples = benchmark("pope", tmp_path).load()
    yes, no = (numbers("pope", samples, lambda _, word=word: word)["accuracy"] for word in ("yes", "no"))
    assert (yes, no) == (0.5, 0.5)


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_a_missing_column_is_named(name: str, tmp_path: Path) -> None:
    rows, suffix = ROWS[name]
    column = named(name).columns[-1]
    whole = list(rows.values()) if isinstance(rows, dict) else rows
    file = write_rows(tmp_path, [{k: v for k, v in row.items() if k != column} for row in whole], suffix)
    made = named_benchmark(name, BenchmarkData(path=str(file)), space=CoordinateSpace.pixel, media=tmp_path)
    with pytest.raises(InputError, match=f"has no {column}; it has"):
        made.load()


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two items with the id 'random/0'"):
        benchmark("pope", tmp_path, [*POPE, POPE[0]]).load()


def test_no_rows_are_no_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_text("")
    made = named_benchmark("chair", BenchmarkData(path=str(file)), space=CoordinateSpace.pixel, media=tmp_path)
    with pytest.raises(InputError, match="chair: no item in"):
        made.load()


def test_another_number_of_rows_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        benchmark("pope", tmp_path).load()
    assert "pope has 6 rows here, 9000 as published" in caplog.text


def test_other_rows_are_another_version_and_pictures_are_kept_once(tmp_path: Path) -> None:
    whole, part = benchmark("pope", tmp_path / "a"), benchmark("pope", tmp_path / "b", POPE[:4])
    assert whole.version != part.version
    assert whole.version == benchmark("pope", tmp_path / "c").version
    samples = whole.load()
    assert len({sample.media[0].sha256 for sample in samples}) == len(list((tmp_path / "a" / "media").iterdir())) == 1
    assert len({sample.id for sample in samples}) == 6


def test_a_limit_takes_whole_questions(tmp_path: Path) -> None:
    samples = benchmark("mmbench_en", tmp_path, limit=1).load()
    assert len({sample.meta["question"] for sample in samples}) == 1
    assert len(samples) in (3, 4)


def test_a_damaged_picture_stops_the_run_and_is_not_left_out(tmp_path: Path) -> None:
    rows = [{**POPE[0], "image": {"bytes": png()[:60], "path": "0.png"}}]
    with pytest.raises(InputError, match=r"cut off|does not decode|not an image"):
        benchmark("pope", tmp_path, rows).load()


def test_the_files_of_the_split_are_read_if_there_are_any(tmp_path: Path) -> None:
    for name in ("val-00000-of-00001", "test-00000-of-00001", "testA-00000-of-00001"):
        write_rows(tmp_path, POPE, "parquet", name)
    assert [file.stem for file in files_of(str(tmp_path), None, "x/y", "test")] == ["test-00000-of-00001"]
    assert len(files_of(str(tmp_path), None, "x/y", "dev")) == 3


def test_a_hub_dataset_is_a_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    with pytest.raises(InputError, match="revision 'main': give the path of lmms-lab/POPE"):
        files_of(None, "main", "lmms-lab/POPE", "test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"is not in the cache; hf download .* --revision {revision}"):
        files_of(None, revision, "lmms-lab/Nothing", "test")


def test_a_name_that_is_wrong_gets_the_right_one() -> None:
    with pytest.raises(InputError, match="pope"):
        named("popes")
    with pytest.raises(ValueError, match="give one of the two"):
        BenchmarkData()


def test_no_json_is_said(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(MMBENCH)[:-5])
    made = named_benchmark("mmbench_en", BenchmarkData(path=str(file)), space=CoordinateSpace.pixel, media=tmp_path)
    with pytest.raises(InputError, match="is not JSON"):
        made.load()
