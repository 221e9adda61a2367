"""Videos: both readers show the same frames, and a broken file is refused with a reason."""

from __future__ import annotations

import contextlib
import importlib.util
import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.core.config import InputError
from mmrl.core.media.files import MediaError
from mmrl.core.media.frames import decoded, frame_table, rgb
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget
from tests.support.clips import cut_at_start, picture, write_audio, write_clip

ALL = VisionBudget(fps=1000, min_frames=1, max_frames=1000, total_pixels=10**9)
FEW = VisionBudget(fps=2, min_frames=4, max_frames=8)
JITTER = [0, 20, 60, 210, 230, 250, 330, 480, 500, 540, 690, 710, 720, 860, 900, 2000, 2010, 2040, 2100, 2300]

decord_only = pytest.mark.skipif(importlib.util.find_spec("decord") is None, reason="decord has no wheel here")


def reason(source: Path | bytes, *, validate: bool = True) -> str:
    with pytest.raises(MediaError) as caught:
        probe(source, "video", validate=validate)
    assert not isinstance(source, Path) or source.name in str(caught.value)
    return caught.value.reason


def frames_of(path: Path) -> np.ndarray:
    """Every frame of a file in order, by decoding it from the start."""
    table = frame_table(path)
    return np.stack([rgb(frame, table, path) for frame in decoded(path, table, range(len(table.times)))])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that decord reads correctly."""
    folder = tmp_path_factory.mktemp("clips")
    small = {"g": "6", "bf": "2"}
    return {
        "plain": write_clip(folder / "plain.mp4"),
        "groups": write_clip(folder / "groups.mp4", codec_options=small),
        "matroska": write_clip(folder / "groups.mkv", codec_options=small),
        "late": write_clip(folder / "late.mp4", times=[1000 + 40 * index for index in range(50)]),
        "variable": write_clip(folder / "variable.mp4", len(JITTER), times=JITTER, codec_options=small),
        "variable_matroska": write_clip(folder / "variable.mkv", len(JITTER), times=JITTER),
        "turned": write_clip(folder / "turned.mp4", rotation=90),
        "odd": write_clip(folder / "odd.mp4", size=(98, 66)),
        "fragments": write_clip(folder / "f.mp4", mux_options={"movflags": "frag_keyframe+empty_moov"}),
        "single": write_clip(folder / "single.mp4", 1),
        "vp9": write_clip(folder / "vp9.webm", codec="libvpx-vp9", codec_options={"deadline": "realtime"}),
    }


@pytest.fixture(scope="module")
def hard_clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files in which decord shows other frames or colours than were asked for."""
    folder = tmp_path_factory.mktemp("hard")
    small = write_clip(folder / "small.mp4", codec_options={"g": "20", "bf": "2"})
    open_groups = {"x264-params": "open-gop=1:keyint=12:bframes=3"}
    return {
        "edit_list": cut_at_start(small, folder / "edited.mp4", 0.5),
        "open_groups": write_clip(folder / "open.mp4", codec_options=open_groups),
        "refresh": write_clip(folder / "r.mp4", codec_options={"x264-params": "intra-refresh=1:keyint=15:bframes=0"}),
        "hevc": write_clip(
            folder / "hevc.mp4",
            codec="libx265",
            codec_options={"x265-params": "keyint=12:log-level=none:pools=none:frame-threads=1"},
        ),
        "ten_bits": write_clip(folder / "deep.mp4", pixel_format="yuv420p10le"),
        "stream": write_clip(folder / "a.ts"),
        "avi": write_clip(folder / "a.avi"),
        "avi_of_25": write_clip(folder / "b.avi", tick=Fraction(1, 25)),
    }


def test_probing_measures_what_is_shown(clips: dict[str, Path], hard_clips: dict[str, Path]) -> None:
    media = probe(clips["plain"])
    assert (media.kind, media.width, media.height) == ("video", 96, 64)
    assert (media.num_frames, media.fps, media.duration) == (50, 25.0, 2.0)
    assert media.sha256
    assert len(media.sha256) == 64
    turned = probe(clips["turned"])
    assert (turned.width, turned.height) == (64, 96)
    assert probe(clips["late"]).duration == 2.0
    variable = probe(clips["variable"])
    assert variable.fps == pytest.approx(19 / 2.3)
    assert variable.num_frames == 20
    for clip in hard_clips.values():
        assert probe(clip).fps == 25.0
    assert probe(hard_clips["edit_list"]).num_frames == 37
    assert probe(clips["plain"], validate=False) == replace(media, num_frames=None)
    assert probe(clips["plain"].read_bytes(), "video").num_frames == 50


@decord_only
def test_decord_and_pyav_show_the_same_frames(clips: dict[str, Path]) -> None:
    for name, clip in clips.items():
        media, whole = probe(clip), frames_of(clip)
        for budget in (FEW, ALL, VisionBudget(fps=3, min_frames=2)):
            videos = [load_video(media, budget, reader=reader) for reader in ("decord", "pyav")]
            assert [video.backend for video in videos] == ["decord", "pyav"], name
            assert videos[0].indices == videos[1].indices
            assert np.array_equal(videos[0].frames, videos[1].frames), name
        if not name.startswith("variable"):
            assert np.array_equal(videos[0].frames, whole[videos[0].indices]), name


