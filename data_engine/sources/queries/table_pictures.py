"""Tables of a database, as statements and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTER, PAD, GAP = 16, 6, 18  # pixels: the height of letters, the space around them, the space between two tables
INK, LINE, HEAD = (20, 20, 20), (150, 150, 150), (225, 232, 242)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its rows: whole numbers, and texts without a quote."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[int | str]]

    def created(self) -> str:
        """The statement that creates it."""
        kinds = ("TEXT" if isinstance(value, str) else "INTEGER" for value in self.rows[0])
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(self.columns, kinds, strict=True))
        return f"CREATE TABLE {self.name} ({columns});"

    def statements(self) -> str:
        """The statements that create and fill it."""
        rows = ", ".join(f"({', '.join(map(_literal, row))})" for row in self.rows)
        return f"{self.created()}\nINSERT INTO {self.name} VALUES {rows};"


def _literal(value: int | str) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def drawn(tables: Sequence[Table], scale: float = 1.0) -> np.ndarray:
    """A picture [H, W, 3] of the tables below each other: the name of each, its columns, and its rows."""
    letter, pad, gap = (max(round(size * scale), 1) for size in (LETTER, PAD, GAP))
    font = ImageFont.load_default(letter)  # Pillow's own
    height = letter + 2 * pad
    widths = [_widths(table, font, pad) for table in tables]
    named = [round(font.getlength(table.name)) for table in tables]
    tall = sum((len(table.rows) + 2) * height + gap for table in tables) + gap
    canvas = Image.new("RGB", (max(*map(sum, widths), *named) + 2 * gap, tall), "white")
    draw, top = ImageDraw.Draw(canvas), gap
    for table, columns in zip(tables, widths, strict=True):
        draw.text((gap, top + pad), table.name, INK, font)
        for number, row in enumerate([table.columns, *table.rows], 1):
            left, y = gap, top + number * height
            for value, width in zip(row, columns, strict=True):
                fill = HEAD if number == 1 else "white"
                draw.rectangle([left, y, left + width, y + height], fill, LINE)
                draw.text((left + pad, y + pad), str(value), INK, font)
                left += width
        top += (len(table.rows) + 2) * height + gap
    return np.asarray(canvas)


def _widths(table: Table, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, pad: int) -> list[int]:
    """The width of each column."""
    texts = zip(*([str(value) for value in row] for row in [table.columns, *table.rows]), strict=True)
    return [round(max(map(font.getlength, column))) + 2 * pad for column in texts]
