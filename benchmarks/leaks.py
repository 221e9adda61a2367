"""Recall and precision of decontamination on planted leaks, and false matches on charts and geometry that look alike.

    python -m benchmarks.leaks [--quick] [--json FILE]

A benchmark asks about half of the tiles of real photographs; clean training samples ask about the other half, the
neighbours. Each leak is one benchmark sample changed in one way. Recall: the share of leaks matched with their sample
by the evidence that should find them. Precision: the share of all matches of these leaks that name their own sample.
The last rows count false matches. Films are a window that moves over such a tile.
"""

from __future__ import annotations

import io
import random
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from skimage import data as photographs
from sklearn.datasets import load_sample_image

from benchmarks.rounds import parser_of, save
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.similar.image_hash import MediaIndex, fingerprint
from data_engine.similar.index import Evidence, LeakIndex, write_index
from data_engine.sources.synthesis import mp4
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "hubble_deep_field", "immunohistochemistry", "retina",
         "rocket", "moon", "page", "text", "brick", "grass", "gravel")  # fmt: skip
TILE = 4  # a photograph is cut into so many pieces each way
SIZE = (512, 384)

ALIKE = {"may": "can", "must": "has to", "value": "number", "given": "passed", "returns": "gives", "also": "too",
         "used": "employed", "when": "if", "same": "equal", "default": "usual", "called": "invoked"}  # fmt: skip

Picture = Image.Image
Film = list[Picture]

FRAMES, FPS = 40, 20
WINDOW = (256, 192)


class Kind(NamedTuple):
    """A way to leak: how picture and question are changed, and what should find it."""

    picture: Callable[[Picture], Picture] | None  # None: another picture
    question: Callable[[str], str] | None  # None: another question
    by: Evidence
    quality: int = 90


