"""Records by hand: written, read, scored again, reported and compared without any model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from eval.compare import compare
from eval.records import RECORDS, RUN, Record, RecordWriter, RunInfo, read_records, replace_records
from eval.report import report, warnings
from eval.score import evaluation_suite, rescore, scored, suite_identity
from mmrl.core.config import InputError

SPECS = {
    "accuracy": {"fn": "yesno_match", "tasks": ["yesno"]},
    "grounding": {"fn": "box_iou", "tasks": ["grounding"]},
    "format": {"fn": "think_format", "weight": 0.2},
}
PROTOCOL = {
    "fingerprint": "f" * 16,
    "benchmark": "pets",
    "version": "1",
    "split": "test",
    "decoding": "greedy",
    "vision": {},
    "space": "pixel",
    "blind": False,
}
RIGHT, WRONG, MUTE = "<think>I see</think><answer>yes</answer>", "<answer>no</answer>", "<answer>perhaps</answer>"


def yesno(item: str, response: str, *, picture: str | None = None, draw: int = 0) -> Record:
    picture_entry = {
        "kind": "image",
        "path": f"{picture or item}.png",
        "sha256": picture or item,
        "width": 64,
        "height": 64,
    }
    return Record(
        key=f"{item}-{draw}",
        protocol="p",
        benchmark="pets",
        split="test",
        item_id=item,
        draw=draw,
        task="yesno",
        source="hand",
        prompt_id="q",
        prompt=[{"role": "user", "content": "Is it a cat?"}],
        media=[picture_entry],
        seen_size=[[56, 56]],
        response=response,
        tokens=5,
        gold={"yesno": True},
        meta={"space": "pixel"},
    )


def grounding(item: str, response: str) -> Record:
    return replace(yesno(item, response), task="grounding", gold={"boxes": [[0.0, 0.0, 32.0, 32.0]]})


def written(out: Path, records: list[Record], specs: dict[str, dict] = SPECS, **changes: object) -> Path:
    suite = evaluation_suite(specs)
    info = RunInfo(
        "models/a", {**PROTOCOL, **changes}, suite_identity(suite), {}, max_unjudged=0.1, planned=len(records)
    )
    out.mkdir(parents=True)
    replace_records(out, scored(records, suite, info.scorer), info)
    return out


def row(content: dict, task: str, reward: str) -> dict:
    return next(row for row in content["rows"] if (row["task"], row["reward"]) == (task, reward))


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    records = [yesno("a", "line\nbreak \u2028 日本"), grounding("b", WRONG)]
    with RecordWriter(tmp_path) as writer:
        writer.append(records)
    assert read_records(tmp_path) == records


def test_a_torn_last_line_is_not_a_record_and_is_cut_off(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append([yesno("a", RIGHT), yesno("b", RIGHT)])
    file = tmp_path / RECORDS
    file.write_bytes(file.read_bytes()[:-20])
    assert [record.item_id for record in read_records(tmp_path)] == ["a"]
    with RecordWriter(tmp_path) as writer:
        writer.append([yesno("b", RIGHT)])
    assert [record.item_id for record in read_records(tmp_path)] == ["a", "b"]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_text('{"key": "a"}\n')
    with pytest.raises(InputError, match=r"records\.jsonl line 1 is not a record"):
        read_records(tmp_path)


def test_records_of_another_version_are_refused_or_scored_again(tmp_path: Path) -> None:
    out = written(tmp_path / "run", [yesno("a", RIGHT)])
    place = out / RUN
    stored = json.loads(place.read_text())
    place.write_text(json.dumps({key: value for key, value in stored.items() if key != "planned"}))
    with pytest.raises(InputError, match=r"run\.json is not of this version of mmrl"):
        report(out)
    place.write_text(json.dumps({**stored, "suite": {**stored["suite"], "version": "0.0.1"}}))
    with pytest.raises(InputError, match=r"1 of 1 records .* were scored by another suite; run mmrl eval score"):
        report(out)
    rescore(out)
    assert report(out)["rows"][0]["n"] == 1


def test_scores_are_the_verdicts_of_the_rewards_of_the_task(tmp_path: Path) -> None:
    right, wrong, mute, box = read_records(
        written(
            tmp_path / "run",
            [yesno("a", RIGHT), yesno("b", WRONG), yesno("c", MUTE), grounding("d", "<answer>[0,0,32,16]</answer>")],
        )
    )
    assert (right.scores, right.kinds) == ({"accuracy": 1.0, "format": 1.0}, {"accuracy": "scored", "format": "scored"})
    assert (right.total, right.answer_text) == (pytest.approx(1.2), "yes")
    assert (wrong.scores["accuracy"], wrong.kinds["accuracy"]) == (0.0, "scored")
    assert (mute.scores["accuracy"], mute.kinds["accuracy"]) == (0.0, "unparsed")
    assert (box.scores["grounding"], "accuracy" in box.scores) == (0.5, False)


def test_the_report_counts_unparsed_apart_from_wrong(tmp_path: Path) -> None:
    out = written(tmp_path / "run", [yesno("a", RIGHT), yesno("b", WRONG), yesno("c", MUTE), yesno("d", RIGHT)])
    content = report(out)
    accuracy = row(content, "yesno", "accuracy")
    assert (accuracy["mean"], accuracy["n"], accuracy["unparsed"], accuracy["failed"]) == (0.5, 4, 0.25, 0.0)
    assert 0 <= accuracy["low"] < 0.5 < accuracy["high"] <= 1
    assert row(content, "all", "total")["mean"] == pytest.approx(0.5 + 0.2 * 0.5)
    assert json.loads((out / "report.json").read_text()) == content
    assert "| yesno | accuracy | 0.500 |" in (out / "report.md").read_text()


def test_draws_and_questions_on_one_picture_are_one_cluster(tmp_path: Path) -> None:
    records = [yesno(item, RIGHT, picture="cat", draw=draw) for item in "ab" for draw in range(3)]
    accuracy = row(report(written(tmp_path / "run", [*records, yesno("c", WRONG)])), "yesno", "accuracy")
    assert (accuracy["n"], accuracy["clusters"]) == (7, 2)


def test_a_reward_that_always_abstains_is_listed_and_not_scored(tmp_path: Path) -> None:
    specs = {**SPECS, "number": {"fn": "number_match"}}
    content = report(written(tmp_path / "run", [yesno("a", RIGHT), grounding("b", WRONG)], specs))
    assert {"task": "yesno", "reward": "number"} in content["silent"]
    assert not [row for row in content["rows"] if row["reward"] == "number"]
    assert not row(content, "yesno", "total")["withheld"]


def broken(rollouts: list) -> list[float]:
    """Fails on every second rollout."""
    return [float("nan") if i % 2 else 1.0 for i, _ in enumerate(rollouts)]


def test_a_mean_is_withheld_when_too_many_verdicts_are_missing(tmp_path: Path) -> None:
    specs = {**SPECS, "broken": {"fn": f"{__name__}:broken"}}
    out = written(tmp_path / "run", [yesno(item, RIGHT) for item in "abcd"], specs)
    content = report(out)
    failing = row(content, "yesno", "broken")
    assert (failing["mean"], failing["withheld"], failing["failed"], failing["n"]) == (None, True, 0.5, 2)
    assert row(content, "yesno", "total")["withheld"]
    assert row(content, "yesno", "accuracy")["mean"] == 1.0
    assert "| yesno | broken | withheld |" in (out / "report.md").read_text()


def test_what_a_total_does_not_count_does_not_withhold_it(tmp_path: Path) -> None:
    specs = {**SPECS, "broken": {"fn": f"{__name__}:broken", "weight": 0}}
    content = report(written(tmp_path / "run", [yesno(item, RIGHT) for item in "abcd"], specs))
    assert row(content, "yesno", "broken")["withheld"]
    assert row(content, "yesno", "total")["mean"] == pytest.approx(1.2)
    assert row(content, "yesno", "total")["failed"] == 0


def test_a_run_that_was_stopped_says_so(tmp_path: Path) -> None:
    out = written(tmp_path / "run", [yesno("a", RIGHT), yesno("b", WRONG)])
    file = out / RECORDS
    file.write_bytes(file.read_bytes().split(b"\n")[0] + b"\n")
    report(out)
    assert "Incomplete: 1 of 2 records" in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("box", "space", "warned"),
    [
        ("[4, 4, 60, 60]", "pixel", ""),
        ("[100, 100, 900, 900]", "pixel", "100% leave the picture when read as `pixel`"),
        ("[0.1, 0.1, 0.9, 0.9]", "pixel", "100% are fractions of a pixel"),
        ("[0.1, 0.1, 0.9, 0.9]", "unit", ""),
        ("[100, 100, 900, 900]", "per_mille", ""),
    ],
)
def test_boxes_in_another_space_are_doubted(tmp_path: Path, box: str, space: str, warned: str) -> None:
    records = [replace(grounding(f"{at}", f"<answer>{box}</answer>"), meta={"space": space}) for at in range(3)]
    out = written(tmp_path / "run", [*records, grounding("mute", "no box")], space=space)
    content = report(out)
    assert content["boxes"]["boxes"] == 3
    assert warnings(content) == [] if not warned else warned in warnings(content)[0]
    assert warned in (out / "report.md").read_text()


def test_rescoring_gives_the_same_scores(tmp_path: Path) -> None:
    out = written(
        tmp_path / "run", [yesno("a", RIGHT), grounding("b", "<answer>[0,0,32,16]</answer>"), yesno("c", MUTE)]
    )
    before = (out / RECORDS).read_bytes()
    rescore(out)
    assert (out / RECORDS).read_bytes() == before


def test_rescoring_by_another_suite_needs_no_model(tmp_path: Path) -> None:
    out = written(tmp_path / "run", [yesno("a", RIGHT), yesno("b", WRONG)])
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump({"rewards": {"accuracy": {"fn": "yesno_match", "weight": 2.0}}}))
    assert [record.scores for record in rescore(out, suite)] == [{"accuracy": 1.0}, {"accuracy": 0.0}]
    assert row(report(out), "all", "total")["mean"] == 1.0


def test_scores_of_another_suite_than_the_run_says_are_refused(tmp_path: Path) -> None:
    out = written(tmp_path / "run", [yesno("a", RIGHT), yesno("b", WRONG)])
    records = read_records(out)
    with RecordWriter(out) as writer:
        writer.append([replace(records[0], key="c", scorer="other")])
    with pytest.raises(InputError, match=r"1 of 3 records .* mmrl eval score"):
        report(out)


def test_a_reward_called_total_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be called 'total'"):
        evaluation_suite({"total": {"fn": "think_format"}})


def test_compare_pairs_items_and_names_those_that_flipped(tmp_path: Path) -> None:
    before = written(tmp_path / "a", [yesno("a", RIGHT), yesno("b", WRONG), yesno("c", WRONG), yesno("x", WRONG)])
    answers = {"a": RIGHT, "b": RIGHT, "c": RIGHT, "y": WRONG}
    after = written(tmp_path / "b", [yesno(k, v) for k, v in answers.items()], space="unit")
    content = compare(before, after)
    accuracy = row(content, "yesno", "accuracy")
    assert (accuracy["before"], accuracy["after"], accuracy["n"]) == (pytest.approx(1 / 3), 1.0, 3)
    assert accuracy["difference"] == pytest.approx(2 / 3)
    assert (accuracy["gained"], accuracy["lost"]) == (["b", "c"], [])
    assert content["unmatched"] == 2
    assert content["protocol"] == {"space": {"before": "pixel", "after": "unit"}}


def test_compare_averages_the_draws_of_an_item_first(tmp_path: Path) -> None:
    before = written(tmp_path / "a", [yesno("a", RIGHT), yesno("b", WRONG)])
    draws = [yesno("a", RIGHT, draw=0), yesno("a", WRONG, draw=1), yesno("b", WRONG), yesno("b", RIGHT, draw=1)]
    accuracy = row(compare(before, written(tmp_path / "b", draws)), "yesno", "accuracy")
    assert (accuracy["after"], accuracy["difference"], accuracy["n"]) == (0.5, 0.0, 2)


def test_runs_scored_by_different_rewards_are_not_compared(tmp_path: Path) -> None:
    records = [yesno("a", RIGHT), yesno("b", WRONG)]
    before, after = (
        written(tmp_path / "a", records),
        written(tmp_path / "b", records, {"format": {"fn": "think_format"}}),
    )
    with pytest.raises(InputError, match=f"mmrl eval score {after} {before}"):
        compare(before, after)
    rescore(after, before)
    assert row(compare(before, after), "all", "total")["difference"] == 0.0
