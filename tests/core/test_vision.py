import math
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.ops
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from pydantic import ValidationError
from qwen_vl_utils.vision_process import smart_nframes
from tokenizers import Tokenizer, models
from transformers import (
    AutoProcessor,
    Glm4vImageProcessor,
    Idefics3ImageProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionImageProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmrl.core.config import InputError, load, validate
from mmrl.core.vision import (
    CoordinateSpace,
    VisionBudget,
    VisionGeometry,
    apply_budget,
    box_iou,
    box_iou_paired,
    check_budget,
    from_pixels,
    geometry_of,
    to_pixels,
)

QWEN2 = VisionGeometry(patch=14, merge=2, temporal_patch=2)
QWEN3 = VisionGeometry(patch=16, merge=2, temporal_patch=2, whole_video=True)
SIDES = [1, 13, 14, 27, 28, 42, 199, 448, 640, 1080, 2000, 5600]
BUDGETS = [
    VisionBudget(),
    VisionBudget(min_pixels=1, max_pixels=28 * 28),
    VisionBudget(min_pixels=200_000, max_pixels=200_704),
    VisionBudget(min_pixels=256 * 784, max_pixels=16384 * 784, max_frames=8),
    VisionBudget(min_pixels=3000, max_pixels=602_112, max_frames=400, total_pixels=1_300_001),
]


def qwen_processor(whole_video: bool = False):
    """A processor as AutoProcessor builds it, with a tokenizer of one word."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"hi": 0}, "hi")),
        extra_special_tokens=["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"],
    )
    if whole_video:
        image = Qwen2VLImageProcessor(patch_size=16)
        return Qwen3VLProcessor(image, tokenizer, Qwen3VLVideoProcessor(), chat_template="{{ messages }}")
    return Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(), tokenizer, Qwen2VLVideoProcessor(), chat_template="{{ messages }}"
    )


@pytest.fixture(params=[QWEN2, QWEN3], ids=["qwen2.5-vl", "qwen3-vl"])
def geometry(request: pytest.FixtureRequest) -> VisionGeometry:
    return request.param


@pytest.fixture
def processor(geometry: VisionGeometry):
    return qwen_processor(geometry.whole_video)


def resized_image(processor, width: int, height: int) -> tuple[int, int]:
    """What the image processor's own `resize` makes of a picture; meta tensors have a shape and no pixels."""
    part = processor.image_processor
    picture = torch.empty(1, 3, height, width, device="meta")
    resized = part.resize(picture, part.size, part.resample, part.patch_size * part.merge_size)
    return resized.shape[-1], resized.shape[-2]


def resized_video(processor, width: int, height: int, frames: int) -> tuple[int, int]:
    part = processor.video_processor
    video = torch.empty(1, frames, 3, height, width, device="meta")
    resized = part.resize(
        videos=video,
        size=part.size,
        resample=part.resample,
        factor=part.patch_size * part.merge_size,
        temporal_factor=part.temporal_patch_size,
        cap_pixels_per_frame=part.cap_pixels_per_frame,
    )
    return resized.shape[-1], resized.shape[-2]


def outcome(size: Callable[..., tuple[int, int]], *arguments) -> tuple[int, int] | str:
    """The size, or "refused" for the shapes and lengths that the processors refuse."""
    try:
        return size(*arguments)
    except ValueError as refusal:
        if not re.search("aspect ratio|times the other|temporal_factor|too short", str(refusal)):
            raise
        return "refused"


# The budget and the processors


@pytest.mark.parametrize("budget", BUDGETS)
def test_images_are_seen_at_the_size_the_processor_gives_them(budget: VisionBudget, processor, geometry) -> None:
    apply_budget(processor, budget)
    seen = {size: outcome(resized_image, processor, *size) for size in product(SIDES, SIDES)}
    assert seen == {size: outcome(budget.image_size, *size, geometry) for size in seen}
    assert 0 < list(seen.values()).count("refused") < 20


@pytest.mark.parametrize("budget", BUDGETS)
def test_videos_are_seen_at_the_size_the_processor_gives_them(budget: VisionBudget, processor, geometry) -> None:
    apply_budget(processor, budget)
    videos = product(SIDES[::2], SIDES[1::2], (1, 2, 3, 5, 16, 64, 401))
    seen = {video: outcome(resized_video, processor, *video) for video in videos}
    assert seen == {video: outcome(budget.video_size, *video, geometry) for video in seen}


@settings(deadline=None, max_examples=300)
@given(
    width=st.integers(1, 6000),
    height=st.integers(1, 6000),
    frames=st.integers(1, 100),
    low=st.integers(1, 300_000),
    more=st.integers(0, 2_000_000),
    total=st.integers(2_000_000, 30_000_000),
    whole_video=st.booleans(),
)
def test_any_budget_predicts_any_picture(width, height, frames, low, more, total, whole_video) -> None:
    processor, geometry = PROCESSORS[whole_video], (QWEN2, QWEN3)[whole_video]
    budget = VisionBudget(min_pixels=low, max_pixels=low + more, total_pixels=total)
    apply_budget(processor, budget)
    image, video = (width, height), (width, height, frames)
    assert outcome(budget.image_size, *image, geometry) == outcome(resized_image, processor, *image)
    assert outcome(budget.video_size, *video, geometry) == outcome(resized_video, processor, *video)


PROCESSORS = [qwen_processor(whole_video=False), qwen_processor(whole_video=True)]


def test_the_pillow_processor_gives_the_same_grid() -> None:
    budget, part = VisionBudget(max_pixels=100_352), Qwen2VLImageProcessorPil(max_pixels=100_352)
    for width, height in [(640, 480), (30, 900), (5, 7)]:
        grid = part(images=[Image.new("RGB", (width, height))], return_tensors="pt")["image_grid_thw"][0]
        assert tuple(grid) == QWEN2.grid(*budget.image_size(width, height, QWEN2))


def test_factors_are_28_and_32(processor, geometry) -> None:
    assert geometry_of(processor) == geometry
    assert geometry.factor == (32 if geometry.whole_video else 28)


def test_sizes_known_by_hand() -> None:
    budget = VisionBudget(max_pixels=448 * 448)
    assert budget.image_size(448, 448, QWEN2) == (448, 448)
    assert budget.image_size(896, 896, QWEN2) == (448, 448)
    assert budget.image_size(10, 10, QWEN2) == (56, 56)
    assert QWEN2.grid(448, 420) == (1, 30, 32)
    assert QWEN2.grid(448, 420, frames=5) == (3, 30, 32)


def test_a_video_that_fits_its_budget_exactly_is_left_as_it_is(geometry) -> None:
    side = 14 * geometry.factor
    budget = VisionBudget(total_pixels=64 * side * side)
    assert budget.video_size(side, side, 64, geometry) == (side, side)
    assert budget.video_size(side, side, 65, geometry) < (side, side)


@pytest.mark.parametrize("frames", [4, 10, 32, 64])
def test_a_long_video_keeps_to_its_total(frames: int, geometry) -> None:
    budget = VisionBudget(total_pixels=2_000_000)
    width, height = budget.video_size(1920, 1080, frames, geometry)
    assert 0.7 * 2_000_000 < frames * width * height <= 2_000_000


def test_frames_are_fewer_where_the_total_could_not_hold_them(processor, geometry) -> None:
    budget = VisionBudget(min_pixels=100_000, total_pixels=1_050_000)
    assert len(budget.frame_indices(3000, 30)) == 10
    width, height = budget.video_size(1920, 1080, 10, geometry)
    assert 10 * width * height <= 1_050_000
    apply_budget(processor, budget)
    assert processor.video_processor.max_frames == 10


@pytest.mark.parametrize("size", [(201, 1), (1, 4000), (40_200, 200)])
def test_extreme_shapes_are_refused(size: tuple[int, int], geometry) -> None:
    with pytest.raises(InputError, match="200 times"):
        VisionBudget().image_size(*size, geometry)


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (0, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int], geometry) -> None:
    with pytest.raises(InputError, match="no pixels"):
        VisionBudget().image_size(*size, geometry)
    with pytest.raises(InputError, match="no pixels"):
        VisionBudget().video_size(*size, 4, geometry)


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(InputError, match="1 frames is too short"):
        VisionBudget().video_size(64, 64, 1, QWEN3)
    with pytest.raises(InputError, match="0 frames is too short"):
        VisionBudget().video_size(64, 64, 0, QWEN2)


def test_the_real_processor_passes_the_check_once_the_budget_is_applied(processor) -> None:
    budget = VisionBudget(max_pixels=100_352, total_pixels=400_000, max_frames=64)
    apply_budget(processor, budget)
    check_budget(processor, budget, [(640, 480), (3, 3), (1000, 30), (320, 200, 8), (320, 200, 5), (20, 30, 2)])


def test_the_check_shows_both_grids(processor) -> None:
    budget = VisionBudget(max_pixels=100_352)
    with pytest.raises(InputError, match=r"image of 640x480.* is \(1, 3\d, 4\d\) .* predicts \(1, [12]\d, [12]\d\)"):
        check_budget(processor, budget, [(28, 28), (640, 480)])
    apply_budget(processor, budget)
    processor.video_processor.size = {"shortest_edge": 3136, "longest_edge": 50_000}
    shown = r"video of 4 frames of 640x480.* is \(2, .* predicts \(2, .*longest_edge': 50000.*max_pixels=100352"
    with pytest.raises(InputError, match=shown):
        check_budget(processor, budget, [(640, 480), (640, 480, 4)])


def test_pixel_attributes_set_by_hand_do_not_outlive_the_budget(processor) -> None:
    budget = VisionBudget(max_pixels=100_352)
    processor.image_processor.max_pixels = 50_176
    processor.video_processor.min_pixels = 90_000
    apply_budget(processor, budget)
    check_budget(processor, budget, [(640, 480), (64, 64), (640, 480, 4), (64, 64, 4)])


