"""Boxes are compared in pixels of the original, whatever space the completion speaks; spans in seconds."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmrl.core.vision import CoordinateSpace, from_pixels
from rewards import Media, Rollout, Suite, Verdict, get

SIZE, SEEN = (640, 480), (224, 168)
GOLD = [160.0, 120.0, 320.0, 240.0]


def rollout(completion: str, boxes: Any = (GOLD,), **fields: Any) -> Rollout:
    return Rollout(
        completion, {"boxes": boxes}, "grounding", media=[Media(width=640, height=480)], seen_size=[SEEN], **fields
    )


reward_of = functools.cache(get)


def overlap(completion: str, boxes: Any = (GOLD,), **options: Any) -> Verdict:
    return reward_of("box_iou", **options)([rollout(completion, boxes)])[0]


@pytest.mark.parametrize(
    ("predicted", "gold", "iou"),
    [
        ([0, 0, 10, 10], [5, 5, 15, 15], 0.1428571),
        ([10, 10, 110, 110], [20, 20, 120, 120], 0.6806723),
        ([0, 0, 10, 10], [9, 0, 19, 10], 0.0526316),  # an overlap of one pixel counts
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
        ([5, 5, 5, 9], [0, 0, 10, 10], 0.0),
    ],
)
def test_the_score_is_the_continuous_iou(predicted: list[float], gold: list[float], iou: float) -> None:
    assert overlap(str(predicted), [gold]).score == pytest.approx(iou, abs=1e-6)


@pytest.mark.parametrize("space", list(CoordinateSpace))
def test_the_gold_box_said_in_any_space_scores_1(space: CoordinateSpace) -> None:
    completion = str(from_pixels(GOLD, space, SIZE, SEEN).tolist())
    by_option = get("box_iou", space=space.value)([rollout(completion)])[0]
    by_rollout = get("box_iou")([rollout(completion, meta={"space": space.value})])[0]
    assert by_option.score == pytest.approx(1)
    assert by_option == by_rollout


def test_the_option_goes_before_the_rollouts_space_and_pixels_are_the_default() -> None:
    completion = "[0.25, 0.25, 0.5, 0.5]"
    assert get("box_iou", space="unit")([rollout(completion, meta={"space": "per_mille"})])[0].score == pytest.approx(1)
    assert overlap("[160, 120, 320, 240]").score == 1


def test_one_batch_may_mix_spaces_sizes_and_numbers_of_gold_boxes() -> None:
    other = Rollout(
        "[0, 0, 1000, 500]",
        {"boxes": [[0, 0, 1, 1], [0, 0, 8, 4]]},
        media=[Media(width=8, height=8)],
        meta={"space": "per_mille"},
    )
    mixed = [
        rollout("nothing"),
        rollout("[160, 120, 320, 240]"),
        other,
        Rollout("[1, 1, 3, 3]", {"boxes": [[1, 1, 3, 2]]}),
        rollout("[56, 42, 112, 84]", meta={"space": "resized"}),
        rollout("[1, 2, 3, 4]", boxes=None),
    ]
    reward = get("box_iou")
    assert [verdict.score for verdict in reward(mixed)] == pytest.approx([0, 1, 1, 0.5, 1, None])
    assert reward(mixed) == [reward([rollout])[0] for rollout in mixed]
    assert reward([]) == []


def test_the_first_predicted_box_counts_against_the_best_gold_box() -> None:
    golds = [[0, 0, 10, 10], GOLD]
    assert overlap(f"{GOLD} [0, 0, 5, 5]", golds).score == 1
    assert overlap(f"[500, 400, 510, 410] {GOLD}", golds).score == 0


def test_swapped_corners_are_put_in_order_and_said_so() -> None:
    result = overlap("[320, 240, 160, 120]")
    assert (result.score, result.why) == (1, "iou 1.000, corners reordered")


def test_boxes_are_cut_at_the_image() -> None:
    assert overlap("[-100, -100, 6000, 5000]", [[0, 0, 640, 480]]).score == 1
    assert overlap("[1e300, -1e300, 1, 1e300]", [[0, 0, 640, 480]]).score == pytest.approx(639 / 640)
    assert overlap(str(GOLD), [[700, 500, 800, 600]]).kind == "abstained"
    unknown = get("box_iou")([Rollout("[-1e300, 0, 1e300, 1e300]", {"boxes": [[0, 0, 10, 10]]})])[0]
    assert unknown.score == pytest.approx(0)


def test_boxes_can_be_compared_whole() -> None:
    assert overlap("[-5, -5, 5, 5]", [[0, 0, 10, 10]]).score == pytest.approx(25 / 100)
    assert overlap("[-5, -5, 5, 5]", [[0, 0, 10, 10]], cut=False).score == pytest.approx(25 / 175)
    assert overlap("[600, 0, 700, 100]", [[600, 0, 700, 100]], cut=False).score == 1


def test_a_threshold_is_reached_from_itself_on() -> None:
    assert overlap("[0, 0, 10, 5]", [[0, 0, 10, 10]], threshold=0.5).score == 1
    assert overlap("[0, 0, 10, 4.9]", [[0, 0, 10, 10]], threshold=0.5).score == 0


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_the_other_kinds_count_from_0_up(kind: str) -> None:
    assert overlap(str(GOLD), kind=kind).score == pytest.approx(1)
    assert overlap("[600, 440, 640, 480]", [[0, 0, 5, 5]], kind=kind).score == 0
    assert 0 < (overlap("[160, 120, 300, 240]", kind=kind).score or 0) < 1


def test_a_space_that_needs_an_unknown_size_is_a_failure_not_a_zero() -> None:
    bare = Rollout("[1, 2, 3, 4]", {"boxes": [GOLD]})
    for space in ("unit", "per_mille", "resized"):
        result = get("box_iou", space=space)([bare])[0]
        assert (result.score, result.kind) == (None, "failed")
        assert space in result.why
    unseen = Rollout("[1, 2, 3, 4]", {"boxes": [GOLD]}, media=[Media(width=640, height=480)])
    assert "seen_size" in get("box_iou", space="resized")([unseen])[0].why
    unknown = get("box_iou")([rollout("[1, 2, 3, 4]", meta={"space": "inches"})])[0]
    assert "'inches'; known: pixel, unit, per_mille, resized" in unknown.why


SIDES = st.tuples(st.floats(0, 640), st.floats(0, 480), st.floats(0, 640), st.floats(0, 480))


@settings(deadline=None)
@given(SIDES, SIDES)
def test_every_box_scores_in_0_to_1_and_the_gold_itself_scores_most(
    predicted: Sequence[float], gold: Sequence[float]
) -> None:
    area = abs(gold[2] - gold[0]) * abs(gold[3] - gold[1])
    assume(area > 1e-6)
    for kind in ("iou", "giou", "diou", "ciou"):
        score = overlap(json.dumps(predicted), [gold], kind=kind).score
        itself = overlap(json.dumps(gold), [gold], kind=kind).score
        assert score is not None
        assert 0 <= score <= 1
        assert itself == pytest.approx(1)


@settings(deadline=None)
@given(st.floats(0, 100), st.floats(0, 100))
def test_a_box_nearer_to_the_gold_scores_more(near: float, far: float) -> None:
    near, far = sorted((near, far))
    x1, y1, x2, y2 = GOLD
    shifted = [overlap(str([x1 + shift, y1, x2 + shift, y2])).score or 0 for shift in (near, far)]
    assert shifted[0] >= shifted[1] - 1e-12


def seconds(completion: str, spans: Any) -> float | None:
    return reward_of("span_iou")([Rollout(completion, {"spans": spans}, "temporal")])[0].score


def test_spans_overlap_in_time() -> None:
    assert seconds("2 to 6", [[4, 8]]) == pytest.approx(1 / 3)
    assert seconds("6 to 2", [[8, 4]]) == pytest.approx(1 / 3)
    assert seconds("0:02 - 0:06", [[2, 6]]) == 1
    assert seconds("2 to 3", [[4, 8]]) == 0
    assert seconds("4 to 4", [[4, 8]]) == 0
    assert seconds("2 to 6", [[100, 101], [2, 6]]) == 1
    assert seconds("2 to 6, 10 to 12", [[10, 12]]) == 0
    assert seconds("2 to 6", [[4, 4]]) is None


@settings(deadline=None)
@given(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)))
def test_every_span_scores_in_0_to_1_and_the_gold_itself_scores_1(
    predicted: tuple[float, float], gold: tuple[float, float]
) -> None:
    assume(gold[0] != gold[1])
    score = seconds(json.dumps(predicted), [gold])
    assert score is not None
    assert 0 <= score <= 1
    assert seconds(json.dumps(gold), [gold]) == 1


def test_shares_of_the_picture_in_another_space_are_doubted(caplog: pytest.LogCaptureFixture) -> None:
    shares = rollout("[0.25, 0.25, 0.5, 0.5]", meta={"space": "resized"})
    suite = Suite({"place": {"fn": "box_iou"}, "set": {"fn": "box_set", "args": {"classes": False}}})
    verdicts, _ = suite.score([shares] * 4), suite.score([shares] * 4)
    doubt = "all numbers between 0 and 1, as in the space unit"
    assert [one.why for one in verdicts[0].values()] == [f"iou 0.000, {doubt}", f"f1 0.000, 1 boxes for 1, {doubt}"]
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"reward {name}: 4 of 4 answers have {doubt}; is that what the model speaks?" for name in ("place", "set")
    ]
    right = rollout("[0.25, 0.25, 0.5, 0.5]", meta={"space": "unit"})
    pixels = rollout("[56, 42, 112, 84]", meta={"space": "resized"})
    assert [one.why for one in reward_of("box_iou")([right, pixels])] == ["iou 1.000", "iou 1.000"]
    near = Rollout("(0.2, 0.2)", {"points": [[100, 100]]}, media=[Media(width=640, height=480)])
    assert reward_of("point_match")([near])[0].why.endswith(doubt)
