"""Coordinates between spaces, and how far boxes overlap."""

import math

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, box_iou, box_iou_paired, from_pixels, to_pixels

sides = st.integers(1, 8000)
shares = st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=5)


@given(space=st.sampled_from(CoordinateSpace), size=st.tuples(sides, sides), seen=st.tuples(sides, sides), rows=shares)
def test_coordinates_come_back(space, size, seen, rows) -> None:
    pixels = np.array(rows) * np.tile(size, 2)
    there = from_pixels(pixels, space, size, seen)
    assert_allclose(to_pixels(there, space, size, seen), pixels, rtol=1e-12)


@given(size=st.tuples(st.integers(1, 1000), st.integers(1, 1000)), grow=st.integers(0, 50), rows=shares)
def test_whole_numbers_come_back_to_within_half_a_pixel_where_the_space_is_as_fine_as_the_image(
    size, grow, rows
) -> None:
    pixels, seen = np.array(rows) * np.tile(size, 2), (size[0] + grow, size[1] + grow)
    for space in (CoordinateSpace.pixel, CoordinateSpace.per_mille, CoordinateSpace.resized):
        written = from_pixels(pixels, space, size, seen).round()
        assert np.abs(to_pixels(written, space, size, seen) - pixels).max() <= 0.5 + 1e-9


def test_each_space_by_hand() -> None:
    box, size, seen = [160.0, 120.0, 640.0, 480.0], (640, 480), (644, 476)
    assert_array_equal(from_pixels(box, "pixel", size), box)
    assert_array_equal(from_pixels(box, "unit", size), [0.25, 0.25, 1, 1])
    assert_array_equal(from_pixels(box, "per_mille", size), [250, 250, 1000, 1000])
    assert_array_equal(from_pixels(box, "resized", size, seen), [161, 119, 644, 476])
    assert_array_equal(to_pixels([161, 119], CoordinateSpace.resized, size, seen), [160, 120])


def test_rows_may_have_a_size_each() -> None:
    sizes = [(640, 480), (100, 100)]
    assert_array_equal(to_pixels([[0.5] * 4] * 2, "unit", sizes), [[320, 240, 320, 240], [50, 50, 50, 50]])
    assert to_pixels(np.zeros((0, 4)), "unit", (5, 5)).shape == (0, 4)


@pytest.mark.parametrize(
    ("coords", "space", "size", "message"),
    [
        ([1, 2], "units", (5, 5), "unknown coordinate space 'units'; did you mean unit"),
        ([1, 2], "resized", (5, 5), "space resized: seen_size must be"),
        ([1, 2], "unit", (5, 0), r"space unit: size must be a positive \(width, height\), got \[5.0, 0.0\]"),
        ([1, 2, 3], "unit", (5, 5), "pairs"),
    ],
)
def test_what_cannot_be_converted_is_refused(coords, space, size, message) -> None:
    with pytest.raises(ValueError, match=message):
        to_pixels(coords, space, size)


KINDS = {
    "iou": torchvision.ops.box_iou,
    "giou": torchvision.ops.generalized_box_iou,
    "diou": torchvision.ops.distance_box_iou,
    "ciou": torchvision.ops.complete_box_iou,
}


def random_boxes(count: int, seed: int) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, 100, (count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_equal_those_of_torchvision(kind) -> None:
    a, b = random_boxes(40, 0), random_boxes(60, 1)
    ours = box_iou(a, b, kind)
    assert_allclose(ours, KINDS[kind](torch.tensor(a), torch.tensor(b)).numpy(), atol=2e-7)
    assert_allclose(box_iou_paired(a, b[:40], kind), ours.diagonal(), rtol=1e-12)
    assert_allclose(box_iou(b, a, kind).T, ours, atol=1e-12)
    assert_allclose(box_iou_paired(a, a, kind), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ([10, 10, 110, 110], [20, 20, 120, 120], 0.6806723),
        ([0, 0, 10, 10], [9, 0, 19, 10], 0.0526316),  # an overlap one pixel wide counts
        ([0, 0, 10, 10], [8, 0, 18, 10], 0.1111111),
        ([0, 0, 10, 10], [5, 5, 15, 15], 0.1428571),
        ([0, 0, 100, 100], [0, 0, 100, 90], 0.9),
        ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
    ],
)
def test_overlaps_known_by_hand(a, b, iou) -> None:
    assert_allclose(box_iou([a], [b]), [[iou]], atol=5e-8)


def test_the_penalties_by_hand() -> None:
    apart = [[0, 0, 1, 1]], [[2, 0, 4, 1]]  # hull 4x1, union 3, centres 2.5 apart
    assert_allclose(box_iou_paired(*apart, "giou"), -1 / 4)
    assert_allclose(box_iou_paired(*apart, "diou"), -(2.5**2) / 17)
    v = 4 / np.pi**2 * (math.atan(2) - math.atan(1)) ** 2
    assert_allclose(box_iou_paired(*apart, "ciou"), -(2.5**2) / 17 - v * v / (1 + v))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_without_area_give_finite_numbers_in_range(kind) -> None:
    flat = [[5, 5, 5, 5], [0, 5, 10, 5], [5, 0, 5, 10], [90, 90, 90, 90], [0, 0, 10, 10]]
    overlaps = box_iou(flat, flat, kind)
    low = {"iou": 0, "giou": -1, "diou": -1, "ciou": -1.5}[kind]
    assert (overlaps >= low).all()
    assert (overlaps <= 1).all()
    assert overlaps[0, 0] == 0
    assert overlaps[4, 4] == 1


def test_a_box_with_swapped_corners_overlaps_nothing() -> None:
    assert_array_equal(box_iou([[10, 10, 0, 0], [10, 0, 0, 10]], [[0, 0, 10, 10], [-5, -5, 20, 20]]), 0)


def test_no_boxes_give_no_overlaps() -> None:
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)
    assert box_iou([[0, 0, 1, 1]], [], "ciou").shape == (1, 0)
    assert box_iou_paired([], []).shape == (0,)


def test_what_is_not_boxes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        box_iou([0, 0, 1, 1], [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match="got 1 and 2"):
        box_iou_paired([[0, 0, 1, 1]], [[0, 0, 1, 1]] * 2)
    with pytest.raises(InputError, match="unknown kind of IoU 'gIou'; did you mean giou"):
        box_iou([], [], "gIou")  # pyright: ignore[reportArgumentType]
