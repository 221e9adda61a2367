"""Numbers that papers or their code give, where no other test of a reward holds them."""

from __future__ import annotations

import numpy as np
import pytest

from mmrl.vision import box_iou
from rewards import Rollout, get
from rewards.bmas import similarity


@pytest.mark.parametrize(
    ("said", "gold", "true", "released"),
    [
        ([0, 0, 10, 10], [9, 0, 19, 10], 0.0526316, 0.0),
        ([0, 0, 10, 10], [8, 0, 18, 10], 0.1111111, 0.1111111),
        ([10, 10, 110, 110], [20, 20, 120, 120], 0.6806723, 0.6806723),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0, 0.0),
    ],
)
def test_vlm_r1s_iou_sees_no_overlap_of_one_pixel(
    said: list[int], gold: list[int], true: float, released: float
) -> None:
    rollout = Rollout(str(said), {"boxes": [gold]})
    assert get("box_iou")([rollout])[0].score == pytest.approx(true, abs=1e-6)
    assert get("box_iou", as_released=True)([rollout])[0].score == pytest.approx(released, abs=1e-6)


def test_the_first_pair_of_visionreasoner_overlaps_as_its_code_counts_pixels() -> None:
    said, gold = np.array([[10.0, 10, 61, 61]]), np.array([[12.0, 12, 63, 63]])  # one pixel larger
    assert box_iou(said, gold)[0, 0] == pytest.approx(0.8571939, abs=1e-6)


def test_bmas_of_three_tokens_and_two_and_of_opposites() -> None:
    three, two = np.array([[1, 0], [0, 1], [0.6, 0.8]]), np.array([[1, 0], [0.6, 0.8]])
    assert similarity(three, two) == pytest.approx(0.9666667, abs=1e-6)
    assert similarity(three[:1], two) == pytest.approx(0.9)
    assert similarity(two, two) == pytest.approx(1)
    assert similarity(three[:1], -three[:1]) == -1
