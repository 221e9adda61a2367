"""A dataset in the files of other programs: COCO, LLaVA, ms-swift, TRL. The sources of these formats read it back.

OUT/<split>.json, OUT/<split>.jsonl     the rows of a split
OUT/media/<sha256[:2]>/<sha256>.jpg     the images and videos, named by their content
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from data_engine.dataset.shards import read_manifest, read_samples
from data_engine.media.media_store import MediaStore
from data_engine.schema import Sample
from data_engine.sources.base import RowError
from data_engine.sources.conversations import asked_of, turns_of
from data_engine.sources.ms_swift import with_objects
from data_engine.sources.row_format import Row, Rows, samples_of
from mmrl.core.canonical_json import dumps
from mmrl.core.config import InputError, nearest
from mmrl.core.files import appearing
from mmrl.core.media.item import Media
from mmrl.core.messages import parts_of, pieces_of
from rewards.tasks.keys import GoldError
from rewards.tasks.table import TASKS

Format = Literal["coco", "llava", "ms_swift", "trl"]
META = ("split", "licence", "license")  # of meta, that a row keeps


@dataclass
class Exported:
    """How many samples were written, and how many of each task the format cannot hold."""

    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def export(directory: str | Path, out: str | Path, form: str, split: str | None = None) -> Exported:
    """Write a dataset directory, or one split of it, to the new folder `out` in the format `form`.

    COCO holds detections and captions; the others hold what a text can answer. An answer that its text does not say in
    full (several accepted texts, options that the question does not list) is also there as `answer`, which the other
    programs ignore.
    """
    if form not in get_args(Format):
        raise InputError(f"no format {form}; {nearest(form, get_args(Format))}")
    out, directory = Path(out), Path(directory)
    if out.exists():
        raise InputError(f"{out} is there already; name a new folder, or remove it")
    splits = [split] if split else sorted(read_manifest(directory)["splits"])
    counts = Exported()
    with appearing(out) as folder:
        folder.mkdir()
        store = MediaStore(folder, None, embed=False)
        for name in splits:
            samples = read_samples(directory, split=name)
            if form == "coco":
                _write_coco(samples, store, folder, name, counts)
            else:
                _write_rows(samples, store, folder, name, ROWS[form], counts)
    return counts


def _write_rows(
    samples: Iterator[Sample],
    store: MediaStore,
    folder: Path,
    split: str,
    row_of: RowOf,
    counts: Exported,
) -> None:
    """One row a sample: JSON lines, or one array for LLaVA."""
    made, is_array = row_of
    with (folder / f"{split}.{'json' if is_array else 'jsonl'}").open("w", encoding="utf-8") as file:
        between = "[\n" if is_array else ""
        for sample in samples:
            gold = _gold_of(sample)
            if gold is None:
                counts.left_out[sample.task] += 1
                continue
            stored = replace(sample, media=tuple(map(store.add, sample.media)))
            file.write(between + json.dumps(_whole(stored, made(stored, gold), folder), ensure_ascii=False))
            file.write("" if is_array else "\n")
            between = ",\n" if is_array else ""
            counts.written += 1
        if is_array:
            file.write("\n]\n" if between == ",\n" else "[]\n")


def _gold_of(sample: Sample) -> str | None:
    """The gold as a text that answers the question; None for tasks without one."""
    kind = TASKS.get(sample.task)
    golds = kind.golds(_of_file(sample), lambda rows: rows) if kind and kind.golds and kind.read else []
    return golds[0] if golds else None


def _of_file(sample: Sample) -> dict[str, Any]:
    """The answer with spans in seconds of the file, as tables write them, not of the part that is shown."""
    start = next((item.start for item in sample.media if item.kind == "video"), None)
    if not start or "spans" not in sample.answer:
        return dict(sample.answer)
    return {**sample.answer, "spans": [[second + start for second in span] for span in sample.answer["spans"]]}


def _whole(sample: Sample, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row, with the answer in full if reading it gives another sample."""
    read = with_objects if "objects" in row else _as_conversation
    try:
        made = Row("", read(row, sample.task))
        (again,) = samples_of([made], Rows(task=sample.task), folder, sample.source)
        if isinstance(again, Sample) and dumps(again.answer) == dumps(sample.answer):
            return row
    except (RowError, GoldError):
        pass  # its text is not one that can be read back
    return {**row, "answer": _of_file(sample)}


