"""Temporal grounding: the annotation files of Charades-STA and ActivityNet Captions, with a folder of videos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.json_lines import plain_json
from data_engine.sources.row_format import Row, Rows, samples_of
from mmrl.core.config import InputError

QUESTION = "When does this happen in the video: {sentence} Give the start and the end in seconds."
CHARADES = re.compile(r"(\S+)\s+(\d+(?:\.\d+)?)\s+(\d+(?:\.\d+)?)\s*##\s*(.*\S)")


def charades_sta(
    *, annotations: str, videos: str, root: Path, question: str = QUESTION, extension: str = "mp4"
) -> Items:
    """The lines `VIDEO START END##SENTENCE` of a Charades-STA file; `{sentence}` in the question is replaced."""
    file, folder = existing(root, annotations, "Charades-STA file"), existing(root, videos, "folder of videos")
    return samples_of(_charades(file, annotations, question, extension), Rows(task="temporal"), folder, "charades_sta")


def activitynet(
    *, annotations: str, videos: str, root: Path, question: str = QUESTION, extension: str = "mp4"
) -> Items:
    """The sentences of an ActivityNet Captions file, `{video: {duration, timestamps, sentences}}`, each a sample."""
    file, folder = existing(root, annotations, "ActivityNet file"), existing(root, videos, "folder of videos")

    def rows() -> Iterator[Row]:
        try:
            data = plain_json(file.read_bytes())
        except ValueError as error:
            raise InputError(f"{file} is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise InputError(f"{file} must be an object of videos, {{v_...: {{duration, timestamps, sentences}}}}")
        for video, entry in data.items():
            yield from _moments(f"{annotations}: {video}", video, entry, question, extension)

    return samples_of(rows(), Rows(task="temporal"), folder, "activitynet")


def _charades(file: Path, path: str, question: str, extension: str) -> Iterator[Row]:
    with file.open(encoding="utf-8", errors="surrogateescape") as lines:
        for number, line in enumerate(lines, start=1):
            where, match = f"{path}:{number}", CHARADES.fullmatch(line.strip())
            if match:
                video, start, end, sentence = match.groups()
                yield Row(where, _row(video, [float(start), float(end)], sentence, question, extension))
            elif line.strip():
                yield Row(where, line[:1000], RowError("bad_row", "a line must be VIDEO START END##SENTENCE"))


def _moments(where: str, video: str, entry: Any, question: str, extension: str) -> Iterator[Row]:
    """The sentences of one video of ActivityNet."""
    times, sentences = (entry.get("timestamps"), entry.get("sentences")) if isinstance(entry, Mapping) else (None, None)
    if not isinstance(times, list) or not isinstance(sentences, list) or len(times) != len(sentences):
        yield Row(where, entry, RowError("bad_row", "a video needs as many timestamps as sentences, two lists"))
        return
    for number, (span, sentence) in enumerate(zip(times, sentences, strict=True), start=1):
        place = f"{where}#{number}"
        if isinstance(sentence, str) and sentence.strip():
            row = _row(video, span, sentence.strip(), question, extension)
            yield Row(place, {**row, "video": {"path": row["video"], "duration": entry.get("duration")}})
        else:
            yield Row(place, entry, RowError("no_question", f"a sentence is a text, got {json.dumps(sentence)[:80]}"))


def _row(video: str, span: Any, sentence: str, question: str, extension: str) -> dict[str, Any]:
    asked = question.replace("{sentence}", sentence if sentence.endswith(".") else f"{sentence}.")
    return {"video": f"{video}.{extension}", "question": asked, "spans": [span], "answer": None}
