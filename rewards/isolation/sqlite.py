"""Queries of a stranger on a small database in memory: they only read, and end within a budget of instructions."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

BUDGET = 2_000_000  # instructions of SQLite's machine: about a tenth of a second
MOST_ROWS, LONGEST_VALUE, LONGEST_SQL = 10_000, 1_000_000, 20_000
_PACE = 10_000  # instructions between two looks at the budget
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

Row = tuple[object, ...]


class Refused(Exception):  # noqa: N818 - it is an outcome, not a fault
    """A query that does not run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of a query, and the names of its columns."""

    columns: tuple[str, ...]
    rows: Sequence[Row]


@functools.lru_cache(maxsize=32)
def database(script: str) -> bytes:
    """The database that a script of CREATE and INSERT statements makes, as bytes; Refused where it cannot be made."""
    with _guarded(write=True) as (connection, within):
        try:
            connection.executescript(script)
            return connection.serialize()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise Refused(within(error)) from None


def answered(script: str, query: str) -> Result:
    """The result of one SELECT on the database of a script; Refused where it writes, fails or never ends."""
    if len(query) > LONGEST_SQL:
        raise Refused(f"a query of {len(query)} characters; at most {LONGEST_SQL}")
    made = database(script)
    with _guarded(made) as (connection, within):
        try:
            cursor = connection.execute(query)
            rows = cursor.fetchmany(MOST_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise Refused(within(error)) from None
        if len(rows) > MOST_ROWS:
            raise Refused(f"more than {MOST_ROWS} rows")
        if cursor.description is None:
            raise Refused("not a query that reads")
        return Result(tuple(column[0] for column in cursor.description), rows)


@functools.lru_cache(maxsize=32)
def names(script: str) -> frozenset[str]:
    """The names of the tables and columns of a script's database, in lower case."""
    with _guarded(database(script), write=True) as (connection, _):
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = [
            row[0] for table in tables for row in connection.execute("SELECT name FROM pragma_table_info(?)", [table])
        ]
    return frozenset(name.lower() for name in [*tables, *found])


class _guarded:  # noqa: N801 - used as a function
    """A connection in memory with limits: (connection, a function that words an error)."""

    def __init__(self, made: bytes | None = None, *, write: bool = False) -> None:
        self.made, self.write, self.left = made, write, BUDGET

    def __enter__(self) -> tuple[sqlite3.Connection, functools.partial[str]]:
        self.connection = connection = sqlite3.connect(":memory:")
        if self.made is not None:
            connection.deserialize(self.made)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA max_page_count = {64 * 256}")  # 64 MB at pages of 4,096 bytes
        connection.set_progress_handler(self._spent, _PACE)
        if not self.write:
            connection.set_authorizer(_reads)
        return connection, functools.partial(self._words)

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def _spent(self) -> bool:
        self.left -= _PACE
        return self.left < 0

    def _words(self, error: Exception) -> str:
        return "it does not end within its budget" if self.left < 0 else str(error)[:200]


def _reads(action: int, _: str | None, second: str | None, *__: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and second == "load_extension":
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
