"""Temporal grounding: the annotation files of Charades-STA, ActivityNet Captions, Ego4D, with a folder of videos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.json_lines import json_entries, plain_json
from data_engine.sources.row_format import Row, Rows, samples_of
from mmrl.core.config import InputError

QUESTION = "When does this happen in the video: {sentence} Give the start and the end in seconds."
EGO4D = "When in the video can this be answered: {sentence} Give the start and the end in seconds."
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


def ego4d_nlq(*, annotations: str, videos: str, root: Path, question: str = EGO4D, extension: str = "mp4") -> Items:
    """The language queries of an Ego4D file (`nlq_train.json`), each with its seconds; `{sentence}` is replaced.

    The folder holds the clips by their `clip_uid`, or else the whole videos by their `video_uid`, of which the part of
    the clip is shown. Queries without a text or without their time, as in the test file, are quarantined.
    """
    file, folder = existing(root, annotations, "Ego4D file"), existing(root, videos, "folder of videos")

    def rows() -> Iterator[Row]:
        for entry in json_entries(file, annotations, "videos"):
            clips = entry.values.get("clips") if isinstance(entry.values, Mapping) else None
            if entry.error or not isinstance(clips, list):
                why = RowError("bad_row", "a video of Ego4D has a list of clips, with their language_queries")
                yield entry._replace(error=entry.error or why)
                continue
            for clip in clips:
                yield from _queries(annotations, entry.values, clip, folder, question, extension)

    return samples_of(rows(), Rows(task="temporal"), folder, "ego4d_nlq")


def _queries(
    annotations: str, video: Mapping[str, Any], clip: Any, folder: Path, question: str, suffix: str
) -> Iterator[Row]:
    """The queries of one clip. Spans are seconds of the file that is there."""
    clip = clip if isinstance(clip, Mapping) else {}
    where, groups = f"{annotations}: {clip.get('clip_uid')}", clip.get("annotations")
    groups = groups if isinstance(groups, list) else []
    queries = [
        group["language_queries"] for group in groups if isinstance(group, Mapping) and "language_queries" in group
    ]
    if not groups or len(queries) < len(groups) or not all(isinstance(group, list) for group in queries):
        yield Row(where, clip, RowError("bad_row", "a clip of Ego4D has annotations, each with language_queries"))
        return
    alone = (folder / f"{clip.get('clip_uid')}.{suffix}").is_file()
    name, sides = (clip.get("clip_uid"), "clip") if alone else (video.get("video_uid"), "video")
    part = {} if alone else {"start": clip.get("video_start_sec"), "end": clip.get("video_end_sec")}
    meta = {"split": video["split"]} if isinstance(video.get("split"), str) else {}
    for number, query in enumerate((one for group in queries for one in group), start=1):
        place, sentence = f"{where}#{number}", query.get("query") if isinstance(query, Mapping) else None
        if not isinstance(sentence, str) or not sentence.strip():
            yield Row(place, query, RowError("no_question", f"a query is a text, got {json.dumps(sentence)[:80]}"))
            continue
        span = [query.get(f"{sides}_start_sec"), query.get(f"{sides}_end_sec")]
        if None in span:
            yield Row(place, query, RowError("no_answer", f"the query has no {sides}_start_sec and {sides}_end_sec"))
            continue
        asked = question.replace("{sentence}", sentence.strip())
        yield Row(place, {"video": f"{name}.{suffix}", "question": asked, "spans": [span], "meta": meta, **part})


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
