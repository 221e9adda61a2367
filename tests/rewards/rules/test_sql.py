"""Queries as answers: by what they give, by their words, and nothing but reading."""

import time
from pathlib import Path

import pytest

from rewards import Rollout, Suite, get
from rewards.isolation.sqlite import QueryError, answered, names
from tests.support.judge_server import serving, verdict

ROWS = (
    "CREATE TABLE users (id INTEGER, name TEXT, age REAL); INSERT INTO users VALUES (3,'Ann',9),(4,'Bo',3),(5,NULL,3);"
)
GOLD = {"sql": "select name from users where id = 3", "database": ROWS}


def score(query: str, term: str = "result", gold: str = GOLD["sql"]) -> float | None:
    return get("sql_match", term=term)([Rollout(query, {"sql": gold, "database": ROWS})])[0].score


def test_the_terms_of_reasoning_sql_add_up_to_its_vector() -> None:
    weights = {"result": 3, "runs": 1, "schema": 1, "bigrams": 1}
    wrong = {term: score("select name from users where age = 3", term) for term in weights}
    assert wrong == {"result": 0, "runs": 1, "schema": 0.5, "bigrams": pytest.approx(5 / 9)}
    judge, form = 2 * 0.5, 1
    assert sum(weights[t] * (wrong[t] or 0) for t in weights) + judge + form == pytest.approx(4.0555556)
    assert sum(weights[term] * (score(GOLD["sql"], term) or 0) for term in weights) + form == 7


def test_the_suite_of_reasoning_sql_gives_its_vector_and_asks_the_judge_about_wrong_rows_alone() -> None:
    queries = ["select name from users where age = 3", GOLD["sql"]]
    with serving(lambda body: verdict(body, score=5)) as server:
        given = [f"judges.local.base_url={server.url}", "judges.local.cache=null"]
        suite = Suite.load(Path("configs/papers/reasoning_sql/rewards.yaml"), given)
        said = [Rollout(f"<think>a user</think><answer>{query}</answer>", GOLD, "sql", "Who?") for query in queries]
        scored = suite.score(said)
    totals = [sum(suite.weights[i] * (one[name].score or 0) for i, name in enumerate(suite.names)) for one in scored]
    assert totals == [pytest.approx(4.0555556), pytest.approx(7)]
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "query",
    [
        "SELECT name FROM users WHERE id=3;",
        "<think>id</think><answer>```sql\nSELECT u.name AS who FROM users u WHERE u.id < 4\n```</answer>",
        "WITH w AS (SELECT * FROM users) SELECT name FROM w WHERE age > 5 -- the oldest",
        "select 'Ann'",
    ],
)
def test_another_query_with_the_same_rows_is_right(query: str) -> None:
    assert score(query) == 1


def test_order_counts_where_the_gold_query_orders() -> None:
    assert score("select id from users order by id desc", gold="select id from users") == 1
    assert score("select id from users order by id desc", gold="select id from users order by id") == 0
    assert score("select id from users", gold="select id from (select id from users order by id desc)") == 1


def test_repeated_rows_and_empty_values_count_and_kinds_of_numbers_do_not() -> None:
    assert score("select distinct age from users", gold="select age from users") == 0
    assert score("select name from users where name is not null", gold="select name from users") == 0
    assert score("select 3.0 from users limit 2", gold="select 3 from users limit 2") == 1
    assert score("select 0.1 + 0.2", gold="select 0.3") == 1


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM users",
        "DROP TABLE users",
        "INSERT INTO users VALUES (1, 'x', 2)",
        "CREATE TABLE t (x)",
        "ATTACH DATABASE 'other.db' AS other",
        "PRAGMA writable_schema = 1",
        "select 1; select 2",
        "VACUUM INTO 'copy.db'",
        "select name from nobody",
        "select",
        "BEGIN",
    ],
)
def test_what_does_not_only_read_is_wrong_and_changes_nothing(
    query: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert score(query) == 0
    assert score(query, "runs") == 0
    assert score(GOLD["sql"]) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c", "within its budget"),
        ("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000) SELECT x FROM c", "10000 rows"),
        ("SELECT length(zeroblob(900000000))", "too big"),
        ("SELECT '" + "x" * 30_000 + "'", "30009 characters"),
    ],
)
def test_a_query_that_does_not_end_or_grows_ends_within_its_budget(query: str, why: str) -> None:
    start = time.perf_counter()
    with pytest.raises(QueryError, match=why):
        answered(ROWS, query)
    assert time.perf_counter() - start < 10
    assert score(query) == 0


def test_a_gold_that_does_not_run_gives_no_verdict() -> None:
    assert score(GOLD["sql"], gold="select nothing from nowhere") is None
    broken = Rollout("select 1", {"sql": "select 1", "database": "CREATE TABEL x"})
    assert get("sql_match")([broken])[0].kind == "abstained"
    assert get("sql_match")([Rollout("select 1", {"text": ["a"]})])[0].kind == "abstained"


def test_the_script_of_a_database_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for statement in ("ATTACH DATABASE 'other.db' AS other", "VACUUM INTO 'copy.db'"):
        with pytest.raises(QueryError, match="too many attached databases"):
            answered(f"CREATE TABLE t (x); {statement};", "select 1")
    assert not list(tmp_path.iterdir())


def test_an_answer_without_a_query_is_unparsed() -> None:
    assert get("sql_match")([Rollout("<answer></answer>", GOLD)])[0].kind == "unparsed"


def test_the_schema_has_tables_and_columns() -> None:
    assert names(ROWS) == {"users", "id", "name", "age"}
    assert score("select users.* from users", "schema") == pytest.approx(1 / 3)
