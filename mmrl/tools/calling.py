"""One call of a tool, in a process of its own (`rewards.isolation.worker`)."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import traceback
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, NamedTuple

from PIL import Image

from mmrl.core.config import InputError
from mmrl.core.registry import checked_options
from mmrl.tools.scene import SCENE, Piece, Scene, ToolError, pieces_of, readable

LONGEST = 8_000  # characters of a result
MOST_PIXELS = 50_000_000  # of a picture, or of all frames of a video
MOST_PIECES = 16
WHY = 300  # characters of what a tool says when it fails
LARGEST_STATE = 16 << 20  # bytes of a pickled object


class Asked(NamedTuple):
    """A call of the function `target` ("module:function"), or of a `method` of an object of the class `target`, whose
    state before the call is `state`, a pickle; None before the first call of a rollout."""

    target: str
    method: str
    arguments: Mapping[str, Any]
    scene: Scene
    state: bytes | None = None


class Reply(NamedTuple):
    """A kind of outcome, what the model reads of it, and the state after the call, None if it is as it was before."""

    kind: str
    pieces: tuple[Piece, ...]
    state: bytes | None = None


def called(question: Asked | list[str]) -> Reply | None:
    """The outcome of a call; a list of targets is imported only."""
    if not isinstance(question, Asked):
        for target in question:
            resolve_name(target)
        return None
    target, method, arguments, scene, _ = question
    function = getattr(resolve_name(target), method) if method else resolve_name(target)
    try:
        if SCENE in arguments:
            raise InputError(f"unknown argument {SCENE}")
        options = checked_options(function, arguments, "arguments", skip=bool(method), given={SCENE: scene})
    except InputError as error:
        return Reply("wrong_arguments", (readable(str(error))[:WHY],))
    try:
        holder = [_holder(question)] if method else []
        pieces = pieces_of(_value(function(*holder, **options)))
        state = pickle.dumps(holder[0]) if holder else None
    except ToolError as error:
        return Reply("refused", (readable(str(error))[:WHY],))
    except (Exception, SystemExit) as error:  # a tool may raise anything; the model is told, and the run counts it
        return Reply("raised", (readable(traceback.format_exception_only(error)[-1].strip())[:WHY],))
    if state and len(state) > LARGEST_STATE:
        return Reply("too_large", (f"the state has {len(state):,} bytes, the limit is {LARGEST_STATE:,}",))
    return _fault(pieces) or Reply("ok", pieces, state)


def _holder(asked: Asked) -> Any:
    """The object with the state: as the last call left it, or made and reset."""
    if asked.state is not None:
        return pickle.loads(asked.state)
    holder = resolve_name(asked.target)()
    given = {SCENE: asked.scene} if SCENE in inspect.signature(holder.reset).parameters else {}
    if _value(holder.reset(**given)) is not None:
        raise TypeError("reset returns something that nobody reads; let a call return it")
    return holder


def _value(result: Any) -> Any:
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _fault(pieces: tuple[Piece, ...]) -> Reply | None:
    """The outcome of a result that is too large to be shown."""
    letters = sum(len(piece) for piece in pieces if isinstance(piece, str))
    if letters > LONGEST:
        return Reply("too_large", (f"the result has {letters:,} characters, the limit is {LONGEST:,}; ask for less",))
    if len(pieces) > MOST_PIECES:
        return Reply("too_large", (f"the result has {len(pieces)} parts, the limit is {MOST_PIECES}; ask for less",))
    for piece in pieces:
        if isinstance(piece, str):
            continue
        pixels = piece.width * piece.height if isinstance(piece, Image.Image) else piece.frames.size // 3
        if pixels == 0:
            return Reply("unusable", ("the result is a picture or video without pixels",))
        if pixels > MOST_PIXELS:
            return Reply(
                "too_large", (f"the result has {pixels:,} pixels, the limit is {MOST_PIXELS:,}; ask for less",)
            )
    return None
