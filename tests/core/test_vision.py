"""The vision budget predicts the sizes that models' processors give images and videos."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
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
from mmrl.core.vision import VisionBudget, VisionGeometry, apply_budget, check_budget, geometry_of

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
    """The size that the image processor's own `resize` gives a picture; meta tensors have a shape and no pixels."""
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
    message = r"video of 4 frames of 640x480.* is \(2, .* predicts \(2, .*longest_edge': 50000.*max_pixels=100352"
    with pytest.raises(InputError, match=message):
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


def test_importing_needs_neither_torch_nor_transformers() -> None:
    code = "import sys, mmrl.core.vision; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
