"""Operators on numbers one can check by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_engine.operator import Dropped
from data_engine.ops.check import min_pixels, only_tasks
from data_engine.ops.duplicates import exact_duplicates
from data_engine.ops.select import PROPERTIES, balance, mix, sample, shuffle
from data_engine.ops.split import split
from data_engine.schema import Sample, user_prompt, with_id
from mmrl.core.config import InputError
from mmrl.core.media.item import Media

SHARES = {"train": 0.5, "test": 0.5}


def ask(question: str, *pictures: str, source: str = "s", **more: Any) -> Sample:
    """A yes/no sample about pictures that are known by their hashes."""
    media = tuple(Media("image", path=f"{name}.png", sha256=name, width=64, height=32) for name in pictures)
    fields = {"task": "yesno", "answer": {"yesno": True}, "meta": {}, **more}
    return with_id(
        Sample("", source, prompt=user_prompt(question, [item.kind for item in media]), media=media, **fields)
    )


def ends(outcomes: Iterable[Any]) -> tuple[list[Sample], Counter[str]]:
    """(kept samples, dropped by reason)."""
    outcomes = list(outcomes)
    return (
        [outcome for outcome in outcomes if isinstance(outcome, Sample)],
        Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Dropped)),
    )


def test_small_media_and_other_tasks_are_dropped() -> None:
    assert min_pixels(ask("?", "a"), pixels=64 * 32) is None
    assert min_pixels(ask("?", "a"), pixels=64 * 32 + 1) == "too_small"
    assert only_tasks(ask("?"), tasks=["count"]) == "task_yesno"


def test_the_same_question_about_the_same_picture_is_kept_once() -> None:
    samples = [ask("red?", "a"), ask("red?", "a"), ask("red?", "b"), ask("blue?", "a")]
    samples.append(ask("red?", "a", answer={"yesno": False}))
    kept, dropped = ends(exact_duplicates(iter(samples)))
    assert kept == [samples[0], *samples[2:4]]
    assert dropped == {"duplicate": 1, "duplicate_with_another_answer": 1}


def splits(samples: Iterable[Sample], **options: Any) -> tuple[dict[str, set[str]], Counter[str]]:
    """(the splits in which each picture is, dropped by reason)."""
    kept, dropped = ends(split(iter(list(samples)), **options))
    places: dict[str, set[str]] = {}
    for item in kept:
        for media in item.media:
            places.setdefault(str(media.sha256), set()).add(item.meta["split"])
    return places, dropped


@given(st.lists(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=3), max_size=20), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_no_picture_is_in_two_splits_and_nothing_is_dropped(rows: list[list[str]], seed: int) -> None:
    samples = [ask(f"{number}?", *pictures) for number, pictures in enumerate(rows)]
    places, dropped = splits(samples, shares=SHARES, seed=seed)
    assert all(len(names) == 1 for names in places.values())
    assert not dropped
    assert splits(reversed(samples), shares=SHARES, seed=seed)[0] == places  # the order of samples does not matter


def test_shares_are_kept_on_average_and_a_picture_stays_where_it_was() -> None:
    samples = [ask("?", f"picture {number}") for number in range(2000)]
    places, _ = splits(samples, shares={"train": 3, "test": 1})
    assert sum(names == {"train"} for names in places.values()) == pytest.approx(1500, abs=60)
    half, _ = splits(samples[:1000], shares={"train": 3, "test": 1})
    assert half.items() <= places.items()


def test_a_given_split_is_kept_and_a_leak_into_it_is_dropped() -> None:
    samples = [
        ask("1?", "a", meta={"split": "test"}),
        ask("2?", "a", meta={"split": "train"}),
        ask("3?", "a", "b"),
        ask("4?", "b", meta={"split": "train"}),
        ask("5?", "c", meta={"split": "train"}),
    ]
    places, dropped = splits(samples, shares={"train": 1, "test": 0})
    assert places == {"a": {"test"}, "b": {"test"}, "c": {"train"}}
    assert dropped == {"media_in_test": 2}


def test_a_given_split_without_a_share_is_an_error() -> None:
    with pytest.raises(InputError, match=r"'tests', which shares lack; did you mean test\?"):
        list(split(iter([ask("?", "a", meta={"split": "tests"})]), shares=SHARES))


def test_text_only_samples_are_split_by_their_question() -> None:
    samples = [ask(f"{number % 50}?", source=str(number)) for number in range(100)]
    kept, _ = ends(split(iter(samples), shares=SHARES))
    for first, same in zip(kept[:50], kept[50:], strict=True):
        assert first.meta["split"] == same.meta["split"]


def test_sample_takes_n_in_order_whatever_else_there_is() -> None:
    samples = [ask(f"{number}?") for number in range(100)]
    kept, dropped = ends(sample(iter(samples), n=10, seed=3))
    assert kept == [sample for sample in samples if sample in kept]
    assert (len(kept), dropped) == (10, {"not_sampled": 90})
    assert ends(sample(iter(samples), n=10, seed=4))[0] != kept
    again, _ = ends(sample(iter(reversed(samples)), n=10, seed=3))
    assert list(reversed(again)) == kept


def test_balance_caps_every_combination() -> None:
    answers = [True] * 30 + [False] * 5
    samples = [ask(f"{number}?", answer={"yesno": answer}) for number, answer in enumerate(answers)]
    kept, dropped = ends(balance(iter(samples), by=["task", "answer"], cap=10))
    assert Counter(sample.answer["yesno"] for sample in kept) == {True: 10, False: 5}
    assert dropped == {"over_cap": 20}


def test_balance_counts_a_choice_by_its_text_not_by_its_letter() -> None:
    options = (["cat", "dog"], "A"), (["dog", "cat"], "B"), (["cat", "dog"], "B")
    samples = [
        ask(f"{number}?", task="choice", answer={"choice": letter, "options": texts})
        for number, (texts, letter) in enumerate(options)
    ]
    kept, _ = ends(balance(iter(samples), by=["answer"], cap=1))
    assert len(kept) == 2
    assert samples[2] in kept


def test_an_answer_is_plain_words() -> None:
    for task, answer, words in (
        ("yesno", {"yesno": True}, "yes"),
        ("count", {"number": 3.0, "unit": "cm"}, "3"),
        ("number", {"number": 0.5}, "0.5"),
        ("choice", {"choice": "B", "options": ["cat", "dog"]}, "dog"),
        ("math", {"math": "x^2"}, "x^2"),
        ("ocr", {"text": ["STOP"]}, "STOP"),
        ("text", {"text": ["Paris", "paris"]}, '["Paris","paris"]'),
    ):
        assert PROPERTIES["answer"](ask("?", task=task, answer=answer)) == words


def from_sources(**counts: int) -> Iterator[Sample]:
    return (ask(f"{number}?", source=source) for source, count in counts.items() for number in range(count))


def test_mix_keeps_the_proportion_and_shuffles() -> None:
    kept, dropped = ends(mix(from_sources(a=60, b=10), weights={"a": 2, "b": 1}))
    assert Counter(sample.source for sample in kept) == {"a": 20, "b": 10}
    assert dropped == {"over_share_of_a": 40}
    assert {sample.source for sample in kept[:10]} == {"a", "b"}


def test_mix_refuses_a_source_that_has_nothing_left() -> None:
    with pytest.raises(InputError, match="no sample of b is left"):
        list(mix(from_sources(a=3), weights={"a": 1, "b": 1}))


def test_shuffle_keeps_all() -> None:
    samples = list(from_sources(a=50))
    shuffled = list(shuffle(iter(samples), seed=1))
    assert shuffled != samples
    assert sorted(shuffled, key=samples.index) == samples
