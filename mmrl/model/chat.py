"""A prompt under a chat template: the form in which the template reads it, its media in their places, and the ids.

Templates differ. Some read a content as a text, some as parts, and some lose what they do not expect, in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np

from mmrl.core.config import InputError
from mmrl.core.messages import parts_of, texts_of

Messages = list[dict[str, Any]]
# A tag at the end of a prompt: <think>, or <think></think> where thinking is switched off.
_OPENED = re.compile(r"<(\w+)>(\s*</\1>)?\s*$")
_REPR = re.compile(r"['\"]type['\"]:")  # a list of parts that a template has printed as it is


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt in the form that its template reads, and the `variables` of the template.

    `text` is what the template writes, with placeholders for media; `opened` is what that has of the answer.
    """

    messages: Messages
    variables: Mapping[str, Any]
    text: str
    opened: str

    def features(
        self, processor: Any, images: Sequence[Any], videos: Sequence[np.ndarray], metadata: Sequence[Any]
    ) -> Any:
        """What the processor makes of the prompt with its media, as tensors of one row.

        Special tokens in the texts stay text (`sanitize_control_tokens` of transformers).
        """
        options = {"video_metadata": [list(metadata)], "do_sample_frames": False} if videos else {}
        written, shown = special_in(processor, self.messages), _with_media(self.messages, images, videos)
        try:
            with _special_tokens_alone(processor.tokenizer):
                features = processor.apply_chat_template(
                    [shown],
                    tokenize=True,
                    return_dict=True,
                    add_generation_prompt=True,
                    return_tensors="pt",
                    processor_kwargs=options,
                    **self.variables,
                    **({"sanitize_control_tokens": True} if written else {}),
                )
        except ValueError as error:
            text = f"{written!r} stands in a text of the prompt and " if written else ""
            raise InputError(f"{text}{type(processor).__name__} refuses the prompt: {_line(error)}") from error
        if written and "token_type_ids" in processor.model_input_names and "token_type_ids" not in features:
            raise InputError(f"{written!r} stands in a text of the prompt; this tokenizer cannot keep it text")
        return features


def chat_of(processor: Any, prompt: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None) -> Chat:
    """`prompt` as the chat template reads it: as it is if it can be, else with its texts as parts, or its parts as a
    text. An InputError if some text is lost in every form."""
    tried, given = [], dict(variables or {})
    for form in (_as_it_is, _texts_as_parts, _parts_as_text):
        messages = [form(dict(message)) for message in prompt]
        try:
            text = _rendered(processor, messages, answering=True, **given)
            lost = _lost(messages, text, given.get("tools"))
            if lost is None:
                asked = _rendered(processor, messages, answering=False, **given)
                return Chat(messages, given, text, _opened(text, asked))
            tried.append(f"it leaves out {lost[:80]!r}")
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            tried.append(_line(error))
    raise InputError(f"the chat template of {type(processor).__name__} cannot write the prompt: {tried[0]}")


def turn_end(processor: Any, stops: Sequence[int]) -> list[int]:
    """The tokens that the template writes behind an answer, up to the first of `stops`; the tokenizer's end token where
    it writes none."""
    tokenizer, answer, next_question = processor.tokenizer, "An answer.", "Another question"
    turns = [("user", "A question"), ("assistant", answer), ("user", next_question)]
    fallback = [tokenizer.eos_token_id]
    for form in (_texts_as_parts, _parts_as_text):
        try:
            text = processor.apply_chat_template([form({"role": r, "content": c}) for r, c in turns], tokenize=False)
        except (jinja2.TemplateError, TypeError, ValueError):
            continue
        _, found, behind = text.partition(answer)
        if not found or next_question not in behind or _REPR.search(text):
            continue
        ids = tokenizer(behind.partition(next_question)[0], add_special_tokens=False)["input_ids"]
        return next((ids[: at + 1] for at, token in enumerate(ids) if token in stops), fallback)
    return fallback


def without_opened(answer: str, opened: str) -> str:
    """`answer` without the tag that the prompt has written of it already.

    >>> without_opened("<think>I see two</think>2", "<think>\\n"), without_opened("<think>I see two</think>2", "")
    ('I see two</think>2', '<think>I see two</think>2')
    """
    tag = _OPENED.match(opened)
    if tag is None:
        return answer
    whole = rf"\s*<{tag[1]}>.*?</{tag[1]}>\s*" if tag[2] else rf"\s*<{tag[1]}>\s*"
    return re.sub(rf"\A{whole}", "", answer, flags=re.DOTALL)


def special_in(processor: Any, messages: Sequence[Mapping[str, Any]]) -> str | None:
    """The first special token that stands as text in the messages."""
    tokens = {*special_tokens(processor.tokenizer), *processor.all_special_multimodal_tokens}
    texts = [text for message in messages for text in texts_of(message["content"])]
    return next(
        (token for token in sorted(tokens, key=len, reverse=True) if any(token in text for text in texts)), None
    )


def special_tokens(tokenizer: Any) -> set[str]:
    """All tokens that a tokenizer takes for control tokens, whether or not they have a name."""
    added = {
        token.content for token in tokenizer.added_tokens_decoder.values() if token.special and token.content.strip()
    }
    return added | set(tokenizer.all_special_tokens)


def _rendered(processor: Any, messages: Messages, *, answering: bool, **variables: Any) -> str:
    return processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=answering, **variables)


def _lost(messages: Messages, written: str, tools: Any = None) -> str | None:
    """The first text of a user or of the system that `written` does not have, None if it has all. The schemas of
    `tools` look like parts."""
    texts = [text for m in messages if m["role"] != "assistant" for text in texts_of(m["content"])]
    printed = sum(len(_REPR.findall(text)) for m in messages for text in texts_of(m["content"]))
    printed += len(_REPR.findall(json.dumps(tools)))
    if len(_REPR.findall(written)) > printed:
        return next(iter(texts), "")
    return next((text for text in texts if text.strip() not in written), None)


def _opened(answering: str, asked: str) -> str:
    """The tag with which the generation prompt ends, or nothing."""
    found = _OPENED.search(answering.removeprefix(asked))
    return found[0] if found else ""


def _with_media(messages: Messages, images: Sequence[Any], videos: Sequence[np.ndarray]) -> Messages:
    """`messages` with the media in their parts."""
    left = {"image": iter(images), "video": iter(videos)}

    def filled(part: dict[str, Any]) -> dict[str, Any]:
        kind = part["type"]
        return {"type": kind, kind: next(left[kind])} if kind in left else part

    try:
        shown: Messages = [
            m if isinstance(m["content"], str) else {**m, "content": [filled(part) for part in m["content"]]}
            for m in messages
        ]
    except StopIteration:
        raise InputError("the prompt shows more media than the sample has") from None
    if any(True for rest in left.values() for _ in rest):
        raise InputError("the prompt does not show all media of the sample")
    return shown


def _as_it_is(message: dict[str, Any]) -> dict[str, Any]:
    return message


def _texts_as_parts(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "content": parts_of(message["content"])}


def _parts_as_text(message: dict[str, Any]) -> dict[str, Any]:
    parts = parts_of(message["content"])
    if any(part["type"] != "text" for part in parts):
        return {**message, "content": parts}
    return {**message, "content": "".join(part["text"] for part in parts)}


@contextmanager
def _special_tokens_alone(tokenizer: Any) -> Iterator[None]:
    """A context in which only special tokens count as control tokens: `<think>` in a question stays one token."""
    before = tokenizer.chat_control_tokens
    tokenizer.chat_control_tokens = ()
    try:
        yield
    finally:
        tokenizer.chat_control_tokens = before


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
