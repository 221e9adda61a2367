"""What makes a sample valid: one function per key of an answer, the first broken rule is told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data_engine.schema import Sample
from mmrl.core.canonical_json import dumps
from mmrl.core.config import nearest
from mmrl.core.media.item import Media, shown_seconds
from mmrl.core.messages import media_parts, prompt_text
from rewards.tasks.keys import KEYS, is_list
from rewards.tasks.table import TASKS

PIXELS_OVER = 1.0  # how far a box or point may reach over the edge: annotations are rounded
SECONDS_OVER = 0.5  # the same for time spans
MARKERS = ("<image>", "<video>")


class Fault(NamedTuple):
    """What is wrong with a sample: the code that is counted, and a text that says what would be right."""

    reason: str
    message: str


def validate_sample(sample: Sample) -> Fault | None:
    """The first rule that the sample breaks, or None.

    Codes: `unknown_task`, `bad_prompt`, `marker_mismatch` (media parts differ from media), `empty_text`, `no_answer` (a
    key is missing), `bad_answer` (a value of another form), `box_outside`, `point_outside`, `span_outside`, `bad_cut`,
    `not_text` (no JSON or no UTF-8). Places are compared with the size and duration of media where those are known.
    """
    return next(faults(sample), None)


def faults(sample: Sample, *, only_prompt: bool = False) -> Iterator[Fault]:
    """The rules that the sample breaks, one of each kind, those of the prompt first.

    Behind a prompt or an answer of another form nothing else is looked at.
    """
    rest = () if only_prompt else (_check_cuts, _check_answer, _check_places, _check_text)
    for check in (_check_prompt, *rest):
        try:
            check(sample)
        except _RuleError as broken:
            name = sample.id or sample.meta.get("where") or "without an id"
            yield Fault(broken.reason, f"{sample.source} sample {name}: {broken}")
            if check in (_check_prompt, _check_answer):
                return


class _RuleError(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _need(held: bool, reason: str, message: str) -> None:
    if not held:
        raise _RuleError(reason, message)


def _check_prompt(sample: Sample) -> None:
    right = "a list of messages with a role and a content of parts of type text (with a text), image or video"
    _need(_is_prompt(sample.prompt), "bad_prompt", f"the prompt must be {right}, got {sample.prompt!r:.200}")
    kinds, media = media_parts(sample.prompt), [media.kind for media in sample.media]
    _need(kinds == media, "marker_mismatch", f"the prompt has media parts {kinds} but the sample has media {media}")
    text = prompt_text(sample.prompt)
    _need(bool(text.strip()), "empty_text", "the prompt asks nothing; give it a text")
    left = [marker for marker in MARKERS if marker in text]
    _need(not left, "marker_mismatch", f"the text holds {left}, which show nothing; make each a part of the message")


def _is_prompt(prompt: Any) -> bool:
    return is_list(prompt) and all(
        isinstance(message, Mapping) and isinstance(message.get("role"), str) and _is_content(message.get("content"))
        for message in prompt
    )


def _is_content(content: Any) -> bool:
    return isinstance(content, str) or (is_list(content) and all(map(_is_part, content)))


def _is_part(part: Any) -> bool:
    if not isinstance(part, Mapping):
        return False
    return part.get("type") in ("image", "video") or (part.get("type") == "text" and isinstance(part.get("text"), str))


def _check_cuts(sample: Sample) -> None:
    for media in sample.media:
        _check_cut(media)


def _check_cut(media: Media) -> None:
    start, end = media.start or 0.0, math.inf if media.end is None else media.end
    most = math.inf if media.duration is None else media.duration
    right = 0 <= start < end and start < most  # False for NaN, too
    _need(right, "bad_cut", f"start {media.start} and end {media.end} cut nothing out of {media.duration} seconds")


def _check_answer(sample: Sample) -> None:
    task, answer = sample.task, sample.answer
    if task not in TASKS:  # not by _need: the nearest name takes longer to find than all rules to check
        raise _RuleError("unknown_task", f"unknown task {task!r}; {nearest(task, TASKS)}")
    kind = TASKS[task]
    missing = [key.name for key in kind.keys if not isinstance(answer, Mapping) or answer.get(key.name) is None]
    names = ", ".join(key.name for key in kind.keys)
    _need(not missing, "no_answer", f"task {task} needs the answer keys {names}, got {answer!r:.200}")
    for key in (*kind.keys, *(key for key in KEYS.values() if key not in kind.keys)):
        if key.name in answer:
            value = answer[key.name]
            message = f"{key.name} of task {task} must be {key.right}, got {value!r:.200}"
            _need(key.is_right(value, answer), "bad_answer", message)
    lacking = kind.needs(answer)
    _need(not lacking, "bad_answer", f"task {task} needs {lacking}")


def _check_places(sample: Sample) -> None:
    answer, media = sample.answer, sample.media
    sizes = [f"{item.width}x{item.height}" for item in media]
    for key, reason in (("boxes", "box_outside"), ("points", "point_outside")):
        for place in answer.get(key, ()):
            inside = any(_reaches(item, place) for item in media)
            _need(inside, reason, f"{place} of {key} lies outside of media of {sizes} pixels; give xyxy pixels")
    shown = [shown_seconds(item) for item in media if item.kind == "video"]
    for span in answer.get("spans", ()):
        inside = any(seconds is None or span[1] <= seconds + SECONDS_OVER for seconds in shown)
        _need(inside, "span_outside", f"{span} of spans ends after videos of {shown} seconds")


def _reaches(media: Media, place: Sequence[float]) -> bool:
    """Whether the xyxy box, or the point, lies in the picture."""
    width, height = media.width or math.inf, media.height or math.inf
    rights, lows = max(place[0::2]), max(place[1::2])
    return min(place) >= -PIXELS_OVER and rights <= width + PIXELS_OVER and lows <= height + PIXELS_OVER


def _check_text(sample: Sample) -> None:
    try:
        dumps([sample.id, sample.source, sample.task, sample.prompt, sample.answer, dict(sample.meta)]).encode()
    except (TypeError, ValueError) as error:  # of Unicode, too
        raise _RuleError("not_text", f"prompt, answer and meta must be JSON and UTF-8: {error}") from None
