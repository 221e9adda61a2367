"""The tables of a dataset directory, and a writer of parquet files whose bytes depend on their rows alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from data_engine.measure.measures import Name, noted
from data_engine.operator import Quarantined
from data_engine.schema import Sample
from mmrl.core.media.item import shown_seconds
from mmrl.core.messages import prompt_text

GROUP_ROWS = 1_000
GROUP_BYTES = 64 * 2**20  # of media; Arrow holds at most 2 GiB of them in one column

MEDIA = pa.struct(
    [
        *((name, pa.string()) for name in ("kind", "path")),
        ("bytes", pa.binary()),
        ("sha256", pa.string()),
        *((name, pa.int32()) for name in ("width", "height", "num_frames")),
        *((name, pa.float64()) for name in ("fps", "duration", "start", "end")),
    ]
)
TEXT = ("id", "source", "task", "prompt", "answer")
SAMPLES = pa.schema([*((name, pa.string()) for name in TEXT), ("media", pa.list_(MEDIA)), ("meta", pa.string())])
QUARANTINE = pa.schema([(name, pa.string()) for name in ("reason", "why", "source", "where", "row")])
STATS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "split", "source", "task")),
        *((name, pa.int64()) for name in ("prompt_chars", "images", "videos", "pixels", "frames")),
        ("seconds", pa.float64()),
        *((name, pa.float64()) for name in get_args(Name)),
    ]
)

DROPPED = pa.schema([("reason", pa.string()), *STATS])


def stats_row(sample: Sample, split: str) -> dict[str, Any]:
    """The measures of a sample as a row of STATS: 0 for media that were not probed; measures not taken are absent."""
    media = sample.media
    return {
        "id": sample.id,
        "split": split.encode("utf-8", "backslashreplace").decode(),
        "source": sample.source,
        "task": sample.task,
        "prompt_chars": _chars(sample.prompt),
        "images": sum(item.kind == "image" for item in media),
        "videos": sum(item.kind == "video" for item in media),
        "pixels": sum((item.width or 0) * (item.height or 0) for item in media),
        "frames": sum(item.num_frames or 0 for item in media),
        "seconds": sum(shown_seconds(item) or 0.0 for item in media),
        **{name: value for name, value in noted(sample).items() if name in get_args(Name)},
    }


def _chars(prompt: Any) -> int:
    """The characters of a prompt; 0 for a malformed one, which is quarantined elsewhere."""
    try:
        return len(prompt_text(prompt))
    except (KeyError, TypeError):
        return 0


def quarantine_row(item: Quarantined) -> dict[str, str]:
    """A broken input as a row of texts; values that are not JSON are described."""
    row = json.dumps(item.row, default=_described, skipkeys=True)
    texts = {"reason": item.reason, "why": item.why, "source": item.source, "where": item.where, "row": row}
    return {key: text.encode("utf-8", "backslashreplace").decode() for key, text in texts.items()}


def _described(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value)


class RowWriter:
    """A parquet file that takes rows one by one and writes them in groups."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.count = path, 0
        self._file = pq.ParquetWriter(path, schema, version="2.6", compression="zstd", compression_level=3)
        self._schema, self._rows, self._bytes = schema, list[dict[str, Any]](), 0

    def add(self, row: dict[str, Any], media_bytes: int = 0) -> None:
        """Append a row; `media_bytes` is the size of the media in it."""
        self._rows.append(row)
        self.count += 1
        self._bytes += media_bytes
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows and close the file."""
        if self._rows:
            self._flush()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0
