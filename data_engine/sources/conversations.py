"""Conversations, and questions with a solution: LLaVA and ShareGPT, TRL, VLM-R1, R1-V and Video-R1."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from data_engine.schema import user_prompt
from data_engine.seeding import with_options
from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.golds import check_task, gold
from data_engine.sources.json_lines import json_table
from data_engine.sources.row_format import LICENCES, Exif, Row, Rows, own_licence, samples_of
from data_engine.sources.row_media import Shown, unread
from data_engine.sources.tables import csv_rows, dataset_rows, parquet_files, parquet_rows, saved_rows
from mmrl.core.media.item import Media
from mmrl.core.vision import CoordinateSpace
from rewards.parse.extract import answer_text
from rewards.tasks.golds import lettered
from rewards.tasks.keys import KEYS, GoldError, listed
from rewards.tasks.table import TASKS

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
MEDIA_MARKER = re.compile(r"<(image|video)>")
TALKS = ("conversations", "messages", "prompt", "problem", "question", "query")  # columns, the first that is there
SOLUTIONS = ("solution", "answer", "ground_truth")
OWN = ("start", "end", "seen_size")  # columns that a row of ours has, too
META = ("id", "problem_id", "split", "source", "data_source")
READ = (
    *LICENCES,
    *TALKS,
    *SOLUTIONS,
    *OWN,
    *META,
    "image",
    "images",
    "video",
    "videos",
    "objects",
    "system",
    "options",
    "task",
)
PROBLEM_TYPES = {  # of Video-R1 -> task
    "multiple choice": "choice",
    "numerical": "number",
    "regression": "number",
    "ocr": "ocr",
    "free-form": "open",
    "math": "math",
}
Turn = tuple[str, str]  # role and text


def conversations(
    *,
    path: str,
    root: Path,
    task: str = "open",
    turn: Literal["first", "last"] = "last",
    space: CoordinateSpace | None = None,
    media_root: str | None = None,
    exif: Exif = "applied",
) -> Items:
    """The rows of a LLaVA or ShareGPT file (`.json` or `.jsonl`): one answer is the gold, the `turn` `first` or `last`.

    The messages before that answer are the prompt. Boxes, labels, points and spans are read from the text of the
    answer, the options of a choice from the lettered lines of the question.
    """
    form = form_of(task, space, media_root, exif)
    return _samples(path, root, form, lambda row: asked_of(row, turns_of(row), task, turn), "conversations")


def vlm_r1(
    *,
    path: str,
    root: Path,
    task: str = "text",
    space: CoordinateSpace | None = None,
    media_root: str | None = None,
    exif: Exif = "applied",
) -> Items:
    """The rows of a VLM-R1, R1-V or Video-R1 file: `conversations`, or `problem` and `solution`, perhaps in tags.

    JSON lines, a JSON array, parquet files or a saved dataset. For tasks with boxes a solution may be a list of
    numbers. Video-R1's `path` is an image or a video by `data_type`, its `options` are listed below the question, and
    its `problem_type` decides the task.
    """
    form = form_of(task, space, media_root, exif)
    return _samples(path, root, form, lambda row: asked_of(row, turns_of(row), task, "first"), "vlm_r1")


def trl(
    *,
    path: str,
    root: Path,
    task: str | None = None,
    split: str | None = None,
    space: CoordinateSpace | None = None,
    media_root: str | None = None,
    exif: Exif = "applied",
) -> Items:
    """The rows of a dataset for TRL's GRPO: `prompt` (a text or messages), `image` or `images`, and `solution`.

    JSON lines, a JSON array, CSV, parquet files or a saved dataset. A row may name its `task`; `task` is that of the
    others. `split` is for a saved dataset that has splits.
    """
    form = form_of(task, space, media_root, exif)
    return _samples(path, root, form, lambda row: asked_of(row, turns_of(row), task, "last"), "trl", split)


def trl_samples(data: Any, task: str | None = None) -> Items:
    """The rows of a `datasets.Dataset` in memory, as `trl` reads them; media are absolute paths or bytes."""
    rows = (
        made(row, lambda values: asked_of(values, turns_of(values), task, "last")) for row in dataset_rows(data, "")
    )
    return samples_of(rows, form_of(task, None, None, "applied"), Path("/"), "trl")


def form_of(task: str | None, space: CoordinateSpace | None, media_root: str | None, exif: Exif) -> Rows:
    """How rows are written; without a declared space they are read as pixels, and the space counts as unknown."""
    form: dict[str, Any] = {"task": task and check_task(task), "media_root": media_root, "exif": exif}
    return Rows(**form) if space is None else Rows(**form, space=space)


def _samples(
    path: str,
    root: Path,
    form: Rows,
    asked: Callable[[Mapping[str, Any]], dict[str, Any]],
    name: str,
    split: str | None = None,
) -> Items:
    folder, rows = rows_in(path, root, "file of conversations", split)
    folder = existing(root, form.media_root, "media_root") if form.media_root else folder
    return samples_of((made(row, asked) for row in rows), form, folder, name)


def rows_in(path: str, root: Path, kind: str, split: str | None = None) -> tuple[Path, Iterator[Row]]:
    """(the folder of a table, its rows): JSON lines, a JSON array, CSV, parquet files, or a saved dataset."""
    place = existing(root, path, kind)
    folder = place if place.is_dir() else place.parent
    if place.is_dir() and not any(place.rglob("*.parquet")):
        return folder, saved_rows(place, split if (place / "dataset_dict.json").exists() else None, path)
    if place.is_dir() or place.suffix == ".parquet":
        return folder, parquet_rows(parquet_files(root, path)[1], root)
    if place.suffix in (".csv", ".tsv"):
        return folder, csv_rows(place, path)
    return folder, json_table(place, path)


def made(row: Row, asked: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Row:
    """The row in our own columns, or its error."""
    if row.error:
        return row
    try:
        if not isinstance(row.values, Mapping):
            raise RowError("bad_row", f"expected an object with named values, got {row.values!r:.80}")
        return row._replace(values=asked(row.values))
    except RowError as error:
        return row._replace(error=error)
    except GoldError as error:
        return row._replace(error=RowError(error.reason, str(error)))


def turns_of(row: Mapping[str, Any]) -> list[Turn]:
    """The (role, text) pairs of a row in any notation, the system's text first, and its solution last if it has one."""
    given = _talk(row)
    asked = isinstance(given, str) and bool(given.strip())
    if isinstance(given, str) and asked:
        given = [{"role": "user", "content": _with_options(row, given)}]
    if not isinstance(given, list) or not given:
        raise RowError("no_conversation", "the row needs a list of turns under conversations or messages, or a problem")
    turns = [_turn(message) for message in given]
    solution = next((row[name] for name in SOLUTIONS if row.get(name) is not None), None)
    if turns[-1][0] != "assistant":
        if solution is None and asked:
            raise RowError("no_conversation", f"the row needs an answer: a last turn, or one of {', '.join(SOLUTIONS)}")
        written = solution if isinstance(solution, str) else json.dumps(solution, default=str)
        turns += [("assistant", written)] if solution is not None else []
    system = row.get("system")
    return [("system", system), *turns] if isinstance(system, str) and system.strip() else turns