def tiles() -> list[Picture]:
    """Pieces of photographs that do not overlap, neighbours after each other."""
    whole = [Image.fromarray(np.asarray(getattr(photographs, name)())) for name in NAMES]
    whole += [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    made = []
    for image in whole:
        width, height = image.width // TILE, image.height // TILE
        corners = [(x * width, y * height) for y in range(TILE) for x in range(TILE)]
        made += [image.convert("RGB").crop((x, y, x + width, y + height)).resize(SIZE) for x, y in corners]
    return [tile for tile in made if np.asarray(tile).std() > 8]  # empty sky is the same everywhere


def cropped(image: Picture) -> Picture:
    """Without 5 % of the width and of the height."""
    x, y = round(image.width * 0.025), round(image.height * 0.025)
    return image.crop((x, y, image.width - x, image.height - y))


def with_logo(image: Picture) -> Picture:
    """A red box with a letter in the corner, a sixth of the width."""
    image = image.copy()
    pen = ImageDraw.Draw(image)
    pen.rectangle((8, 8, 8 + image.width // 6, 8 + image.height // 9), fill=(220, 20, 20))
    pen.text((16, 14), "NEWS", fill="white", font_size=image.height // 14)
    return image


def reworded(text: str) -> str:
    """With some words exchanged, at least the middle one, and other small print."""
    tokens = [ALIKE.get(word, word) for word in text.split()]
    if tokens == text.split():
        tokens[len(tokens) // 2] = "then"
    return " ".join(tokens).lower().replace(".", " !")


def framed(question: str) -> str:
    """With an instruction before and after."""
    return f"Look at the image carefully. {question} Think step by step, then give a short answer in <answer></answer>."


def same(content: Any) -> Any:
    """As it is."""
    return content


PICTURES: dict[str, Kind] = {
    "re-encoded at quality 30": Kind(same, None, "image", 30),
    "half the size": Kind(lambda image: image.resize((image.width // 2, image.height // 2)), None, "image"),
    "grey": Kind(lambda image: image.convert("L"), None, "image"),
    "cropped by 5 %": Kind(cropped, None, "image"),
    "with a logo": Kind(with_logo, None, "image"),
}
KINDS = {
    **PICTURES,
    "question as it is": Kind(None, same, "text"),
    "question reworded": Kind(None, reworded, "text"),
    "question with instructions": Kind(None, framed, "text"),
    **{f"{name}, reworded": kind._replace(question=reworded, by="both") for name, kind in PICTURES.items()},
}


class FilmKind(NamedTuple):
    """A way to leak a film: how its frames are changed, how it is encoded."""

    frames: Callable[[Film], Film]
    crf: int = 20
    fps: int = FPS


UNCHANGED = FilmKind(same)


def each(change: Callable[[Picture], Picture]) -> Callable[[Film], Film]:
    """The change of a picture, to every frame."""
    return lambda frames: [change(frame) for frame in frames]


FILMS = {
    "film re-encoded at crf 40": FilmKind(same, crf=40),
    "film of half the size": FilmKind(each(lambda frame: frame.resize((frame.width // 2, frame.height // 2)))),
    "film in grey": FilmKind(each(lambda frame: frame.convert("L").convert("RGB")), crf=23),  # some are grey anyway
    "film cropped by 5 %": FilmKind(each(cropped)),
    "film with a logo": FilmKind(each(with_logo)),
    "film at half the frame rate": FilmKind(lambda frames: frames[::2], fps=FPS // 2),
    "film without its first 5 %": FilmKind(lambda frames: frames[FRAMES // 20 :]),
    "film without its first and last 5 %": FilmKind(lambda frames: frames[FRAMES // 20 : -FRAMES // 20]),
}


def filmed(picture: Picture, number: int) -> Film:
    """A window that wanders over a picture."""
    draw = random.Random(number)
    room = [side - size for side, size in zip(picture.size, WINDOW, strict=True)]
    begin, end = ([draw.uniform(0, most) for most in room] for _ in range(2))
    made = []
    for share in np.linspace(0, 1, FRAMES):
        x, y = (round(a + (b - a) * share) for a, b in zip(begin, end, strict=True))
        made.append(picture.crop((x, y, x + WINDOW[0], y + WINDOW[1])))
    return made


def film_sample(frames: Film, kind: FilmKind = UNCHANGED) -> Sample:
    """A sample of a question about a film."""
    changed = [frame.crop((0, 0, frame.width // 2 * 2, frame.height // 2 * 2)) for frame in kind.frames(frames)]
    content = mp4(np.stack([np.asarray(frame) for frame in changed]), kind.fps, crf=kind.crf)
    media = probe(Media("video", bytes=content), "video")
    return with_id(Sample("", "s", "yesno", user_prompt("Is it day?", ["video"]), {"yesno": True}, (media,)))


def films(quick: bool) -> list[dict[str, Any]]:
    """A row for each kind of film that leaks, and one of those that do not."""
    tiled = tiles()[:: 8 if quick else 2]
    whole = [filmed(picture, number) for number, picture in enumerate(tiled)]
    exam = [film_sample(frames) for frames in whole[::2]]
    with tempfile.TemporaryDirectory() as folder:
        write_index(exam, "exam", Path(folder) / "exam.parquet")
        index = LeakIndex([Path(folder) / "exam.parquet"])
    rows = [
        _planted(name, [film_sample(frames, kind) for frames in whole[::2]], exam, index, "image")
        for name, kind in FILMS.items()
    ]
    clean = [film_sample(frames) for frames in whole[1::2]]
    false = sum(any(leak.by in ("image", "both") for leak in index.leaks(sample, text=1.0)) for sample in clean)
    return [*rows, _false("clean films matched", false, len(clean))]


def questions(count: int) -> list[str]:
    """Different sentences of 10 to 40 words that people wrote: those of Python's manual."""
    text = re.sub(r"[*`]|\s+", lambda match: " " if match[0].isspace() else "", " ".join(topics.values()))
    sentences = dict.fromkeys(
        sentence for sentence in re.findall(r"(?<=\. )[A-Z][^.:=]+\.", text) if 10 <= len(sentence.split()) <= 40
    )
    return random.Random(1).sample(list(sentences), count)


def asked(question: str, picture: Picture, quality: int = 90, **meta: Any) -> Sample:
    """A sample of a question about a picture."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    media = probe(Media("image", bytes=content.getvalue()), "image", validate=False)
    return with_id(Sample("", "s", "yesno", user_prompt(question, ["image"]), {"yesno": True}, (media,), meta))


def measured(quick: bool) -> list[dict[str, Any]]:
    """A row for each kind of leak, and those of what should not be matched."""
    pictures = tiles()[:: 4 if quick else 1]
    exam_pictures, others = pictures[::2], pictures[1::2]
    asks = questions(len(exam_pictures) + 2 * len(others))
    exam_asks, other_asks = asks[: len(exam_pictures)], asks[len(exam_pictures) :]
    exam = [
        asked(question, picture, source_id=f"photo:{number}")
        for number, (question, picture) in enumerate(zip(exam_asks, exam_pictures, strict=True))
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "exam.parquet"
        write_index(exam, "exam", file)
        index = LeakIndex([file])
        for name, kind in KINDS.items():
            leaks = [
                asked(
                    kind.question(question) if kind.question else other_asks[number % len(other_asks)],
                    kind.picture(picture) if kind.picture else others[number % len(others)],
                    kind.quality,
                )
                for number, (question, picture) in enumerate(zip(exam_asks, exam_pictures, strict=True))
            ]
            rows.append(_planted(name, leaks, exam, index, kind.by))
        named = [asked(other_asks[n], others[n], source_id=f"photo:{n}") for n in range(min(len(exam), len(others)))]
        rows.append(_planted("source id only", named, exam, index, "source_id"))
        clean = [asked(question, picture) for question, picture in zip(other_asks, others, strict=False)]
        for by in ("image", "text", "both"):
            false = sum(any(leak.by == by for leak in index.leaks(sample, text=0.5)) for sample in clean)
            rows.append(_false(f"clean samples matched by {by}", false, len(clean)))
    return rows


def chart(number: int) -> Picture:
    """Bars, a line or points on the same axes, in the same style."""
    draw, image = random.Random(number), Image.new("RGB", (640, 480), "white")
    pen = ImageDraw.Draw(image)
    pen.line([(60, 20), (60, 440), (620, 440)], fill="black", width=2)
    for step in range(1, 6):
        pen.line([(60, 440 - 80 * step), (620, 440 - 80 * step)], fill=(225, 225, 225))
        pen.text((20, 432 - 80 * step), str(20 * step), fill="black", font_size=16)
    heights = [440 - draw.randint(20, 400) for _ in range(10)]
    places = [80 + place * 54 for place in range(10)]
    if number % 3 == 0:
        for x, height in zip(places, heights, strict=True):
            pen.rectangle((x, height, x + 40, 440), fill=(50, 100, 200))
    elif number % 3 == 1:
        pen.line(list(zip(places, heights, strict=True)), fill=(200, 50, 50), width=3)
    else:
        for height in heights:
            x = draw.randint(70, 610)
            pen.ellipse((x - 4, height - 4, x + 4, height + 4), fill="black")
    return image


def drawing(number: int) -> Picture:
    """A triangle or a circle with a chord and named points, as in a book on geometry."""
    draw, image = random.Random(number), Image.new("RGB", (480, 480), "white")
    pen = ImageDraw.Draw(image)
    points = [(draw.randint(50, 430), draw.randint(50, 430)) for _ in range(3)]
    if number % 2:
        pen.polygon(points, outline="black", width=2)
        pen.line([points[0], ((points[1][0] + points[2][0]) // 2, (points[1][1] + points[2][1]) // 2)], fill="black")
    else:
        radius = draw.randint(60, 180)
        pen.ellipse((240 - radius, 240 - radius, 240 + radius, 240 + radius), outline="black", width=2)
        pen.line(points[:2], fill="black", width=2)
    for name, (x, y) in zip("ABC", points, strict=True):
        pen.text((x + 4, y - 18), name, fill="black", font_size=18)
    return image


def mistaken(name: str, draw: Callable[[int], Picture], count: int) -> list[dict[str, Any]]:
    """How many of different pictures are taken for an earlier one, and how many are known again at quality 50."""
    index, false, again = MediaIndex(1), 0, 0
    for number in range(count):
        media = fingerprint(_jpeg(draw(number), 90))
        false += bool(index.matches(media))
        place = index.add(media)
        again += place in index.matches(fingerprint(_jpeg(draw(number), 50)))
    row = {"case": f"{name} known again at quality 50", "ours": again / count, "peer": None, "ratio": None}
    return [_false(f"{name} taken for another", false, count), {**row, "precision": None, "unit": "recall", "n": count}]


def _jpeg(picture: Picture, quality: int) -> Media:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return Media("image", bytes=content.getvalue())


def _planted(
    name: str, leaks: Sequence[Sample], exam: Sequence[Sample], index: LeakIndex, by: Evidence
) -> dict[str, Any]:
    """A match by both is one by image and by text as well."""
    right = matches = 0
    for leak, origin in zip(leaks, exam, strict=False):
        hits = [match for match in index.leaks(leak, text=0.5) if match.by in (by, "both")]
        right += any(match.id == origin.id for match in hits)
        matches += len(hits)
    row = {"case": name, "ours": right / len(leaks), "peer": None, "ratio": None}
    return {**row, "precision": right / matches if matches else None, "unit": f"recall by {by}", "n": len(leaks)}


def _false(name: str, false: int, n: int) -> dict[str, Any]:
    rate = {"case": name, "ours": false / n, "peer": None, "ratio": None, "precision": None}
    return {**rate, "unit": "false rate", "n": n}


def main(argv: Sequence[str] | None = None) -> None:
    """Plant, look, print the table, write the rows."""
    options = parser_of(__doc__, "a quarter of the pictures").parse_args(argv)
    rows = measured(options.quick) + films(options.quick)
    for name, draw in (("charts", chart), ("geometry", drawing)):
        rows += mistaken(name, draw, 125 if options.quick else 500)
    table = Table("planted", "what", "share", "precision", "n")
    for row in rows:
        precision = "" if row["precision"] is None else f"{row['precision']:.3f}"
        table.add_row(row["case"], row["unit"], f"{row['ours']:.3f}", precision, str(row["n"]))
    Console().print(table)
    save(rows, options.json)


if __name__ == "__main__":
    main()
