"""Chat messages. The content of a message is a text, or a list of parts `{"type": "text", "text": ...}`,
`{"type": "image"}` or `{"type": "video"}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def parts_of(content: Any) -> list[dict[str, Any]]:
    """The parts of a content; a text is a single part, and a missing content has none."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content or ())


def texts_of(content: Any) -> list[str]:
    """The texts of a content, in order."""
    return [part["text"] for part in parts_of(content) if part["type"] == "text"]


def pieces_of(content: Any) -> list[str]:
    """The parts of a content as texts, in order: `<image>` and `<video>` where the media are.

    >>> pieces_of([{"type": "image"}, {"type": "text", "text": "Where is it?"}])
    ['<image>', 'Where is it?']
    """
    return [part["text"] if part["type"] == "text" else f"<{part['type']}>" for part in parts_of(content)]


def prompt_text(prompt: Sequence[Mapping[str, Any]]) -> str:
    """The texts of a prompt, one to a line; KeyError or TypeError for a prompt of another form."""
    return "\n".join(text for message in prompt for text in texts_of(message["content"]))


def user_text(prompt: str | Sequence[Mapping[str, Any]] | None) -> str:
    """The texts of the user in a prompt, one to a line; a prompt may be a plain text or missing.

    >>> user_text([{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where?"}])
    'Where?'
    """
    if isinstance(prompt, str):
        return prompt
    return prompt_text([message for message in prompt or () if message.get("role") == "user"])


def media_parts(prompt: Sequence[Mapping[str, Any]]) -> list[str]:
    """The kinds of the media parts of a prompt, in order."""
    return [part["type"] for message in prompt for part in parts_of(message["content"]) if part["type"] != "text"]
