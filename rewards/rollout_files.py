"""Rollouts as JSON lines, or as a training or an evaluation wrote them; scores as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt

from mmrl.core.config import Config, InputError, validate
from mmrl.core.files import appearing
from mmrl.core.media.files import placed
from mmrl.core.media.item import Media
from mmrl.core.media.kept import located
from rewards.base import Rollout, Verdict

MEDIA = ("media", "made", "gold_media")


class RolloutRow(Config):
    """One line of a rollouts file; only the completion and the gold answer are required."""

    id: str | int | None = None
    group: str | int | None = None
    task: str = ""
    prompt: Any = None
    completion: str
    answer: Any
    media: list[Media] = Field(default_factory=list)
    seen_size: list[tuple[PositiveInt, PositiveInt]] = Field(default_factory=list)
    meta: dict[str, Any] = Field(default_factory=dict)
    step: int | None = None
    total_steps: int | None = None
    opened: str = ""
    made: list[Media] = Field(default_factory=list)
    gold_media: list[Media] = Field(default_factory=list)
    turns: list[dict[str, Any]] = Field(default_factory=list)

    def rollout(self) -> Rollout:
        """The rollout as rewards see it."""
        return Rollout(
            completion=self.completion,
            answer=self.answer,
            task=self.task,
            prompt=self.prompt,
            media=self.media,
            seen_size=self.seen_size,
            meta=self.meta,
            group=self.group,
            step=self.step,
            total_steps=self.total_steps,
            opened=self.opened,
            made=self.made,
            gold_media=self.gold_media,
            turns=self.turns,
        )


def read_rollouts(path: Path) -> Iterator[tuple[str | int, Rollout]]:
    """The id and rollout of every row of `path`; a row without an id has its number for one.

    `path` is a file of JSON lines, or what a job wrote: a training (its directory, or one file of its `rollouts`) or an
    evaluation (its directory, or its `records.jsonl`).
    """
    for number, (where, values) in enumerate(_rows(path), 1):
        row = validate(RolloutRow, values, where=where)
        yield number if row.id is None else row.id, row.rollout()


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of a file or of the output of a job."""
    steps, records = sorted((path / "rollouts").glob("*.parquet")), path / "records.jsonl"
    if path.suffix == ".parquet" or steps:
        for file in steps or [path]:
            yield from _trained(file)
        return
    path = records if records.is_file() else path
    if not path.is_file():
        raise InputError(f"no rollouts file at {path}")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                where = f"{path}:{number}"
                yield where, _recorded(_object(line, where=where), path.parent)


def _trained(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rollouts of a step of a training."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        rows = read_table(file).to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None
    for place, row in enumerate(rows):
        where = f"{file}: row {place}"
        if missing := {"id", "draw", "completion", "answer", "prompt"} - row.keys():
            raise InputError(f"{where} is no rollout of a training: it lacks {', '.join(sorted(missing))}")
        kept = {name: row[name] for name in ("task", "completion", "seen_size")}
        kept |= {name: _opened(row[name], file.parent.parent) for name in MEDIA if name in row}
        texts = {name: json.loads(row[name]) for name in ("prompt", "answer", "turns") if name in row}
        own = {"group": row["id"], "meta": {"space": row["space"]}, "opened": row.get("opened", "")}
        yield where, {**kept, **texts, **own, "id": f"{row['id']}/{row['draw']}"}


def _recorded(row: dict[str, Any], run: Path) -> dict[str, Any]:
    """A row as it is, or a record of an evaluation, whose folder is `run`, as one."""
    if not {"response", "gold", "item_id"} <= row.keys():
        return row
    kept = {name: row[name] for name in ("task", "prompt", "seen_size", "meta")}
    kept |= {name: _opened(row.get(name, ()), run) for name in MEDIA}
    own = {"completion": row["response"], "answer": row["gold"], "group": row["item_id"]}
    own |= {name: row.get(name, default) for name, default in (("opened", ""), ("turns", []))}
    return {**kept, **own, "id": f"{row['item_id']}/{row['draw']}"}


def _opened(rows: Sequence[Mapping[str, Any]], run: Path) -> list[dict[str, Any]]:
    """Rows of media with paths that can be opened."""
    return [asdict(media) for media in located(rows, run)]


def read_gold(path: Path) -> Iterator[Rollout]:
    """The samples of a dataset directory (`shards/*.parquet`), or of a rollouts file, as rollouts to be filled in."""
    if not path.is_dir():
        yield from (rollout for _, rollout in read_rollouts(path))
        return
    shards = sorted((path / "shards").glob("*.parquet"))
    if not shards:
        raise InputError(f"no dataset at {path}: it has no shards/*.parquet")
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    for shard in shards:
        try:
            rows = read_table(shard, columns=["task", "answer", "media", "prompt", "meta"]).to_pylist()
        except (ArrowException, OSError) as error:
            raise InputError(f"{shard} cannot be read: {error}") from None
        for row in rows:
            yield Rollout(
                "",
                json.loads(row["answer"]),
                row["task"],
                json.loads(row["prompt"]),
                [placed(Media.from_row(item), path) for item in row["media"]],
                meta=json.loads(row["meta"]),
            )


def write_scores(path: Path, scored: Iterable[tuple[str | int, Mapping[str, Verdict]]]) -> None:
    """Write `{"id", "scores", "why"}` lines; until all of them are written, `path` keeps its old content."""
    with appearing(path) as staging, staging.open("w", encoding="utf-8") as lines:
        lines.writelines(_line(name, verdicts) for name, verdicts in scored)


def _line(name: str | int, verdicts: Mapping[str, Verdict]) -> str:
    scores = {reward: verdict.score for reward, verdict in verdicts.items()}
    why = {reward: verdict.why for reward, verdict in verdicts.items()}
    return json.dumps({"id": name, "scores": scores, "why": why}) + "\n"


def _object(line: bytes, *, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a JSON object: {error}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row
