"""From a row of a table to a Sample: the format that the sources of tables share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, PositiveFloat

from data_engine.measure.measures import is_number
from data_engine.media.remote import Remote
from data_engine.schema import Sample, user_prompt
from data_engine.seeding import with_options
from data_engine.sources.base import Items, RowError, quarantined
from data_engine.sources.row_media import MEDIA_COLUMNS, MediaForm, kept_names, link_folders, media_of, unread
from mmrl.core.config import Config, nearest
from mmrl.core.media.files import MediaError
from mmrl.core.media.image import image_shape
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.vision import CoordinateSpace, to_pixels
from rewards.tasks.keys import KEYS, ChoiceForm, GoldError, letter_of, nested
from rewards.tasks.table import TASKS

PLAIN_COLUMNS = (
    *("question", "prompt", "task", "answer", "meta", "licence", "license"),
    *(*MEDIA_COLUMNS, "start", "end", "seen_size"),
)
LICENCES = {"licence", "license", "licences", "licenses", "licence_name", "license_name"}
PERCENT = "percent"  # a space of sources alone: 0 to 100 of the picture's width and height
Coordinates = Literal["xyxy", "xywh", "cxcywh"]
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
    """How the rows of a table are written. `columns` maps our names to the table's: `{question: query}`; or to a field
    of one, `{boxes: objects.bbox}`; images and options may be in several, `{images: [image_1, image_2]}`."""

    task: str | None = None  # of rows that do not say it themselves
    question: str | None = None  # of rows that do not have one
    columns: Mapping[Column, str | list[str]] = Field(default_factory=dict)
    ignore: list[str] = Field(default_factory=list)  # columns of the table that are not read, whatever they hold
    answer: ChoiceForm | None = None  # how choices say their gold: letter, index (from 0), index_from_1 or text
    space: CoordinateSpace | Literal["percent"] = CoordinateSpace.pixel
    boxes: Coordinates = "xyxy"
    exif: Exif = "applied"  # boxes are on the picture as it is shown; "ignored": as it is stored, before EXIF rotation
    remote: Remote | None = None  # media may be http addresses; default: these are refused
    media_root: str | None = None  # where relative media paths start and all must lie; default: the table's folder
    links: list[str] = Field(default_factory=list)  # other folders into which links below media_root may lead
    extension: str = ""  # suffix of media that are named without one, as by an id: mp4
    frame_rate: PositiveFloat | None = None  # frames a second of videos that are folders of frames
    list_options: bool = False  # append the options to the question as lines "A. cat"
    at: str | None = None  # in a JSON file that is one object: the key of its rows, a list or an object by id: data

    def named(self, name: str) -> list[str]:
        """The columns of the table for one of our names."""
        given = self.columns.get(name, name)
        return [given] if isinstance(given, str) else given


PLAIN_ROWS = Rows()


class Row(NamedTuple):
    """A row and its place (`questions.jsonl:12`), or its error."""

    where: str
    values: Any
    error: RowError | None = None


def samples_of(rows: Iterable[Row], form: Rows, media_root: Path, source: str) -> Items:
    """One sample per row; a row that cannot become one is quarantined, and reading continues."""
    links = link_folders(form.links, media_root)
    media = MediaForm(media_root, form.remote, form.extension.lstrip("."), form.frame_rate, links)
    for row in rows:
        try:
            if row.error:
                raise row.error
            yield _sample(row.values, form, media, source, row.where)
        except (RowError, GoldError, MediaError) as error:
            yield quarantined(error, source, row.where, row.values)


def xyxy(boxes: Any, form: Coordinates = "xyxy") -> list[list[float]]:
    """Boxes as corner coordinates; one box is a list of one.

    >>> xyxy([10, 20, 5, 5], "xywh"), xyxy([10, 20, 5, 5], "cxcywh")
    ([[10.0, 20.0, 15.0, 25.0]], [[7.5, 17.5, 12.5, 22.5]])
    """
    boxes = nested(boxes, 4, "a box is four numbers, the corners x1, y1, x2, y2")
    if form == "xyxy":
        return boxes
    left = 0.0 if form == "xywh" else 0.5  # the share of a box that lies before its named point
    return [
        [x - left * width, y - left * height, x + (1 - left) * width, y + (1 - left) * height]
        for x, y, width, height in boxes
    ]


def pixels(coords: list[list[float]], space: str, size: tuple[int, int], seen_size: Any = None) -> list[list[float]]:
    """Boxes or points of a source as pixels of the image, rounded to four digits.

    `seen_size` is [width, height], or a list with one for each image; it is used where the space is `resized`.
    """
    several = isinstance(seen_size, list) and len(seen_size) > 0 and isinstance(seen_size[0], list)
    seen = seen_size[0] if several else seen_size
    if space == PERCENT:
        coords, space = [[side / 100 for side in row] for row in coords], CoordinateSpace.unit
    if space == "resized" and not _is_size(seen):
        right = "seen_size, the [width, height] that the coordinates refer to"
        raise RowError("no_seen_size", f"space resized needs {right}, two numbers above 0; got {seen_size!r:.80}")
    try:
        return to_pixels(coords, space, size, seen if space == "resized" else ()).round(4).tolist()
    except (ValueError, TypeError) as error:
        raise RowError("bad_coordinates", str(error)) from None


def _sample(values: Any, form: Rows, media_form: MediaForm, source: str, where: str) -> Sample:
    if not isinstance(values, Mapping):
        raise RowError("bad_row", f"expected an object with named values, got {values!r:.80}")
    row, read = _named(values, form)
    task = _task(row.get("task", form.task), row)
    shown = list(media_of(row, media_form))
    names = unread(values, {*read, *form.ignore}, shown, media_form)
    media = tuple(item.media for item in shown)
    media = media if form.exif == "applied" else tuple(map(_declared_upright, media))
    answer = _answer(task, row, form)
    _into_pixels(answer, form, media, row.get("seen_size"))
    _into_cut(answer, media)
    prompt = _prompt(row, form, media, answer)
    meta = {**_meta(row, values), **kept_names(shown, names), "where": where}
    if "space" in form.model_fields_set and answer.keys() & {"boxes", "points"}:
        meta["box_space"] = str(form.space)  # the space that was declared; what is stored are pixels
    if "boxes" in form.model_fields_set and "boxes" in answer:
        meta["box_format"] = form.boxes  # the same: what is stored are corners
    return Sample("", source, task, prompt, answer, media, meta)


def _named(values: Mapping[str, Any], form: Rows) -> tuple[dict[str, Any], set[str]]:
    """(the values of a row under our names, the columns that were read)."""
    theirs = {name: form.named(name) for name in form.columns}
    taken = {*form.ignore, *(column for columns in theirs.values() for column in columns)}
    for name in (*PLAIN_COLUMNS, *answer_columns()):  # what is read under another of our names is not under its own
        if name not in theirs and name not in taken:
            theirs[name] = [name]
    row: dict[str, Any] = {}
    for name, columns in theirs.items():
        given, several = [_at(values, column) for column in columns], isinstance(form.columns.get(name), list)
        found = [value for value in given if value is not None]
        if name == "options" and given[: len(found)] != found:
            hole = columns[given.index(None)]
            raise RowError("bad_answer", f"column {hole} is empty and later options are not: their letters are unknown")
        if found:
            row[name] = [item for value in found for item in _listed(value)] if several else found[0]
    return row, {
        part for columns in theirs.values() for column in columns for part in (column, column.partition(".")[0])
    }


def _at(values: Mapping[str, Any], column: str) -> Any:
    """The value of a column, or of a field of one: `objects.bbox`."""
    if column in values or "." not in column:
        return values.get(column)
    head, _, rest = column.partition(".")
    inner = values.get(head)
    return _at(inner, rest) if isinstance(inner, Mapping) else None


def _task(task: Any, row: Mapping[str, Any]) -> str:
    if task is None and "spans" in row:
        return "temporal"
    if task is None:
        raise RowError("no_task", f"the row names no task; set rows.task, or give it one of {', '.join(TASKS)}")
    if not isinstance(task, str) or task not in TASKS:
        hint = f"{nearest(str(task), TASKS)}; if the column is not about tasks, list it in rows.ignore"
        raise RowError("unknown_task", f"unknown task {task!r}; {hint}")
    return task


def _declared_upright(media: Media) -> Media:
    """A picture whose declared size is that of its stored pixels, with the size as it is shown."""
    turned = media.kind == "image" and None not in (media.width, media.height) and image_shape(media).orientation >= 5
    return replace(media, width=media.height, height=media.width) if turned else media


def _prompt(row: Mapping[str, Any], form: Rows, media: tuple[Media, ...], answer: Mapping[str, Any]) -> Any:
    kinds: list[MediaKind] = [item.kind for item in media]
    if isinstance(row.get("prompt"), list):
        return row["prompt"]
    text = row.get("question", row.get("prompt", form.question))
    if not isinstance(text, str) or not text.strip():
        raise RowError("no_question", f"the row needs a question (a text), got {text!r:.80}")
    if form.list_options and answer.get("options"):
        text = with_options(text, answer["options"])
    try:
        return user_prompt(text, kinds)
    except ValueError as error:
        raise RowError("marker_mismatch", f"{error}; question {text!r:.80}") from None


def _answer(task: str, row: Mapping[str, Any], form: Rows) -> dict[str, Any]:
    """The answer with the keys of its task, from the short forms that tables use."""
    keys, given = TASKS[task].keys, row.get("answer")
    first = keys[0].name if keys else None
    answer = {name: row[name] for name in answer_columns() if name in row}
    answer |= given if isinstance(given, Mapping) and not {"x", "y"} <= given.keys() else _short(first, given)
    if first == "points" and answer.get(first) is None and answer.get("boxes") is not None:
        answer[first] = []  # their centres, once they are pixels
    if first is not None and answer.get(first) is None:
        raise RowError("no_answer", f"task {task} needs the answer keys {', '.join(key.name for key in keys)}")
    answer = {name: value for name, value in answer.items() if value is not None}
    known = KEYS | {key.name: key for key in keys}
    shaped = {name: known[name].shaped for name in answer if name in known and name != "choice"}
    if "choice" in answer:
        shaped["choice"] = _letter_in(form.answer if first == "choice" else None, given)
    return {name: shaped[name](value, answer) if name in shaped else value for name, value in answer.items()}


def _letter_in(form: ChoiceForm | None, given: Any) -> Callable[[Any, Mapping[str, Any]], str]:
    """How the value of `choice` is read: in the declared form; an answer in full says the letter."""
    whole = isinstance(given, Mapping) and given.get("choice") in list(ascii_uppercase)
    said: ChoiceForm | None = "letter" if whole else form
    if said is None:
        return KEYS["choice"].shaped
    return lambda value, answer: letter_of(value, answer.get("options", []), said)


def _short(first: str | None, given: Any) -> dict[str, Any]:
    """The answer of a single value: the first key of its task. A box as the gold of a point is where it may lie."""
    if given is None:
        return {}
    if first is None:
        raise RowError("no_answer", f"the task needs no answer; name the keys of what is given, not {given!r:.80}")
    is_box = isinstance(given, list) and len(given) == 4 and all(map(is_number, given))
    return {"boxes" if first == "points" and is_box else first: given}


def _into_pixels(answer: dict[str, Any], form: Rows, media: tuple[Media, ...], seen_size: Any) -> None:
    """Turn the boxes and points of `answer`, as written in the table, into pixels of the first image, in place."""
    if "boxes" in answer:
        answer["boxes"] = xyxy(answer["boxes"], form.boxes)
    written = [name for name in ("boxes", "points") if name in answer]
    if written and not (form.space == "pixel" and form.exif == "applied"):
        _place(answer, written, form, media, seen_size)
    if answer.get("points") == [] and answer.get("boxes"):
        answer["points"] = [[(x1 + x2) / 2, (y1 + y2) / 2] for x1, y1, x2, y2 in answer["boxes"]]


def _place(answer: dict[str, Any], written: list[str], form: Rows, media: tuple[Media, ...], seen_size: Any) -> None:
    if not media or media[0].kind != "image":
        raise RowError("no_image", f"{', '.join(written)} in space {form.space} need an image to refer to")
    size, orientation = image_shape(media[0])
    orientation = orientation if form.exif == "ignored" else 1
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


def own_licence(values: Mapping[str, Any]) -> Any:
    """What a row says of its licence, whatever the case of its column; None if it says nothing."""
    return next((value for column, value in values.items() if value and str(column).casefold() in LICENCES), None)


def _meta(row: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a row keeps, with its licence: one that names its own is never filed under another."""
    meta = row.get("meta", {})
    if not isinstance(meta, Mapping):
        raise RowError("bad_meta", f"meta is an object with named values, got {meta!r:.80}")
    own = row.get("licence") or own_licence(values)
    named = any(meta.get(name) for name in ("licence", "license"))
    return {**meta, "licence": licence_of(own)} if own and not named else dict(meta)


def licence_of(value: Any) -> str:
    """The name of a licence from what a row has for it: a text, a list of them, or an object with a name.

    >>> licence_of(["mit", {"name": "CC BY 4.0", "url": "https://..."}])
    'mit, CC BY 4.0'
    """
    if isinstance(value, Mapping):
        value = next((value[key] for key in ("name", "id", "url", "title") if value.get(key)), dict(value))
    return ", ".join(map(licence_of, value)) if isinstance(value, list) else str(value)


def _into_cut(answer: dict[str, Any], media: tuple[Media, ...]) -> None:
    """Turn spans from seconds of the file (as in tables) into seconds of the part that is shown, in place."""
    start = next((item.start for item in media if item.kind == "video"), None)
    if start and "spans" in answer:
        answer["spans"] = [[round(second - start, 6) for second in span] for span in answer["spans"]]


def _is_size(value: Any) -> bool:
    pair = isinstance(value, list) and len(value) == 2
    return pair and all(is_number(side) and 0 < side <= sys.float_info.max for side in value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