def test_the_budget_survives_saving(processor, tmp_path: Path) -> None:
    budget = VisionBudget(min_pixels=5000, max_pixels=90_001, total_pixels=1_000_003, fps=1.5)
    apply_budget(processor, budget)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    check_budget(loaded, budget, [(640, 480), (640, 480, 4)])
    assert (loaded.video_processor.fps, loaded.video_processor.max_frames) == (1.5, 64)


def test_a_processor_of_images_alone_is_enough(geometry) -> None:
    processor = qwen_processor(geometry.whole_video)
    processor.video_processor = None
    apply_budget(processor, VisionBudget(max_pixels=100_352))
    check_budget(processor, VisionBudget(max_pixels=100_352), [(640, 480)])


@pytest.mark.parametrize(
    "part",
    [Idefics3ImageProcessor(), LlavaOnevisionImageProcessor(), Glm4vImageProcessor()],
    ids=lambda p: type(p).__name__,
)
def test_no_claim_is_made_about_processors_that_resize_otherwise(part, caplog: pytest.LogCaptureFixture) -> None:
    processor = qwen_processor()
    processor.image_processor = part
    before = part.to_dict()
    assert geometry_of(processor) is None
    apply_budget(processor, VisionBudget())
    check_budget(processor, VisionBudget(), [(640, 480), (640, 480, 4)])
    assert part.to_dict() == before
    assert "frames only" in caplog.text


def test_an_unknown_video_processor_is_no_claim_either() -> None:
    processor = qwen_processor()
    processor.video_processor = InternVLVideoProcessor()
    assert geometry_of(processor) is None


