"""A set of boxes is scored whole: every object once, and objects that are not there cost."""

from __future__ import annotations

import functools
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import Media, Rollout, Verdict, get
from rewards.parse.objects import Object, objects, points
from rewards.rules.box_set_modes import Scene, vision_r1

MODES = ["f1", "recall", "precision", "map", "od_length", "weighted", "vision_r1", "visionreasoner"]
A, B, JUNK = [0, 0, 100, 100], [200, 200, 300, 300], [500, 500, 600, 600]
reward_of = functools.cache(get)


def as_json(boxes: Any, labels: list[str] | None = None) -> str:
    named = labels or ["cat"] * len(boxes)
    return json.dumps([{"bbox_2d": box, "label": label} for box, label in zip(boxes, named, strict=True)])


def verdict(completion: str, gold: Any = (A, B), labels: Any = None, fields: Any = None, **options: Any) -> Verdict:
    answer = {"boxes": gold, "labels": labels or ["cat"] * len(gold)}
    rollout = Rollout(completion, answer, "detection", media=[Media(width=2048, height=2048)], **(fields or {}))
    return reward_of("box_set", **options)([rollout])[0]


def score(predicted: Any, gold: Any = (A, B), **options: Any) -> float:
    value = verdict(as_json(predicted), gold, **options).score
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("predicted", "mean_ap", "od_length"),
    [
        ([A, B], 1.0, 1.0),
        ([A, B, JUNK], 1.0, 0.6666667),
        ([A, JUNK, B], 0.8349835, 0.5566557),
        ([A], 0.5049505, 0.5049505),
        ([A, B, *[JUNK] * 8], 1.0, 0.2),
    ],
)
def test_vlm_r1s_map_and_od_length(predicted: Any, mean_ap: float, od_length: float) -> None:
    assert score(predicted, mode="map", as_released=True) == pytest.approx(mean_ap, abs=1e-6)
    assert score(predicted, mode="od_length") == pytest.approx(od_length, abs=1e-6)


def test_without_as_released_map_charges_junk_wherever_it_stands() -> None:
    for junk in (1, 8):
        expected = pytest.approx(2 / (2 + junk), abs=1e-6)
        assert score([A, B, *[JUNK] * junk], mode="map") == expected
        assert score([*[JUNK] * junk, A, B], mode="map") == expected
    assert score([A, A, B, B], mode="map") == pytest.approx(0.5)
    assert score([A, [0, 0, 100, 99]], [A], mode="map") == pytest.approx(0.5)
    assert score([A, A], [A], mode="map", as_released=True) == 1
    of_another_class = verdict(as_json([A, B, JUNK], ["cat", "cat", "dog"]), mode="map")
    assert of_another_class.score == pytest.approx(2 / 3)


def test_an_iou_equal_to_the_threshold_counts_in_map() -> None:
    assert score([[0, 0, 100, 90]], [A], mode="map") == pytest.approx(0.9)
    assert score([[0, 0, 100, 90]], [A], mode="map", threshold=0.75) == 1


def test_vlm_r1s_weighted_sum() -> None:
    assert score([[0, 0, 100, 90], JUNK], mode="weighted") == pytest.approx(0.465)
    assert score([A, B], mode="weighted") == 1


@pytest.mark.parametrize(("step", "recall", "released", "fixed"), [(0, 1.0, 0.8, 0.5333333), (50, 0.5, 0.4, 0.2666667)])
def test_vision_r1s_thresholds_rise_at_half_of_the_training(
    step: int, recall: float, released: float, fixed: float
) -> None:
    predicted = [[0, 0, 100, 80], [200, 200, 300, 260], [400, 400, 450, 450]]
    fields = {"step": step, "total_steps": 100}
    for as_released, precision in ((True, released), (False, fixed)):
        scene = Scene(
            np.array(predicted, float),
            np.array([A, B], float),
            np.zeros(3, int),
            np.zeros(2, int),
            np.full((3, 2), np.nan),
            np.full((2, 2), np.nan),
            step / 100,
        )
        assert vision_r1(scene, as_released) == pytest.approx((recall, precision), abs=1e-6)
        whole = score(predicted, fields=fields, mode="vision_r1", as_released=as_released)
        assert whole == pytest.approx((recall + precision) / 2, abs=1e-6)


