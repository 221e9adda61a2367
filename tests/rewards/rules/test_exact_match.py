"""Rules give 1 for the gold answer, 0 for any other, and nothing where there is no gold; form is scored by itself."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import Rollout, Verdict, get, per_rollout
from rewards.base import checked

GOLD: dict[str, tuple[Any, str, str]] = {  # reward -> gold answer, its text, another answer
    "choice_match": ({"choice": "B", "options": ["cat", "dog", "bus"]}, "B", "C"),
    "yesno_match": ({"yesno": False}, "no", "yes"),
    "number_match": ({"number": 3.5, "unit": "cm"}, "3.5 cm", "4"),
    "text_match": ({"text": ["Paris", "Paris, France"]}, "Paris", "London"),
    "box_iou": ({"boxes": [[10, 20, 30, 40]]}, "[10, 20, 30, 40]", "[50, 50, 60, 60]"),
    "span_iou": ({"spans": [[1.5, 4]]}, "1.5 to 4", "7 to 9"),
}
FORMS = [
    "{}",
    "<answer>{}</answer>",
    "<think>C? yes? 7?</think><answer> {} </answer>",
    "7 or 8</think> {}",
    r"\boxed{{{}}}",
]


SCORED_ALONE = [*GOLD, "think_format", "tag_format"]
PLAIN = {name: get(name) for name in SCORED_ALONE}


def verdict(name: str, completion: str, answer: Any = None, **options: Any) -> Verdict:
    reward = get(name, **options) if options else PLAIN[name]
    return reward([Rollout(completion, answer)])[0]


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize("form", FORMS)
def test_the_gold_answer_scores_1_and_another_0_in_every_form(name: str, form: str) -> None:
    answer, right, wrong = GOLD[name]
    assert verdict(name, form.format(right), answer).score == 1
    assert (verdict(name, form.format(wrong), answer).score, verdict(name, form.format(wrong), answer).kind) == (
        0,
        "scored",
    )


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize(
    "completion", ["", "???", "<think>{}", "<answer></answer>", "<answer>{}</answer><answer></answer>"]
)
def test_a_completion_without_an_answer_scores_0_and_is_counted_apart(name: str, completion: str) -> None:
    answer, right, _ = GOLD[name]
    result = verdict(name, completion.format(right), answer)
    if name == "text_match" and completion == "???":
        assert (result.score, result.kind) == (0, "scored")
    else:
        assert (result.score, result.kind) == (0, "unparsed")


@pytest.mark.parametrize("name", GOLD)
@pytest.mark.parametrize(
    "answer", [None, {}, {"other": 1}, "???", "", float("nan"), [], [[]], {1: 2}, pytest.param(10**400, id="huge")]
)
def test_a_gold_that_cannot_be_read_gives_no_verdict(name: str, answer: Any) -> None:
    if name == "text_match" and answer == "???":
        return
    key = {"box_iou": "boxes", "span_iou": "spans"}.get(name, name.split("_")[0])
    for gold in (answer, {key: answer}):
        result = verdict(name, GOLD[name][1], gold)
        assert (result.score, result.kind) == (None, "abstained"), result


@pytest.mark.parametrize("name", GOLD)
def test_a_bare_gold_value_is_accepted(name: str) -> None:
    answer, right, wrong = GOLD[name]
    bare = next(iter(answer.values()))
    assert verdict(name, right, bare).score == 1
    assert verdict(name, wrong, bare).score == 0


def test_the_gold_letter_must_be_an_option() -> None:
    assert verdict("choice_match", "D", {"choice": "D", "options": ["cat", "dog"]}).kind == "abstained"
    assert verdict("choice_match", "the dog", {"choice": "B", "options": ["cat", "dog"]}).score == 1


def test_tolerances_reach_exactly_as_far_as_they_say() -> None:
    assert verdict("number_match", "105", 100, rel_tol=0.05).score == 1
    assert verdict("number_match", "105.1", 100, rel_tol=0.05).score == 0
    assert verdict("number_match", "2.5", 2, abs_tol=0.5).score == 1
    assert verdict("number_match", "0.3", 0.1 + 0.2).score == 1
    assert verdict("number_match", "1,200", 1200).score == 1


def test_a_percent_sign_is_a_unit_not_a_factor() -> None:
    assert verdict("number_match", "12%", {"number": 12, "unit": "%"}).score == 1
    assert verdict("number_match", "12%", {"number": "12%"}).score == 1
    assert verdict("number_match", "12%", {"number": 12}).kind == "unparsed"
    assert verdict("number_match", "12%", {"number": 0.12}).kind == "unparsed"


@pytest.mark.parametrize("completion", ["paris", " PARIS ", "Paris.", "Paris,\nFrance", r"\boxed{Paris}"])
def test_text_matches_up_to_case_blanks_and_a_final_period(completion: str) -> None:
    assert verdict("text_match", f"<answer>{completion}</answer>", GOLD["text_match"][0]).score == 1


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<think>a</think><answer>b</answer>", 1),
        ("\n<think>a\n</think>\n\n<answer>b</answer>\n", 1),
        ("<answer>b</answer>", 0),
        ("<answer>b</answer><think>a</think>", 0),
        ("so <think>a</think><answer>b</answer>", 0),
        ("<think>a</think> so <answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer>.", 0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0),
        ("<think>a</think><answer>b</answer><answer>b</answer>", 0),
        ("<think>a<answer>b</answer></think>", 0),
        ("<think><think>a</think><answer>b</answer>", 0),
        ("<think></think><answer>b</answer>", 0),
        ("<think>a</think><answer> </answer>", 0),
        ("<think>\u200b</think><answer>b</answer>", 0),
        ("<think>a</think><answer>\ufeff\u2060</answer>", 0),
        ("<think>\u3164\u115f</think><answer>b</answer>", 0),
        ("<think>a</think><answer>\u2800\u2800</answer>", 0),
        ("<think>\x01</think><answer>b</answer>", 0),
        ("", 0),
    ],
)
def test_think_format_wants_one_thought_one_answer_and_nothing_else(completion: str, score: float) -> None:
    assert verdict("think_format", completion).score == score


def test_tag_format_is_the_share_of_pairs_in_their_place() -> None:
    three = {"tags": ["plan", "look", "answer"]}
    assert verdict("tag_format", "x <plan>1</plan> y <look>2</look> <answer>3</answer> z", **three).score == 1
    assert verdict("tag_format", "<plan>1</plan><look>2<look><answer>3</answer>", **three).score == pytest.approx(2 / 3)
    assert verdict("tag_format", "<look>2</look><plan>1</plan>", **three).score == pytest.approx(1 / 3)
    assert verdict("tag_format", "<plan><look>2</look></plan><answer></answer>", **three).score == pytest.approx(1 / 3)
    assert verdict("tag_format", "<answer>b</answer>", tags=["answer"]).score == 1
    assert verdict("tag_format", "").score == 0


MARKS = ["<think>", "</think>", "<answer>", "</answer>", "[", "]", ","]
SCRAPS = st.sampled_from([*MARKS, "1", "-2.5", "to", "B", "yes", "no", "Paris", "\ud800"])


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), st.lists(SCRAPS, max_size=20).map(" ".join)), st.sampled_from(SCORED_ALONE))
def test_any_text_gets_a_score_in_0_to_1(text: str, name: str) -> None:
    result = verdict(name, text, GOLD.get(name, [None])[0])
    assert result.score is not None
    assert 0 <= result.score <= 1


KEYS = st.sampled_from(["choice", "options", "yesno", "number", "unit", "text", "boxes", "spans"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner), max_leaves=12))
def test_any_gold_gets_a_verdict_and_no_failure(answer: Any) -> None:
    for name, (_, right, _) in GOLD.items():
        assert verdict(name, right, answer).kind != "failed"


@settings(deadline=None)
@given(
    st.sampled_from(sorted(GOLD)),
    st.lists(SCRAPS.filter(lambda scrap: "answer" not in scrap and "think" not in scrap), max_size=10),
)
def test_junk_inside_the_thinking_changes_nothing(name: str, junk: list[str]) -> None:
    answer, right, _ = GOLD[name]
    assert verdict(name, f"<think>{' '.join(junk)}</think><answer>{right}</answer>", answer).score == 1


def test_what_a_reward_returns_never_becomes_a_wrong_number() -> None:
    returned: dict[str, Any] = {
        "nan": float("nan"),
        "inf": float("-inf"),
        "too much": 1.5,
        "too little": -2,
        "text": "1.0",
        "object": object(),
        "huge": 10**400,
    }
    for case, value in returned.items():
        rows = checked(lambda rollouts, value=value: [value] * len(rollouts), name=case)([Rollout("")] * 2)
        assert [(row.score, row.kind) for row in rows] == [(None, "failed")] * 2, case
    kept = checked(lambda _: [True, None, 1.0000001, Verdict(-0.5, "penalty")], name="kept")([Rollout("")] * 4)
    assert [row.score for row in kept] == [1.0, None, 1.0, -0.5]


def test_a_wrong_length_or_an_exception_fails_the_batch_and_one_rollout_fails_alone() -> None:
    short = checked(lambda _: [1.0], name="short")([Rollout("")] * 2)
    assert [row.kind for row in short] == ["failed"] * 2
    assert "1 verdicts for 2 rollouts" in short[0].why

    @per_rollout
    def brittle(rollout: Rollout) -> float:
        return 1 / len(rollout.completion)

    assert [row.kind for row in checked(brittle, name="brittle")([Rollout(""), Rollout("a")])] == ["failed", "scored"]
    raised = checked(lambda rollouts: [1 / 0 for _ in rollouts], name="raised")([Rollout("")] * 2)
    assert [row.why for row in raised] == ["raised raised ZeroDivisionError: division by zero"] * 2
    left = checked(lambda _: sys.exit(3), name="left")([Rollout("")])
    assert [row.why for row in left] == ["left raised SystemExit: 3"]
    assert [row.kind for row in per_rollout(lambda _: sys.exit(3))([Rollout("")])] == ["failed"]


def test_a_failed_verdict_cannot_have_a_score() -> None:
    with pytest.raises(ValueError, match="failed cannot have the score 0"):
        Verdict(0.0, kind="failed")
