"""The files of an evaluation: `records.jsonl`, one line per item and draw, and `run.json`, the protocol and suite.

Everything after generation (scoring, reports, comparisons) reads these two files alone.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from mmrl.core.canonical_json import digest
from mmrl.core.config import InputError
from mmrl.core.files import write_atomic

logger = logging.getLogger(__name__)

RECORDS = "records.jsonl"
RUN = "run.json"
JUDGE_DECIDES = (
    *("backend", "model", "dtype", "temperature", "max_tokens", "seed", "extra"),
    *("max_pixels", "max_frames", "max_chars"),
)
TOTAL = "total"  # the name of the weighted sum, next to those of the rewards
ALL = "all"  # the task that stands for all tasks together


@dataclass(frozen=True, slots=True)
class Record:
    """One response with its prompt, its gold answer and its scores.

    `key` is a hash of protocol, item and draw; `protocol` and `scorer` are the ids of the RunInfo that made the
    response and the scores. `answer_text` is the answering part of the response, or None. `gold`,
    `media`, `seen_size` and `meta` are the sample's, so rewards can be computed again from the record alone. Rewards
    of other tasks are absent from `scores`, `kinds` and `why`. `flags`: `blind` (asked without the media), `truncated`
    (the token limit ended the response), `empty`. `spent` holds the costs of guided decoding, `opened`
    what the prompt had already written of the response, such as `<think>`; `turns` what was said and called in each
    turn, if there were tools. `made` are the pictures of a policy that makes some, `film` the steps of the first, and
    `gold_media` those that are right, where they are known. The paths of media are absolute, or begin in the folder of
    the run.
    """

    key: str
    protocol: str
    benchmark: str
    split: str
    item_id: str
    draw: int
    task: str
    source: str
    prompt_id: str
    prompt: list[dict[str, Any]]
    media: list[dict[str, Any]]
    seen_size: list[list[int]]
    response: str
    tokens: int
    gold: Any
    meta: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    answer_text: str | None = None
    scorer: str = ""
    scores: dict[str, float | None] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    total: float | None = None
    spent: dict[str, float] = field(default_factory=dict)
    opened: str = ""
    turns: list[dict[str, Any]] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)
    film: list[dict[str, Any]] = field(default_factory=list)
    gold_media: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cluster(self) -> str:
        """The key that dependent records share: their media, or else their item."""
        return "+".join(sorted(m["sha256"] or m["path"] or "" for m in self.media)) or self.item_id


@dataclass(frozen=True, slots=True)
class RunInfo:
    """How the records of a directory were made: `protocol` decides the responses, `suite` the scores.

    `planned` is the number of records of the whole run, `seconds` the time that finished runs took. Reports withhold a
    reward's mean when more than `max_unjudged` of its verdicts are missing.
    """

    model: str
    protocol: dict[str, Any]
    suite: dict[str, Any]
    versions: dict[str, str]
    max_unjudged: float
    planned: int
    seconds: float = 0.0

    @property
    def protocol_id(self) -> str:
        """The hash of everything that decides the responses."""
        return digest(self.protocol)

    @property
    def scorer(self) -> str:
        """The hash of everything that decides the scores. The address and the limits of a judge do not belong to it."""
        judges = self.suite.get("judges", {})
        decisive = {name: {key: judge.get(key) for key in JUDGE_DECIDES} for name, judge in judges.items()}
        return digest({**self.suite, **({"judges": decisive} if decisive else {})})

    def key(self, item_id: str, draw: int) -> str:
        """The key of the record of a draw: a hash of content, independent of the order of rows."""
        return digest([self.protocol_id, item_id, draw])


class RecordWriter:
    """Appends records to `records.jsonl` or the file `name`; they are on disk when `append` returns.

    An incomplete last line is removed.
    """

    def __init__(self, out: Path, name: str = RECORDS) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._file = (out / name).open("a+b")

    def __enter__(self) -> RecordWriter:
        self._file.seek(0)
        self._file.truncate(self._file.read().rfind(b"\n") + 1)
        return self

    def append(self, records: Sequence[Record]) -> None:
        """Write `records` and wait until the disk has them."""
        self._file.write(b"".join(_line(record) for record in records))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_records(out: Path, name: str = RECORDS) -> list[Record]:
    """The records in directory `out`; an incomplete last line is ignored."""
    path = out / name
    if not path.is_file():
        raise InputError(f"no {RECORDS} in {out}; expected the `out` directory of `mmrl eval run`")
    lines = path.read_bytes().split(b"\n")[:-1]
    records = [_record(line, f"{path} line {number}") for number, line in enumerate(lines, 1)]
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(record.key, record)
    if repeated := len(records) - len(first):
        logger.warning("%s: %d records have the key of an earlier one; only the first one counts", path, repeated)
    return list(first.values())


def unrepeated(out: Path) -> list[Record]:
    """The records in `out`, none if there is no file; lines that repeat a key are removed from it."""
    path = out / RECORDS
    if not path.is_file():
        return []
    records = read_records(out)
    if len(records) < path.read_bytes().count(b"\n"):
        write_atomic(path, b"".join(map(_line, records)))
    return records


def replace_records(out: Path, records: Sequence[Record], info: RunInfo) -> None:
    """Replace the records and the info in `out`; a reader sees the old or the new file, never a part."""
    write_atomic(out / RECORDS, b"".join(_line(record) for record in records))
    write_run(out, info)


def read_run(out: Path) -> RunInfo:
    """The RunInfo of directory `out`."""
    path = out / RUN
    if not path.is_file():
        raise InputError(f"no {RUN} in {out}; expected the `out` directory of `mmrl eval run`")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return RunInfo(**{f.name: stored[f.name] for f in fields(RunInfo)})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not of this version of mmrl: {error!r}") from None


def write_run(out: Path, info: RunInfo) -> None:
    """Write `run.json`, whole or not at all."""
    content = {"protocol_id": info.protocol_id, "scorer": info.scorer, **asdict(info)}
    write_atomic(out / RUN, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that differ between two protocols.

    >>> differences({"decoding": "greedy", "split": "test"}, {"decoding": "sampled", "split": "test"})
    {'decoding': {'before': 'greedy', 'after': 'sampled'}}
    """
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: {"before": before.get(name), "after": after.get(name)} for name in names}


def flat_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings that differ, with dots into blocks.

    >>> flat_differences({"decode": {"n": 2, "method": "best_of_n"}}, {"decode": {"n": 4, "method": "best_of_n"}})
    {'decode.n': {'before': 2, 'after': 4}}
    """
    changed: dict[str, dict[str, Any]] = {}
    for name, change in differences(before, after).items():
        pair = change["before"], change["after"]
        if all(isinstance(side, Mapping) for side in pair):
            changed |= {f"{name}.{key}": inner for key, inner in flat_differences(*pair).items()}
        else:
            changed[name] = change
    return changed


def _line(record: Record) -> bytes:
    content = {f.name: getattr(record, f.name) for f in fields(record)}
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _record(line: bytes, where: str) -> Record:
    try:
        return Record(**json.loads(line))
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise InputError(f"{where} is not a record of this version of mmrl: {error}") from None
