"""The tools that come with mmrl. What the model knows of a tool is its signature and its docstring."""

from __future__ import annotations

import ast
import functools
import json
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from mmrl.core.config import InputError
from mmrl.core.media.video import Video, load_video
from mmrl.core.vision import VisionBudget
from mmrl.tools.scene import Scene, ToolError
from rewards.isolation.sqlite import QueryError, answered

MOST_ROWS = 50  # of a table that a model reads
MOST_FRAMES = 8
LARGEST = 1e15  # a number of a calculation


def crop(box: list[float], picture: int = 1, *, scene: Scene) -> Image.Image:
    """Cut a part out of a picture and look at it alone.

    Args:
        box: The corners of the part: [x1, y1, x2, y2].
        picture: The number of the picture among those you have seen; the first is 1.
    """
    return scene.picture(picture).crop(scene.box(box, picture))


def zoom(box: list[float], picture: int = 1, *, scene: Scene) -> Image.Image:
    """Look at a part of a picture enlarged to the size of the whole picture.

    Args:
        box: The corners of the part: [x1, y1, x2, y2].
        picture: The number of the picture among those you have seen; the first is 1.
    """
    whole = scene.picture(picture)
    part = whole.crop(scene.box(box, picture))
    scale = min(whole.width / part.width, whole.height / part.height)
    return part.resize(
        (max(round(part.width * scale), 1), max(round(part.height * scale), 1)), Image.Resampling.LANCZOS
    )


def frames_at(start: float, end: float, video: int = 1, *, scene: Scene) -> Video:
    """Look at a part of a video again, with more frames a second.

    Args:
        start: The second at which the part begins.
        end: The second at which the part ends.
        video: The number of the video; the first is 1.
    """
    wanted = scene.video(video)
    first, last = wanted.start or 0.0, math.inf if wanted.end is None else wanted.end  # what is shown of the file
    since, until = first + max(start, 0.0), min(first + end, last)
    if not since < until:
        raise ToolError(f"no frame is shown in [{start:g}, {end:g}) seconds of video {video}")
    budget = VisionBudget(fps=30.0, min_frames=2, max_frames=MOST_FRAMES, total_pixels=2**40)
    try:
        return load_video(replace(wanted, start=since, end=until), budget)
    except InputError as error:
        raise ToolError(str(error)) from None


def calculator(expression: str) -> str:
    """Calculate.

    Args:
        expression: Numbers with + - * / // % ** and parentheses, and the functions sqrt, abs, round, min and max.
    """
    try:
        value = _value(_parsed(expression.strip()))
    except (SyntaxError, RecursionError, MemoryError) as error:  # of texts that are no expressions
        raise ToolError(f"this is no expression: {error}") from None
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ToolError(f"this cannot be calculated: {error}") from None
    return f"{value + 0:.15g}"  # 0, not -0


def sql(query: str, *, scene: Scene) -> str:
    """Ask the database of the question. It can only be read.

    Args:
        query: One SELECT statement of SQLite.
    """
    if scene.database is None:
        raise ToolError("this question has no database")
    try:
        result = answered(scene.database, query)
    except QueryError as error:
        raise ToolError(str(error)) from None
    lines = [json.dumps(row, ensure_ascii=False, default=repr) for row in result.rows[:MOST_ROWS]]
    more = [f"... and {len(result.rows) - MOST_ROWS} more rows"] if len(result.rows) > MOST_ROWS else []
    return "\n".join([json.dumps(result.columns, ensure_ascii=False), *lines, *more])


def ocr(picture: int = 1, box: list[float] | None = None, *, scene: Scene) -> str:
    """Read the printed words in a picture, or in a part of it.

    Args:
        picture: The number of the picture among those you have seen; the first is 1.
        box: The corners of the part to read: [x1, y1, x2, y2]. Without it the whole picture is read.
    """
    whole = scene.picture(picture).convert("RGB")
    part = whole if box is None else whole.crop(scene.box(box, picture))
    lines, _ = _reader()(np.asarray(part)[:, :, ::-1])  # it takes blue first
    return "\n".join(text for _, text, _ in lines or ()) or "no words found"


@functools.cache
def _reader() -> Any:
    """RapidOCR, whose models come with its wheel."""
    from rapidocr_onnxruntime import RapidOCR

    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: math.pow,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"sqrt": math.sqrt, "abs": abs, "round": round}
_FUNCTIONS |= {"min": lambda *values: min(values), "max": lambda *values: max(values)}


def _parsed(text: str) -> ast.expr:
    if "\0" in text:
        raise SyntaxError("it has a null character")
    return ast.parse(text, mode="eval").body


def _value(node: ast.expr) -> float:
    """The number that an expression stands for; SyntaxError for what is not arithmetic."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _bounded(_OPERATORS[type(op)](_value(left), _value(right)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
            return _bounded(_FUNCTIONS[name](*map(_value, arguments)))
    raise SyntaxError(f"{ast.unparse(node)!r:.80} is not arithmetic")


def _bounded(value: float) -> float:
    if not abs(value) <= LARGEST:
        raise OverflowError(f"numbers are at most {LARGEST:g}")
    return value