@decord_only
def test_pyav_reads_what_decord_would_get_wrong(hard_clips: dict[str, Path]) -> None:
    for name, clip in hard_clips.items():
        media, whole = probe(clip), frames_of(clip)
        video = load_video(media, FEW, reader="decord")
        assert video.backend == "pyav", name
        assert np.array_equal(video.frames, whole[video.indices]), name


@decord_only
def test_decord_reads_only_what_probing_saw_decode(clips: dict[str, Path]) -> None:
    """It hangs for ever on a file whose frames do not all decode."""
    for source in (clips["plain"], Media("video", path=str(clips["plain"])), probe(clips["plain"], validate=False)):
        assert load_video(source, FEW, reader="decord").backend == "pyav"


def test_the_environment_chooses_the_reader(clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    media = probe(clips["plain"])
    assert load_video(media, FEW).backend == "pyav"
    monkeypatch.setenv("MMRL_VIDEO_READER", "opencv")
    with pytest.raises(InputError, match="MMRL_VIDEO_READER=opencv: the video readers are pyav, decord"):
        load_video(media, FEW)
    if importlib.util.find_spec("decord"):
        monkeypatch.setenv("MMRL_VIDEO_READER", "decord")
        assert load_video(media, FEW).backend == "decord"


def test_frames_are_the_pictures_that_were_written(clips: dict[str, Path], hard_clips: dict[str, Path]) -> None:
    for name, first in (("plain", 0), ("groups", 0), ("matroska", 0), ("edit_list", 13)):
        video = load_video(probe((clips | hard_clips)[name]), FEW)
        for frame, index in zip(video.frames, video.indices, strict=True):
            errors = [np.abs(frame.astype(int) - picture(first + index + near)).mean() for near in (-1, 0, 1)]
            assert errors[1] == min(errors), name


def test_a_turned_video_stands_upright(clips: dict[str, Path]) -> None:
    flat, turned = load_video(clips["plain"], FEW), load_video(clips["turned"], FEW)
    assert np.array_equal(turned.frames, np.rot90(flat.frames, axes=(1, 2)))


def test_indices_of_a_variable_frame_rate_are_times(clips: dict[str, Path]) -> None:
    for name in ("variable", "variable_matroska"):
        video, whole = load_video(probe(clips[name]), ALL), frames_of(clips[name])
        for index, frame in zip(video.indices, video.frames, strict=True):
            told = index / video.fps * 1000
            on_screen = max(position for position, time in enumerate(JITTER) if time <= told + 1)
            assert np.array_equal(frame, whole[on_screen]), (name, index)
    table = frame_table(clips["variable"])
    assert table.shown_at(1.5) == JITTER.index(900)  # it stays for more than a second


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_frames_read_alone_are_those_of_the_whole(data: st.DataObject, clips: dict[str, Path]) -> None:
    for name in ("groups", "matroska", "variable"):
        table, whole = frame_table(clips[name]), frames_of(clips[name])
        wanted = sorted(data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=1, max_size=4)))
        read = [rgb(frame, table, clips[name]) for frame in decoded(clips[name], table, wanted)]
        assert np.array_equal(np.stack(read), whole[wanted])


def test_a_cut_counts_as_a_video_of_its_own(clips: dict[str, Path]) -> None:
    whole = frames_of(clips["groups"])
    media = replace(probe(clips["groups"]), start=0.8, end=1.6)
    for reader in ("decord", "pyav") if importlib.util.find_spec("decord") else ("pyav",):
        video = load_video(media, VisionBudget(fps=10, min_frames=2), reader=reader)
        assert video.indices[0] == 20
        assert video.indices[-1] == 39
        assert np.array_equal(video.frames, whole[video.indices])
        metadata = video.metadata()
        assert metadata["frames_indices"] == [index - 20 for index in video.indices]
        assert (metadata["total_num_frames"], metadata["duration"]) == (20, 0.8)
    with pytest.raises(InputError, match="no frame is shown"):
        load_video(replace(media, start=5.0, end=6.0), FEW)


def test_metadata_is_what_processors_take(clips: dict[str, Path]) -> None:
    video = load_video(probe(clips["plain"]), FEW)
    metadata = video.metadata()
    assert metadata == {
        "fps": 25.0,
        "total_num_frames": 50,
        "frames_indices": video.indices,
        "duration": 2.0,
        "height": 64,
        "width": 96,
        "video_backend": video.backend,
    }
    transformers_video = pytest.importorskip("transformers.video_utils")
    read = transformers_video.VideoMetadata(**metadata)
    assert read.timestamps == [index / 25 for index in video.indices]
    assert read.sampled_fps == 2.0


