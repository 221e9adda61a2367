"""From a row of a table to a Sample: the format that the sources of tables share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

from data_engine.measure.measures import is_number
from data_engine.media.remote import Remote, fetched
from data_engine.schema import Sample, user_prompt
from data_engine.seeding import with_options
from data_engine.sources.base import Items, RowError, quarantined, shown_size
from mmrl.core.config import Config, nearest
from mmrl.core.media.files import MediaError, resolve
from mmrl.core.media.image import orientation_of
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.vision import CoordinateSpace, to_pixels
from rewards.tasks.keys import KEYS, BadAnswer, nested
from rewards.tasks.table import TASKS

PLAIN_COLUMNS = (
    *("question", "prompt", "task", "answer", "meta"),
    *("image", "images", "video", "videos", "media", "start", "end", "seen_size"),
)
Coordinates = Literal["xyxy", "xywh"]
Exif = Literal["applied", "ignored"]


def answer_columns() -> tuple[str, ...]:
    """The columns that are parts of an answer, for all tasks."""
    return _columns_of(tuple(TASKS))


@functools.lru_cache(maxsize=8)  # every row asks for them
def _columns_of(tasks: tuple[str, ...]) -> tuple[str, ...]:
    keys = {key.name: key for key in (*KEYS.values(), *(key for task in tasks for key in TASKS[task].keys))}
    return tuple(name for name, key in keys.items() if key.column)


def _known_column(name: str) -> str:
    if name not in (known := [*PLAIN_COLUMNS, *answer_columns()]):
        raise ValueError(f"unknown column {name!r}; {nearest(name, known)}")
    return name


Column = Annotated[str, AfterValidator(_known_column)]


class Rows(Config):
    """How the rows of a table are written. `columns` maps our names to the table's: `{question: query}`."""

    task: str | None = None  # of rows that do not say it themselves
    columns: dict[Column, str] = Field(default_factory=dict)
    space: CoordinateSpace = CoordinateSpace.pixel
    boxes: Coordinates = "xyxy"
    exif: Exif = "applied"  # boxes are on the picture as it is shown; "ignored": as it is stored, before EXIF rotation
    remote: Remote | None = None  # media may be http addresses; default: these are refused
    media_root: str | None = None  # where relative media paths start and all must lie; default: the table's folder
    list_options: bool = False  # append the options to the question as lines "A. cat"


PLAIN_ROWS = Rows()


class Row(NamedTuple):
    """A row and its place (`questions.jsonl:12`), or its error."""

    where: str
    values: Any
    error: RowError | None = None


def samples_of(rows: Iterable[Row], form: Rows, media_root: Path, source: str) -> Items:
    """One sample per row; a row that cannot become one is quarantined, and reading continues."""
    for row in rows:
        try:
            if row.error:
                raise row.error
            yield _sample(row.values, form, media_root, source, row.where)
        except (RowError, BadAnswer, MediaError) as error:
            yield quarantined(error, source, row.where, row.values)


def xyxy(boxes: Any, form: Coordinates = "xyxy") -> list[list[float]]:
    """Boxes as corner coordinates; one box is a list of one.

    >>> xyxy([10, 20, 5, 5], "xywh")
    [[10.0, 20.0, 15.0, 25.0]]
    """
    boxes = nested(boxes, 4, "a box is four numbers, the corners x1, y1, x2, y2")
    return boxes if form == "xyxy" else [[x, y, x + width, y + height] for x, y, width, height in boxes]


def pixels(coords: list[list[float]], space: str, size: tuple[int, int], seen_size: Any = None) -> list[list[float]]:
    """Boxes or points of a source as pixels of the image, rounded to four digits.

    `seen_size` is [width, height], or a list with one for each image; it is used where the space is `resized`.
    """
    several = isinstance(seen_size, list) and len(seen_size) > 0 and isinstance(seen_size[0], list)
    seen = seen_size[0] if several else seen_size
    if space == "resized" and not _is_size(seen):
        right = "seen_size, the [width, height] that the coordinates refer to"
        raise RowError("no_seen_size", f"space resized needs {right}, two numbers above 0; got {seen_size!r:.80}")
    try:
        return to_pixels(coords, space, size, seen if space == "resized" else ()).round(4).tolist()
    except (ValueError, TypeError) as error:
        raise RowError("bad_coordinates", str(error)) from None


