"""The parquet files of verl and EasyR1: chat prompts or problems, their images, and a ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_engine.sources.base import Items, RowError, existing
from data_engine.sources.conversations import Turn, form_of, kept, made, question_of, shown
from data_engine.sources.golds import gold
from data_engine.sources.row_format import Exif, samples_of
from data_engine.sources.tables import parquet_files, parquet_rows
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace

VERL, EASY_R1 = ("prompt", "reward_model"), ("problem", "answer")


def verl(
    *,
    path: str,
    root: Path,
    task: str = "math",
    space: CoordinateSpace | None = None,
    media_root: str | None = None,
    exif: Exif = "applied",
) -> Items:
    """The rows of a verl file (`prompt`, `reward_model`) or an EasyR1 file (`problem`, `answer`), or of a folder."""
    place, files = parquet_files(root, path)
    for file in files:
        columns = pq.read_schema(file).names
        if not any(set(needed) <= set(columns) for needed in (VERL, EASY_R1)):
            wanted = "prompt and reward_model (verl), or problem and answer (EasyR1)"
            raise InputError(f"{file} needs the columns {wanted}; it has {', '.join(columns)}")
    folder = existing(root, media_root, "media_root") if media_root else place if place.is_dir() else place.parent
    rows = (made(row, lambda values: _asked(values, task)) for row in parquet_rows(files, root))
    return samples_of(rows, form_of(task, space, None, exif), folder, "verl")


def _asked(row: Mapping[str, Any], task: str) -> dict[str, Any]:
    """The columns of our format for a row of either project."""
    if set(VERL) <= row.keys():
        messages, judge = row["prompt"], row["reward_model"]
        truth = judge.get("ground_truth") if isinstance(judge, Mapping) else None
    else:
        messages, truth = [{"role": "user", "content": row["problem"]}], row["answer"]
    if truth is None or truth == "":
        raise RowError("no_answer", "the row has no ground truth (reward_model.ground_truth, or answer)")
    turns = _chat(messages)
    prompt, media = shown(row, turns)
    extra = row.get("extra_info")
    extra = extra if isinstance(extra, Mapping) else {}
    meta = {name: extra[name] for name in ("split", "index") if extra.get(name) is not None}
    columns = {"prompt": prompt, "media": media, **kept(row), **gold(task, truth, question_of(turns))}
    return {**columns, "meta": {**columns["meta"], **meta}}


def _chat(messages: Any) -> list[Turn]:
    if not isinstance(messages, list) or not messages:
        raise RowError("no_question", f"the prompt must be a list of messages, got {messages!r:.80}")
    turns: list[Turn] = []
    for message in messages:
        role, text = (message.get("role"), message.get("content")) if isinstance(message, Mapping) else (None, None)
        if not isinstance(role, str) or not isinstance(text, str) or not text.strip():
            raise RowError("no_question", f"a message needs a role and a text as content, got {message!r:.120}")
        turns.append((role, text))
    return turns
