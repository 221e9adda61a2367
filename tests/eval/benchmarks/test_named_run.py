"""The `benchmarks:` block of `mmrl eval run`: named benchmarks answered, scored by their rules and reported."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from eval.records import read_records
from eval.run import EvalConfig, run
from eval.score import rescore
from mmrl.commands.eval import app
from mmrl.core.config import InputError, validate
from mmrl.model import loading
from mmrl.model.tiny_twins import tiny_model
from tests.conftest import TEXTS
from tests.support.benchmarks.answers import write_edits, write_rows
from tests.support.benchmarks.choice_rows import MMBENCH, POPE
from tests.support.benchmarks.description_rows import GEDIT
from tests.support.benchmarks.judge import judging


@pytest.fixture(scope="module")
def run_of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of two benchmarks."""
    root = tmp_path_factory.mktemp("named")
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    model.save_pretrained(root / "model")
    processor.save_pretrained(root / "model")
    config = {
        "model": str(root / "model"),
        "benchmarks": {
            "pope": {"path": str(write_rows(root / "pope", POPE, "parquet"))},
            "mmbench_en": {"path": str(write_rows(root / "mmbench", MMBENCH, "tsv")), "limit": 1},
        },
        "out": str(root / "out"),
        "sampling": {"max_new_tokens": 4},
        "vision": {"min_pixels": 784, "max_pixels": 3136},
    }
    (root / "eval.yaml").write_text(yaml.safe_dump(config))
    result = CliRunner().invoke(app, ["run", str(root / "eval.yaml")])
    assert result.exit_code == 0, result.output
    return root / "out"


def test_every_benchmark_has_its_own_report_with_the_numbers_it_is_known_by(run_of_two: Path) -> None:
    pope = json.loads((run_of_two / "pope" / "report.json").read_text())
    assert pope["records"] == 6
    assert {"accuracy", "f1", "yes_ratio", "random.f1", "mean.accuracy", "official.f1"} <= set(pope["metrics"])
    assert "| yes_ratio |" in (run_of_two / "pope" / "report.md").read_text()
    mmbench = json.loads((run_of_two / "mmbench_en" / "report.json").read_text())
    assert mmbench["records"] in (3, 4)
    assert {"circular", "vanilla"} <= set(mmbench["metrics"])


def test_records_keep_what_the_numbers_need(run_of_two: Path) -> None:
    records = read_records(run_of_two / "pope")
    assert {record.meta["item"] for record in records} == {
        f"{c}/{i}" for c in ("random", "popular", "adversarial") for i in "01"
    }
    assert {Path(record.media[0]["path"]).parent for record in records} == {run_of_two / "media"}
    before = json.loads((run_of_two / "pope" / "report.json").read_text())["metrics"]
    rescore(run_of_two / "pope")
    result = CliRunner().invoke(app, ["report", str(run_of_two / "pope")])
    assert result.exit_code == 0, result.output
    assert json.loads((run_of_two / "pope" / "report.json").read_text())["metrics"] == before


def test_a_config_has_data_or_benchmarks() -> None:
    base = {"model": "m", "out": "o"}
    pope = {"pope": {"path": "p.parquet"}}
    with pytest.raises(InputError, match="give either `data` with `rewards`, or `benchmarks`"):
        validate(EvalConfig, base, where="test")
    with pytest.raises(InputError, match="give either `data` with `rewards`, or `benchmarks`"):
        validate(EvalConfig, {**base, "benchmarks": pope, "data": {"path": "d"}}, where="test")
    with pytest.raises(InputError, match="leave `rewards` out"):
        validate(EvalConfig, {**base, "benchmarks": pope, "rewards": {"a": {"fn": "yesno_match"}}}, where="test")
    with pytest.raises(InputError, match="`data` needs `rewards`"):
        validate(EvalConfig, {**base, "data": {"path": "d"}}, where="test")
    part = validate(EvalConfig, {**base, "benchmarks": pope, "space": "unit"}, where="test").parts()[0]
    assert (part.out, list(part.benchmarks), list(part.rewards)) == ("o/pope", ["pope"], ["accuracy"])


def test_given_edits_are_judged_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    edits = write_edits(tmp_path / "edits", "gedit")
    rows = write_rows(tmp_path / "rows", GEDIT, "parquet")
    with judging() as (_, server):
        config = {
            "model": "my-editor",
            "engine": "given",
            "benchmarks": {"gedit": {"path": str(rows), "edits": str(edits)}},
            "judges": {"judge": {"base_url": server.url, "model": "scripted"}},
            "out": str(tmp_path / "out"),
            "space": "pixel",
        }
        (tmp_path / "eval.yaml").write_text(yaml.safe_dump(config))
        result = CliRunner().invoke(app, ["run", str(tmp_path / "eval.yaml")])
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "out" / "gedit" / "report.json").read_text())
        assert report["metrics"]["judge_en.full.overall"] == 10
        assert {record.response for record in read_records(tmp_path / "out" / "gedit")} == {
            f"{row['key']}.png" for row in GEDIT
        }
        write_rows(tmp_path / "rows", [{**GEDIT[0], "instruction": "Make it blue."}, *GEDIT[1:]], "parquet")
        with pytest.raises(InputError, match=r"records of another protocol .*version: .* there, .* now"):
            CliRunner().invoke(app, ["run", str(tmp_path / "eval.yaml")], catch_exceptions=False)


