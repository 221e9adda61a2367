"""The table of checks: for each code what is wrong, what finds it, and what is done about it.

A mode is `keep` (let it pass), `drop`, `quarantine`, `fix` (where that needs no guess) or `fail` (stop the run).
`meta.fixed` of a sample lists its fixed faults. To add a check, write a function `(sample, limits) -> Fault | None` in
one of the modules of checks, its row here, and a broken sample in `tests/support/faulty.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from data_engine.operator import Dropped, Quarantined
from data_engine.schema import Sample
from data_engine.validate import media_checks as media
from data_engine.validate import place_checks as places
from data_engine.validate import text_checks as texts
from data_engine.validate import wellformed as form
from data_engine.validate.fault import Fault, Limits
from mmrl.core.config import InputError, nearest

Mode = Literal["keep", "drop", "quarantine", "fix", "fail"]

PLAIN = "the picture is stored as an upright PNG of 8-bit RGB"


@dataclass(frozen=True, slots=True)
class Check:
    """A fault to look for. `mode` says how it is handled unless the recipe overrides it."""

    mode: Mode
    about: str
    fix: str = ""  # how it is fixed; empty: it cannot be
    needed: bool = False  # later steps rely on it: it cannot be kept
    find: Callable[[Sample, Limits], Fault | None] | None = None  # None: the file's decoding finds it


CHECKS: dict[str, Check] = {  # in the order in which they are made: each may rely on those above that are `needed`
    # files
    "missing": Check("quarantine", "the file does not exist", needed=True),
    "remote": Check(
        "quarantine", "the file is on another machine, and fetching is not allowed or was refused", needed=True
    ),
    "outside_root": Check("quarantine", "the path, or a link on it, leads out of the folder of the media", needed=True),
    "unread_media": Check("quarantine", "a column that is not read holds a picture or video", needed=True),
    "empty": Check("quarantine", "the file has no bytes", needed=True),
    "unreadable": Check("quarantine", "the file does not decode", needed=True),
    "bomb": Check(
        "quarantine", "the picture or frame is too large, or would take too long, to be decoded", needed=True
    ),
    "wrong_extension": Check("keep", "the name has the suffix of another format than the content; the content counts"),
    # images
    "truncated": Check("quarantine", "the picture is cut off, or a part of it is missing", needed=True),
    "animated": Check("keep", "there are several pictures in the file; the first counts", fix=PLAIN),
    "image_mode": Check(
        "keep", "the pixels are float, of 16 or 32 bits, CMYK, a palette or black and white", fix=PLAIN
    ),
    "alpha": Check("keep", "the picture is transparent in places; they are shown white", fix=PLAIN),
    "orientation": Check("keep", "the picture is stored turned or mirrored; it is shown upright", fix=PLAIN),
    "pixel_aspect": Check(
        "quarantine", "the file says that its pixels are not square, and programs show them as if they were"
    ),
    "size_mismatch": Check(
        "quarantine", "the source declares another size", fix="the measured size counts, places are scaled to it"
    ),
    "extreme_aspect": Check("quarantine", "one side is more than 200 times the other", find=media.extreme_aspect),
    "tiny_side": Check(
        "quarantine", "a side is shorter than 28 pixels, the side of a vision token", find=media.tiny_side
    ),
    # videos
    "no_stream": Check("quarantine", "the file has no video stream", needed=True),
    "no_index": Check("quarantine", "the MP4 file lacks its index (moov)", needed=True),
    "unknown_codec": Check("quarantine", "the codec is one that FFmpeg does not know", needed=True),
    "no_frames": Check("quarantine", "no frame is there, or none decodes", needed=True),
    "cut": Check("quarantine", "the file ends early, or frames in it are damaged", needed=True),
    "zero_duration": Check("quarantine", "all frames have the same time", needed=True),
    "too_long": Check("quarantine", "it lasts more than six hours or has more than a million frames", needed=True),
    "declared_duration": Check("quarantine", "the header or the source declares another duration than the frames last"),
    "frames_mismatch": Check("quarantine", "the source declares another number of frames than decode"),
    "variable_rate": Check("keep", "frames come at uneven times; frames are chosen by time"),
    "rotation": Check("keep", "the video is stored turned; it is shown upright"),
    # prompt and task
    "bad_prompt": Check(
        "quarantine", "the prompt is not a list of messages of parts", needed=True, find=form.bad_prompt
    ),
    "marker_mismatch": Check(
        "quarantine", "the prompt shows other media than the sample has", needed=True, find=form.marker_mismatch
    ),
    "empty_text": Check("quarantine", "the prompt has no text", find=form.empty_text),
    "special_token": Check(
        "quarantine",
        "a text holds a control token of a model family, which its tokenizer would not read as text",
        find=texts.special_token,
    ),
    "unknown_task": Check("quarantine", "the task is not in the table of tasks", needed=True, find=form.unknown_task),
    "no_answer": Check("quarantine", "a key of the answer is missing", needed=True, find=form.no_answer),
    # boxes
    "no_object": Check(
        "drop", "the picture of an annotation file shows none of the categories that are asked for", needed=True
    ),
    "box_not_finite": Check(
        "quarantine", "a box holds NaN or an infinite number", needed=True, find=places.box_not_finite
    ),
    "box_xywh": Check(
        "quarantine",
        "boxes read as x, y, width, height",
        fix="they are turned into corners",
        needed=True,
        find=places.box_xywh,
    ),
    "box_order": Check(
        "quarantine",
        "a box ends before it begins, or where it begins",
        fix="its corners are exchanged",
        needed=True,
        find=places.box_order,
    ),
    "box_space": Check(
        "quarantine", "all coordinates are between 0 and 1, and pixels were declared", find=places.box_space
    ),
    "box_outside": Check(
        "quarantine",
        "a box lies outside of the picture",
        fix="it is clipped, if half of it is inside",
        find=places.box_outside,
    ),
    "box_over_edge": Check(
        "fix", "a box reaches over the edge, by at most `over_edge`", fix="it is clipped", find=places.box_over_edge
    ),
    "box_area": Check(
        "quarantine", "a box covers a smaller or larger share of the picture than allowed", find=places.box_area
    ),
    "box_repeated": Check("fix", "a box occurs twice", fix="it is kept once", find=places.box_repeated),
    "no_box_space": Check(
        "keep",
        "the source does not declare the space of its boxes; they are taken for pixels",
        find=places.no_box_space,
    ),
    # spans
    "span_order": Check(
        "quarantine", "a span ends before it begins", fix="its ends are exchanged", needed=True, find=places.span_order
    ),
    "span_not_seconds": Check(
        "quarantine", "spans read as frame numbers or milliseconds", find=places.span_not_seconds
    ),
    "span_over_end": Check(
        "fix",
        "a span ends after the video, by at most `over_end`",
        fix="it ends with the video",
        find=places.span_over_end,
    ),
    # texts and options
    "control_characters": Check(
        "fix", "a text holds invisible characters", fix="they are removed", find=texts.control_characters
    ),
    "several_golds": Check("quarantine", "the choice has more than one right option", find=texts.several_golds),
    "no_gold_option": Check(
        "quarantine", "the gold letter belongs to no option", needed=True, find=texts.no_gold_option
    ),
    "equal_options": Check("quarantine", "two options read the same", find=texts.equal_options),
    "answer_in_question": Check("drop", "the question contains the answer", find=texts.answer_in_question),
    # the answer as it is after all fixes
    "bad_answer": Check(
        "quarantine", "a value of the answer does not have the form of its key", needed=True, find=form.bad_answer
    ),
    "point_outside": Check("quarantine", "a point lies outside of the picture", find=places.point_outside),
    "span_outside": Check("quarantine", "a span ends after the video", find=places.span_outside),
    "bad_cut": Check("quarantine", "start and end cut nothing out of the video", needed=True, find=places.bad_cut),
    # meta
    "no_licence": Check("keep", "meta names no licence", find=texts.no_licence),
    "no_source": Check("quarantine", "the sample names no source", find=texts.no_source),
    "bad_split": Check(
        "fix",
        "the name of the split has other characters than letters, digits and _",
        fix="the others become _; null is left out",
        needed=True,
        find=texts.bad_split,
    ),
    "no_split": Check("keep", "meta names no split", find=texts.no_split),
    "not_text": Check(
        "quarantine", "prompt, answer or meta cannot be stored as JSON in UTF-8", needed=True, find=form.not_text
    ),
}


def _known(modes: dict[str, Mode]) -> dict[str, Mode]:
    for code, mode in modes.items():
        if code not in CHECKS:
            raise ValueError(f"no check {code}; {nearest(code, CHECKS)}")
        if mode == "keep" and CHECKS[code].needed:
            raise ValueError(f"{code} cannot be kept ({CHECKS[code].about}); give drop, quarantine or fail")
        if mode == "fix" and not CHECKS[code].fix:
            raise ValueError(f"{code} cannot be fixed ({CHECKS[code].about}); give keep, drop, quarantine or fail")
    return modes


Modes = Annotated[dict[str, Mode], AfterValidator(_known)]  # of codes whose mode differs from that of CHECKS


def settled(broken: Quarantined, modes: Mapping[str, Mode]) -> Quarantined | Dropped:
    """The outcome, by its mode, of a row that its source could not read: there is nothing to keep or to fix."""
    usual = CHECKS[broken.reason].mode if broken.reason in CHECKS else "quarantine"
    mode = modes.get(broken.reason, usual)
    if mode == "fail":
        raise InputError(f"{broken.reason}, and its mode is fail: {broken.why}")
    unread = Sample("", broken.source, "", [], {}, meta={"where": broken.where})
    return Dropped(unread, broken.reason) if mode == "drop" else broken