def test_an_avi_shows_its_frames_in_their_true_order(tmp_path: Path) -> None:
    options = {"g": "12", "bf": "3", "x264-params": "b-adapt=0"}
    clip = write_clip(tmp_path / "a.avi", tick=Fraction(1, 25), codec_options=options)
    whole = frames_of(write_clip(tmp_path / "a.mp4", codec_options=options))  # MP4 says when each frame is shown
    media = probe(clip)
    assert (media.num_frames, media.fps, media.duration) == (50, 25.0, 2.0)
    assert np.array_equal(frames_of(clip), whole)
    for clip_media in (media, replace(media, start=0.8, end=1.6)):
        video = load_video(clip_media, FEW)
        assert video.backend == "pyav"
        assert np.array_equal(video.frames, whole[video.indices])
    table = frame_table(clip)
    assert np.array_equal([rgb(frame, table, clip) for frame in decoded(clip, table, [7, 8, 33])], whole[[7, 8, 33]])


def test_bytes_read_like_files(clips: dict[str, Path]) -> None:
    for name in ("plain", "matroska"):
        content = clips[name].read_bytes()
        video = load_video(probe(content), FEW)
        assert np.array_equal(video.frames, load_video(clips[name], FEW).frames)


def test_paths_start_at_the_root_and_stay_inside(clips: dict[str, Path], tmp_path: Path) -> None:
    folder = clips["plain"].parent
    assert load_video("plain.mp4", FEW, folder).frames.shape == (4, 64, 96, 3)
    (tmp_path / "link.mp4").symlink_to(clips["plain"])
    for source in ("../plain.mp4", str(clips["plain"]), "link.mp4"):
        with pytest.raises(MediaError) as caught:
            load_video(source, FEW, tmp_path)
        assert caught.value.reason == "outside_root"
    with pytest.raises(MediaError, match="remote"):
        load_video("https://example.com/a.mp4", FEW)


@pytest.mark.parametrize("form", ["mp4", "mkv", "webm", "avi"])
def test_a_cut_file_is_refused_whatever_its_header_says(form: str, tmp_path: Path) -> None:
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(form, "libx264")
    options = {"movflags": "faststart"} if form == "mp4" else {}
    whole = write_clip(tmp_path / f"whole.{form}", 100, codec=codec, mux_options=options).read_bytes()
    for share in (30, 60, 97):
        cut = tmp_path / f"cut{share}.{form}"
        cut.write_bytes(whole[: len(whole) * share // 100])
        assert reason(cut) == "cut"
        assert reason(cut, validate=False) == "cut"
        with pytest.raises(MediaError, match="whole file"):
            load_video(cut, FEW)


def test_damage_in_the_middle_is_found_by_decoding(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", 60, codec_options={"g": "12"}, mux_options={"movflags": "faststart"})
    content, fails = whole.read_bytes(), 0
    rng, data = random.Random(0), content.index(b"mdat")
    for number in range(8):
        damaged = bytearray(content)
        at = rng.randrange(data + 2000, len(content) - 500)
        damaged[at : at + 200] = rng.randbytes(200)
        clip = tmp_path / f"damaged{number}.mp4"
        clip.write_bytes(damaged)
        with contextlib.suppress(MediaError):
            probe(clip)
            fails -= 1
        fails += 1
    assert fails >= 5  # H.264 has no checksum: now and then noise decodes


def test_files_without_a_video_say_so(tmp_path: Path) -> None:
    text, empty, header = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "header.mp4"
    text.write_text("no video at all\n" * 100)
    empty.touch()
    header.write_bytes(write_clip(tmp_path / "whole.mp4").read_bytes()[:2000])  # the index was at the end
    assert reason(write_audio(tmp_path / "sound.mp4")) == "no_stream"
    assert reason(text) == "unreadable"
    assert reason(empty) == "empty"
    assert reason(header) == "no_index"
    assert reason(tmp_path / "gone.mp4") == "missing"


def test_a_file_cannot_send_ffmpeg_elsewhere(clips: dict[str, Path], tmp_path: Path) -> None:
    playlist, script = tmp_path / "list.mp4", tmp_path / "script.mp4"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clips['plain']}\n#EXT-X-ENDLIST\n")
    script.write_text(f"ffconcat version 1.0\nfile {clips['plain']}\n")
    assert reason(playlist) == "unreadable"
    assert reason(script) == "unreadable"


def test_endless_and_huge_videos_are_refused(tmp_path: Path) -> None:
    endless = write_clip(tmp_path / "endless.mp4", 3, times=[0, 40, 7 * 3600 * 1000])
    assert reason(endless, validate=False) == "too_long"


def test_a_huge_frame_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    side = 8194
    with av.open(tmp_path / "huge.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(side, side, "yuv420p")))
        container.mux(stream.encode())
    assert (tmp_path / "huge.mp4").stat().st_size < 10_000_000
    assert reason(tmp_path / "huge.mp4") == "bomb"


def test_a_size_that_changes_midway_is_refused(tmp_path: Path) -> None:
    first, second = write_clip(tmp_path / "a.ts", 10), write_clip(tmp_path / "b.ts", 10, size=(64, 96))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert reason(both) in ("unreadable", "cut")