def test_edits_go_with_benchmarks_of_edits(tmp_path: Path) -> None:
    base = {"model": "m", "out": str(tmp_path), "engine": "given", "space": "pixel"}
    judges = {"judges": {"judge": {"base_url": "http://127.0.0.1:9/v1", "model": "x"}}}
    rows = str(write_rows(tmp_path, GEDIT, "parquet"))
    config = validate(EvalConfig, {**base, **judges, "benchmarks": {"gedit": {"path": rows}}}, where="test")
    with pytest.raises(InputError, match="benchmark gedit needs `edits`"):
        run(config)
    pope = str(write_rows(tmp_path / "pope", POPE, "parquet"))
    config = validate(EvalConfig, {**base, "benchmarks": {"pope": {"path": pope, "edits": "x"}}}, where="test")
    with pytest.raises(InputError, match="benchmark pope takes no `edits`"):
        run(config)
    config = validate(EvalConfig, {**base, "benchmarks": {"gedit": {"path": rows, "edits": "x"}}}, where="test")
    with pytest.raises(InputError, match="benchmark gedit asks a judge, but the run has no judge"):
        config.parts()


def test_a_missing_file_of_any_benchmark_is_told_before_the_first_one_runs(tmp_path: Path) -> None:
    pope = write_rows(tmp_path / "pope", POPE, "parquet")
    benchmarks = {"pope": {"path": str(pope)}, "mmstar": {"path": str(tmp_path / "nowhere")}}
    answers = tmp_path / "answers.jsonl"
    answers.write_text("")
    config = {"model": str(answers), "engine": "replay", "benchmarks": benchmarks, "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match=r"nowhere is not a file or a directory with files"):
        run(validate(EvalConfig, config, where="test"))
    assert not (tmp_path / "out").exists()


def test_a_run_of_several_has_one_table_and_every_verb_takes_the_whole(run_of_two: Path, tmp_path: Path) -> None:
    rows = json.loads((run_of_two / "summary.json").read_text())["rows"]
    assert [(row["benchmark"], row["number"]) for row in rows] == [("mmbench_en", "circular"), ("pope", "f1")]
    pope = json.loads((run_of_two / "pope" / "report.json").read_text())
    assert rows[1]["value"] == pope["metrics"]["f1"] or rows[1]["number"] == "accuracy"
    assert "| pope | f1 |" in (run_of_two / "report.md").read_text()
    for words in (["report", "OUT"], ["compare", "OUT", "OUT"], ["export", "OUT", "lmms_eval", str(tmp_path)]):
        result = CliRunner().invoke(app, [str(run_of_two) if word == "OUT" else word for word in words])
        assert result.exit_code == 0, result.output
        assert "pope" in result.output
        assert "mmbench_en" in result.output
    assert {place.name for place in tmp_path.iterdir()} == {"pope", "mmbench_en"}


def test_the_model_is_loaded_once_for_all_benchmarks(
    run_of_two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load((run_of_two.parent / "eval.yaml").read_text())
    opened: list[str] = []
    real = loading.load_checkpoint
    monkeypatch.setattr(loading, "load_checkpoint", lambda *given, **more: opened.append("") or real(*given, **more))
    run(validate(EvalConfig, {**values, "out": str(tmp_path / "out")}, where="test"))
    assert len(opened) == 1


def test_exports_have_the_index_the_groups_and_the_numbers_of_the_published_files(
    run_of_two: Path, tmp_path: Path
) -> None:
    for layout, name in (("vlmevalkit", "mmbench_en"), ("lmms_eval", "pope")):
        result = CliRunner().invoke(app, ["export", str(run_of_two / name), layout, str(tmp_path / layout)])
        assert result.exit_code == 0, result.output
    (listing,) = (tmp_path / "vlmevalkit").glob("*.json")
    rows = json.loads(listing.read_text())
    assert len({row["index"] % 1_000_000 for row in rows}) == 1  # one question, with its rotations
    assert sorted(row["index"] // 1_000_000 for row in rows) == list(range(len(rows)))
    assert {"category", "l2-category"} <= rows[0].keys()
    (results,) = (tmp_path / "lmms_eval").glob("*_results.json")
    assert {"f1,none", "random.f1,none", "accuracy,none"} <= json.loads(results.read_text())["results"]["pope"].keys()
