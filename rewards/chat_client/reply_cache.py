"""Replies on disk, keyed by all that was asked; several processes may use one file."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmrl.core.config import InputError

logger = logging.getLogger(__name__)

SCHEMA = """
create table if not exists replies (
  key blob primary key, prompt text not null, model text not null, reply text not null, asked real not null
) without rowid
"""
BUSY = 10.0  # seconds to wait for another process to finish writing
TOGETHER = 0.01  # seconds in which replies are collected for one write
MOST_ROWS = 1000  # in a statement; SQLite takes 32,766 values

_SURROGATE = re.compile("[\ud800-\udfff]")

Row = tuple[bytes, str, str, str, float]  # the columns of SCHEMA


class Cache:
    """A SQLite file in WAL mode. Its errors are logged and counted; they cost a call, never a verdict."""

    def __init__(self, path: Path) -> None:
        self.errors = 0
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader, self._writer = _opened(path), _opened(path)  # a reader never waits for a writer
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"the reply cache {path} cannot be opened: {error}; name a file that can be written"
            ) from None
        try:
            self._writer.execute("pragma journal_mode = wal")
            self._writer.execute("pragma synchronous = normal")  # a power cut may lose the last replies, not the file
            self._writer.execute(SCHEMA)
        except sqlite3.Error as error:
            self._note(error)

    def get(self, key: bytes) -> str | None:
        """The reply under `key`."""
        try:
            row = self._reader.execute("select reply from replies where key = ?", (key,)).fetchone()
        except (sqlite3.Error, UnicodeError) as error:
            self._note(error)
            return None
        return row[0] if row and isinstance(row[0], str) else None

    def put(self, rows: Sequence[Row]) -> None:
        """Keep replies in place of earlier ones, in one statement: the other threads run while SQLite works."""
        rows = [row for row in rows if not _SURROGATE.search(row[3])]  # no text to SQLite
        try:
            for start in range(0, len(rows), MOST_ROWS):
                part = rows[start : start + MOST_ROWS]
                places = ", ".join(["(?, ?, ?, ?, ?)"] * len(part))
                self._writer.execute(f"insert or replace into replies values {places}", [*itertools.chain(*part)])
        except sqlite3.Error as error:
            self._note(error)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def _note(self, error: Exception) -> None:
        self.errors += 1
        if self.errors == 1:
            logger.warning("the reply cache %s does not work and is passed over: %s", self._path, error)


class Keeper:
    """Writes to a cache from an event loop: replies that arrive together are written together, in a thread."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._rows: list[Row] = []
        self._writing: asyncio.Task[None] | None = None  # the next write, to which rows may still be added
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "judge-cache")  # it may have to wait for another process

    async def keep(self, row: Row) -> None:
        """Put a reply in the cache."""
        self._rows.append(row)
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write())
        await asyncio.shield(self._writing)

    def close(self) -> None:
        """Finish writing, and close the cache."""
        self._thread.shutdown()
        self._cache.close()

    async def _write(self) -> None:
        await asyncio.sleep(TOGETHER)
        async with self._turn:
            rows, self._rows, self._writing = self._rows, [], None
            await asyncio.get_running_loop().run_in_executor(self._thread, self._cache.put, rows)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