# The budget's own rules


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"min_pixels": 2000, "max_pixels": 1000}, "min_pixels 2000 is above max_pixels 1000"),
        ({"min_frames": 100}, "min_frames 100 is above max_frames 64"),
        ({"total_pixels": 4 * 3292 - 1}, "total_pixels 13167 cannot hold min_frames 4"),
        ({"fps": 0}, "greater than 0"),
        ({"fps": math.inf}, "finite"),
        ({"max_pixels": -5}, "greater than 0"),
        ({"maxpixels": 5}, "did you mean max_pixels"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate(VisionBudget, wrong, where="here")


def test_a_budget_is_frozen_and_loads_from_overrides() -> None:
    budget = load(VisionBudget, None, ["fps=1", "max_frames=8"])
    assert (budget.fps, budget.max_frames) == (1.0, 8)
    with pytest.raises(ValidationError, match="frozen"):
        budget.fps = 3.0


# Frames


@settings(deadline=None, max_examples=300)
@given(
    num_frames=st.integers(2, 5000),
    video_fps=st.floats(1, 120),
    fps=st.floats(0.1, 30),
    frames=st.tuples(st.integers(1, 80), st.integers(2, 80)).map(sorted),
)
def test_frame_counts_are_those_of_qwen_vl_utils(num_frames, video_fps, fps, frames) -> None:
    low, high = max(1, frames[0]), max(2, frames[1])
    budget = VisionBudget(fps=fps, min_frames=low, max_frames=high)
    settings_there = {"fps": fps, "min_frames": low, "max_frames": high}
    count = smart_nframes(settings_there, total_frames=num_frames, video_fps=video_fps)
    indices = budget.frame_indices(num_frames, video_fps, geometry=QWEN2)
    assert indices == np.linspace(0, num_frames - 1, count).round().astype(int).tolist()


@settings(deadline=None, max_examples=300)
@given(
    num_frames=st.integers(1, 3000),
    fps=st.floats(0.5, 120),
    span=st.tuples(st.floats(0, 50), st.floats(0, 50)).map(sorted),
    geometry=st.sampled_from([None, QWEN2]),
)
def test_frames_lie_inside_the_span(num_frames, fps, span, geometry) -> None:
    budget, (start, end) = VisionBudget(), span
    inside = [i for i in range(num_frames) if i / fps >= start - 1e-6 / fps and i / fps < end - 1e-6 / fps]
    if not inside:
        with pytest.raises(InputError, match="no frame is shown"):
            budget.frame_indices(num_frames, fps, start, end, geometry)
        return
    indices = budget.frame_indices(num_frames, fps, start, end, geometry)
    assert indices == sorted(set(indices))
    assert set(indices) <= set(inside)
    assert indices[0] == inside[0]
    step = 2 if geometry and len(inside) > 1 else 1
    assert len(indices) % step == 0
    assert min(4, len(inside)) // step * step <= len(indices) <= budget.max_frames


def test_frames_known_by_hand() -> None:
    budget = VisionBudget(fps=2)
    assert budget.frame_indices(300, 30) == np.linspace(0, 299, 20).round().astype(int).tolist()
    assert budget.frame_indices(300, 30, start=0.1, end=0.3) == [3, 5, 6, 8]  # frame 9 is shown at the end: outside
    assert budget.frame_indices(300, 30, start=0.1, end=0.2) == [3, 4, 5]  # no more than there are
    assert budget.frame_indices(300, 30, start=0.1, end=0.2, geometry=QWEN2) == [3, 5]
    assert budget.frame_indices(1, 30, geometry=QWEN2) == [0]  # less than one temporal patch
    assert budget.frame_indices(100_000, 25)[-1] == 99_999
    assert len(budget.frame_indices(100_000, 25)) == 64
    assert len(budget.frame_indices(10**15, 1e-300)) == 64  # a hostile file cannot make it slow


def test_the_reference_also_counts_the_frame_at_the_end() -> None:
    from qwen_vl_utils.vision_process import calculate_video_frame_range

    assert calculate_video_frame_range({"video_start": 1.0, "video_end": 2.0}, 300, 30)[:2] == (30, 60)
    assert VisionBudget(min_frames=40).frame_indices(300, 30, 1.0, 2.0)[-1] == 59


@pytest.mark.parametrize(
    ("num_frames", "fps", "start", "end", "message"),
    [
        (0, 30, None, None, "video of 0 frames at 30 fps"),
        (10, 0, None, None, "at 0 fps"),
        (10, math.nan, None, None, "at nan fps"),
        (300, 30, 5, 5, r"\[5, 5\) seconds of a video of 300 frames at 30 fps \(10.000 seconds\)"),
        (300, 30, 6, 5, "no frame is shown"),
        (300, 30, 10, 12, "no frame is shown"),
        (300, 30, -5, 0, "no frame is shown"),
        (300, 30, 1.01, 1.02, "no frame is shown"),
        (300, 30, math.nan, None, "no frame is shown"),
        (300, 30, math.inf, None, "no frame is shown"),
    ],
)
def test_a_span_without_frames_is_refused(num_frames, fps, start, end, message) -> None:
    with pytest.raises(InputError, match=message):
        VisionBudget().frame_indices(num_frames, fps, start, end)


# Coordinates

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


# Boxes

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


def test_importing_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, mmrl.core.vision; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
