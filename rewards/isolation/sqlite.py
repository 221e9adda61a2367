"""Queries of a stranger on a small database in memory: they only read, and end within a budget of instructions."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

BUDGET = 2_000_000  # instructions of SQLite's machine: about a tenth of a second
MOST_ROWS, LONGEST_VALUE, LONGEST_SQL = 10_000, 1_000_000, 20_000
_PACE = 10_000  # instructions between two looks at the budget
_DENIED = {"load_extension", "random", "randomblob"}  # a query is to give the same whenever it is asked
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

Row = tuple[object, ...]


class QueryError(Exception):
    """A query that does not run here; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of a query, and the names of its columns."""

    columns: tuple[str, ...]
    rows: Sequence[Row]


@functools.lru_cache(maxsize=32)
def database(script: str) -> bytes:
    """The database that CREATE and INSERT statements make, as bytes; QueryError where they cannot."""
    with _guarded(write=True) as connection:
        connection.executescript(script)
        return connection.serialize()


def answered(script: str, query: str) -> Result:
    """The result of one SELECT on the database of a script; QueryError where it writes, fails or never ends."""
    if len(query) > LONGEST_SQL:
        raise QueryError(f"a query of {len(query)} characters; at most {LONGEST_SQL}")
    with _guarded(database(script)) as connection:
        cursor = connection.execute(query)
        rows = cursor.fetchmany(MOST_ROWS + 1)
        if len(rows) > MOST_ROWS:
            raise QueryError(f"more than {MOST_ROWS} rows")
        if cursor.description is None:
            raise QueryError("not a query that reads")
        return Result(tuple(column[0] for column in cursor.description), rows)


@functools.lru_cache(maxsize=32)
def names(script: str) -> frozenset[str]:
    """The names of the tables and columns of a script's database, in lower case."""
    with _guarded(database(script), write=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = [
            row[0] for table in tables for row in connection.execute("SELECT name FROM pragma_table_info(?)", [table])
        ]
    return frozenset(name.lower() for name in [*tables, *found])


@contextmanager
def _guarded(made: bytes | None = None, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection in memory, to the database `made` if given, with limits; what SQLite refuses is a QueryError."""
    left = BUDGET

    def spent() -> bool:
        nonlocal left
        left -= _PACE
        return left < 0

    with closing(sqlite3.connect(":memory:")) as connection:
        if made is not None:
            connection.deserialize(made)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA max_page_count = {64 * 256}")  # 64 MB at pages of 4,096 bytes
        connection.set_progress_handler(spent, _PACE)
        if not write:
            connection.set_authorizer(_reads)
        try:
            yield connection
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise QueryError("it does not end within its budget" if left < 0 else str(error)[:200]) from None


def _reads(action: int, _: str | None, second: str | None, *__: str | None) -> int:
    if action == sqlite3.SQLITE_FUNCTION and second in _DENIED:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY
