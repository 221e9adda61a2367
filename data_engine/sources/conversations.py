"""Conversations: LLaVA and ShareGPT files, VLM-R1 JSONL, and messages of ms-swift with their `objects`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from data_engine.schema import user_prompt
from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.golds import check_task, gold
from data_engine.sources.json_lines import json_table
from data_engine.sources.row_format import Exif, Row, Rows, samples_of
from mmrl.core.vision import CoordinateSpace
from rewards.parse.extract import answer_text

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
MEDIA_MARKER = re.compile(r"<(image|video)>")
PLACEHOLDER = re.compile(r"<(ref-object|bbox)>")
OWN = ("start", "end", "seen_size")  # columns that a row of ours has, too
META = ("id", "split", "source", "data_source", "licence", "license")
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
    return _samples(path, root, form, lambda row: _asked(row, _turns(row), task, turn), "conversations")


def vlm_r1(
    *,
    path: str,
    root: Path,
    task: str = "text",
    space: CoordinateSpace | None = None,
    media_root: str | None = None,
    exif: Exif = "applied",
) -> Items:
    """The rows of a VLM-R1 JSONL file: `conversations`, or `problem` and `solution`; answers may be in tags.

    For tasks with boxes a solution may be a list of numbers.
    """
    form = form_of(task, space, media_root, exif)
    return _samples(path, root, form, lambda row: _asked(row, _problem(row, task), task, "first"), "vlm_r1")


def ms_swift(
    *, path: str, root: Path, task: str = "open", media_root: str | None = None, exif: Exif = "applied"
) -> Items:
    """The rows of an ms-swift JSONL file. If the last answer contains `<bbox>`, the boxes in `objects` are the gold.

    With one `<ref-object>` for each of them in that answer the task is detection, else grounding; rows without boxes
    have the task `task`. Boxes of two numbers are points. `bbox_type: norm1` means boxes from 0 to 1, else they are
    pixels.
    """
    check_task(task)
    file, rows = _table(path, root, "ms-swift JSONL file")
    folder = existing(root, media_root, "media_root") if media_root else file.parent

    def samples() -> Items:
        for row in rows:
            converted = made(row, lambda values: _with_objects(values, task))
            objects = row.values.get("objects") if isinstance(row.values, Mapping) else None
            unit = isinstance(objects, Mapping) and objects.get("bbox_type") == "norm1"
            space = CoordinateSpace.unit if unit else CoordinateSpace.pixel
            yield from samples_of([converted], Rows(task=task, space=space, exif=exif), folder, "ms_swift")

    return samples()


def form_of(task: str, space: CoordinateSpace | None, media_root: str | None, exif: Exif) -> Rows:
    """How rows are written; without a declared space they are read as pixels, and the space counts as unknown."""
    form = Rows(task=check_task(task), media_root=media_root, exif=exif)
    return form if space is None else Rows(task=task, media_root=media_root, exif=exif, space=space)


def _samples(
    path: str, root: Path, form: Rows, asked: Callable[[Mapping[str, Any]], dict[str, Any]], name: str
) -> Items:
    file, rows = _table(path, root, "file of conversations")
    folder = existing(root, form.media_root, "media_root") if form.media_root else file.parent
    return samples_of((made(row, asked) for row in rows), form, folder, name)


def _table(path: str, root: Path, kind: str) -> tuple[Path, Iterator[Row]]:
    file = existing(root, path, kind)
    return file, json_table(file, path)


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


def _turns(row: Mapping[str, Any]) -> list[Turn]:
    """The (role, text) pairs of `conversations` or `messages`, in either notation, the system's text first."""
    given = row.get("conversations", row.get("messages"))
    if not isinstance(given, list) or not given:
        raise RowError("no_conversation", "the row needs a list of turns under conversations or messages")
    turns: list[Turn] = []
    for message in given:
        role, text = (
            (message.get("from", message.get("role")), message.get("value", message.get("content")))
            if isinstance(message, Mapping)
            else (0, 0)
        )
        if not isinstance(role, str) or role not in ROLES or not isinstance(text, str):
            right = f"from (or role), one of {', '.join(ROLES)}, and value (or content), a text"
            raise RowError("bad_turn", f"a turn needs {right}; got {message!r:.120}")
        turns.append((ROLES[role], text))
    system = row.get("system")
    return [("system", system), *turns] if isinstance(system, str) and system.strip() else turns


