"""The turns of a rollout as files keep them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmrl.core.media.kept import kept_rows
from mmrl.core.media.pictures import as_media
from mmrl.tools.scene import Piece
from mmrl.tools.turns import Turn

FOLDER = "turns"  # of the pictures, in the folder of a run


def told(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """What was said in each turn, and of each call its name, arguments as JSON, kind of outcome and what was read."""
    return [
        {
            "said": said,
            "calls": [
                {
                    "name": outcome.call.name,
                    "arguments": json.dumps(outcome.call.arguments),
                    "outcome": outcome.kind,
                    "read": "".join(piece for piece in outcome.told() if isinstance(piece, str)),
                }
                for outcome in outcomes
            ],
        }
        for said, outcomes in turns
    ]


def recorded(turns: Sequence[Turn], out: Path) -> list[dict[str, Any]]:
    """`told` with the pictures as rows of media, a video as one for each frame.

    Their files are named by their content, and their paths begin in `out`, the folder of the run.
    """
    rows = told(turns)
    for row, turn in zip(rows, turns, strict=True):
        for call, outcome in zip(row["calls"], turn.outcomes, strict=True):
            pictures = [as_media(image) for piece in outcome.pieces for image in _images(piece)]
            call["media"] = kept_rows(pictures, out, FOLDER)
    return rows


def _images(piece: Piece) -> list[Image.Image]:
    if isinstance(piece, str):
        return []
    return [piece] if isinstance(piece, Image.Image) else list(map(Image.fromarray, piece.frames))