def _talk(row: Mapping[str, Any]) -> Any:
    """What is said in a row: a list of messages, which may be written as a text, or the text of a question."""
    given = next((row[name] for name in TALKS if row.get(name) is not None), None)
    parsed = listed(given)
    whole = isinstance(parsed, list) and parsed and all(isinstance(message, Mapping) for message in parsed)
    return parsed if whole else given


def _turn(message: Any) -> Turn:
    """The (role, text) of a message; parts that show media are markers in the text."""
    fields = message if isinstance(message, Mapping) else {}
    role, text = fields.get("from", fields.get("role")), fields.get("value", fields.get("content"))
    if isinstance(text, list) and all(isinstance(part, Mapping) for part in text):
        shown = [f"<{kind}>" if (kind := _kind_of(part)) else part.get("text") for part in text]
        text = "".join(shown) if all(isinstance(piece, str) for piece in shown) else None
    if not isinstance(role, str) or role not in ROLES or not isinstance(text, str):
        right = f"from (or role), one of {', '.join(ROLES)}, and value (or content), a text or parts"
        raise RowError("bad_turn", f"a turn needs {right}; got {message!r:.120}")
    return ROLES[role], text


def _kind_of(part: Mapping[str, Any]) -> str | None:
    return {"image": "image", "image_url": "image", "video": "video", "video_url": "video"}.get(str(part.get("type")))


def _with_options(row: Mapping[str, Any], question: str) -> str:
    """The question with the options of its row below it, if it does not list them itself."""
    options = listed(row.get("options"))
    if not isinstance(options, list) or not options or lettered(question):
        return question
    return with_options(question, KEYS["options"].shaped(options, {}))


def asked_of(row: Mapping[str, Any], turns: Sequence[Turn], task: str | None, turn: str) -> dict[str, Any]:
    """The columns of our format for a conversation up to one of its answers."""
    places = [place for place, (role, _) in enumerate(turns) if role == "assistant"]
    if not places or not places[0]:
        raise RowError("no_answer", "the conversation needs a question and then an answer (from gpt, role assistant)")
    place = places[0 if turn == "first" else -1]
    prompt, media = shown(row, turns[:place], turns[place:])
    task, columns = task_of(row, task), {"prompt": prompt, "media": media, **kept(row)}
    if isinstance(row.get("answer"), Mapping):  # the answer in full
        return {**columns, "task": task, "answer": row["answer"]}
    answer = answer_text(turns[place][1])  # inside its tags, if it has some
    if not answer:
        raise RowError("no_answer", f"no answer in {turns[place][1]!r:.120}")
    return {**columns, "task": task, **gold(task, answer, question_of(turns[:place]))}


