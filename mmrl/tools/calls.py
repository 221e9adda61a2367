"""The calls of tools in what a model says, and their outcomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmrl.tools.scene import Piece, readable

# The kinds of outcomes, and when a call has one.
KINDS = {
    "ok": "there is a result",
    "refused": "the tool says that it cannot do this",
    "raised": "the tool raised an error",
    "timed_out": "it took longer than `tool_seconds`; its process is killed",
    "died": "its process ended",
    "too_large": "more than 8,000 characters, 50 million pixels or 16 parts",
    "unusable": "the processor does not take the picture, for instance one of 1 by 400 pixels",
    "wrong_arguments": "the tool does not take these arguments",
    "unknown_tool": "there is no tool of this name",
    "unreadable": "it is no JSON object with a name and arguments",
    "too_many": "more than four in a turn: the others have one outcome together",
    "no_room": "the result does not fit into `max_completion_length`; where not even this fits, the rollout ends",
    "no_turn_left": "it stands in the last turn",
}
MOST_CALLS = 4  # of a turn
DEEPEST = 32  # lists and objects within each other, of arguments: what goes deeper cannot be passed on
OPENED = "<tool_call>"
_BLOCK = re.compile(r"<tool_call>([^<]*+(?:<(?!/?tool_call>)[^<]*+)*+)(</tool_call>)?")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `fault` says why it cannot be read."""

    name: str = ""
    arguments: Mapping[str, Any] | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: one of KINDS, and the pieces that the model is shown."""

    call: Call
    kind: str
    pieces: tuple[Piece, ...]

    def told(self) -> tuple[Piece, ...]:
        """The pieces as the model reads them: a call without a result is an error."""
        return self.pieces if self.kind == "ok" else ("error: ", *self.pieces)


def calls_in(text: str) -> list[Call]:
    """The calls in a text, each in a `<tool_call>` block (the form of Hermes and Qwen).

    >>> calls_in('Look.<tool_call>{"name": "crop", "arguments": {"box": [1, 2, 3, 4]}}</tool_call>')[0].arguments
    {'box': [1, 2, 3, 4]}
    >>> calls_in("<tool_call>crop it")[0].fault
    'the block is not closed'
    """
    return [_call(body) if closed else Call(fault="the block is not closed") for body, closed in _BLOCK.findall(text)]


def calls_of_message(message: Mapping[str, Any]) -> list[Call]:
    """The calls of a message that the tokenizer's own schema has parsed."""
    functions = [call.get("function", call) for call in message.get("tool_calls") or ()]
    return [_checked(function) for function in functions]


def _call(body: str) -> Call:
    try:
        return _checked(json.loads(body))
    except (ValueError, RecursionError) as error:
        return Call(fault=f"not JSON: {error}"[:200])


def _checked(value: Any) -> Call:
    """A call from its object; ToolRL writes `parameters` for `arguments`."""
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        return Call(fault="no object with a name")
    name, arguments = readable(value["name"]), value.get("arguments", value.get("parameters")) or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError) as error:
            return Call(name, fault=f"arguments are not JSON: {error}"[:200])
    if not isinstance(arguments, Mapping):
        return Call(name, fault="arguments are no object")
    if _is_deep(arguments, DEEPEST):
        return Call(name, fault=f"arguments are nested more than {DEEPEST} deep")
    return Call(name, arguments)


def _is_deep(value: Any, left: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return left < 0 or any(_is_deep(one, left - 1) for one in inner)
