"""Which frames of a video the budget looks at: those of qwen-vl-utils, inside the span that is shown."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qwen_vl_utils.vision_process import smart_nframes

from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget, VisionGeometry

QWEN2 = VisionGeometry(patch=14, merge=2, temporal_patch=2)


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
