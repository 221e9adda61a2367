"""Questions to made-up databases: the gold query gives rows, and a picture of the tables shows what they hold."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from data_engine.schema import Sample
from data_engine.sources.queries.databases import QUESTIONS, THEMES, database_questions
from mmrl.core.messages import prompt_text
from mmrl.tools.functions import ocr
from mmrl.tools.scene import Scene, Shown
from rewards import Rollout
from rewards.isolation.sqlite import answered
from rewards.rules.sql import sql_match
from tests.support.rows import sound


def made(n: int = 70, **options: Any) -> list[Sample]:
    return sound(database_questions(n=n, **options))


def words(sample: Sample) -> set[str]:
    """The words and numbers of the sample's database."""
    return set(re.findall(r"\w+", sample.answer["database"])) - {"CREATE", "TABLE", "INSERT", "INTO", "VALUES"}


def test_every_gold_query_gives_rows_and_another_ones_does_not_earn_its_reward() -> None:
    samples = made(35, split="train", rows=4) + made(35, split="test", rows=8)
    for sample, other in pairwise(samples):
        rows = answered(sample.answer["database"], sample.answer["sql"]).rows
        assert rows
        assert None not in rows[0]
        said = [Rollout(f"<answer>{one.answer['sql']}</answer>", sample.answer) for one in (sample, other)]
        right, wrong = sql_match(said)
        assert right.score == 1
        assert wrong.score == 0 or answered(sample.answer["database"], other.answer["sql"]).rows == rows
    forms = {re.sub(r"\W.*", "", prompt_text(sample.prompt).splitlines()[-1]) for sample in samples}
    assert forms == {"List", "How", "Which", "What"}
    assert len({sample.answer["database"] for sample in samples}) == len(samples)


def test_in_a_picture_nothing_is_said_of_the_tables_but_the_question() -> None:
    told, seen = made(7), made(7, show="picture")
    for text, picture in zip(told, seen, strict=True):
        assert text.answer == picture.answer
        assert (len(text.media), len(picture.media)) == (0, 1)
        schema, _, question = prompt_text(text.prompt).rpartition("\n")
        assert prompt_text(picture.prompt).endswith(question)
        assert "CREATE" not in prompt_text(picture.prompt)
        assert [line + "\n" for line in schema.splitlines()] == re.findall(r"CREATE .*\n", text.answer["database"])
    assert {sample.meta["rationale"] for sample in made()} == {
        f"the tables are {theme.things} and {theme.events}" for theme in THEMES["train"]
    }
    assert len(QUESTIONS) == len({sample.answer["sql"].split("WHERE")[0] for sample in made(7)})


def test_a_picture_shows_every_word_and_number_of_the_database() -> None:
    for sample in made(2, show="picture", scale=2.0):
        assert sample.media[0].bytes is not None
        picture = Image.open(io.BytesIO(sample.media[0].bytes)).convert("RGB")
        read = set(re.findall(r"\w+", ocr(scene=Scene((Shown(picture, picture.size),)))))
        unread = words(sample) - read - {"TEXT", "INTEGER"}
        assert len([word for word in unread if len(word) > 1]) <= 1, unread  # it overlooks some single digits


def test_the_size_of_the_letters_can_be_chosen_and_the_split_changes_all_words() -> None:
    small, large = (
        Image.open(io.BytesIO(next(database_questions(n=1, show="picture", scale=scale)).media[0].bytes or b""))
        for scale in (1.0, 2.0)
    )
    assert large.height == 2 * small.height
    train, test = (
        {one for sample in made(split=split) for one in words(sample) if not one.isdigit()} for split in THEMES
    )
    assert train & test <= {"id", "INTEGER", "TEXT"}
    assert made(3) == made(3)
    with pytest.raises(StopIteration):
        next(database_questions(n=0))