def test_vision_r1_knows_no_stage_without_steps() -> None:
    assert score([[0, 0, 100, 80], [200, 200, 300, 240]], mode="vision_r1") == pytest.approx((0.5 + 0.6) / 2)


def test_as_released_vision_r1_lets_fifty_junk_boxes_pass_and_ours_does_not() -> None:
    many = [A, B, *[JUNK] * 50]
    assert score(many, mode="vision_r1", as_released=True) == 1
    assert score(many, mode="vision_r1") < 0.55


def test_visionreasoners_accuracy() -> None:
    completion = json.dumps(
        [{"bbox_2d": [10, 10, 60, 60], "point_2d": [30, 30]}, {"bbox_2d": [200, 200, 250, 250], "point_2d": [10, 10]}]
    )
    rollout = Rollout(completion, {"boxes": [[12, 12, 62, 62]], "points": [[35, 35]]})
    for as_released in (False, True):
        assert reward_of("box_set", mode="visionreasoner", as_released=as_released)([rollout])[0].score == 1.5 / 3
    assert score([A, B], mode="visionreasoner") == 1


def test_f1_recall_and_precision_by_hand() -> None:
    half = [0, 0, 100, 50]
    assert score([half]) == pytest.approx(2 * 0.5 / 3)
    assert score([half], mode="recall") == pytest.approx(0.25)
    assert score([half], mode="precision") == pytest.approx(0.5)
    assert score([half, JUNK, JUNK], mode="recall") == pytest.approx(0.5 / 3)
    assert score([half, JUNK, JUNK], mode="recall", as_released=True) == pytest.approx(0.25)
    assert score([half, B], threshold=0.5) == 1
    assert score([half, B], threshold=0.51) == 0.5


def test_labels_must_agree_unless_classes_are_off() -> None:
    swapped = as_json([A, B], ["Dog ", "cat"])
    assert verdict(swapped, labels=["cat", "dog"]).score == 0
    assert verdict(swapped, labels=["cat", "dog"], classes=False).score == 1
    assert verdict(swapped, labels=["dog", "CAT"]).score == 1
    assert verdict(swapped, labels=["cat"]).kind == "abstained"


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("None", ("scored", 1)),
        ("```json\n[]\n```", ("scored", 1)),
        ("", ("unparsed", 0)),
        (as_json([A]), ("scored", 0)),
    ],
)
def test_an_empty_gold_set_wants_a_statement(completion: str, expected: tuple[str, float]) -> None:
    given_verdict = verdict(completion, gold=[])
    assert (given_verdict.kind, given_verdict.score) == expected


def test_what_cannot_be_read_is_told_apart() -> None:
    assert verdict("I see a cat").kind == "unparsed"
    assert verdict("<think>so many " + as_json([A])).kind == "unparsed"
    assert (verdict("None").kind, verdict("None").score) == ("scored", 0)
    assert verdict(as_json([A]), gold=[[0, 0, 0, 9]]).kind == "abstained"
    assert reward_of("box_set")([Rollout(as_json([A]), {"boxes": "x"})])[0].kind == "abstained"
    assert verdict(as_json([A]), space="resized").kind == "failed"


def test_boxes_are_compared_in_pixels_of_the_original() -> None:
    per_mille = as_json([[value * 1000 / 2048 for value in box] for box in (B, A)])
    assert verdict(per_mille, space="per_mille").score == pytest.approx(1)


corner = st.integers(0, 900)
side = st.integers(20, 200)
box = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], corner, corner, side, side)
box_lists = st.lists(box, min_size=1, max_size=5)


@settings(deadline=None, max_examples=25)
@given(gold=box_lists, predicted=box_lists, seed=st.randoms())
def test_every_mode_is_in_range_and_order_free(gold: Any, predicted: Any, seed: Any) -> None:
    shuffled = seed.sample(predicted, len(predicted))
    for mode in MODES:
        value = score(predicted, gold, mode=mode)
        assert 0 <= value <= 1
        if mode != "od_length":  # COCO keeps the order of boxes of equal score
            assert score(shuffled, gold, mode=mode) == pytest.approx(value)


