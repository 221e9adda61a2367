"""What can be wrong with a sample, each fault under a stable code, and what is done about it.

A mode is `keep` (let it pass), `drop`, `quarantine`, `fix` (where a fault can be mended without guessing) or `fail`
(stop the run). A sample that was mended says so in `meta.fixed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from data_engine.operator import Dropped, Quarantined
from data_engine.schema import Sample
from mmrl.core.config import Config, InputError, nearest

Mode = Literal["keep", "drop", "quarantine", "fix", "fail"]


class Check(NamedTuple):
    """A fault that is looked for: what is done about it unless told otherwise, what it is, and how it is mended."""

    mode: Mode
    about: str
    fix: str = ""  # empty: it cannot be


class Found(NamedTuple):
    """A fault that was found: what is wrong, and the mended sample, if there is a way."""

    message: str
    fixed: Sample | None = None


PLAIN = "the picture is stored as an upright PNG of 8-bit RGB"

CHECKS: dict[str, Check] = {
    # files
    "missing": Check("quarantine", "there is no such file"),
    "remote": Check("quarantine", "the file is on another machine, and fetching is not allowed or was refused"),
    "outside_root": Check("quarantine", "the path, or a link on it, leads out of the folder of the media"),
    "empty": Check("quarantine", "the file has no bytes"),
    "unreadable": Check("quarantine", "the file does not decode"),
    "bomb": Check("quarantine", "the picture or frame is too large, or would take too long, to be decoded"),
    "wrong_extension": Check("keep", "the name says another format than the content; the content counts"),
    # images
    "truncated": Check("quarantine", "the picture is cut off, or a part of it is missing"),
    "animated": Check("keep", "there are several pictures in the file; the first counts", PLAIN),
    "image_mode": Check("keep", "the pixels are of 16 bits, CMYK, a palette or black and white", PLAIN),
    "alpha": Check("keep", "the picture is transparent in places; they are shown white", PLAIN),
    "orientation": Check("keep", "the picture is stored turned or mirrored; it is shown upright", PLAIN),
    "size_mismatch": Check(
        "quarantine", "the source declares another size", "the measured size counts, places are scaled to it"
    ),
    "extreme_aspect": Check("quarantine", "one side is more than 200 times the other"),
    "tiny_side": Check("quarantine", "a side is shorter than 28 pixels, the side of a vision token"),
    # videos
    "no_stream": Check("quarantine", "the file has no video stream"),
    "no_index": Check("quarantine", "the MP4 file lacks its index (moov)"),
    "unknown_codec": Check("quarantine", "the codec is one that FFmpeg does not know"),
    "no_frames": Check("quarantine", "no frame is there, or none decodes"),
    "cut": Check("quarantine", "the file ends early, or frames in it are damaged"),
    "zero_duration": Check("quarantine", "all frames are shown at one time"),
    "too_long": Check("quarantine", "it lasts more than six hours or has more than a million frames"),
    "declared_duration": Check("quarantine", "the header or the source declares another duration than the frames last"),
    "frames_mismatch": Check("quarantine", "the source declares another number of frames than decode"),
    "variable_rate": Check("keep", "frames come at uneven times; frames are chosen by time"),
    "rotation": Check("keep", "the video is stored turned; it is shown upright"),
    # prompt and text
    "bad_prompt": Check("quarantine", "the prompt is no list of messages of parts"),
    "empty_text": Check("quarantine", "the prompt asks nothing"),
    "marker_mismatch": Check("quarantine", "the prompt shows other media than the sample has"),
    "control_characters": Check("fix", "a text holds characters that nobody sees", "they are taken out"),
    "not_text": Check("quarantine", "prompt, answer or meta are no JSON or no UTF-8"),
    "answer_in_question": Check("drop", "the question says the answer"),
    # answers
    "unknown_task": Check("quarantine", "there is no such task"),
    "no_answer": Check("quarantine", "a key of the answer is missing"),
    "bad_answer": Check("quarantine", "a value of the answer is of another form"),
    "no_gold_option": Check("quarantine", "the gold letter belongs to no option"),
    "several_golds": Check("quarantine", "the choice has more than one right option"),
    "equal_options": Check("quarantine", "two options read the same"),
    # boxes and points
    "box_not_finite": Check("quarantine", "a box holds NaN or an infinite number"),
    "box_xywh": Check("quarantine", "boxes read as x, y, width, height", "they are turned into corners"),
    "box_order": Check("quarantine", "a box ends before it begins, or where it begins", "its corners are exchanged"),
    "box_space": Check("quarantine", "all coordinates are between 0 and 1, and pixels were declared"),
    "box_over_edge": Check("fix", "a box reaches over the edge by no more than a pixel", "it is clipped"),
    "box_outside": Check("quarantine", "a box lies outside of the picture", "it is clipped, if half of it is inside"),
    "box_area": Check("quarantine", "a box covers a smaller or larger share of the picture than allowed"),
    "box_repeated": Check("fix", "a box is there twice", "it is kept once"),
    "no_box_space": Check("keep", "the source does not declare the space of its boxes; they are taken for pixels"),
    "point_outside": Check("quarantine", "a point lies outside of the picture"),
    # spans and cuts
    "span_order": Check("quarantine", "a span ends before it begins", "its ends are exchanged"),
    "span_not_seconds": Check("quarantine", "spans read as frame numbers or milliseconds"),
    "span_over_end": Check("fix", "a span ends within half a second behind the end", "it ends with the video"),
    "span_outside": Check("quarantine", "a span ends behind the end of the video"),
    "bad_cut": Check("quarantine", "start and end cut nothing out of the video"),
    # meta
    "no_licence": Check("keep", "meta names no licence"),
    "no_source": Check("quarantine", "the sample names no source"),
    "bad_split": Check(
        "fix", "the split has another name than of letters, digits and _", "other marks become _; null is left out"
    ),
    "no_split": Check("keep", "meta names no split"),
}


NEEDED = {  # what later steps cannot do without: faults that cannot be kept
    *("missing", "remote", "outside_root", "empty", "unreadable", "bomb", "truncated", "no_stream", "no_index"),
    *("unknown_codec", "no_frames", "cut", "zero_duration", "too_long", "bad_prompt", "marker_mismatch", "not_text"),
    *("unknown_task", "no_answer", "bad_answer", "no_gold_option", "box_not_finite", "box_order", "box_xywh"),
    *("span_order", "bad_cut", "bad_split"),
}


def _known(modes: dict[str, Mode]) -> dict[str, Mode]:
    for code, mode in modes.items():
        if code not in CHECKS:
            raise ValueError(f"no check {code}; {nearest(code, CHECKS)}")
        if mode == "keep" and code in NEEDED:
            raise ValueError(f"{code} cannot be kept ({CHECKS[code].about}); give drop, quarantine or fail")
        if mode == "fix" and not CHECKS[code].fix:
            raise ValueError(f"{code} cannot be fixed ({CHECKS[code].about}); give keep, drop, quarantine or fail")
    return modes


Modes = Annotated[dict[str, Mode], AfterValidator(_known)]  # of codes that are not to go the way CHECKS says


def settled(broken: Quarantined, modes: Mapping[str, Mode]) -> Quarantined | Dropped:
    """What the modes make of a row that its source could not read: of it there is nothing to keep or to fix."""
    mode = modes.get(broken.reason, "quarantine")
    if mode == "fail":
        raise InputError(f"{broken.reason}, and its mode is fail: {broken.why}")
    unread = Sample("", broken.source, "", [], {}, meta={"where": broken.where})
    return Dropped(unread, broken.reason) if mode == "drop" else broken


class Limits(Config):
    """Where the checks begin to find fault."""

    seconds: PositiveFloat = 60.0  # of the processor to decode a file, and ten more for each megabyte of it
    min_side: PositiveInt = 28
    max_aspect: PositiveFloat = 200.0
    over_edge: NonNegativeFloat = 1.0  # pixels by which a box may reach over the edge: annotations are rounded
    min_box_share: NonNegativeFloat = 0.0  # of the picture's area
    max_box_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    over_end: NonNegativeFloat = 0.5  # seconds by which a span may end behind the video
