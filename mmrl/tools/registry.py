"""Tools by name, and what a model is told of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, get_type_hints

from mmrl.core.config import InputError
from mmrl.core.extras import missing
from mmrl.core.registry import resolve, target_of
from mmrl.tools.scene import SCENE

TOOLS = {
    "calculator": "mmrl.tools.functions:calculator",
    "crop": "mmrl.tools.functions:crop",
    "frames_at": "mmrl.tools.functions:frames_at",
    "ocr": "mmrl.tools.functions:ocr",
    "search": "mmrl.tools.search:search",
    "sql": "mmrl.tools.functions:sql",
    "zoom": "mmrl.tools.functions:zoom",
}
NEEDED = {"ocr": "rapidocr_onnxruntime", "search": "bm25s"}  # packages of the extra `tools`
NO_TOOLS = ("reset", "close")  # methods of an object with a state that no model calls
_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call: a function, or a `method` of an object with a state. `target` is the "module:function" or
    "module:class", `schema` what the chat template writes. A class that `closes` wants to know when a rollout ends."""

    name: str
    target: str
    schema: dict[str, Any]
    method: str = ""
    closes: bool = False


def tools_of(names: Sequence[str]) -> dict[str, Tool]:
    """The tools of these names, or "module:function", by the name under which a model calls them.

    A "module:class" is an object with a state for each rollout; each of its public methods is a tool.
    """
    tools: dict[str, Tool] = {}
    for given in names:
        if given in NEEDED and find_spec(NEEDED[given]) is None:
            why = missing(ModuleNotFoundError(name=NEEDED[given]), "tools")
            raise InputError(f"the tool {given} cannot be used: {why}")
        found, target = resolve(given, TOOLS, "tool"), target_of(given, TOOLS, "tool")
        if inspect.isclass(found):
            closes = hasattr(found, "close")
            made = [Tool(name, target, schema, name, closes) for name, schema in _methods(found, given)]
        elif inspect.isfunction(found):
            made = [Tool(found.__name__, target, schema_of(found, given))]
        else:
            raise InputError(f"tool {given!r} is a {type(found).__name__}; a tool is a function, or a class with reset")
        for tool in made:
            if tool.name in tools:
                raise InputError(f"tools: {given!r} and {tools[tool.name].target!r} are both called {tool.name}")
            tools[tool.name] = tool
    return tools


def _methods(kind: type, given: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, schema) of the methods of a class that a model may call, in the order in which they are written."""
    public = {name: method for name, method in inspect.getmembers_static(kind, inspect.isfunction) if name[0] != "_"}
    if "reset" not in public:
        raise InputError(f"tool {given!r} is a class without a method reset(self), with which a rollout begins")
    if "get_reward" in public:
        raise InputError(f"tool {given!r}: get_reward has no effect; write a reward that reads rollout.turns")
    for name in ("__init__", *NO_TOOLS):
        parameters = list(inspect.signature(getattr(kind, name, object.__init__)).parameters.values())[1:]
        wanted = [one.name for one in parameters if one.default is one.empty and one.kind not in _COLLECTING]
        if others := set(wanted) - {SCENE if name == "reset" else ""}:
            raise InputError(f"tool {given!r}: {name} wants {min(others)}; only reset may want something, the {SCENE}")
    tools = sorted(public.keys() - set(NO_TOOLS), key=lambda name: public[name].__code__.co_firstlineno)
    if not tools:
        raise InputError(f"tool {given!r} is a class without a method that a model could call, such as step")
    return [(name, schema_of(public[name], given)) for name in tools]


def schema_of(function: Callable[..., Any], given: str) -> dict[str, Any]:
    """The JSON schema of a tool from its signature and docstring (`get_json_schema` of transformers), without the
    arguments `self` and `scene`."""
    from transformers.utils.chat_template_utils import (
        DocstringParsingException,
        TypeHintParsingException,
        get_json_schema,
    )

    all_parameters = inspect.signature(function).parameters
    parameters = {name: one for name, one in all_parameters.items() if name not in ("self", SCENE)}
    for name, one in parameters.items():
        if one.kind in (one.POSITIONAL_ONLY, *_COLLECTING) or name.startswith("_") or name == "model_config":
            bare = one.replace(annotation=one.empty, default=one.empty)
            raise InputError(f"tool {given!r}: no call can give its argument {bare}; calls give plain names")
    try:
        hints = get_type_hints(function)

        def told() -> None: ...

        told.__name__, told.__doc__ = function.__name__, function.__doc__
        told.__annotations__ = {name: hints[name] for name in parameters if name in hints}
        told.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
            list(parameters.values())
        )
        return get_json_schema(told)
    except (DocstringParsingException, TypeHintParsingException, NameError, ValueError) as error:
        raise InputError(
            f"tool {given!r}: {' '.join(str(error).split())[:250]}; a tool has types, and a docstring with a line for "
            "each argument under Args:"
        ) from None
