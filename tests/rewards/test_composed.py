"""Rewards made of rewards: which parts run, on which they depend, and how they compare rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.core.config import InputError
from rewards import Rollout, Suite, Verdict, get
from rewards.composed.shaping import calibrated, par, tilted

HERE = __name__


def from_meta(rollouts: Sequence[Rollout], *, key: str = "score") -> list[Verdict | float | None]:
    """The meta of a rollout."""
    return [rollout.meta.get(key) for rollout in rollouts]


def raises(rollouts: Sequence[Rollout]) -> list[float]:
    raise RuntimeError("the rule broke")


def fn(key: str = "score") -> dict[str, Any]:
    return {"fn": f"{HERE}:from_meta", "args": {"key": key}}


def scores(name: str, metas: Sequence[dict[str, Any]], fields: Any = None, **options: Any) -> list[float | None]:
    rollouts = [Rollout(meta.get("text", ""), meta.get("answer"), meta=meta, **(fields or {})) for meta in metas]
    return [verdict.score for verdict in get(name, **options)(rollouts)]


def test_the_model_is_asked_only_where_the_rule_abstains() -> None:
    asked: list[Rollout] = []

    def model(rollouts: Sequence[Rollout]) -> list[Verdict]:
        asked.extend(rollouts)
        return [Verdict(0.7)] * len(rollouts)

    rollouts = [
        Rollout("no", "no", "yesno"),
        Rollout("I would rather not say", "no", "yesno"),
        Rollout("a tale", None, "open"),
    ]
    verdicts = get("fallback", rule={"fn": "yesno_match"}, model=model)(rollouts)
    assert [verdict.score for verdict in verdicts] == [1, 0, 0.7]
    assert verdicts[1].kind == "unparsed"
    assert asked == rollouts[2:]


def test_a_rule_that_fails_is_no_way_to_the_model() -> None:
    verdict = get("fallback", rule={"fn": f"{HERE}:raises"}, model=fn())([Rollout("x", meta={"score": 1.0})])[0]
    assert (verdict.kind, "the rule broke" in verdict.why) == ("failed", True)


def test_the_model_gives_wrong_answers_a_part_and_sees_no_other() -> None:
    asked: list[Rollout] = []

    def model(rollouts: Sequence[Rollout]) -> list[Verdict]:
        asked.extend(rollouts)
        return [Verdict(None) if rollout.completion == "No." else Verdict(0.6) for rollout in rollouts]

    said = ["yes", "no", "perhaps", "No."]
    rollouts = [*(Rollout(text, "yes", "yesno") for text in said), Rollout("a tale", None, "open")]
    verdicts = get("partial_credit", rule={"fn": "yesno_match"}, model=model)(rollouts)
    assert [verdict.score for verdict in verdicts] == [1, pytest.approx(0.4), 0, None, None]
    assert verdicts[2].kind == "unparsed"
    assert asked == [rollouts[1], rollouts[3]]


def test_blend_weighs_by_confidence_and_never_mixes_scales() -> None:
    metas = [
        {"rule": 1.0, "model": 0.5},
        {"rule": None, "model": 0.5},
        {"rule": 1.0, "model": None},
        {"rule": 1.0, "model": 0.0, "sure": 1.0},
        {"rule": 1.0, "model": 0.5, "sure": 0.0},
        {"rule": 1.0, "model": 0.5, "sure": 2.0},
    ]
    options = {"rule": fn("rule"), "model": fn("model"), "confidence": 0.8}
    assert scores("blend", metas[:3], **options) == [pytest.approx(0.9), 0.5, None]
    assert scores("blend", metas[:5], **options, confidence_key="sure")[3:] == [1.0, 0.5]
    assert scores("blend", metas[4:], **options, confidence_key="sure") == [0.5, None]


def test_gdpos_conditioned_length_reward() -> None:
    metas = [
        {"text": "w " * length, "right": right}
        for length, right in ((3000, 1.0), (5000, 1.0), (3000, 0.0), (5000, 0.0))
    ]
    length = {"fn": "length_window", "args": {"high": 4000}}
    assert scores("gate", metas, reward=length, when=fn("right")) == [1, 0, 0, 0]
    assert scores("gate", [{"text": "w", "right": None}], reward=length, when=fn("right")) == [None]


def test_a_penalty_does_not_grow_lighter_with_length() -> None:
    metas = [{"score": -0.5, "text": "x " * 9}, {"score": 0.5, "text": "x " * 9}]
    assert scores("cosine_length", metas, reward=fn(), limit=9) == [-0.5, 0.25]


def test_a_penalty_does_not_vanish_behind_a_gate() -> None:
    assert scores("gate", [{"score": -0.5, "right": 0.0}], reward=fn(), when=fn("right")) == [-0.5]


@pytest.mark.parametrize(("words", "score"), [(20, 0), (25, 0.8), (100, 0.8), (101, 0), (0, 0)])
def test_balcaprls_length_mask(words: int, score: float) -> None:
    meta = {"text": "w " * words, "score": 0.8, "answer": {"references": ["r " * 50]}}
    assert scores("length_mask", [meta], reward=fn()) == [score]


def test_without_a_gold_text_nothing_is_masked() -> None:
    assert scores("length_mask", [{"text": "w", "score": 0.8}], reward=fn()) == [0.8]


def test_harmos_length_penalty() -> None:
    metas = [
        {"text": "w " * length, "score": right} for length, right in ((100, 1.0), (200, 1.0), (300, 0.0), (400, 0.0))
    ]
    penalties = scores("length_penalty", metas, {"group": "g"}, reward=fn())
    assert penalties == pytest.approx([0, -1 / 6, -0.5, -0.5])
    assert scores("length_penalty", metas[2:], {"group": "g"}, reward=fn()) == [0, 0]
    assert scores("length_penalty", metas, reward=fn()) == [None] * 4
    total = [right + (penalty or 0.0) for right, penalty in zip((1 + 1, 1 + 0, 0 + 1, 0 + 1), penalties, strict=True)]
    mean = sum(total) / 4
    assert [value - mean for value in total] == pytest.approx([1.0416667, -0.125, -0.4583333, -0.4583333])


@pytest.mark.parametrize(
    ("length", "ours", "released"), [(0, 1, 1), (512, 0.75, 0.75), (1024, 0.5, 0.5), (2048, 0.5, 1)]
)
def test_vlm_r1s_cosine_and_where_it_should_not_rise_again(length: int, ours: float, released: float) -> None:
    metas = [{"text": "w" * length, "score": 1.0}, {"text": "w" * length, "score": 0.0}]
    options = {"reward": fn(), "unit": "characters"}
    assert scores("cosine_length", metas, **options) == [pytest.approx(ours), 0]
    assert scores("cosine_length", metas, **options, as_released=True) == [pytest.approx(released)] * 2


def test_repetition_in_the_thinking_counts_beside_a_box_and_without_blanks() -> None:
    line = "The box is on the left of the picture here. "
    for thought in (line * 50, (line * 50).replace(" ", ""), "很好" * 100):
        verdict = get("repetition")([Rollout(f"<think>{thought}</think><answer>[1, 2, 3, 4]</answer>")])[0]
        assert (verdict.score or 0) < -0.9, thought[:40]
    boxes = (
        '[{"bbox_2d": [1, 2, 3, 4], "label": "a cat on a mat"}, {"bbox_2d": [5, 6, 7, 8], "label": "a cat on a mat"}]'
    )
    assert get("repetition")([Rollout(f"<think>Two cats.</think><answer>{boxes}</answer>")])[0].score == 0


@pytest.mark.parametrize("text", ["word," * 500, "很" * 500, "ねこ" * 250, "a" * 15_000])
def test_a_text_without_blanks_is_as_long_as_it_is(text: str) -> None:
    long = Rollout(f"<answer>{text}</answer>", {"text": "a cat"})
    assert get("overlong", limit=300, buffer=100)([long])[0].score == -1
    assert get("length_window", high=300)([long])[0].score == 0
    assert get("length_mask", reward={"fn": "chrf"})([long])[0].why.startswith("500 words")


def test_repetition_counts_boxes_or_word_ngrams() -> None:
    reward = get("repetition")
    assert reward([Rollout("[[1, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 4]]")])[0].score == -0.5
    assert reward([Rollout("a b c d e f " * 2)])[0].score == pytest.approx(-1 / 7)
    assert reward([Rollout("too short")])[0].score == 0


def test_a_window_that_cannot_be_is_a_failure() -> None:
    assert get("length_window", low=5, high=3)([Rollout("a")])[0].kind == "failed"
    assert get("overlong", limit=3, buffer=5)([Rollout("a")])[0].kind == "failed"
    assert get("length_window", part="answer", high=1)([Rollout("<think>a b c</think>d")])[0].score == 1


def test_pars_numbers_and_infaligns() -> None:
    assert par(2, [1, 1.5, 0.5]) == pytest.approx(0.7236975)
    assert par(2, [1, 1.5, 0.5], 2) == pytest.approx(0.8548099)
    assert calibrated(0.4, [0.1, 0.4, 0.4, 0.9]) == 0.5
    assert (tilted(0.5, 10), tilted(0.5, -10)) == pytest.approx((0.0067379, -0.0067379), abs=1e-7)


def test_a_gate_that_is_shut_still_tells_the_unreadable_from_the_wrong() -> None:
    shut = get("gate", reward={"fn": "yesno_match"}, when={"fn": "think_format"})
    assert [verdict.kind for verdict in shut([Rollout("perhaps", "no"), Rollout("yes", "no")])] == [
        "unparsed",
        "scored",
    ]


def test_shape_refuses_limits_in_the_wrong_order() -> None:
    verdict = get("shape", reward=fn(), method="clip", low=0.8, high=0.2)([Rollout("x", meta={"score": 0.9})])[0]
    assert (verdict.kind, "low 0.8 is above high 0.2" in verdict.why) == ("failed", True)


def test_shape_compares_with_the_reference_scores() -> None:
    meta = {"score": 0.4, "reference_scores": [0.1, 0.4, float("nan"), 0.4, 0.9]}
    assert scores("shape", [meta], reward=fn(), method="calibrate") == [0.5]
    assert scores("shape", [meta], reward=fn(), method="center") == pytest.approx([-0.05])
    sure = {"score": 0.8807971, "reference_scores": [0.7310586]}  # the sigmoids of 2 and 1
    assert scores("shape", [sure], reward=fn(), logit=True) == pytest.approx([0.7310586])
    assert scores("shape", [{"score": 0.9}, {"score": None}], reward=fn(), method="clip", high=0.6) == [0.6, None]


def test_shape_scores_the_gold_texts_where_no_scores_are_given() -> None:
    rollouts = [Rollout("a b", {"references": ["a b", "a c"]}), Rollout("x", {"references": ["a b"]})]
    first, second = get("shape", reward={"fn": "rouge_l"}, method="center")(rollouts)
    nulls = [replace(rollout, meta={"reference_scores": None}) for rollout in rollouts]
    assert get("shape", reward={"fn": "rouge_l"}, method="center")(nulls) == [first, second]
    assert (first.score, second.score) == (0, -1)


def test_shape_without_references_fails_and_is_never_the_bare_score() -> None:
    verdict = get("shape", reward=fn())([Rollout("x", meta={"score": 0.9})])[0]
    assert (verdict.score, verdict.kind) == (None, "failed")


def test_progressive_changes_the_reward_with_the_share_of_training() -> None:
    suite = Suite(
        {
            "r": {
                "fn": "progressive",
                "args": {
                    "reward": {"fn": "box_iou", "args": {"threshold": 0.5}},
                    "schedule": {"0.5": {"fn": "box_iou", "args": {"threshold": 0.75}}},
                },
            }
        }
    )
    rollouts = [
        Rollout("[0, 0, 10, 6]", {"boxes": [[0, 0, 10, 10]]}, step=step, total_steps=100)
        for step in (0, 49, 50, 100, None)
    ]
    assert [row["r"].score for row in suite.score(rollouts)] == [1, 1, 0, 0, 1]
    with pytest.raises(InputError, match="less than or equal to 1"):
        get("progressive", reward=fn(), schedule={1500: fn()})


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ({"start": 2 / 3, "end": 1.0, "last": 150}, [2 / 3, 2 / 3 + 29 / 450, 2 / 3 + 30 / 450, 1, 1]),
        ({"start": 1 / 3, "end": 1.0, "first": 30, "last": 30}, [1 / 3, 1 / 3, 1, 1, 1]),
        ({"start": 0.0, "end": 1.0, "first": 25, "last": 35}, [0, 0.4, 0.5, 1, 1]),
    ],
)
def test_a_scheduled_reward_changes_its_range_with_the_step(options: dict[str, Any], scores: list[float]) -> None:
    """ToolRL's schedules (2504.13958): in a line over 150 steps, and in two stages from step 30 on."""
    rollouts = [Rollout("yes", "yes", step=step) for step in (0, 29, 30, 150, None)]
    verdicts = get("scheduled", reward={"fn": "yesno_match"}, **options)(rollouts)
    assert [verdict.score for verdict in verdicts] == pytest.approx(scores)
    backwards = get("scheduled", reward={"fn": "yesno_match"}, start=0.0, end=1.0, first=9, last=3)
    assert "first 9 is after last 3" in backwards(rollouts)[0].why


def test_ranks_are_within_the_group() -> None:
    rollouts = [
        Rollout("", group=group, meta={"score": score})
        for group, score in (("a", 0.1), ("b", 0.9), ("a", 0.3), ("b", None), ("a", 0.2))
    ]
    assert [v.score for v in get("group_rank", reward=fn())(rollouts)] == pytest.approx([0, None, 1, None, 0.5])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_ranks_of_a_group_are_in_range_and_sum_to_half_of_its_size(values: list[float]) -> None:
    ranks = scores("group_rank", [{"score": value} for value in values], {"group": 1}, reward=fn())
    assert all(rank is not None and 0 <= rank <= 1 for rank in ranks)
    assert sum(rank or 0 for rank in ranks) == pytest.approx(len(values) / 2)
