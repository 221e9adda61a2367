"""Checks of the form of a sample: a prompt with a question and its media, and the answer that its task needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from data_engine.schema import Sample
from data_engine.validate.fault import Fault, Limits
from mmrl.core.canonical_json import dumps
from mmrl.core.config import nearest
from mmrl.core.messages import media_parts, prompt_text
from rewards.tasks.keys import KEYS, is_list
from rewards.tasks.table import TASKS

MARKERS = re.compile(r"<\s*(?:image|video)[ _-]?(\d*)\s*>|<\s*image-placeholder\s*>", re.IGNORECASE)  # also <image 1>
# They show something in pages and in prompts of other people; where a sample has media, they may be a text.
TAGS = re.compile(
    r"<img\s[^<>]{1,300}>|!\[[^\]\n]{0,200}\]\([^)\n]{1,300}\)|\[\s?(?:image|picture|video)[ _-]?\d*\s?\]"
    r"|<\s?(?:imagehere|picture|audio|sound|speech)[ _-]?\d*\s?/?>",
    re.IGNORECASE,
)


def bad_prompt(sample: Sample, _: Limits) -> Fault | None:
    """A prompt that is not a list of messages of parts."""
    right = "a list of messages with a role and a content of parts of type text (with a text), image or video"
    return None if _is_prompt(sample.prompt) else Fault(f"the prompt must be {right}, got {sample.prompt!r:.200}")


def marker_mismatch(sample: Sample, _: Limits) -> Fault | None:
    """Parts of the prompt that differ from the media, or markers left in its text."""
    kinds, media = media_parts(sample.prompt), [media.kind for media in sample.media]
    if kinds != media:
        return Fault(f"the prompt has media parts {kinds} but the sample has media {media}")
    text = prompt_text(sample.prompt)
    left = [marker[0] for marker in MARKERS.finditer(text) if _shows_nothing(marker, len(media))]
    left += [] if media else [tag[0][:80] for tag in TAGS.finditer(text)]
    return Fault(f"the text holds {left}, which show nothing there; make each a part of the message") if left else None


def _shows_nothing(marker: re.Match[str], media: int) -> bool:
    """Whether a marker in a text speaks of no medium; "<image 2>" names one of those that are shown."""
    return not marker[1] or int(marker[1]) > media


def empty_text(sample: Sample, _: Limits) -> Fault | None:
    """A prompt without a text."""
    return None if prompt_text(sample.prompt).strip() else Fault("the prompt has no text; give it one")


def unknown_task(sample: Sample, _: Limits) -> Fault | None:
    """A task that is not in the table of tasks."""
    known = sample.task in TASKS
    return None if known else Fault(f"unknown task {sample.task!r}; {nearest(str(sample.task), TASKS)}")


def no_answer(sample: Sample, _: Limits) -> Fault | None:
    """An answer that lacks a key of its task."""
    names, answer = [key.name for key in TASKS[sample.task].keys], sample.answer
    if isinstance(answer, Mapping) and all(answer.get(name) is not None for name in names):
        return None
    return Fault(f"task {sample.task} needs the answer keys {', '.join(names)}, got {answer!r:.200}")


def bad_answer(sample: Sample, _: Limits) -> Fault | None:
    """A value that its key does not allow, or an answer that lacks something else."""
    kind, answer = TASKS[sample.task], sample.answer
    for key in (*kind.keys, *(key for key in KEYS.values() if key not in kind.keys)):
        if key.name in answer and not key.is_right(answer[key.name], answer):
            got = f"{answer[key.name]!r:.200}"
            return Fault(f"{key.name} of task {sample.task} must be {key.right}, got {got}")
    lacking = kind.needs(answer)
    return Fault(f"task {sample.task} needs {lacking}") if lacking else None


def not_text(sample: Sample, _: Limits) -> Fault | None:
    """Values that cannot be stored as JSON in UTF-8."""
    try:
        dumps([sample.id, sample.source, sample.task, sample.prompt, sample.answer, dict(sample.meta)]).encode()
    except (TypeError, ValueError) as error:  # of Unicode, too
        return Fault(f"prompt, answer and meta must be JSON and UTF-8: {error}")
    return None


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
