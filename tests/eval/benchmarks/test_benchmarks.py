"""Every registered benchmark on rows in its own layout: the scores of oracles, and the errors of bad files."""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks import BENCHMARKS, FILES, find_benchmark, published
from eval.benchmarks.base import BenchmarkFiles
from eval.benchmarks.files import files_of, rows_of
from eval.benchmarks.load import benchmark_samples, metrics_of
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace
from rewards.judge_client.judge_spec import JudgeSpec
from rewards.registry import function_of
from tests.support.benchmarks.answers import FIXTURES, answered, benchmark, gold, numbers, write_rows
from tests.support.benchmarks.choice_rows import MMBENCH, POPE
from tests.support.benchmarks.fixture import png
from tests.support.benchmarks.judge import judging

LOWER = {"unjudged"}  # best at 0 in every benchmark
FREE = {"length", "unparsed"}  # of every benchmark: no best value
NO_SIZE = -1  # COCO's number for a range of sizes that nothing is in
HIDDEN = {"docvqa_test", "infovqa_test"}  # their answers are not public
TESTED = sorted(set(BENCHMARKS) & set(FIXTURES))
OPEN = sorted(set(TESTED) - HIDDEN)
NONSENSE = (
    *(
        "...",
        "}{][<>",
        "[1e308, -1e308, nan, inf]",
        "\\boxed{\\frac{",
        "<answer>",
        '{"bbox_2d": [',
        "\ud83d \u0000 \u2028 é",
    ),
    *("yes no yes", "A or B", "a dog, a frisbee. " * 3000, "7" * 5000),
)


@pytest.fixture(scope="module")
def judge() -> Iterator[JudgeSpec]:
    """A fair judge."""
    with judging() as (spec, _):
        yield spec


def among(key: str, names: Iterable[str]) -> bool:
    """Whether a number, or the first or the last part of its name, is among `names`."""
    return bool({key, key.split(".")[0], key.rsplit(".", 1)[-1]} & {*names})


def test_every_benchmark_has_a_fixture() -> None:
    missing, unknown = set(BENCHMARKS) - set(FIXTURES), set(FIXTURES) - set(BENCHMARKS)
    assert not missing, (
        f"no fixture for {', '.join(sorted(missing))}: add a Fixture with rows in the official layout to FIXTURES in "
        "tests/support/benchmarks/*_rows.py"
    )
    assert not unknown, (
        f"fixtures of unknown benchmarks: {', '.join(sorted(unknown))}; add each to BENCHMARKS in its file of "
        "eval/benchmarks/published, and a new file to FILES in eval/benchmarks/__init__.py"
    )


def test_names_are_unique_and_every_file_is_registered() -> None:
    names = [benchmark.name for file in FILES for benchmark in file.BENCHMARKS]
    assert len(names) == len(BENCHMARKS), f"a name is taken: {[n for n in names if names.count(n) > 1]}"
    folder = Path(published.__file__).parent
    there = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    registered = {file.__name__.rsplit(".", 1)[-1] for file in FILES}
    assert there == registered, f"add {there - registered} to FILES in eval/benchmarks/__init__.py"


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_every_benchmark_says_what_it_is_about(name: str) -> None:
    about = find_benchmark(name).about
    assert about.endswith("."), f"`about` of {name} in eval/benchmarks/published: say in a sentence what is asked"
    for scorer, spec in {**find_benchmark(name).scorers, **find_benchmark(name).judged}.items():
        assert function_of(spec["fn"]).__doc__, f"{name}: the scorer {scorer} ({spec['fn']}) needs a docstring"


@pytest.mark.parametrize("name", OPEN)
def test_the_gold_oracle_is_right_everywhere(name: str, tmp_path: Path, judge: JudgeSpec) -> None:
    fixture = FIXTURES[name]
    metrics = numbers(name, benchmark(name, tmp_path).load(), gold, judge)
    known_by = find_benchmark(name).known_by
    assert known_by in metrics or find_benchmark(name).needs, f"known_by of {name} is {known_by}: it is no metric"
    assert metrics.get("unparsed") == 0, f'{name}: its `metrics` must give "unparsed", see `unparsed_share`'
    assert any(value not in (None, 0) for key, value in metrics.items() if not among(key, FREE))
    for key, value in metrics.items():
        if among(key, FREE | fixture.free):
            continue
        if value is None:
            assert among(key, fixture.empty), f"{key} is None; see `empty` of the Fixture"
        elif among(key, LOWER | fixture.lower):
            assert value == 0, key
        elif value != NO_SIZE:
            assert value == pytest.approx(fixture.best_of.get(key, fixture.best), abs=0.06), key


