"""`mmrl reward test` tries rewards on spoilt gold answers, and flags those that score and should not."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from mmrl.cli import VERBS, run
from rewards import Rollout, Suite
from rewards.tricks import GAIN
from rewards.workbench import Finding, flags_of, gold_parts, try_suite

HERE = __name__
GOLDS: dict[str, list[dict[str, Any]]] = {
    "choice": [{"choice": letter, "options": ["x", "y", "z"]} for letter in "ABCA"],
    "yesno": [{"yesno": True}, {"yesno": False}],
    "number": [{"number": 3.5}, {"number": 4}, {"number": 12}],
    "math": [{"math": r"\frac{1}{2}"}, {"math": "7"}, {"math": "x^2"}],
    "text": [{"text": ["Paris", "paris, france"]}, {"text": ["Rome"]}, {"text": ["Oslo"]}],
    "chart": [{"text": ["12%"]}, {"text": ["blue"]}],
    "detection": [
        {"boxes": [[0, 0, 90, 90], [100, 100, 190, 190]], "labels": ["cat", "dog"]},
        {"boxes": [[200, 0, 290, 90]], "labels": ["cat"]},
        {"boxes": [[300, 300, 390, 390]], "labels": ["dog"]},
    ],
    "point": [{"points": [[5, 5]]}, {"points": [[500, 500]]}, {"points": [[900, 100]]}],
    "temporal": [{"spans": [[1, 4]]}, {"spans": [[10, 20]]}],
    "caption": [{"references": ["a red bus on a bridge"]}, {"references": ["two dogs run over wet sand"]}],
}
STRICT = {
    "choice": "choice_match",
    "yesno": "yesno_match",
    "math": "math_match",
    "text": "text_match",
    "chart": "relaxed_match",
    "detection": "box_set",
    "point": "point_match",
    "caption": "rouge_l",
}


def rollouts(*tasks: str) -> list[Rollout]:
    return [Rollout("", gold, task) for task in tasks for gold in GOLDS[task]]


def contains(batch: Sequence[Rollout]) -> list[float]:
    """A deliberately lax reward: the gold occurs somewhere."""
    return [float(all(str(part) in rollout.completion for part in gold_parts(rollout))) for rollout in batch]


def generous(batch: Sequence[Rollout]) -> list[float]:
    """Another: half a point for silence."""
    return [0.5 if not rollout.completion else 1.0 for rollout in batch]


def broken(batch: Sequence[Rollout]) -> list[float]:
    """It fails on every batch."""
    return [float("nan")] * len(batch)


def length_alone(batch: Sequence[Rollout]) -> list[float]:
    """The longer the better, whatever is said."""
    return [min(len(rollout.completion) / 100, 1.0) for rollout in batch]


def any_answer(batch: Sequence[Rollout]) -> list[float]:
    """A pattern that accepts anything in its tags."""
    return [float(bool(re.search("<answer>.*</answer>", rollout.completion))) for rollout in batch]


def tried(fn: str, *tasks: str, **args: Any) -> list[Finding]:
    return try_suite(Suite({"r": {"fn": fn, "args": args}}), rollouts(*tasks))


@pytest.mark.parametrize("task", sorted(STRICT))
def test_the_rewards_of_the_library_are_not_lax(task: str) -> None:
    (finding,) = tried(STRICT[task], task)
    assert (finding.n, finding.flags) == (len(GOLDS[task]), ())
    assert finding.means["exact"] == pytest.approx(1)
    assert finding.means["empty"] == 0
    assert (finding.means["other"] or 0) < 0.5


def test_a_lax_reward_shows() -> None:
    (finding,) = tried(f"{HERE}:contains", "text")
    assert finding.flags == ("lax: junk next to the gold is free",)
    (finding,) = tried(f"{HERE}:generous", "text")
    assert finding.flags == ("lax: an empty completion earns", "lax: blind to the gold")
    assert finding.lax
    for fn, flags in (
        ("any_answer", {"lax: blind to the gold"}),
        ("length_alone", {"the gold does not score 1", "lax: blind to the gold", "lax: saying it twice earns more"}),
    ):
        (finding,) = tried(f"{HERE}:{fn}", "text")
        assert {*finding.flags} == flags


def test_the_junk_box_bug_of_released_code_shows_and_ours_is_clean() -> None:
    (released,) = tried("box_set", "detection", mode="vision_r1", as_released=True)
    assert released.flags[0] == "lax: junk next to the gold is free"
    assert [flag[:26] for flag in released.flags[1:]] == ["lax: a grid of boxes earns"]
    (trailing,) = tried("box_set", "detection", mode="map", as_released=True)
    assert trailing.flags[0] == "junk after the gold is free"
    for mode in ("f1", "recall", "precision", "map", "od_length", "vision_r1", "visionreasoner", "weighted"):
        (finding,) = tried("box_set", "detection", mode=mode)
        assert not any("junk" in flag for flag in finding.flags), mode


def test_a_reward_that_reads_one_of_several_answers_is_named_but_not_lax() -> None:
    (finding,) = tried("span_iou", "temporal")
    assert finding.flags == ("junk after the gold is free",)
    assert not finding.lax
    (finding,) = tried("number_match", "number")  # "3.5 or 4" is no number
    assert finding.flags == ()


def drawn(count: int, make: Any) -> list[Rollout]:
    draw = random.Random(7)
    return [Rollout("", make(draw)) for _ in range(count)]


NAMES = ["person", "dog", "cat", "bus", "car", "bird", "horse", "boat"]


@pytest.mark.parametrize(
    ("fn", "args", "make", "trick"),
    [
        ("box_set", {"mode": "weighted"}, None, "a grid of boxes"),
        ("box_set", {"mode": "vision_r1"}, None, "a grid of boxes"),
        ("span_iou", {}, lambda draw: {"spans": [[start := draw.uniform(0, 60), start + 30]]}, "the middle"),
        ("box_iou", {}, lambda draw: {"boxes": [[x := draw.uniform(0, 300), 50, x + 200, 200]]}, "the middle"),
        ("chrf", {}, lambda draw: {"text": " ".join(draw.sample(NAMES, 5))}, "the vocabulary"),
        ("reward_chain", {}, lambda draw: {"chain": {"a": draw.sample(NAMES[:6], 3)}}, "the vocabulary"),
        ("object_hallucination", {}, lambda draw: {"objects": draw.sample(NAMES, 3)}, "the vocabulary"),
        ("object_hallucination", {"mode": "chair_s"}, lambda draw: {"objects": draw.sample(NAMES, 3)}, "a safe name"),
    ],
)
def test_a_trick_that_pays_more_than_a_guess_is_named(fn: str, args: dict[str, Any], make: Any, trick: str) -> None:
    samples = drawn(20, make) if make else rollouts("detection")
    (finding,) = try_suite(Suite({"r": {"fn": fn, "args": args}}), samples)
    assert any(flag.startswith(f"lax: {trick} earns ") for flag in finding.flags), finding
    assert (finding.tricks[trick] or 0) > (finding.means["other"] or 0) + GAIN


@pytest.mark.parametrize("fn", ["bleu", "rouge_l", "text_match", "anls"])
def test_no_trick_pays_where_none_is_known(fn: str) -> None:
    samples = drawn(20, lambda draw: {"text": " ".join(draw.sample(NAMES, 2))})
    (finding,) = try_suite(Suite({"r": {"fn": fn, "args": {}}}), samples)
    assert finding.tricks["a wrong word"] == finding.tricks["four full stops"] == 0
    assert not any("full stops" in flag or "word" in flag for flag in finding.flags)


def test_form_alone_is_blind_to_the_gold_and_a_harsh_reward_shows() -> None:
    (finding,) = tried("think_format", "yesno")
    assert finding.flags == ("lax: blind to the gold",)
    assert "the gold does not score 1" in flags_of({"exact": 0.4, "empty": 0.0, "other": 0.1})
    assert "lax: saying it twice earns more" in flags_of({"exact": 0.4, "twice": 0.6})
    assert flags_of({"exact": None}) == []


@pytest.mark.parametrize(
    ("fn", "gold"),
    [
        ("box_iou", {"boxes": [1, 2, 30, 40]}),
        ("box_iou", {"boxes": "[1, 2, 30, 40]"}),
        ("point_match", {"points": [40, 50]}),
        ("span_iou", {"spans": [4, 8]}),
        ("span_iou", {"spans": "4 to 8 seconds"}),
        ("number_match", {"number": 3.14159265}),
        ("number_match", {"number": 1234567.0}),
    ],
)
def test_a_gold_in_any_form_that_rewards_read_is_written_out_whole(fn: str, gold: dict[str, Any]) -> None:
    (finding,) = try_suite(Suite({"r": {"fn": fn}}), [Rollout("", gold)])
    assert finding.means["exact"] == 1


def test_a_gold_that_has_no_rows_is_left_out() -> None:
    assert try_suite(Suite({"r": {"fn": "box_iou"}}), [Rollout("", {"boxes": 7})]) == []


def test_a_single_sample_gets_made_up_junk() -> None:
    for task in ("text", "detection", "point", "temporal"):
        fn = {**STRICT, "temporal": "span_iou"}[task]
        (finding,) = try_suite(Suite({"r": {"fn": fn}}), rollouts(task)[:1])
        assert (finding.means["exact"], finding.means["other"]) == pytest.approx((1, 0), abs=1e-3)


@pytest.mark.parametrize("task", ["choice", "yesno", "detection"])
def test_samples_that_all_have_one_answer_do_not_make_a_strict_reward_look_lax(task: str) -> None:
    gold = {"boxes": [[0, 0, 1, 1]]} if task == "detection" else GOLDS[task][0]
    for count in (1, 3):
        (finding,) = try_suite(Suite({"r": {"fn": STRICT[task]}}), [Rollout("", gold, task)] * count)
        assert (finding.means["exact"], finding.means["other"], finding.flags) == (1, 0, ())


def test_tasks_without_a_written_gold_are_left_out() -> None:
    assert try_suite(Suite({"r": {"fn": "think_format"}}), [Rollout("", {"preferred": 0, "candidates": ["a"]})]) == []


def test_the_space_of_the_samples_does_not_matter() -> None:
    rollout = Rollout("", GOLDS["detection"][0], "detection", meta={"space": "per_mille"})
    assert try_suite(Suite({"r": {"fn": "box_set"}}), [rollout])[0].means["exact"] == 1


def test_the_command_prints_a_table_and_writes_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    samples = [
        with_id(Sample("", "test", task, user_prompt("What?"), gold))
        for task in ("text", "yesno")
        for gold in GOLDS[task]
    ]
    write_dataset(samples, tmp_path / "data")
    lines = tmp_path / "gold.jsonl"
    lines.write_text(
        "".join(json.dumps({"completion": "", "answer": gold, "task": "text"}) + "\n" for gold in GOLDS["text"])
    )
    out = tmp_path / "found.json"

    def ran(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            run("mmrl reward", VERBS["reward"][0], ["test", *arguments])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    status, table, problem = ran(f"{HERE}:contains", str(tmp_path / "data"), "--out", str(out))
    assert (status, problem) == (0, "")
    assert "lax: junk next to the gold is free" in table
    reports = json.loads(out.read_text())
    assert [(report["task"], report["n"]) for report in reports] == [("text", 3), ("yesno", 2)]
    assert reports[0]["means"] == {
        "exact": 1, "empty": 0, "other": 0, "junk_after": 1, "junk_before": 1, "twice": 1
    }  # fmt: skip
    assert ran(f"{HERE}:contains", str(lines), "--strict")[0] == 1
    assert ran("text_match", str(lines), "--strict")[0] == 0
    assert ran("box_set", str(lines))[2].startswith("mmrl reward: nothing to try:")
    status, table, _ = ran(f"{HERE}:broken", str(lines), "--strict")
    assert (status, "fails: " in table) == (1, True)
    status, _, problem = ran("text_match", str(tmp_path))
    assert (status, "has no shards" in problem) == (2, True)
