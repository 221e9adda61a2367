"""Rewards for queries: what they give, whether they run, and how near their words are to a right one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from rewards.base import Rollout, Verdict, abstain, gold, per_rollout, unparsed
from rewards.isolation.sqlite import QueryError, Result, answered, names
from rewards.parse.extract import answer_text

Term = Literal["result", "runs", "schema", "bigrams"]

_FENCE = re.compile(r"```(?:sql|sqlite)?\s*\n?(.*?)```", re.DOTALL | re.IGNORECASE)
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[^\W\d]\w*|\d+(?:\.\d+)?|[<>!=]=|<>|\S")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_ORDERED = re.compile(r"\border\s+by\b[^()]*$", re.IGNORECASE)


@per_rollout
def sql_match(rollout: Rollout, *, term: Term = "result") -> Verdict:
    """How well a query agrees with the gold query (Reasoning-SQL, 2503.23157). The answer is one SQLite query.

    Gold: `sql`, a right query, and `database`, the statements that make the database. `term`: `result` is 1 if both
    give the same rows, in the same order where the gold query orders them; `runs` is 1 if the query runs; `schema` is
    the Jaccard index of the tables and columns named; `bigrams` that of the pairs of neighbouring tokens. The paper
    weighs them 3, 1, 1, 1. Queries only read, and end within a budget of instructions.

    >>> rows = "CREATE TABLE users (id, name, age); INSERT INTO users VALUES (3, 'Ann', 9), (4, 'Bo', 3);"
    >>> answer = {"sql": "select name from users where id = 3", "database": rows}
    >>> wrong = Rollout("select name from users where age = 3", answer)
    >>> [round(sql_match([wrong], term=term)[0].score, 4) for term in ("result", "runs", "schema", "bigrams")]
    [0.0, 1.0, 0.5, 0.5556]
    >>> sql_match([Rollout("```sql\\nSELECT name FROM users WHERE id > 2 AND id < 4;\\n```", answer)])[0].score
    1.0
    """
    wanted, script = gold(rollout, "sql"), gold(rollout, "database")
    if not isinstance(wanted, str) or not isinstance(script, str):
        return abstain("no gold sql and database")
    try:
        right = answered(script, wanted)
    except QueryError as refused:
        return abstain(f"the gold query does not run: {refused}")
    query = _query(rollout.answered)
    if not query:
        return unparsed("no query")
    if term == "bigrams":
        return _alike(Counter(pairwise(_tokens(wanted))), Counter(pairwise(_tokens(query))))
    if term == "schema":
        known = names(script)
        return _alike(*(Counter(set(_names(text)) & known) for text in (wanted, query)))
    try:
        given = answered(script, query)
    except QueryError as refused:
        return Verdict(0.0, f"the query does not run: {refused}")
    same = term == "runs" or _same(right, given, ordered=_ORDERED.search(wanted) is not None)
    return Verdict(float(same), f"{len(given.rows)} rows, gold {len(right.rows)}")


def _query(completion: str) -> str:
    """The query of a completion: the answer, or the last fenced block in it, without the final semicolon."""
    text = answer_text(completion) or ""
    fenced = _FENCE.findall(text)
    return (fenced[-1] if fenced else text).strip().rstrip(";").strip()


def _tokens(query: str) -> list[str]:
    """The tokens of a query, comments left out; case counts in texts alone."""
    found = _TOKEN.findall(_COMMENT.sub(" ", query))
    return [token if token[0] == "'" else token.lower() for token in found]


def _names(query: str) -> list[str]:
    return [token.strip('"`[]') for token in _tokens(query) if token[0] != "'"]


def _alike(first: Counter[Any], second: Counter[Any]) -> Verdict:
    """The Jaccard index of two multisets; two empty ones are equal."""
    both, either = (first & second).total(), (first | second).total()
    return Verdict(both / either if either else 1.0, f"{both} of {either} are shared")


def _same(right: Result, given: Result, *, ordered: bool) -> bool:
    """Whether two results have the same rows; names of columns do not matter, the order of columns does."""
    mine, theirs = (_rounded(result.rows) for result in (right, given))
    return mine == theirs if ordered else Counter(mine) == Counter(theirs)


def _rounded(rows: Sequence[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """The rows with floats to 9 digits, so that sums in another order are equal; 2.0 equals 2."""
    return [tuple(float(f"{value:.9g}") if isinstance(value, float) else value for value in row) for row in rows]