@pytest.mark.parametrize("name", OPEN)
def test_a_silent_model_scores_nothing_and_fails_always(name: str, tmp_path: Path, judge: JudgeSpec) -> None:
    samples = benchmark(name, tmp_path, shade=None).load()
    records, headline = answered(name, samples, lambda _: "", judge), find_benchmark(name).headline
    assert all(record.scores[headline] == 0 and record.kinds[headline] == "unparsed" for record in records)
    metrics = metrics_of(records)
    assert metrics is not None
    assert metrics["unparsed"] == 1
    for key, value in metrics.items():
        if not among(key, FREE | FIXTURES[name].silent):
            assert value in (0, None, NO_SIZE), key


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_hidden_answers_give_no_numbers(name: str, tmp_path: Path) -> None:
    samples = benchmark(name, tmp_path).load()
    assert metrics_of(answered(name, samples, lambda _: "Ann Lee")) is None


@pytest.mark.parametrize("name", TESTED)
def test_nonsense_breaks_nothing_and_scores_stay_in_range(name: str, tmp_path: Path, judge: JudgeSpec) -> None:
    """A guess of the kind that has nothing to do with the question: no score is out of range, none fails."""
    samples = benchmark(name, tmp_path, shade=7).load()
    for number, text in enumerate(NONSENSE):
        for record in answered(name, samples[number % len(samples) :][:1], lambda _, text=text: text, judge):
            assert "failed" not in record.kinds.values(), (text[:20], record.why)
            assert all(score is None or 0 <= score <= 1 for score in record.scores.values()), text[:20]


@pytest.mark.parametrize("name", OPEN)
def test_random_guessing_scores_one_over_the_options(name: str, tmp_path: Path) -> None:
    """Every letter in turn scores like the average guess."""
    for sample in benchmark(name, tmp_path).load():
        if sample.task != "choice" or "choice" not in sample.answer:
            continue
        names = sample.answer.get("names") or "ABCDEFGH"
        options = sample.answer["options"]
        hits = [answered(name, [sample], lambda _, i=i, names=names: names[i])[0] for i in range(len(options))]
        assert sum(hit.scores["accuracy"] or 0 for hit in hits) == 1
        assert {hit.kinds["accuracy"] for hit in hits} == {"scored"}


@pytest.mark.parametrize("name", ["pope", "hallusionbench", "amber_discriminative"])
def test_guessing_yes_or_no_is_right_half_the_time_on_average(name: str, tmp_path: Path) -> None:
    samples = benchmark(name, tmp_path).load()
    key = "aAcc" if name == "hallusionbench" else "accuracy"
    yes, no = (numbers(name, samples, lambda _, word=word: word)[key] or 0 for word in ("yes", "no"))
    assert yes + no == 1


@pytest.mark.parametrize("name", [name for name in TESTED if FIXTURES[name].suffix != "dir"])
def test_a_missing_column_is_named(name: str, tmp_path: Path) -> None:
    rows = FIXTURES[name].rows
    column = find_benchmark(name).columns[-1]
    whole = rows["images"] if name == "coco_karpathy" else rows
    cut = (
        {k: _without(row, column) for k, row in whole.items()}
        if isinstance(whole, dict)
        else [_without(r, column) for r in whole]
    )
    with pytest.raises(InputError, match=f"has no {column}; it has"):
        benchmark(name, tmp_path, cut).load()


def _without(row: dict[str, Any], column: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != column}


def test_the_same_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two items with the id 'random/0'"):
        benchmark("pope", tmp_path, [*POPE, POPE[0]]).load()


@pytest.mark.parametrize("name", ["ai2d", "chartqa", "ocrbench", "mvbench", "charades_sta"])
def test_a_row_without_an_id_may_come_twice(name: str, tmp_path: Path) -> None:
    row = FIXTURES[name].rows[0]
    samples = benchmark(name, tmp_path, [row, row, row]).load()
    assert len({sample.id for sample in samples}) == 3
    first = benchmark(name, tmp_path / "b", [row]).load()[0]
    assert first.id in {sample.id for sample in samples}


def test_no_rows_are_no_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "empty.jsonl"
    file.write_text("")
    made = benchmark_samples("decapbench", BenchmarkFiles(path=str(file)), space=CoordinateSpace.pixel, media=tmp_path)
    with pytest.raises(InputError, match="decapbench: no item in"):
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


