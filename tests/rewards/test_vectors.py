"""Numbers that papers or their code give, where no other test of a reward holds them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mmrl.core.vision import box_iou
from rewards import Rollout, get
from rewards.composed.shaping import centered, par
from rewards.rules.bmas import similarity


@pytest.mark.parametrize(
    ("completions", "gold", "true", "released"),
    [
        ([0, 0, 10, 10], [9, 0, 19, 10], 0.0526316, 0.0),
        ([0, 0, 10, 10], [8, 0, 18, 10], 0.1111111, 0.1111111),
        ([10, 10, 110, 110], [20, 20, 120, 120], 0.6806723, 0.6806723),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0, 0.0),
    ],
)
def test_vlm_r1s_iou_sees_no_overlap_of_one_pixel(
    completions: list[int], gold: list[int], true: float, released: float
) -> None:
    rollout = Rollout(str(completions), {"boxes": [gold]})
    assert get("box_iou")([rollout])[0].score == pytest.approx(true, abs=1e-6)
    assert get("box_iou", as_released=True)([rollout])[0].score == pytest.approx(released, abs=1e-6)


def test_the_first_pair_of_visionreasoner_overlaps_as_its_code_counts_pixels() -> None:
    completion, gold = np.array([[10.0, 10, 61, 61]]), np.array([[12.0, 12, 63, 63]])  # one pixel larger
    assert box_iou(completion, gold)[0, 0] == pytest.approx(0.8571939, abs=1e-6)


def test_bmas_of_three_tokens_and_two_and_of_opposites() -> None:
    three, two = np.array([[1, 0], [0, 1], [0.6, 0.8]]), np.array([[1, 0], [0.6, 0.8]])
    assert similarity(three, two) == pytest.approx(0.9666667, abs=1e-6)
    assert similarity(three[:1], two) == pytest.approx(0.9)
    assert similarity(two, two) == pytest.approx(1)
    assert similarity(three[:1], -three[:1]) == -1


@pytest.mark.parametrize(
    ("completion", "ours", "released"),
    [
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]', 1.0, 1.0),
        ('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]\n```', 1.0, 1.0),
        ('[{"bbox_2d": [1, 2, 3], "label": "cat"}]', 0.0, 0.0),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}, {"bbox_2d": [1], "label": "cat"}]', 0.5, 0.0),
        ('[{"bbox_2d": ["a", 2, 3, 4], "label": "cat"}]', 0.0, 1.0),  # coordinates that are no numbers
        ('[{"bbox_2d": [1, 2]}]', 0.0, 1.0),  # an object without both keys
        ('{"cats": 3}', 0.0, 1.0),  # an object that is no list
        ("[1e999, NaN]", 0.0, 0.0),
        ("a cat at [1, 2, 3, 4]", 0.0, 0.0),
        ("[" * 100_000, 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_vision_r1s_format_and_what_its_code_lets_pass(completion: str, ours: float, released: float) -> None:
    rollout, empty = Rollout(completion, {"boxes": [[1, 2, 3, 4]]}), Rollout(completion, {"boxes": []})
    assert get("json_format", keys=["bbox_2d", "label"])([rollout])[0].score == ours
    assert get("json_format", as_released=True)([rollout])[0].score == released
    assert get("json_format", as_released=True)([empty])[0].score == 1 - released


def test_vision_r1_gives_nothing_where_no_box_can_be_read_and_keeps_the_value_at_a_threshold() -> None:
    gold = {"boxes": [[0, 0, 100, 100], [200, 200, 300, 300]]}
    for as_released in (False, True):
        reward = get("box_set", mode="vision_r1", as_released=as_released)
        assert reward([Rollout("no boxes", gold)])[0].score == 0
        half = json.dumps([[0, 0, 100, 50], [200, 200, 300, 250]])  # both at .5, neither below it nor above
        assert reward([Rollout(half, gold, step=0, total_steps=10)])[0].score == pytest.approx((0.5 + 0.5) / 2)


FORMS = [
    *("[10, 20, 30, 40]", "[10.0, 20.0, 30.0, 40.0]", "[1e1, 2E1, 3e+1, 40]", "[[10, 20], [30, 40]]"),
    *(
        "(10,20),(30,40)",
        "[30, 40, 10, 20]",
        "[１０, ２０, ３０, ４０]",
        "（１０，２０，３０，４０）",
        "<box>(10,20),(30,40)</box>",
    ),
    *(
        "（１０，２０，３０，４０）",
        "<box>[10, 20, 30, 40]",
        "<answer>[10, 20, 30, 40]",
        "<answer>[1, 2, 3, 4]</answer><answer>[10,20,30,40]</answer>",
    ),
    *(
        '```json\n[{"bbox_2d": [10, 20, 30, 40]}]\n```',
        '```json\n{"box": [[10, 20], [30, 40]]}',
        "[−0, 0] [10, 20, 30, 40]",
    ),
    "<think>[1, 2, 3, 4]</think>[10, 20, 30, 40]" + " junk" * 20_000,
]


@pytest.mark.parametrize("completion", FORMS, ids=range(len(FORMS)))
def test_the_same_box_scores_the_same_in_every_writing(completion: str) -> None:
    assert get("box_iou")([Rollout(completion, {"boxes": [[10, 20, 30, 40]]})])[0].score == 1
    assert get("box_set")([Rollout(completion, {"boxes": [[10, 20, 30, 40]]})])[0].score == 1


def test_par_saturates_without_an_error() -> None:
    assert par(1e6, [-1e6]) == 1
    assert par(-1e6, [1e6]) == 0
    assert centered(2, [1, 1.5, 0.5]) == 1