@settings(deadline=None, max_examples=25)
@given(gold=st.lists(box, min_size=1, max_size=5, unique_by=tuple), predicted=box_lists, junk=st.integers(1, 6))
def test_the_gold_scores_1_and_junk_always_costs(gold: Any, predicted: Any, junk: int) -> None:
    litter = [[1500 + 60 * i, 1500, 1540 + 60 * i, 1540] for i in range(junk)]
    for mode in MODES:
        assert score(gold, gold, mode=mode) == pytest.approx(1)
        clean, dirty = score(predicted, gold, mode=mode), score([*predicted, *litter], gold, mode=mode)
        assert dirty < 1
        if mode != "weighted" or clean > 0.3:
            assert dirty <= clean + 1e-9
        assert score([*gold, *litter], gold, mode=mode) < 1 - 1e-3


@settings(deadline=None, max_examples=40)
@given(heights=st.tuples(st.integers(1, 100), st.integers(1, 100)))
def test_a_better_box_never_scores_less(heights: tuple[int, int]) -> None:
    low, high = sorted(heights)
    for mode in MODES:
        assert score([[0, 0, 100, low]], [A], mode=mode) <= score([[0, 0, 100, high]], [A], mode=mode) + 1e-9


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200) | st.text("[]{}(),.0123456789eE-:\"' boxlabel_2d", max_size=200))
def test_no_text_is_an_error(text: str) -> None:
    for verdict_ in (verdict(text), reward_of("point_match")([Rollout(text, {"points": [[1, 2]]})])[0]):
        assert verdict_.kind in ("scored", "unparsed")


BAITS = ["[", "{", "(1,", "[1 ", '<point x="1" ', "<tool_call>", "1e", "-+", '{"point":', "[[1,2],", "(1,2"]


@pytest.mark.parametrize("bait", BAITS)
def test_reading_takes_time_linear_in_the_text(bait: str) -> None:
    text = bait * (100_000 // len(bait))
    for read in (objects, points):
        start = time.process_time()
        read(text)
        assert time.process_time() - start < 0.5  # a square of the length would take minutes


def point(completion: str, answer: Any, **options: Any) -> Verdict:
    return reward_of("point_match", **options)([Rollout(completion, answer)])[0]


def test_a_point_hits_inside_the_box_or_near_the_gold_point() -> None:
    assert point("(30, 40)", {"points": [[0, 0]]}, radius=50).score == 1
    assert point("(30, 40)", {"points": [[0, 0]]}, radius=49).score == 0
    assert point("(30, 40)", {"points": [[0, 0]], "boxes": [[29, 39, 31, 41]]}).score == 1
    assert point('<point x="30" y="40">cup</point>', {"boxes": [[0, 0, 29, 90]]}).score == 0
    assert point("up there", {"points": [[0, 0]]}).kind == "unparsed"
    assert point("(1, 1)", {"points": None}).kind == "abstained"


def test_each_gold_point_is_hit_once_and_more_points_cost() -> None:
    answer = {"points": [[0, 0], [100, 0]]}
    assert point("[[0, 0], [1, 0]]", answer).score == 0.5
    assert point("(0, 0) (1, 0)", answer).score == 0.5
    assert point("(99, 0) (1, 0)", answer).score == 1
    assert point("(99, 0) (1, 0) (50, 50) (60, 60)", answer).score == pytest.approx(4 / 6)


def test_objects_and_points_are_read_in_several_notations() -> None:
    assert objects("<box>(1,2),(3,4)</box>") == [Object((1, 2, 3, 4))]
    assert objects('{"label": "a", "bbox": [[1, 2, 3, 4], [5, 6, 7, 8]]}') == [
        Object((1, 2, 3, 4), "a"),
        Object((5, 6, 7, 8), "a"),
    ]
    assert points('[{"x": 1, "y": 2}, {"point": [3, 4]}]') == [(1, 2), (3, 4)]
    assert points("the point (1.5 2)") == [(1.5, 2)]