def _as_conversation(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    return asked_of(row, turns_of(row), task, "last")


def _llava(sample: Sample, gold: str) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    turns = [{"from": names.get(role, role), "value": text} for role, text in _texts(sample)]
    media = _media(sample)
    one = {kind: entries[0] if len(entries) == 1 else entries for kind, entries in media.items()}
    talk = {"conversations": [*turns, {"from": "gpt", "value": gold}]}
    return {"id": sample.id, **one, **talk, **_kept(sample)}


def _ms_swift(sample: Sample, gold: str) -> dict[str, Any]:
    turns = [{"role": role, "content": text} for role, text in _texts(sample)]
    places, answer = sample.answer.get("boxes") or [], gold
    objects: dict[str, Any] = {}
    if sample.task == "point":
        places = sample.answer["points"]
    if sample.task in ("grounding", "point", "detection") and places:
        labels = sample.answer["labels"] if sample.task == "detection" else []
        objects = {"objects": {"ref": list(labels), "bbox": [list(place) for place in places]}}
        answer = ("<ref-object><bbox>" if labels else "<bbox>") * len(places)
    media = {f"{kind}s": entries for kind, entries in _media(sample).items()}
    talk = {"messages": [*turns, {"role": "assistant", "content": answer}], "solution": gold}
    return {"id": sample.id, **talk, **media, **objects, **_kept(sample)}


def _trl(sample: Sample, gold: str) -> dict[str, Any]:
    prompt = [{"role": message["role"], "content": parts_of(message["content"])} for message in sample.prompt]
    media = {f"{kind}s": entries for kind, entries in _media(sample).items()}
    return {"id": sample.id, "prompt": prompt, **media, "solution": gold, **_kept(sample)}


RowOf = tuple[Callable[[Sample, str], dict[str, Any]], bool]  # how a row is made, and whether a file is an array
ROWS: dict[str, RowOf] = {
    "llava": (_llava, True),
    "ms_swift": (_ms_swift, False),
    "trl": (_trl, False),
}


def _texts(sample: Sample) -> Iterator[tuple[str, str]]:
    """(role, text) of the messages, with markers where the media are."""
    for message in sample.prompt:
        yield message["role"], "".join(pieces_of(message["content"]))


def _media(sample: Sample) -> dict[str, list[Any]]:
    entries: dict[str, list[Any]] = defaultdict(list)
    for item in sample.media:
        cut = {name: getattr(item, name) for name in ("start", "end") if getattr(item, name) is not None}
        entries[item.kind].append({"path": item.path, **cut} if cut else item.path)
    return dict(entries)


def _kept(sample: Sample) -> dict[str, Any]:
    meta = {name: sample.meta[name] for name in META if sample.meta.get(name) is not None}
    return {"task": sample.task, "source": sample.source, **meta}


def _write_coco(samples: Iterator[Sample], store: MediaStore, folder: Path, split: str, counts: Exported) -> None:
    """The detections of a split as instances, and its captions in a file of their own."""
    detections, captions = _Coco(), _Coco()
    for sample in samples:
        if sample.task not in ("detection", "caption") or [item.kind for item in sample.media] != ["image"]:
            counts.left_out[sample.task] += 1
            continue
        media = store.add(sample.media[0])
        if sample.task == "detection":
            detections.add_objects(media, sample)
        else:
            captions.add_captions(media, sample)
        counts.written += 1
    for name, file in ((split, detections), (f"{split}_captions", captions)):
        if file.images:
            (folder / f"{name}.json").write_text(file.text(), encoding="utf-8")


class _Coco:
    """The images, annotations, categories and licences of a COCO file."""

    def __init__(self) -> None:
        self.images: dict[str, dict[str, Any]] = {}
        self.annotations: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}
        self._licences: dict[str, int] = {}
        self._known = set[str]()  # annotations of pictures that several samples ask about

    def add_objects(self, media: Media, sample: Sample) -> None:
        """The boxes of a detection."""
        image = self._image(media, sample)
        for (x1, y1, x2, y2), label in zip(sample.answer["boxes"], sample.answer["labels"], strict=True):
            number = self._categories.setdefault(label, len(self._categories) + 1)
            box = [x1, y1, x2 - x1, y2 - y1]
            self._annotate(image, {"category_id": number, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})

    def add_captions(self, media: Media, sample: Sample) -> None:
        """The texts of a caption."""
        image = self._image(media, sample)
        for text in sample.answer["references"]:
            self._annotate(image, {"caption": text})

    def text(self) -> str:
        """The file."""
        licences = [{"id": number, "name": name, "url": ""} for name, number in self._licences.items()]
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        parts = {"licenses": licences, "images": list(self.images.values()), "annotations": self.annotations}
        return json.dumps({**parts, "categories": categories}, ensure_ascii=False) + "\n"

    def _image(self, media: Media, sample: Sample) -> int:
        path = str(media.path)
        if path not in self.images:
            entry = {"id": len(self.images) + 1, "file_name": path, "width": media.width, "height": media.height}
            if licence := sample.meta.get("licence") or sample.meta.get("license"):
                entry["license"] = self._licences.setdefault(str(licence), len(self._licences) + 1)
            self.images[path] = entry
        return self.images[path]["id"]

    def _annotate(self, image: int, about: Mapping[str, Any]) -> None:
        key = dumps([image, dict(about)])
        if key not in self._known:
            self._known.add(key)
            self.annotations.append({"id": len(self.annotations) + 1, "image_id": image, **about})


def summary(counts: Exported, out: Path, form: str) -> Sequence[str]:
    """What was written, in lines for a terminal."""
    lines = [f"{out}: {counts.written:,} samples"]
    for task, count in sorted(counts.left_out.items()):
        lines.append(f"left out: {count:,} of task {task}, which {form} does not hold")
    return lines