def test_a_split_is_not_its_negation_and_other_benchmarks_lie_in_other_folders(tmp_path: Path) -> None:
    for folder in ("DocVQA", "InfographicVQA"):
        for name in ("image-00000-of-00001", "non_image-00000-of-00001"):
            write_rows(tmp_path / folder, POPE, "parquet", name)
    assert {file.stem[:5] for file in files_of(str(tmp_path), None, "x/y", "image")} == {"image"}
    files = files_of(str(tmp_path), None, "x/y", "image", ("DocVQA",))
    assert [file.parent.name for file in files] == ["DocVQA"]
    assert len(files_of(str(tmp_path), None, "x/y", "image", ("en",))) == 2


def test_one_hub_dataset_may_hold_several_benchmarks(tmp_path: Path) -> None:
    rows, kept = FIXTURES["docvqa"].rows, tmp_path / "hub"
    for folder, some in (("DocVQA", rows[:1]), ("InfographicVQA", rows[:1])):
        write_rows(kept / folder, some, "parquet", "validation-00000-of-00001")
    for name in ("docvqa", "infovqa"):
        made = benchmark_samples(name, BenchmarkFiles(path=str(kept)), space=CoordinateSpace.pixel, media=tmp_path)
        assert len(made.load()) == 1


def test_tables_of_vlmevalkit_may_name_a_picture_by_the_row_that_has_it(tmp_path: Path) -> None:
    rows = [MMBENCH[0], {**MMBENCH[1], "image": str(MMBENCH[0]["index"])}]
    samples = benchmark("mmbench_en", tmp_path, rows).load()
    assert len(samples) == 7
    assert len({sample.media[0].sha256 for sample in samples}) == 1


def test_byte_order_marks_and_line_separators_in_texts_are_read(tmp_path: Path) -> None:
    table, lines = tmp_path / "rows.csv", tmp_path / "rows.jsonl"
    table.write_text("id,text\n1,a\n", encoding="utf-8-sig")
    lines.write_text('{"id": 1, "text": "a\u2028b"}\n{"id": 2, "text": "c"}\n', encoding="utf-8")
    assert list(rows_of([table], ("id",))) == [{"id": "1", "text": "a"}]
    assert [row["text"] for row in rows_of([lines], ("id",))] == ["a\u2028b", "c"]


def test_gqa_takes_pictures_from_files_of_their_own(tmp_path: Path) -> None:
    picture = {"id": "p", "image": {"bytes": png(), "path": "p.jpg"}}
    asked = [{"id": str(i), "imageId": "p", "question": f"Is it {i}?", "answer": "yes"} for i in range(2)]
    write_rows(tmp_path / "hub" / "testdev_balanced_images", [picture], "parquet", "testdev-00000-of-00001")
    write_rows(tmp_path / "hub" / "testdev_balanced_instructions", asked, "parquet", "testdev-00000-of-00001")
    write_rows(tmp_path / "hub" / "testdev_all_instructions", asked, "parquet", "testdev-00000-of-00001")
    made = benchmark_samples(
        "gqa", BenchmarkFiles(path=str(tmp_path / "hub")), space=CoordinateSpace.pixel, media=tmp_path
    )
    assert [len(sample.media) for sample in made.load()] == [1, 1]


def test_a_limit_takes_whole_sets_of_hallusionbench(tmp_path: Path) -> None:
    row = FIXTURES["hallusionbench"].rows[0]
    rows = [{**row, "set_id": s, "figure_id": f, "question_id": q} for s in "012" for f in "12" for q in "01"]
    samples = benchmark("hallusionbench", tmp_path, rows, limit=1).load()
    assert len(samples) == 4
    assert len({sample.meta["set_id"] for sample in samples}) == 1


def test_a_hub_dataset_is_a_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    with pytest.raises(InputError, match="revision 'main': give the path of lmms-lab/POPE"):
        files_of(None, "main", "lmms-lab/POPE", "test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=f"is not in the cache; hf download .* --revision {revision}"):
        files_of(None, revision, "lmms-lab/Nothing", "test")


def test_a_name_that_is_wrong_gets_the_right_one() -> None:
    with pytest.raises(InputError, match="pope"):
        find_benchmark("popes")
    with pytest.raises(ValueError, match="give one of the two"):
        BenchmarkFiles()


def test_no_json_is_said(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(MMBENCH)[:-5])
    made = benchmark_samples("mmbench_en", BenchmarkFiles(path=str(file)), space=CoordinateSpace.pixel, media=tmp_path)
    with pytest.raises(InputError, match="is not JSON"):
        made.load()
