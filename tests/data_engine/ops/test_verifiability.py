"""Golds that score 1 against themselves and not for nothing; options in a drawn order; choices nobody can guess."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from data_engine.operator import Dropped, Quarantined
from data_engine.ops.options import guessable, guesses, shuffle_options
from data_engine.ops.verify import other_golds, verifiable
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.seeding import with_options
from mmrl.core.media.item import Media
from rewards.registry import Call
from tests.support.faulty import form_fault

PICTURE = Media("image", path="a.png", sha256="a", width=640, height=480)
CLIP = Media("video", path="a.mp4", sha256="b", width=64, height=48, num_frames=100, fps=10.0, duration=10.0)


def ask(task: str, answer: dict[str, Any], question: str = "What?", media: Media = PICTURE) -> Sample:
    return with_id(Sample("", "s", task, user_prompt(question, [media.kind]), answer, (media,)))


def choice(question: str, options: list[str], gold: str) -> Sample:
    return ask("choice", {"choice": gold, "options": options}, with_options(question, options))


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("choice", {"choice": "B", "options": ["cat", "dog"]}),
        ("yesno", {"yesno": False}),
        ("number", {"number": -3.25, "unit": "cm"}),
        ("number", {"number": 1.5e-7}),
        ("number", {"number": 6.02e23}),
        ("count", {"number": 4}),
        ("math", {"math": r"\frac{1}{2}"}),
        ("text", {"text": ["Paris", "paris, france"]}),
        ("ocr", {"text": ["EXIT 12"]}),
        ("chart", {"text": ["12%"]}),
        ("grounding", {"boxes": [[10.25, 20, 30, 40.5], [100, 100, 200, 200]]}),
        ("detection", {"boxes": [[1, 2, 30, 40], [50, 60, 70, 80]], "labels": ["cat", "dog"]}),
        ("point", {"points": [[5, 6], [70, 80.5]]}),
    ],
)
def test_a_sound_gold_passes(task: str, answer: dict[str, Any]) -> None:
    sample = ask(task, answer)
    assert form_fault(sample) is None
    assert verifiable(sample) is sample


def test_spans_pass_and_judged_tasks_are_left_alone() -> None:
    for sample in (ask("temporal", {"spans": [[1.5, 3], [4, 9]]}, media=CLIP), ask("caption", {"references": ["A."]})):
        assert verifiable(sample) is sample


@pytest.mark.parametrize(
    ("task", "answer", "reason"),
    [
        ("text", {"text": ["Paris", "</think>Rome"]}, "gold_scores_low"),
        ("text", {"text": ["<think> of it"]}, "gold_unread"),
        ("math", {"math": r"\frac{1}{"}, "gold_unread"),
        ("math", {"math": "x^2+"}, "gold_unread"),
        ("math", {"math": "between 3 and 5 metres, about 4"}, "gold_unread"),
        ("point", {"points": [[5, 5]], "boxes": [[10, 10, 20, 20]]}, "gold_scores_low"),
    ],
)
def test_a_gold_that_its_reward_refuses_is_quarantined(task: str, answer: dict[str, Any], reason: str) -> None:
    outcome = verifiable(ask(task, answer))
    assert isinstance(outcome, Quarantined), outcome
    assert outcome.reason == reason, outcome.why


def test_what_a_trivial_answer_gets_right_is_dropped() -> None:
    zero = ask("count", {"number": 0})
    assert verifiable(zero) == Dropped(zero, "trivial_answer")
    assert verifiable(zero, trivial=[""]) is zero


def test_an_option_may_read_as_a_trivial_answer() -> None:
    sample = choice("How many?", ["0", "1"], "A")
    assert verifiable(sample) is sample


def test_the_reward_can_be_another_and_a_lax_one_is_seen() -> None:
    sample = ask("number", {"number": 100})
    lax = {"number": Call(fn="number_match", args={"abs_tol": 1000.0})}
    assert verifiable(sample) is sample
    assert verifiable(sample, rewards=lax) == Dropped(sample, "trivial_answer")
    samples = [ask("number", {"number": n}) for n in (100, 120, 900)]
    outcomes = list(other_golds(iter(samples), rewards=lax))
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, Dropped)] == ["accepts_other_golds"] * 3


def test_a_gold_that_accepts_the_golds_of_others_is_dropped_and_equal_golds_are_not() -> None:
    words = ["red", "green", "blue", "teal"]
    samples = [ask("text", {"text": [word]}) for word in words * 2]
    anything = ask("text", {"text": ["any", *words]})
    outcomes = list(other_golds(iter([*samples, anything])))
    assert outcomes == [*samples, Dropped(anything, "accepts_other_golds")]
    lenient = ask("text", {"text": ["any", "RED"]})  # one of four others scores: the share allowed
    assert next(iter(other_golds(iter([lenient, *samples])))) == lenient
    assert next(iter(other_golds(iter([lenient, *samples]), share=0.0))) == Dropped(lenient, "accepts_other_golds")
    closed = [ask("yesno", {"yesno": value}) for value in (True, False)]
    assert list(other_golds(iter(closed))) == closed


def test_shuffled_options_keep_their_gold_and_say_where_they_stood() -> None:
    golds = set()
    for number in range(30):
        sample = choice(f"Which, {number}?", ["cat", "dog", "cow", "A. Dürer"], "B")
        outcome = shuffle_options(sample, seed=3)
        assert isinstance(outcome, Sample)
        order, options = outcome.meta["option_order"], outcome.answer["options"]
        assert options == [sample.answer["options"][place] for place in order]
        assert options["ABCD".index(outcome.answer["choice"])] == "dog"
        assert outcome.prompt[0]["content"][1]["text"] == with_options(f"Which, {number}?", options)
        twice = shuffle_options(outcome, seed=4)
        assert isinstance(twice, Sample)
        assert twice.answer["options"] == [sample.answer["options"][place] for place in twice.meta["option_order"]]
        golds.add(outcome.answer["choice"])
    assert golds == set("ABCD")


def test_one_question_about_many_pictures_loses_its_letter_bias() -> None:
    asked = choice("Which way?", ["left", "right"], "A")
    samples = [
        replace(asked, media=(replace(PICTURE, sha256=str(n)),), meta={"option_order": "as is"}) for n in range(99)
    ]
    shuffled = [sample for sample in map(shuffle_options, samples) if isinstance(sample, Sample)]
    golds = Counter(sample.answer["choice"] for sample in shuffled)
    assert min(golds["A"], golds["B"]) > 30
    assert Counter(sample.meta["option_order"][0] for sample in shuffled) == {0: golds["A"], 1: golds["B"]}


def test_options_that_speak_of_their_order_stay_and_unlisted_ones_are_dropped() -> None:
    for options in (["cat", "dog", "None of the above"], ["A", "B", "C"], ["cat", "dog", "Both A and B"]):
        outcome = shuffle_options(choice("Which?", options, "A"))
        assert isinstance(outcome, Sample)
        assert (outcome.answer["options"], outcome.meta["option_order"]) == (options, [0, 1, 2])
    unlisted = ask("choice", {"choice": "A", "options": ["cat", "dog"]})
    assert shuffle_options(unlisted) == Dropped(unlisted, "options_not_listed")
    listed = ask("choice", {"choice": "A", "options": ["cat", "dog"]}, "Which?\n(A) cat\n(B) dog\nOne letter.")
    assert isinstance(shuffle_options(listed), Sample)
    other = ask("yesno", {"yesno": True})
    assert shuffle_options(other) is other


def test_choices_that_length_gives_away_are_dropped_back_to_chance() -> None:
    """400 of 400 golds are the longest: 100 would be chance. Without them nothing is left to drop."""
    samples = []
    for number in range(400):
        options = [f"w{number}"] * 4
        options = [f"{text}{place}" for place, text in enumerate(options)]
        options[number % 4] += " and more"
        samples.append(choice(f"Which, {number}?", options, "ABCD"[number % 4]))
    (longest,) = [guess for guess in guesses(samples) if guess.strategy == "longest"]
    assert (longest.n, longest.right, longest.chance) == (400, 400, 100)
    outcomes = list(guessable(iter(samples)))
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Dropped)} == {"guessed_by_longest"}
    assert (
        sum(isinstance(outcome, Dropped) for outcome in outcomes) == 400
    )  # every one is guessed: no part of them is at chance


def test_what_dropping_for_one_way_to_guess_brings_back_is_dropped_as_well() -> None:
    """Golds after A are mostly the longest option: once those are dropped, A is right too often."""
    draw, samples = random.Random(1), list[Sample]()
    for number in range(600):
        gold = 0 if draw.random() < 0.25 else draw.randrange(4)
        options = [f"{'x' * draw.randint(1, 9)}{number}{place}" for place in range(4)]
        if gold and draw.random() < 0.6:
            options[gold] = f"{'y' * 12}{number}"
        samples.append(choice(f"question {number}", options, "ABCD"[gold]))
    outcomes = list(guessable(iter(samples)))
    kept = [sample for sample in outcomes if isinstance(sample, Sample)]
    assert len(kept) > 150
    assert {outcome.reason for outcome in outcomes if isinstance(outcome, Dropped)} >= {
        "guessed_by_letter_A",
        "guessed_by_longest",
    }
    assert all(guess.surplus <= 3 * guess.error for guess in guesses(kept))


def test_a_letter_that_is_too_often_right_is_brought_back_to_chance() -> None:
    golds = ["A"] * 160 + ["B", "C", "D"] * 80
    samples = [choice(f"Which, {n}?", [f"x{n}", f"y{n}", f"z{n}", f"w{n}"], gold) for n, gold in enumerate(golds)]
    outcomes = list(guessable(iter(samples)))
    assert [outcome.reason for outcome in outcomes if isinstance(outcome, Dropped)] == ["guessed_by_letter_A"] * 80
    kept = [sample for sample in outcomes if isinstance(sample, Sample)]
    assert all(guess.surplus <= 3 * guess.error for guess in guesses(kept))
    assert list(guessable(iter(kept))) == kept
