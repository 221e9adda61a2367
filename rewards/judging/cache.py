"""Replies on disk, keyed by all that was asked; several processes may use one file."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from mmrl.config import InputError

logger = logging.getLogger(__name__)

SCHEMA = """
create table if not exists replies (
  key blob primary key, prompt text not null, model text not null, reply text not null, asked real not null
) without rowid
"""
BUSY = 10.0  # seconds to wait for another process to finish writing


class Cache:
    """A SQLite file in WAL mode. What goes wrong with it is logged and counted, and costs a call, no verdict."""

    def __init__(self, path: Path) -> None:
        self.errors = 0
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader, self._writer = _opened(path), _opened(path)  # a reader never waits for who writes
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"the judge cache {path} cannot be opened: {error}; name a file that can be written"
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

    def put(self, key: bytes, prompt: str, model: str, reply: str, asked: float) -> None:
        """Keep a reply in place of an earlier one."""
        try:
            self._writer.execute(
                "insert or replace into replies values (?, ?, ?, ?, ?)", (key, prompt, model, reply, asked)
            )
        except (sqlite3.Error, UnicodeError) as error:
            self._note(error)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()
        self._writer.close()

    def _note(self, error: Exception) -> None:
        self.errors += 1
        if self.errors == 1:
            logger.warning("the judge cache %s does not work and is passed over: %s", self._path, error)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