def task_of(row: Mapping[str, Any], task: str | None) -> str:
    """The task of a row: its own, or that of its `problem_type`, or `task`."""
    own = row.get("task")
    own = own if isinstance(own, str) and own in TASKS else PROBLEM_TYPES.get(str(row.get("problem_type")).casefold())
    if (own or task) is None:
        raise RowError("no_task", f"the row names no task; set task, or give it one of {', '.join(TASKS)}")
    return own or task or ""


def question_of(turns: Sequence[Turn]) -> str:
    """The last text of the user."""
    return next((text for role, text in reversed(turns) if role == "user"), "")


def shown(
    row: Mapping[str, Any], turns: Sequence[Turn], later: Sequence[Turn] = ()
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The (prompt, media) of turns: the n-th `<image>` is the n-th image; without any marker all media come first.

    Media without a marker are an error, unless a turn in `later` marks them. In a row without images, `<image>` markers
    as many as its videos stand for the videos, as in LLaVA-Video.
    """
    given = {kind: [_file(kind, entry) for entry in _entries(row, kind)] for kind in ("image", "video")}
    refuse_unread(row, given["image"] + given["video"])
    if not given["image"] and _marked([*turns, *later]) == ["image"] * len(given["video"]):
        turns, later = ([(r, t.replace("<image>", "<video>")) for r, t in pairs] for pairs in (turns, later))
    kinds, others = map(_marked, (turns, later))
    first = next((place for place, (role, _) in enumerate(turns) if role == "user"), 0)
    if not kinds and not others:
        kinds = [kind for kind, entries in given.items() for _ in entries]
        turns = [(r, "".join(f"<{k}>" for k in kinds) + t if p == first else t) for p, (r, t) in enumerate(turns)]
    left = {kind: iter(entries) for kind, entries in given.items()}
    media = [(kind, next(left[kind], None)) for kind in kinds]
    unseen = Counter(kind for kind, entries in left.items() for _ in entries)
    if any(entry is None for _, entry in media) or unseen != Counter(others):
        counts = ", ".join(f"{len(entries)} {kind}s" for kind, entries in given.items())
        raise RowError("marker_mismatch", f"the text marks {[*kinds, *others]} and the row has {counts}")
    prompt = [{"role": role, "content": _content(text)} for role, text in turns]
    return prompt, [{**entry, "kind": kind} for kind, entry in media if entry]


def _content(text: str) -> list[dict[str, Any]]:
    """The parts of a turn, without the line breaks that part the question from media before or behind all of it."""
    parts = user_prompt(text, MEDIA_MARKER.findall(text))[0]["content"]
    places = [place for place, part in enumerate(parts) if part["type"] == "text"]
    if places and places[0] > 0:
        parts[places[0]]["text"] = parts[places[0]]["text"].lstrip("\n")
    if places and places[-1] < len(parts) - 1:
        parts[places[-1]]["text"] = parts[places[-1]]["text"].rstrip("\n")
    return parts


def _marked(turns: Sequence[Turn]) -> list[str]:
    """The kinds of media that turns mark, in order."""
    return [kind for _, text in turns for kind in MEDIA_MARKER.findall(text)]


def _entries(row: Mapping[str, Any], kind: str) -> list[Any]:
    """The images or videos of a row: in their columns, in the parts of its messages, or as Video-R1's `path`."""
    found = [entry for name in (kind, f"{kind}s") for entry in _listed(row.get(name))]
    if not found and row.get("data_type") == kind:
        found = _listed(row.get("path"))
    if not found:
        messages = _talk(row)
        messages = messages if isinstance(messages, list) else []
        parts = [part for message in messages if isinstance(message, Mapping) for part in _parts(message)]
        inline = [_in_part(part, kind) for part in parts if _kind_of(part) == kind]
        found = [entry for entry in inline if entry]
    return found


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("value", message.get("content"))
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _in_part(part: Mapping[str, Any], kind: str) -> Any:
    """The picture or video that a part of a message holds itself."""
    held = next((part[name] for name in (kind, f"{kind}_url", "url", "path") if part.get(name)), None)
    return held.get("url", held) if isinstance(held, Mapping) else held


def refuse_unread(row: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
    """RowError for a picture or video in a column that is not read."""
    shown = [Shown(Media(bytes=entry.get("bytes")), str(entry.get("path") or "")) for entry in entries]
    unread(row, READ, shown, None, right="call it image or video, or remove it")


def _file(kind: str, entry: Any) -> dict[str, Any]:
    """A media entry of our format; `path` may be named by its kind, as in verl, and may be a file:// address."""
    fields = dict(entry) if isinstance(entry, Mapping) else {"path": entry}
    if fields.get("path") is None and fields.get("bytes") is None:
        fields["path"] = fields.get(kind)
    path = fields.get("path")
    fields["path"] = path.removeprefix("file://") if isinstance(path, str) else path
    return fields


def kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a row has under our names, and the meta of its sample."""
    own, meta = ({name: row[name] for name in names if row.get(name) is not None} for names in (OWN, META))
    return {**own, "meta": meta, "licence": own_licence(row)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
