"""Sample: one task instance with its images or videos. `data_engine.validate` checks it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError
from mmrl.core.media.item import MEDIA_FIELDS, Media, MediaKind

SPLIT_NAME = re.compile(r"\w+(\.\w+)*", re.ASCII)  # what `datasets` takes for the name of a split


@dataclass(frozen=True, slots=True)
class Sample:
    """One task instance.

    `prompt` is a list of chat messages whose content is a list of parts `{"type": "text", "text": ...}`, `{"type":
    "image"}` or `{"type": "video"}`; the n-th media part is `media[n]`. Boxes in `answer` are xyxy pixels of the
    original image after EXIF rotation. Spans are seconds from the start of the video as it is shown: for a video with a
    `start`, from there.
    """

    id: str
    source: str
    task: str
    prompt: list[dict[str, Any]]
    answer: dict[str, Any]
    media: tuple[Media, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)


def user_prompt(text: str, media: Sequence[MediaKind] = ()) -> list[dict[str, Any]]:
    """One user message: all media first, then the text; or media where the text has markers `<image>` and `<video>`.

    >>> user_prompt("Is <image> like <image>?", ["image", "image"])[0]["content"][1]
    {'type': 'image'}
    """
    pieces = _split_markers(text)
    marked = [kind for kind, _ in pieces if kind != "text"]
    if marked:
        if marked != list(media):
            raise InputError(f"the text marks {marked} but the sample has media {list(media)}")
        content = [{"type": kind, "text": piece} if kind == "text" else {"type": kind} for kind, piece in pieces]
    else:
        content = [*({"type": kind} for kind in media), {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def content_id(sample: Sample) -> str:
    """A hash of what the sample asks and shows (source, task, prompt, answer, media): 16 hex digits.

    Media count by the hash of their bytes where it is known, else by path.
    """
    media = [[m.kind, m.sha256 or m.path, m.start, m.end] for m in sample.media]
    asked = [sample.source, sample.task, sample.prompt, sample.answer, media]
    return hashlib.sha256(dumps(asked).encode()).hexdigest()[:16]


def with_id(sample: Sample) -> Sample:
    """`sample` with its content hash as id."""
    return replace(sample, id=content_id(sample))


def to_row(sample: Sample) -> dict[str, Any]:
    """The parquet row of a sample; prompt, answer and meta are JSON text, because Arrow would fill absent keys with
    None."""
    plain = {"id": sample.id, "source": sample.source, "task": sample.task}
    texts = {"prompt": dumps(sample.prompt), "answer": dumps(sample.answer), "meta": dumps(dict(sample.meta))}
    return {**plain, **texts, "media": [{name: getattr(item, name) for name in MEDIA_FIELDS} for item in sample.media]}


def from_row(row: Mapping[str, Any]) -> Sample:
    """The sample of a parquet row; the inverse of `to_row`."""
    texts = {name: json.loads(row[name]) for name in ("prompt", "answer", "meta")}
    media = tuple(Media(**item) for item in row["media"] or ())
    return Sample(id=row["id"], source=row["source"], task=row["task"], media=media, **texts)


def _split_markers(text: str) -> list[tuple[str, str]]:
    """The (kind, text) pieces of a text with `<image>` and `<video>` markers, without blank texts."""
    pieces = []
    for piece in re.split(r"(<image>|<video>)", text):
        if piece in ("<image>", "<video>"):
            pieces.append((piece[1:-1], ""))
        elif piece.strip():
            pieces.append(("text", piece))
    return pieces