def _problem(row: Mapping[str, Any], task: str) -> list[Turn]:
    if "conversations" in row or "messages" in row:
        return _turns(row)
    question, solution = row.get("problem"), row.get("solution")
    if task in ("grounding", "detection") and isinstance(solution, list):
        solution = json.dumps(solution, default=str)
    if not isinstance(question, str) or not isinstance(solution, str):
        raise RowError("no_conversation", "the row needs conversations, or problem and solution, two texts")
    return [("user", question), ("assistant", solution)]


def _asked(row: Mapping[str, Any], turns: Sequence[Turn], task: str, turn: str) -> dict[str, Any]:
    """The columns of our format for a conversation up to one of its answers."""
    places = [place for place, (role, _) in enumerate(turns) if role == "assistant"]
    if not places or not places[0]:
        raise RowError("no_answer", "the conversation needs a question and then an answer (from gpt, role assistant)")
    place = places[0 if turn == "first" else -1]
    prompt, media = shown(row, turns[:place], turns[place:])
    answer = answer_text(turns[place][1])  # inside its tags, if it has some
    if not answer:
        raise RowError("no_answer", f"no answer in {turns[place][1]!r:.120}")
    return {"prompt": prompt, "media": media, **gold(task, answer, question_of(turns[:place])), **kept(row)}


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
    given = {
        kind: [_file(kind, entry) for name in (kind, f"{kind}s") for entry in _listed(row.get(name))]
        for kind in ("image", "video")
    }
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
    prompt = [
        {"role": role, "content": user_prompt(text, MEDIA_MARKER.findall(text))[0]["content"]} for role, text in turns
    ]
    return prompt, [{**entry, "kind": kind} for kind, entry in media if entry]


def _marked(turns: Sequence[Turn]) -> list[str]:
    """The kinds of media that turns mark, in order."""
    return [kind for _, text in turns for kind in MEDIA_MARKER.findall(text)]


def _file(kind: str, entry: Any) -> dict[str, Any]:
    """A media entry of our format; `path` may be named by its kind, as in verl, and may be a file:// address."""
    fields = dict(entry) if isinstance(entry, Mapping) else {"path": entry}
    if fields.get("path") is None and fields.get("bytes") is None:
        fields["path"] = fields.get(kind)
    path = fields.get("path")
    fields["path"] = path.removeprefix("file://") if isinstance(path, str) else path
    return fields


def _with_objects(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The columns of our format for an ms-swift row; its placeholders are replaced in order by what `objects` holds."""
    turns = _turns(row)
    objects = row.get("objects") or {}
    given = {name: objects.get(name, []) for name in ("ref", "bbox")} if isinstance(objects, Mapping) else {}
    if not given or not all(isinstance(entries, list) for entries in given.values()):
        raise RowError("bad_objects", f"objects hold a list under ref and one under bbox, got {objects!r:.120}")
    if any(objects.get("image_id") or ()):
        raise RowError("bad_objects", "boxes of another image than the first; give each image a row of its own")
    left = {"ref-object": list(given["ref"]), "bbox": list(given["bbox"])}
    asked = [(role, PLACEHOLDER.sub(lambda hit: str(_taken(left, hit[1])), text)) for role, text in turns[:-1]]
    role, last = turns[-1]
    golds = {kind: [_taken(left, kind) for name in PLACEHOLDER.findall(last) if name == kind] for kind in left}
    if left["bbox"]:
        raise RowError("bad_objects", f"the text has no <bbox> for {left['bbox'][0]!r:.80} of objects")
    if role != "assistant" or not PLACEHOLDER.search(last):
        return _asked(row, [*asked, turns[-1]], task, "last")
    prompt, media = shown(row, asked)
    columns = {"prompt": prompt, "media": media, **kept(row)}
    boxes, labels = golds["bbox"], golds["ref-object"]
    if boxes and all(isinstance(box, list) and len(box) == 2 for box in boxes):
        return {**columns, "task": "point", "points": boxes}
    if len(labels) == len(boxes):
        return {**columns, "task": "detection", "boxes": boxes, "labels": labels}
    return {**columns, "task": "grounding", "boxes": boxes}


def _taken(left: dict[str, list[Any]], kind: str) -> Any:
    if not left[kind]:
        raise RowError("bad_objects", f"the text has more <{kind}> than objects hold")
    return left[kind].pop(0)


def kept(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a row has under our names, and the meta of its sample."""
    own, meta = ({name: row[name] for name in names if row.get(name) is not None} for names in (OWN, META))
    return {**own, "meta": meta}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
