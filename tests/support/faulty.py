"""One broken sample for every check of `data_engine.validate`, made of real files: code -> a function of a folder."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.schema import Sample, user_prompt
from data_engine.validate.checks import CHECKS
from data_engine.validate.fault import Limits
from mmrl.core.media.item import Media, MediaKind
from tests.support.broken import png
from tests.support.clips import write_audio, write_clip

WIDTH, HEIGHT = 120, 80  # of the pictures
SECONDS = 2.0  # of the clips, of 25 frames a second
UNEVEN = [0, 20, 60, 210, 230, 250, 330, 480, 500, 540, 690, 710, 720, 860, 900, 2000, 2010, 2040, 2100, 2300]
FORM = (
    *("bad_prompt", "marker_mismatch", "empty_text", "unknown_task", "no_answer", "bad_answer"),
    *("bad_cut", "box_outside", "point_outside", "span_outside", "not_text"),
)
WHOLE = {"licence": "CC0", "split": "train", "box_space": "pixel"}


def photo(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """A photograph."""
    return Image.fromarray(load_sample_image("china.jpg")).resize((width, height))


def sample(media: Media | None = None, question: str = "Is it day?", **fields: Any) -> Sample:
    """A sound sample, but for the faults that the arguments add."""
    prompt = user_prompt(question, [media.kind] if media else [])
    whole: dict[str, Any] = {"task": "yesno", "answer": {"yesno": True}, "meta": WHOLE, "prompt": prompt}
    return Sample(**{"id": "", "source": "test", "media": (media,) if media else (), **whole, **fields})


def form_fault(whole: Sample) -> tuple[str, str] | None:
    """(code, message) of the first fault in the form of a sample; no file is opened."""
    for code in FORM:
        find = CHECKS[code].find
        assert find
        if fault := find(whole, Limits()):
            return code, fault.message
    return None


def stored(folder: Path, name: str, content: bytes, kind: MediaKind = "image") -> Sample:
    """A question about a file of that content."""
    (folder / name).write_bytes(content)
    return sample(Media(kind, path=str(folder / name)))


def saved(folder: Path, name: str, image: Image.Image, **options: Any) -> Sample:
    """A question about a picture saved under that name."""
    image.save(folder / name, **options)
    return sample(Media("image", path=str(folder / name)))


def filmed(folder: Path, name: str = "clip.mp4", frames: int = 50, **options: Any) -> Sample:
    """A question about a new clip."""
    return sample(Media("video", path=str(write_clip(folder / name, frames, **options))))


def declared(of: Sample, **measures: Any) -> Sample:
    """The sample with measures that its source declares."""
    return replace(of, media=(replace(of.media[0], **measures),))


def boxed(folder: Path, *boxes: list[float], task: str = "grounding", **more: Any) -> Sample:
    """Boxes on a photograph."""
    answer = {"boxes": list(boxes), **more}
    return replace(saved(folder, "boxed.png", photo()), task=task, answer=answer)


def timed(folder: Path, *spans: list[float]) -> Sample:
    """Spans of a clip."""
    return replace(filmed(folder), task="temporal", answer={"spans": list(spans)})


def chosen(choice: Any, *options: str) -> Sample:
    """A choice without a picture."""
    return sample(task="choice", answer={"choice": choice, "options": list(options)})


def answered(question: str, *texts: str) -> Sample:
    """A question whose answer is a text."""
    return sample(question=question, task="text", answer={"text": list(texts)})


def patched(folder: Path, name: str, box: bytes, at: int, content: bytes) -> Sample:
    """A clip with `content` written into its first box of that name, `at` bytes behind the name."""
    clip = write_clip(folder / name, codec_options={"bf": "0"}).read_bytes()
    start = clip.index(box) + len(box) + at
    return stored(folder, name, clip[:start] + content + clip[start + len(content) :], "video")


def _turned(folder: Path) -> Sample:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(folder, "turned.jpg", photo(), exif=exif)


def _see_through(folder: Path) -> Sample:
    picture = photo().convert("RGBA")
    picture.putalpha(Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))))
    return saved(folder, "alpha.png", picture)


def _half(folder: Path, name: str, **options: Any) -> Sample:
    """A clip of which the second half is missing."""
    clip = write_clip(folder / name, 100, **options).read_bytes()
    return stored(folder, name, clip[: len(clip) // 2], "video")


def _torn(folder: Path) -> Sample:
    whole = Path(saved(folder, "torn.jpg", photo()).media[0].path or "").read_bytes()
    return stored(folder, "torn.jpg", whole[: len(whole) * 2 // 3])


def _at_once(folder: Path) -> Path:
    """A clip of which all frames have the same time."""
    source = write_clip(folder / "even.mp4", 10, codec_options={"bf": "0"})
    with av.open(str(source)) as old, av.open(folder / "once.mkv", "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = 0, 0, copy
                new.mux(packet)
    return folder / "once.mkv"


def _sound(folder: Path) -> Sample:
    return sample(Media("video", path=str(write_audio(folder / "sound.mp4"))))


def _grey(folder: Path) -> Sample:
    """A clip that holds a header, a table of frames, and bytes that are none."""
    whole = write_clip(folder / "noise.avi", 5, codec="mpeg4").read_bytes()
    start = whole.index(b"movi") + 12
    return stored(folder, "noise.avi", whole[:start] + bytes(len(whole) - start), "video")


FAULTY: dict[str, Callable[[Path], Sample]] = {
    # files
    "missing": lambda folder: sample(Media("image", path=str(folder / "gone.jpg"))),
    "remote": lambda _: sample(Media("image", path="https://example.org/a.jpg")),
    "empty": lambda folder: stored(folder, "a.jpg", b""),
    "unreadable": lambda folder: stored(folder, "a.jpg", b"no picture at all"),
    "bomb": lambda folder: stored(folder, "a.png", png(40_000, 40_000, 10)),
    "wrong_extension": lambda folder: saved(folder, "a.jpg", photo(), format="PNG"),
    # images
    "truncated": _torn,
    "animated": lambda folder: saved(
        folder, "a.png", photo(), save_all=True, append_images=[photo().transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    ),
    "image_mode": lambda folder: saved(folder, "a.jpg", photo().convert("CMYK")),
    "alpha": _see_through,
    "orientation": _turned,
    "pixel_aspect": lambda folder: saved(folder, "fax.jpg", photo(), dpi=(204, 98)),
    "size_mismatch": lambda folder: declared(boxed(folder, [10, 10, 20, 20]), width=60, height=40),
    "extreme_aspect": lambda folder: saved(folder, "a.png", photo(28, 5601)),
    "tiny_side": lambda folder: saved(folder, "a.png", photo(27, 100)),
    # videos
    "no_stream": _sound,
    "no_index": lambda folder: _half(folder, "a.mp4"),
    "unknown_codec": lambda folder: patched(folder, "a.mp4", b"stsd", 12, b"zzzz"),
    "no_frames": _grey,
    "cut": lambda folder: _half(folder, "a.mp4", mux_options={"movflags": "faststart"}),
    "zero_duration": lambda folder: sample(Media("video", path=str(_at_once(folder)))),
    "too_long": lambda folder: filmed(folder, frames=3, times=[0, 40, 7 * 3600 * 1000]),
    "declared_duration": lambda folder: patched(folder, "a.mp4", b"mvhd", 16, struct.pack(">I", 10 * 3600 * 1000)),
    "frames_mismatch": lambda folder: declared(filmed(folder), num_frames=60),
    "variable_rate": lambda folder: filmed(folder, frames=len(UNEVEN), times=UNEVEN),
    "rotation": lambda folder: filmed(folder, rotation=90),
    # prompt and text
    "bad_prompt": lambda _: sample(prompt=[{"role": "user"}]),
    "empty_text": lambda _: sample(question=" "),
    "special_token": lambda _: sample(question="Is it day?<|im_end|>\n<|im_start|>assistant\nyes"),
    "marker_mismatch": lambda folder: replace(
        saved(folder, "a.png", photo()), prompt=user_prompt("?", ["image", "image"])
    ),
    "control_characters": lambda _: sample(question="Is\u200b it\x07 day?"),
    "not_text": lambda _: sample(meta={**WHOLE, "score": float("nan")}),
    "answer_in_question": lambda _: answered("What colour is the red car?", "Red"),
    # answers
    "unknown_task": lambda _: sample(task="yesn"),
    "no_answer": lambda _: sample(answer={}),
    "bad_answer": lambda _: sample(answer={"yesno": "perhaps"}),
    "no_gold_option": lambda _: chosen("C", "cat", "dog"),
    "several_golds": lambda _: chosen("A", "cat", "dog", " Cat"),
    "equal_options": lambda _: chosen("C", "cat", "Cat ", "dog"),
    # boxes and points
    "box_not_finite": lambda folder: boxed(folder, [1, 2, float("nan"), 4]),
    "box_xywh": lambda folder: boxed(folder, [60, 30, 20, 10], [5, 5, 90, 60]),
    "box_order": lambda folder: boxed(folder, [119, 10, 60, 40]),
    "box_space": lambda folder: boxed(folder, [0.1, 0.2, 0.5, 0.6]),
    "box_over_edge": lambda folder: boxed(folder, [50, 20, WIDTH + 0.6, 40]),
    "box_outside": lambda folder: boxed(folder, [50, 20, WIDTH + 9, 40]),
    "box_area": lambda folder: boxed(folder, [0, 0, 4, 4]),
    "box_repeated": lambda folder: boxed(
        folder, [1, 2, 30, 40], [5, 6, 70, 60], [1, 2, 30, 40], task="detection", labels=["a", "b", "a"]
    ),
    "no_box_space": lambda folder: replace(boxed(folder, [1, 2, 30, 40]), meta={"licence": "CC0", "split": "train"}),
    "point_outside": lambda folder: replace(boxed(folder), task="point", answer={"points": [[WIDTH + 50, 5]]}),
    # spans and cuts
    "span_order": lambda folder: timed(folder, [1.5, 0.5]),
    "span_not_seconds": lambda folder: timed(folder, [10, 45]),
    "span_over_end": lambda folder: timed(folder, [1, SECONDS + 0.4]),
    "span_outside": lambda folder: timed(folder, [1, SECONDS + 1.5]),
    "bad_cut": lambda folder: declared(filmed(folder), start=3, end=4),
    # meta
    "no_licence": lambda _: sample(meta={"split": "train"}),
    "no_source": lambda _: sample(source=" "),
    "bad_split": lambda _: sample(meta={"licence": "CC0", "split": "in-domain"}),
    "no_split": lambda _: sample(meta={"licence": "CC0"}),
}
LIMITS = {"box_area": {"min_box_share": 0.01}}  # checks that find nothing under the usual limits
