"""The turns of a rollout as files keep them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmrl.core.files import write_atomic
from mmrl.core.media.item import Media
from mmrl.tools.scene import Piece
from mmrl.tools.turns import Turn

MEDIA = Path("turns")  # in the folder of a run


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
            call["media"] = [_stored(image, out) for piece in outcome.pieces for image in _images(piece)]
    return rows


def _images(piece: Piece) -> list[Image.Image]:
    if isinstance(piece, str):
        return []
    return [piece] if isinstance(piece, Image.Image) else list(map(Image.fromarray, piece.frames))


def _stored(image: Image.Image, out: Path) -> dict[str, Any]:
    """The row of media of a picture that is written once."""
    content = io.BytesIO()
    image.save(content, "PNG")
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    place = MEDIA / f"{digest[:32]}.png"
    if not (out / place).exists():
        (out / MEDIA).mkdir(parents=True, exist_ok=True)
        write_atomic(out / place, content.getvalue())
    return Media("image", str(place), sha256=digest, width=image.width, height=image.height).row()
