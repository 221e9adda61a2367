"""Of a video whose frames come at uneven times, the frames are those on the screen at their second."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmrl.core.media.frames import decoded, frame_table, rgb
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget
from tests.support.clips import write_clip

SLIDES = [0, 10_000, 11_000, 12_000, 13_000]
RECORDING = [0, *range(20_000, 25_000, 100)]
PHONE = [index * 40 + (index * 7919) % 13 - 6 if index else 0 for index in range(50)]  # 25 a second, up to 6 ms away


def shown(clip: Path, times: list[int], media: Media) -> list[tuple[float, int]]:
    """(the second that is told, the place of the frame that is shown) of the sampled frames."""
    table = frame_table(clip)
    whole = np.stack([rgb(frame, table, clip) for frame in decoded(clip, table, range(len(times)))])
    video = load_video(media, VisionBudget(fps=10, min_frames=1, max_frames=768))
    places = [int(np.abs(whole.astype(int) - frame).sum(axis=(1, 2, 3)).argmin()) for frame in video.frames]
    return [(index / video.fps, place) for index, place in zip(video.indices, places, strict=True)]


@pytest.mark.parametrize("form", ["mp4", "mkv"])
@pytest.mark.parametrize("times", [SLIDES, RECORDING, PHONE], ids=["slides", "recording", "phone"])
def test_the_frame_at_a_second_is_the_one_on_the_screen(form: str, times: list[int], tmp_path: Path) -> None:
    clip = write_clip(tmp_path / f"a.{form}", len(times), times=times)
    for second, place in shown(clip, times, probe(clip)):
        now, soon = (bisect_right(times, second * 1000 + rounding) - 1 for rounding in (0, 1.5))
        assert place in (now, soon), second


def test_nothing_from_behind_a_cut_is_shown(tmp_path: Path) -> None:
    for times, end in ((SLIDES, 10.0), (RECORDING, 20.0)):
        clip = write_clip(tmp_path / f"{len(times)}.mp4", len(times), times=times)
        assert {place for _, place in shown(clip, times, replace(probe(clip), end=end))} == {0}


@pytest.mark.parametrize("rate", [12, 24, 25, 30, 50])
def test_a_constant_rate_shows_the_frame_of_its_index(rate: int, tmp_path: Path) -> None:
    for form in ("mp4", "mkv"):  # Matroska rounds stamps to milliseconds
        clip = write_clip(tmp_path / f"a.{form}", 40, fps=rate)
        assert frame_table(clip).steady
        places = [place for _, place in shown(clip, list(range(40)), probe(clip))]
        assert places == load_video(probe(clip), VisionBudget(fps=10, min_frames=1, max_frames=768)).indices
