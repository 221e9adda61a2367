"""A claim about queries: terms that score parts of a query against its result alone, scored by `sql_match` on SQLite.
The policy is a table of logits for each of the five places of a query.

Shapes: P prompts, G queries of a prompt, S places of a query, V choices at a place, K terms.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from benchmarks.claims.claim import Learner, LearnerClaim
from benchmarks.claims.table_policy import Floats, sampled, softmax
from mmrl.advantages import ADVANTAGES
from rewards import Rollout
from rewards.isolation.sqlite import answered
from rewards.rules.sql import Term, sql_match

TABLES = {"goods": ["item", "price", "stock"], "staff": ["name", "age", "wage"], "rooms": ["floor", "beds", "rent"]}
COLUMNS = [column for columns in TABLES.values() for column in columns]
PLACES = [COLUMNS, list(TABLES), COLUMNS, ["<", "=", ">"], ["2", "4", "6", "8"]]
TERMS: Sequence[Term] = ("result", "runs", "schema", "bigrams")
PROMPTS, GROUP, ROWS = 12, 8, 12
WARM, COLD = 1.5, 0.0  # the first logit of the right choice of each place; of the others it is 0


@functools.lru_cache
def database(seed: int) -> str:
    """Statements that make three tables of small numbers."""
    rng = np.random.default_rng([seed, 1])
    rows = {table: ", ".join(map(str, map(tuple, rng.integers(1, 10, (ROWS, 3)).tolist()))) for table in TABLES}
    made = [
        f"CREATE TABLE {table} ({', '.join(TABLES[table])}); INSERT INTO {table} VALUES {rows[table]};"
        for table in rows
    ]
    return " ".join(made)


@functools.lru_cache
def golds(seed: int) -> list[tuple[int, ...]]:
    """The choices of right queries, each of which gives at least two rows."""
    rng, found = np.random.default_rng([seed, 2]), []
    while len(found) < PROMPTS:
        table = int(rng.integers(3))
        choices = (*(3 * table + rng.integers(3, size=2)).tolist(), *rng.integers([3, 4]).tolist())
        gold = (choices[0], table, *choices[1:])
        if len(answered(database(seed), query(gold)).rows) > 1:
            found.append(gold)
    return found


def query(choices: Sequence[int]) -> str:
    """A query in words."""
    column, table, other, sign, value = (of[choice] for of, choice in zip(PLACES, choices, strict=True))
    return f"SELECT {column} FROM {table} WHERE {other} {sign} {value}"


@functools.lru_cache(maxsize=500_000)
def scores(seed: int, gold: tuple[int, ...], choices: tuple[int, ...]) -> tuple[float, ...]:
    """What each of TERMS gives a query."""
    rollout = Rollout(query(choices), {"sql": query(gold), "database": database(seed)})
    return tuple(float(sql_match([rollout], term=term)[0].score or 0.0) for term in TERMS)


def asked(weights_K: Sequence[float], first_logit: float, *, seed: int, lr: float, steps: int) -> tuple[int, float]:
    """(the step with the first group of which every query gives the right rows, or `steps`; the share of queries that
    give the right rows at the end)."""
    rng, right = np.random.default_rng(seed), golds(seed)
    logits = [
        first_logit * np.eye(len(of))[[gold[place] for gold in right]] for place, of in enumerate(PLACES)
    ]  # each [P, V]
    first, right_PG = steps, np.zeros((PROMPTS, GROUP))
    for step in range(steps):
        policies: list[Floats] = [softmax(logits_PV) for logits_PV in logits]
        taken_PGS = np.stack([sampled(policy_PV, GROUP, rng) for policy_PV in policies], axis=2)
        scores_PGK = np.array(
            [
                [scores(seed, gold, tuple(one)) for one in taken]
                for gold, taken in zip(right, taken_PGS.tolist(), strict=True)
            ]
        )
        right_PG = scores_PGK[..., 0]
        if right_PG.all(axis=1).any():
            first = min(first, step)
        advantages_PG1 = np.asarray(ADVANTAGES["grpo"](scores_PGK, np.asarray(weights_K, float)))[..., None]
        for place, policy_PV in enumerate(policies):
            chosen_PGV = np.eye(policy_PV.shape[1])[taken_PGS[..., place]]
            logits[place] += lr * (advantages_PG1 * (chosen_PGV - policy_PV[:, None])).mean(axis=1)
    return first, float(right_PG.mean())


PARTIAL, RESULT = (3, 1, 1, 1), (1, 0, 0, 0)
MEASURED = {
    "first": "steps saved before all queries of a group give the right rows, of 60",
    "right": "right queries after 60 steps, partial - execution",
}


def _learner(weights_K: Sequence[float], measure: Literal["first", "right"], first_logit: float) -> Learner:
    def learned(seed: int, lr: float, steps: int) -> float:
        first, right = asked(weights_K, first_logit, seed=seed, lr=lr, steps=steps)
        return right if measure == "right" else -float(first)

    return learned


def _claim(claim: str, measure: Literal["first", "right"], first_logit: float = WARM) -> LearnerClaim:
    new, old = (_learner(weights_K, measure, first_logit) for weights_K in (PARTIAL, RESULT))
    setting = f"queries with five choices, {'some' if first_logit else 'none'} of them known; {MEASURED[measure]}"
    return LearnerClaim(paper="Reasoning-SQL (2503.23157)", claim=claim, setting=setting, new=new, old=old, steps=60)


QUERIES: dict[str, LearnerClaim] = {
    "sql_first": _claim("partial rewards solve a first group in fewer steps than execution alone", "first"),
    "sql_right": _claim("with partial rewards more queries give the right rows than with execution alone", "right"),
    "sql_cold_first": _claim("the first group is solved in fewer steps, from nothing", "first", COLD),
    "sql_cold_right": _claim("more queries give the right rows, from nothing", "right", COLD),
}
