"""Small databases made up by the seed, each with a question in words and the query that answers it.

A database has two tables, of which the second names rows of the first. `split="test"` has tables and words of other
themes than `split="train"`. Everything is a function of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from data_engine.schema import Sample, user_prompt
from data_engine.sources.queries.table_pictures import Table, drawn
from data_engine.sources.synthesis import Split, png, rng_of
from mmrl.core.media.item import Media


@dataclass(frozen=True, slots=True)
class Theme:
    """The words of a database. The first table has a name, a kind and an amount; the second a row of the first, a place
    and a number."""

    things: str
    thing: str
    names: Sequence[str]
    kind: str
    kinds: Sequence[str]
    amount: str
    events: str
    place: str
    places: Sequence[str]
    number: str


THEMES: dict[str, Sequence[Theme]] = {
    "train": (
        Theme(
            "goods", "item", ("lamp", "chair", "clock", "table", "vase", "shelf", "mirror", "sofa"),
            "colour", ("red", "blue", "green"), "price", "sales", "city", ("Rome", "Oslo", "Lima"), "pieces",
        ),
        Theme(
            "books", "title", ("Dune", "Emma", "Ulysses", "Walden", "Ivanhoe", "Hamlet", "Kim", "Utopia"),
            "room", ("north", "south", "cellar"), "pages", "loans", "reader", ("Ann", "Bob", "Cleo"), "days",
        ),
        Theme(
            "players", "name", ("Ito", "Silva", "Khan", "Meyer", "Rossi", "Novak", "Diaz", "Olsen"),
            "team", ("owls", "bears", "foxes"), "goals", "games", "ground", ("park", "arena", "dome"), "minutes",
        ),
    ),
    "test": (
        Theme(
            "plants", "plant", ("fern", "ivy", "aloe", "sage", "mint", "rose", "lily", "basil"),
            "soil", ("sand", "clay", "peat"), "height", "visits", "gardener", ("Eva", "Finn", "Gus"), "hours",
        ),
        Theme(
            "trains", "train", ("Comet", "Arrow", "Swift", "Falcon", "Rapid", "Star", "Bolt", "Eagle"),
            "line", ("coast", "valley", "ring"), "seats", "trips", "station", ("Bern", "Cork", "Nice"), "miles",
        ),
    ),
}  # fmt: skip


def database_questions(
    *,
    n: int,
    seed: int = 0,
    split: Split = "train",
    show: Literal["text", "picture"] = "text",
    rows: Annotated[int, Field(ge=4, le=8)] = 6,
    scale: Annotated[float, Field(gt=0, le=8)] = 1.0,
) -> Iterator[Sample]:
    """Databases of two tables of `rows` rows, each with a question that one SQLite query answers.

    `show="text"` gives the statements that create the tables, `show="picture"` a picture of the tables with their rows,
    and nothing of them in words. `scale` is the size of the picture; at 1 letters are 16 pixels high.
    """
    for index in range(n):
        rng = rng_of("databases", split, seed, index)
        theme = THEMES[split][int(rng.integers(len(THEMES[split])))]
        tables = _tables(rng, theme, rows)
        asked, query = QUESTIONS[index % len(QUESTIONS)](rng, theme, tables)
        answer: dict[str, Any] = {"sql": query, "database": "\n".join(table.statements() for table in tables)}
        meta = {"split": split, "rationale": f"the tables are {theme.things} and {theme.events}", "licence": "CC0-1.0"}
        if show == "picture":
            media, prompt = (Media(bytes=png(drawn(tables, scale))),), user_prompt(asked, ["image"])
        else:
            created = "\n".join(table.created() for table in tables)
            media, prompt = (), user_prompt(f"{created}\n{asked}")
        yield Sample("", f"database_questions_{show}", "sql", prompt, answer, media, meta)


def _tables(rng: np.random.Generator, theme: Theme, rows: int) -> tuple[Table, Table]:
    """Amounts of the first table differ; the first rows of the second name different rows of the first."""
    names, amounts = rng.permutation(theme.names)[:rows], rng.permutation(90)[:rows] + 10
    things = [
        (number, str(name), str(rng.choice(theme.kinds)), int(amount))
        for number, (name, amount) in enumerate(zip(names, amounts, strict=True), 1)
    ]
    events = [
        (int(rng.integers(1, rows + 1)), str(rng.choice(theme.places)), int(rng.integers(1, 10))) for _ in range(rows)
    ]
    first = Table(theme.things, ("id", theme.thing, theme.kind, theme.amount), tuple(things))
    return first, Table(theme.events, (f"{theme.thing}_id", theme.place, theme.number), tuple(events))


# Questions: each gives the words and the query, whose result has at least one row.

Question = Callable[[np.random.Generator, Theme, tuple[Table, Table]], tuple[str, str]]


def _listed(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    amounts = sorted(row[3] for row in tables[0].rows)
    least = amounts[int(rng.integers(len(amounts) - 1))]
    words = f"List each {theme.thing} of {theme.things} whose {theme.amount} is above {least}."
    return words, f"SELECT {theme.thing} FROM {theme.things} WHERE {theme.amount} > {least}"


def _counted(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    kind = tables[0].rows[int(rng.integers(len(tables[0].rows)))][2]
    words = f"How many rows of {theme.things} have the {theme.kind} {kind}?"
    return words, f"SELECT COUNT(*) FROM {theme.things} WHERE {theme.kind} = '{kind}'"


def _largest(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    word, order = (("largest", "DESC"), ("smallest", "ASC"))[int(rng.integers(2))]
    words = f"Which {theme.thing} of {theme.things} has the {word} {theme.amount}?"
    return words, f"SELECT {theme.thing} FROM {theme.things} ORDER BY {theme.amount} {order} LIMIT 1"


def _averaged(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    kind = tables[0].rows[int(rng.integers(len(tables[0].rows)))][2]
    words = f"What is the mean {theme.amount} of the rows of {theme.things} with the {theme.kind} {kind}?"
    return words, f"SELECT AVG({theme.amount}) FROM {theme.things} WHERE {theme.kind} = '{kind}'"


def _grouped(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    words = f"How many rows of {theme.events} does each {theme.place} have? Give the {theme.place} and the number."
    return words, f"SELECT {theme.place}, COUNT(*) FROM {theme.events} GROUP BY {theme.place}"


def _joined(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    place = tables[1].rows[int(rng.integers(len(tables[1].rows)))][1]
    words = f"Which {theme.thing} has rows of {theme.events} with the {theme.place} {place}? Name each once."
    return words, (
        f"SELECT DISTINCT {theme.thing} FROM {theme.things} JOIN {theme.events} ON {theme.thing}_id = id "
        f"WHERE {theme.place} = '{place}'"
    )


def _summed(rng: np.random.Generator, theme: Theme, tables: tuple[Table, Table]) -> tuple[str, str]:
    number = tables[1].rows[int(rng.integers(len(tables[1].rows)))][0]
    name = next(row[1] for row in tables[0].rows if row[0] == number)
    words = f"What is the total {theme.number} in {theme.events} for the {theme.thing} {name}?"
    return words, (
        f"SELECT SUM({theme.number}) FROM {theme.events} JOIN {theme.things} ON {theme.thing}_id = id "
        f"WHERE {theme.thing} = '{name}'"
    )


QUESTIONS: Sequence[Question] = (_listed, _counted, _largest, _averaged, _grouped, _joined, _summed)
