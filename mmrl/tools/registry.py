"""Tools by name, and what a model is told of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from mmrl.core.config import InputError
from mmrl.core.registry import resolve, target_of
from mmrl.tools.scene import SCENE

TOOLS = {
    "calculator": "mmrl.tools.functions:calculator",
    "crop": "mmrl.tools.functions:crop",
    "frames_at": "mmrl.tools.functions:frames_at",
    "sql": "mmrl.tools.functions:sql",
    "zoom": "mmrl.tools.functions:zoom",
}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. `target` is its "module:function", `schema` what the chat template writes."""

    name: str
    target: str
    schema: dict[str, Any]


def tools_of(names: Sequence[str]) -> dict[str, Tool]:
    """The tools of these names, or "module:function", by the name under which a model calls them."""
    tools: dict[str, Tool] = {}
    for given in names:
        function = resolve(given, TOOLS, "tool")
        if not inspect.isfunction(function):
            raise InputError(f"tool {given!r} is a {type(function).__name__}; a tool is a function")
        tool = Tool(function.__name__, target_of(given, TOOLS, "tool"), schema_of(function, given))
        if tool.name in tools:
            raise InputError(f"tools: {given!r} and {tools[tool.name].target!r} are both called {tool.name}")
        tools[tool.name] = tool
    return tools


def schema_of(function: Callable[..., Any], given: str) -> dict[str, Any]:
    """The JSON schema of a tool from its signature and docstring (`get_json_schema` of transformers), without the
    argument `scene`."""
    from transformers.utils.chat_template_utils import (
        DocstringParsingException,
        TypeHintParsingException,
        get_json_schema,
    )

    try:
        parameters = inspect.signature(function).parameters
        hints = get_type_hints(function)

        def told() -> None: ...

        told.__name__, told.__doc__ = function.__name__, function.__doc__
        told.__annotations__ = {name: hints[name] for name in parameters if name in hints and name != SCENE}
        told.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
            [parameter for name, parameter in parameters.items() if name != SCENE]
        )
        return get_json_schema(told)
    except (DocstringParsingException, TypeHintParsingException, NameError, ValueError) as error:
        raise InputError(
            f"tool {given!r}: {' '.join(str(error).split())[:250]}; a tool has types, and a docstring with a line for "
            "each argument under Args:"
        ) from None