def _sample(values: Any, form: Rows, media_root: Path, source: str, where: str) -> Sample:
    if not isinstance(values, Mapping):
        raise RowError("bad_row", f"expected an object with named values, got {values!r:.80}")
    taken = set(form.columns.values())  # what is read under another of our names is not read under its own
    columns = (*PLAIN_COLUMNS, *answer_columns())
    named = {name: form.columns.get(name, name) for name in columns if name in form.columns or name not in taken}
    row = {name: values[theirs] for name, theirs in named.items() if values.get(theirs) is not None}
    task = _task(row.get("task", form.task), row)
    media = tuple(_media(row, media_root, form.remote))
    media = media if form.exif == "applied" else tuple(map(_declared_upright, media))
    answer = _answer(task, row)
    _into_pixels(answer, form, media, row.get("seen_size"))
    _into_cut(answer, media)
    prompt, meta = _prompt(row, form, media, answer), {**_meta(row.get("meta", {})), "where": where}
    if "space" in form.model_fields_set and answer.keys() & {"boxes", "points"}:
        meta["box_space"] = form.space.value  # the space that was declared; what is stored are pixels
    if "boxes" in form.model_fields_set and "boxes" in answer:
        meta["box_format"] = form.boxes  # the same: what is stored are corners
    return Sample("", source, task, prompt, answer, media, meta)


def _task(task: Any, row: Mapping[str, Any]) -> str:
    if task is None and "spans" in row:
        return "temporal"
    if task is None:
        raise RowError("no_task", f"the row names no task; give it one of {', '.join(TASKS)}, or set rows.task")
    if not isinstance(task, str) or task not in TASKS:
        raise RowError("unknown_task", f"unknown task {task!r}; {nearest(str(task), TASKS)}")
    return task


def _media(row: Mapping[str, Any], root: Path, remote: Remote | None) -> Iterator[Media]:
    """The images and then the videos of a row; or its `media`, in the order given there."""
    kinds: tuple[MediaKind, ...] = ("image", "video")
    entries: list[tuple[MediaKind, Any]] = [
        (kind, entry) for kind in kinds for name in (kind, f"{kind}s") for entry in _listed(row.get(name, []))
    ]
    for entry in _listed(row.get("media", [])):
        if not isinstance(entry, Mapping) or entry.get("kind") not in ("image", "video"):
            raise RowError("bad_media", f"an entry of media needs kind: image or video, got {entry!r:.80}")
        entries.append((entry["kind"], entry))
    for kind, entry in entries:
        media = _one_media(kind, entry, root, remote)
        if kind == "video":
            own = entry if isinstance(entry, Mapping) else {}
            fields = {**row, **{name: value for name, value in own.items() if value is not None}}
            media = replace(media, start=_second(fields.get("start")), end=_second(fields.get("end")))
        yield media


def _one_media(kind: MediaKind, entry: Any, root: Path, remote: Remote | None) -> Media:
    """A media item from a path, from bytes, or from an object with one of the two and declared measures."""
    path, content = (entry.get("path"), entry.get("bytes")) if isinstance(entry, Mapping) else (entry, entry)
    declared = _declared(entry) if isinstance(entry, Mapping) else {}
    if isinstance(content, bytes):
        return Media(kind, bytes=content, **declared)
    if not isinstance(path, str):
        raise RowError("bad_media", f"expected the path of a file, or an object with path or bytes, got {entry!r:.80}")
    if remote and path.startswith(("http://", "https://")):
        return Media(kind, path=str(fetched(path, remote)), **declared)
    return Media(kind, path=str(resolve(path, root)), **declared)


