"""Rollouts and scores as JSON lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt

from mmrl.config import Config, InputError, validate
from rewards.base import MediaRef, Rollout, Verdict


class MediaRow(Config):
    """A media item of a rollout; width and height are pixels of the original, after EXIF rotation."""

    kind: Literal["image", "video"] = "image"
    path: str | None = None
    width: PositiveInt | None = None
    height: PositiveInt | None = None


class RolloutRow(Config):
    """One line of a rollouts file; only the completion and the gold answer are required."""

    id: str | int | None = None
    group: str | int | None = None
    task: str = ""
    prompt: Any = None
    completion: str
    answer: Any
    media: list[MediaRow] = Field(default_factory=list)
    seen_size: list[tuple[PositiveInt, PositiveInt]] = Field(default_factory=list)
    meta: dict[str, Any] = Field(default_factory=dict)
    step: int | None = None
    total_steps: int | None = None

    def rollout(self) -> Rollout:
        """The rollout as rewards see it."""
        return Rollout(
            completion=self.completion,
            answer=self.answer,
            task=self.task,
            prompt=self.prompt,
            media=[MediaRef(item.kind, item.path, item.width, item.height) for item in self.media],
            seen_size=self.seen_size,
            meta=self.meta,
            group=self.group,
            step=self.step,
            total_steps=self.total_steps,
        )


def read_rollouts(path: Path) -> Iterator[tuple[str | int, Rollout]]:
    """The id and rollout of every line of `path`; a row without an id has its line number for one."""
    if not path.is_file():
        raise InputError(f"no rollouts file at {path}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            row = validate(RolloutRow, _object(line, where=f"{path}:{number}"), where=f"{path}:{number}")
            yield number if row.id is None else row.id, row.rollout()


def write_scores(path: Path, scored: Iterable[tuple[str | int, Mapping[str, Verdict]]]) -> None:
    """Write `{"id", "scores", "why"}` lines; until all of them are written, `path` keeps what it held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staging.open("w", encoding="utf-8") as out:
            for name, verdicts in scored:
                scores = {reward: verdict.score for reward, verdict in verdicts.items()}
                why = {reward: verdict.why for reward, verdict in verdicts.items()}
                out.write(json.dumps({"id": name, "scores": scores, "why": why}) + "\n")
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _object(line: bytes, *, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row
