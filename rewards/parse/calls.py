"""Calls of tools as datasets write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_TAGS = re.compile("</?tool_call>")


def gold_calls(value: Any) -> list[dict[str, Any]]:
    """Calls, each with `name` and `parameters`, from a list, one object, or a text with an object or a list a line, in
    `<tool_call>` blocks or not. Chat templates write `arguments`, and some put a call into a `function`.

    ValueError for what is no call.

    >>> gold_calls('<tool_call>{"name": "crop", "arguments": {"box": [1, 2, 3, 4]}}</tool_call>')
    [{'name': 'crop', 'parameters': {'box': [1, 2, 3, 4]}}]
    """
    if isinstance(value, str):
        whole = _json(value)
        lines = [line for line in _TAGS.sub("\n", value).splitlines() if line.strip()]
        value = [_json(line) for line in lines] if whole is None else whole
    return [_call(one) for one in (value if isinstance(value, list) else [value])]


def are_calls(value: Any, _: Any = None) -> bool:
    """Whether the value is a list of at least one object with a name and parameters."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_call, value))


def _is_call(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return isinstance(value.get("name"), str) and isinstance(value.get("parameters"), Mapping)


def _call(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        call = value["function"] if isinstance(value.get("function"), Mapping) else value
        given = call.get("parameters", call.get("arguments"))
        made = {"name": call.get("name"), "parameters": _json(given) if isinstance(given, str) else given}
        if _is_call(made):
            return made
    raise ValueError(f'a call is an object, {{"name": ..., "parameters": {{...}}}}, got {value!r:.80}')


def _json(text: str) -> Any:
    """The value in a text; None where it holds none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