def _declared(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of a file that a source declares; `validate` compares them with the measured ones."""
    named = {name: entry.get(name) for name in ("width", "height", "num_frames", "duration")}
    return {name: value for name, value in named.items() if type(value) is int or type(value) is float}


def _declared_upright(media: Media) -> Media:
    """A picture whose declared size is that of its stored pixels, with the size as it is shown."""
    turned = media.kind == "image" and None not in (media.width, media.height) and orientation_of(media) >= 5
    return replace(media, width=media.height, height=media.width) if turned else media


def _prompt(row: Mapping[str, Any], form: Rows, media: tuple[Media, ...], answer: Mapping[str, Any]) -> Any:
    kinds: list[MediaKind] = [item.kind for item in media]
    if isinstance(row.get("prompt"), list):
        return row["prompt"]
    text = row.get("question", row.get("prompt"))
    if not isinstance(text, str) or not text.strip():
        raise RowError("no_question", f"the row needs a question (a text), got {text!r:.80}")
    if form.list_options and answer.get("options"):
        text = with_options(text, answer["options"])
    try:
        return user_prompt(text, kinds)
    except ValueError as error:
        raise RowError("marker_mismatch", f"{error}; question {text!r:.80}") from None


def _answer(task: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with the keys of its task, from the short forms that tables use."""
    keys, given = TASKS[task].keys, row.get("answer")
    first = keys[0].name
    answer = {name: row[name] for name in answer_columns() if name in row}
    answer |= given if isinstance(given, Mapping) else {} if given is None else {first: given}
    if answer.get(first) is None:
        raise RowError("no_answer", f"task {task} needs the answer keys {', '.join(key.name for key in keys)}")
    answer = {name: value for name, value in answer.items() if value is not None}
    known = KEYS | {key.name: key for key in keys}
    return {name: known[name].shaped(value, answer) if name in known else value for name, value in answer.items()}


def _into_pixels(answer: dict[str, Any], form: Rows, media: tuple[Media, ...], seen_size: Any) -> None:
    """Turn the boxes and points of `answer`, as written in the table, into pixels of the first image, in place."""
    if "boxes" in answer:
        answer["boxes"] = xyxy(answer["boxes"], form.boxes)
    written = [name for name in ("boxes", "points") if name in answer]
    if not written or (form.space == "pixel" and form.exif == "applied"):
        return
    if not media or media[0].kind != "image":
        raise RowError("no_image", f"{', '.join(written)} in space {form.space} need an image to refer to")
    size, orientation = shown_size(media[0]), orientation_of(media[0]) if form.exif == "ignored" else 1
    stored = (size[1], size[0]) if orientation >= 5 else size
    for name in written:
        placed = pixels(answer[name], form.space, stored, seen_size) if form.space != "pixel" else answer[name]
        answer[name] = [upright(place, stored, orientation) for place in placed]


def upright(place: list[float], stored: tuple[int, int], orientation: int) -> list[float]:
    """A box or point on the stored pixels, moved to where it is after EXIF rotation.

    >>> upright([0, 0, 10, 20], (100, 50), 6), upright([0, 0], (100, 50), 6)
    ([30, 0, 50, 10], [50, 0])
    """
    width, height = stored
    (x1, x2), (y1, y2) = (place[0], place[-2]), (place[1], place[-1])
    mirrored_x, mirrored_y = (width - x2, width - x1), (height - y2, height - y1)
    horizontal, vertical = {
        2: (mirrored_x, (y1, y2)),
        3: (mirrored_x, mirrored_y),
        4: ((x1, x2), mirrored_y),
        5: ((y1, y2), (x1, x2)),
        6: (mirrored_y, (x1, x2)),
        7: (mirrored_y, mirrored_x),
        8: ((y1, y2), mirrored_x),
    }.get(orientation, ((x1, x2), (y1, y2)))
    return [horizontal[0], vertical[0], horizontal[1], vertical[1]][: len(place)]


def _meta(meta: Any) -> Mapping[str, Any]:
    if not isinstance(meta, Mapping):
        raise RowError("bad_meta", f"meta is an object with named values, got {meta!r:.80}")
    return meta


def _into_cut(answer: dict[str, Any], media: tuple[Media, ...]) -> None:
    """Turn spans from seconds of the file (as in tables) into seconds of the part that is shown, in place."""
    start = next((item.start for item in media if item.kind == "video"), None)
    if start and "spans" in answer:
        answer["spans"] = [[second - start for second in span] for span in answer["spans"]]


def _is_size(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2
    return pair and all(is_number(side) and 0 < side <= sys.float_info.max for side in value)


def _second(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RowError("bad_media", f"start and end of a video are seconds, got {value!r:.80}")
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
