"""`mmrl init FOLDER`: drawn pictures with questions, and configs that build, train and evaluate with them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mmrl.commands import new_app
from mmrl.core.beside import HOME
from mmrl.core.config import InputError

app = new_app()

CONFIGS = next(place for place in (HOME / "mmrl" / "configs", HOME / "configs") if place.is_dir())  # wheel, clone
START = "start"  # the folder of CONFIGS that goes to the top
COLOURS = {"red": (214, 60, 52), "green": (52, 150, 74), "blue": (48, 92, 190)}


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to write; default: here.")] = Path(),
) -> None:
    """Write a folder to start from: pictures with questions, configs for all jobs, a reward of your own, a README."""
    taken = [*(file.name for file in (CONFIGS / START).iterdir()), "configs", "my_data"]
    if there := [name for name in taken if (folder / name).exists()]:
        raise InputError(f"{folder} has {', '.join(sorted(there))} already; choose a new folder: mmrl init my_lab")
    shutil.copytree(CONFIGS / START, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(CONFIGS, folder / "configs", ignore=shutil.ignore_patterns(START))
    _draw(folder / "my_data")
    typer.echo(f"{folder}: a place to start; README.md there has the commands, from data to evaluation")


def _draw(folder: Path, count: int = 12) -> None:
    """Pictures of squares and a circle in `folder`/photos, and `folder`/questions.jsonl about them."""
    from PIL import Image, ImageDraw

    (folder / "photos").mkdir(parents=True)
    lines: list[str] = []
    for number in range(1, count + 1):
        name = f"photos/{number:02d}.png"
        picture = Image.new("RGB", (336, 252), (244, 242, 236))
        pen = ImageDraw.Draw(picture)
        squares, colour = 1 + number % 4, list(COLOURS)[number % 3]
        for place in range(squares):
            left, top = 12 + 80 * place, 20 + (7 * number + 13 * place) % 60
            pen.rectangle((left, top, left + 55, top + 55), fill=(150, 150, 150))
        left = 30 + 17 * number
        circle = [left, 150, left + 70, 220]
        pen.ellipse(tuple(circle), fill=COLOURS[colour])
        picture.save(folder / name)
        lines += [json.dumps({"image": name, **question}) for question in _questions(squares, colour, circle)]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")


def _questions(squares: int, colour: str, circle: list[int]) -> Iterator[dict[str, Any]]:
    yield {"question": "How many squares are there?", "task": "count", "answer": squares}
    yield {"question": "Is the circle red?", "task": "yesno", "answer": "yes" if colour == "red" else "no"}
    yield {"question": f"Locate the {colour} circle.", "task": "grounding", "answer": circle}
