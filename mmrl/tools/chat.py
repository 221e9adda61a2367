"""A conversation with tools as token ids: what the policy said stays as it was drawn, results are written behind it.

Nothing is tokenized anew: a turn of the policy is the ids that it has drawn. What the chat template writes from the end
of that turn to the beginning of the next is found by rendering a made-up conversation with the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from trl.chat_template_utils import parse_response, supports_tool_calling

from mmrl.core.config import InputError
from mmrl.core.families import family_of
from mmrl.core.media.item import Media
from mmrl.core.media.video import Video
from mmrl.model.chat import chat_of
from mmrl.model.encoding import Encoded, check_kinds, encoded
from mmrl.model.inputs import bare, collate
from mmrl.tools.calls import Call, Outcome, calls_in, calls_of_message
from mmrl.tools.scene import Piece
from rewards.prompt_form import PromptForm

Message = dict[str, Any]


class ToolChat:
    """Reads calls and writes results as the model and its chat template do. `stops` are the tokens that end a turn."""

    def __init__(self, model: Any, processor: Any, stops: Sequence[int], form: PromptForm) -> None:
        self.model, self.processor, self.stops = model, processor, frozenset(stops)
        self.native = supports_tool_calling(processor)
        variables = dict(form.chat_template_kwargs)
        self.schemas = variables.pop("tools", None)
        self.variables = variables
        self.parses = any(getattr(processor.tokenizer, f"response_{kind}", None) for kind in ("template", "schema"))
        self._check()

    def ended(self, ids: Sequence[int]) -> bool:
        """Whether a turn has ended, and was not cut off."""
        return bool(ids) and ids[-1] in self.stops

    def said(self, ids: Sequence[int]) -> str:
        """The text of a turn."""
        return self.processor.tokenizer.decode(list(ids), skip_special_tokens=True)

    def calls(self, ids: Sequence[int], prompt: Sequence[int]) -> list[Call]:
        """The calls of a turn: as the tokenizer's own schema reads them, else by their `<tool_call>` blocks."""
        if self.parses:
            message = parse_response(self.processor.tokenizer, list(ids), prefix=list(prompt), tools=self.schemas)
            if found := calls_of_message(message):
                return found
        return calls_in(self.said(ids))

    def results(self, outcomes: Sequence[Outcome]) -> Encoded:
        """What stands between a turn that made calls and the next: their outcomes, and the beginning of the turn.

        InputError for a picture or video that the processor does not take.
        """
        pieces = [piece for outcome in outcomes for piece in outcome.told() if not isinstance(piece, str)]
        media = [_media(piece) for piece in pieces]
        check_kinds(self.processor, {item.kind for item in media})
        messages = self._made_up(outcomes)
        chat = chat_of(self.processor, messages, self.variables)
        images = [piece for piece in pieces if isinstance(piece, Image.Image)]
        videos = [piece for piece in pieces if isinstance(piece, Video)]
        whole = encoded(self.processor, chat, images, videos, media)
        start = self._behind_the_turn(messages[:2], whole.input_ids)
        along = {key: whole.tensors[key][:, start:] for key in whole.along}
        return replace(whole, input_ids=whole.input_ids[start:], tensors={**whole.tensors, **along})

    def grown(self, row: Encoded, said: Sequence[int], results: Encoded) -> Encoded:
        """`row` with a turn of the policy and the `results` behind it, all of it the prompt of the next turn."""
        tensors, along = collate([row, results], self.model), row.along | results.along
        for key in along:
            tensors[key] = self._along(key, row, len(said), results)
        ids, kinds = [*row.input_ids, *said, *results.input_ids], row.kinds + results.kinds
        return Encoded(ids, tensors, row.seen_size + results.seen_size, along, kinds, results.opened, row.lost)

    def _along(self, key: str, row: Encoded, said: int, results: Encoded) -> Tensor:
        """[1, T, ...] values of every token of the whole; what the policy says is text, like the last token before."""
        after = family_of(bare(self.model).config).type_of_answers
        before = _values(row, key, like=results)
        own = before[:, -1:].expand(1, said, *before.shape[2:]) if after is None else before.new_full((1, said), after)
        return torch.cat([before, own, _values(results, key, like=row)], dim=1)

    def _made_up(self, outcomes: Sequence[Outcome]) -> list[Message]:
        """A question, a turn with calls, and their results, as the chat template takes them."""
        question, said = {"role": "user", "content": "?"}, {"role": "assistant", "content": "."}
        if self.native:
            names = [name if (name := outcome.call.name).isidentifier() else "unknown" for outcome in outcomes]
            calls = [{"type": "function", "function": {"name": name, "arguments": {}}} for name in names]
            answers = zip(names, outcomes, strict=True)
            told = [{"role": "tool", "name": name, "content": _parts(outcome.told())} for name, outcome in answers]
            return [question, {**said, "tool_calls": calls}, *told]
        parts: list[dict[str, Any]] = []
        for outcome in outcomes:
            opening = _text("\n<tool_response>\n" if parts else "<tool_response>\n")
            parts += [opening, *_parts(outcome.told()), _text("\n</tool_response>")]
        return [question, said, {"role": "user", "content": parts}]

    def _behind_the_turn(self, beginning: list[Message], whole: Sequence[int]) -> int:
        """The place in the ids `whole` behind the end of the assistant's turn, which the policy itself has drawn."""
        chat = chat_of(self.processor, beginning, self.variables)
        text = self.processor.apply_chat_template(chat.messages, tokenize=False, **self.variables)
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = sum(token in self.stops for token in ids)
        places = [place for place, token in enumerate(whole) if token in self.stops]
        if not ends:
            raise InputError("tools: the chat template of this model writes no token at the end of a turn")
        return places[ends - 1] + 1

    def _check(self) -> None:
        """Refuse a model to which pictures cannot be shown whenever a tool returns one."""
        config = bare(self.model).config
        family = family_of(config)
        if family.row_per_prompt or family.one_kind_in or family.equal_counts or family.one_video_length:
            raise InputError(
                f"tools: {config.model_type} does not take more pictures behind a prompt; known to work: "
                "qwen2_vl, qwen2_5_vl, qwen3_vl"
            )
        self.results([Outcome(Call("crop"), "ok", ("a text",))])


def _values(row: Encoded, key: str, *, like: Encoded) -> Tensor:
    """The values of a tensor along the tokens of `row`; 0 where the row has none, as in a prompt without media."""
    if key in row.tensors:
        return row.tensors[key]
    other = like.tensors[key]
    return other.new_zeros(1, len(row.input_ids), *other.shape[2:])


def _parts(pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    return [_text(piece) if isinstance(piece, str) else {"type": _media(piece).kind} for piece in pieces]


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _media(piece: Any) -> Media:
    if isinstance(piece, Video):
        return Media("video", width=piece.frames.shape[2], height=piece.frames.shape[1])
    return Media("image", width=piece.width, height=piece.height)
