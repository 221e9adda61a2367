"""VisDrone: a text file of boxes for each photograph of a drone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data_engine.sources.annotated.objects import Annotated, Asked, Box, Task, check_categories, object_samples
from data_engine.sources.base import Items, RowError, existing, quarantined
from data_engine.sources.row_format import Exif
from data_engine.sources.row_media import IMAGES
from mmrl.core.config import InputError
from mmrl.core.media.files import look_at

IGNORED = 0  # the category of regions in which nothing was annotated
NAMES = {
    **{1: "pedestrian", 2: "people", 3: "bicycle", 4: "car", 5: "van", 6: "truck", 7: "tricycle"},
    **{8: "awning-tricycle", 9: "bus", 10: "motor"},
    11: "others",
}
LINE = "LEFT,TOP,WIDTH,HEIGHT,SCORE,CATEGORY,TRUNCATION,OCCLUSION"


class Sheet(NamedTuple):
    """What the file of a photograph lists."""

    objects: list[tuple[str, Box]]
    left_out: set[str]  # categories with objects that do not count, all if a region was ignored


def visdrone(
    *,
    annotations: str,
    images: str,
    root: Path,
    task: Task = "detection",
    categories: list[str] | None = None,
    question: str | None = None,
    exif: Exif = "applied",
    empty: bool = False,
) -> Items:
    """The photographs of VisDrone DET, asked about as by `coco`; `annotations` is the folder with a file for each.

    Objects of score 0 do not count, and where a region was ignored no category is complete: `meta.crowds` names these,
    and grounding leaves them out. Default: the ten categories of the benchmark; `others` can be asked for.
    """
    folder, pictures = existing(root, annotations, "folder of text files"), existing(root, images, "image folder")
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"no *.txt file in {folder}")
    wanted = categories or [name for name in NAMES.values() if name != "others"]
    check_categories(wanted, set(NAMES.values()), "VisDrone")
    asked = Asked(source="visdrone", task=task, question=question, exif=exif, empty=empty)

    def samples() -> Items:
        for file in files:
            where = f"{annotations}/{file.name}"
            look_at(file)
            try:
                objects, left_out = _sheet(file)
            except RowError as error:
                yield quarantined(error, "visdrone", where, {"file": file.name})
                continue
            own = (f"{file.stem}.{suffix}" for suffix in IMAGES)
            picture = next((name for name in own if (pictures / name).is_file()), f"{file.stem}.jpg")
            entry = Annotated(where=where, file=picture, categories=wanted, objects=objects, crowds=left_out)
            yield from object_samples(entry, pictures, asked)

    return samples()


def _sheet(file: Path) -> Sheet:
    objects, left_out = list[tuple[str, Box]](), set[str]()
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        (x, y, width, height), counts, category = _entry(f"{file.name}:{number}", line)
        if category == IGNORED:
            left_out |= {*NAMES.values()}
        elif counts:
            objects.append((NAMES[category], [x, y, x + width, y + height]))
        else:
            left_out.add(NAMES[category])
    return Sheet(objects, left_out)


def _entry(where: str, line: str) -> tuple[Box, bool, int]:
    """(box as x, y, width, height, whether it counts, category) of a line; some lines end with a comma."""
    try:
        numbers = [float(cell) for cell in line.strip().removesuffix(",").split(",")]
    except ValueError:
        raise RowError("bad_box", f"{where}: a line is {LINE}, got {line!r:.80}") from None
    if len(numbers) != 8:
        film = "; lines of ten belong to the videos of VisDrone, which are not read" if len(numbers) == 10 else ""
        raise RowError("bad_box", f"{where}: a line is {LINE}, got {len(numbers)} numbers{film}")
    if numbers[5] not in {IGNORED, *NAMES}:
        raise RowError("unknown_category", f"{where}: the category is 0 to {max(NAMES)}, got {numbers[5]:g}")
    return numbers[:4], numbers[4] != 0, int(numbers[5])
