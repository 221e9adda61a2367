"""One call of a tool, in a process of its own (`rewards.isolation.worker`)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from PIL import Image

from mmrl.core.config import InputError
from mmrl.core.registry import checked_options
from mmrl.tools.scene import SCENE, Piece, Scene, ToolError, pieces_of, readable

LONGEST = 8_000  # characters of a result
MOST_PIXELS = 50_000_000  # of a picture, or of all frames of a video
MOST_PIECES = 16
WHY = 300  # characters of what a tool says when it fails

Reply = tuple[str, tuple[Piece, ...]]  # a kind of outcome, and what the model reads of it


def called(question: tuple[str, Mapping[str, Any], Scene] | list[str]) -> Reply | None:
    """The outcome of the call of a target ("module:function") with arguments; a list of targets is imported only."""
    if isinstance(question, list):
        for target in question:
            resolve_name(target)
        return None
    target, arguments, scene = question
    function = resolve_name(target)
    try:
        if SCENE in arguments:
            raise InputError(f"unknown argument {SCENE}")
        options = checked_options(function, arguments, "arguments", skip=0, given={SCENE: scene})
    except InputError as error:
        return "wrong_arguments", (readable(str(error))[:WHY],)
    try:
        result = function(**options)
        pieces = pieces_of(asyncio.run(result) if inspect.iscoroutine(result) else result)
    except ToolError as error:
        return "refused", (readable(str(error))[:WHY],)
    except (Exception, SystemExit) as error:  # a tool may raise anything; the model is told, and the run counts it
        return "raised", (readable(f"{type(error).__name__}: {error}")[:WHY],)
    return _fault(pieces) or ("ok", pieces)


def _fault(pieces: tuple[Piece, ...]) -> Reply | None:
    """The outcome of a result that is too large to be shown."""
    letters = sum(len(piece) for piece in pieces if isinstance(piece, str))
    if letters > LONGEST:
        return "too_large", (f"the result has {letters:,} characters, the limit is {LONGEST:,}; ask for less",)
    if len(pieces) > MOST_PIECES:
        return "too_large", (f"the result has {len(pieces)} parts, the limit is {MOST_PIECES}; ask for less",)
    for piece in pieces:
        if isinstance(piece, str):
            continue
        pixels = piece.width * piece.height if isinstance(piece, Image.Image) else piece.frames.size // 3
        if pixels == 0:
            return "unusable", ("the result is a picture or video without pixels",)
        if pixels > MOST_PIXELS:
            return "too_large", (f"the result has {pixels:,} pixels, the limit is {MOST_PIXELS:,}; ask for less",)
    return None
