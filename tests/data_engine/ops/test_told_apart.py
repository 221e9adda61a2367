"""Questions that differ are not duplicates, golds that a question may name are kept, control tokens are found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from data_engine.engine.pipeline import run
from data_engine.operator import Dropped, Quarantined
from data_engine.ops.duplicates import near_duplicates
from data_engine.ops.validate import validate
from data_engine.recipe import Recipe
from data_engine.schema import Sample, user_prompt, with_id
from mmrl.core.config import RunError
from mmrl.core.media.item import Media
from mmrl.core.media.probe import probe
from tests.data_engine.ops.test_duplicates import jpeg, photos
from tests.support.faulty import answered, sample

INSTRUCTION = (
    "You are an expert at looking at photographs. First think about the whole picture in <think> tags, then give your "
    "answer in <answer> tags, and nothing else after it. Be careful, and look twice before you answer: {}"
)


def asked(task: str, answers: dict[str, dict[str, Any]], form: str = INSTRUCTION) -> list[Sample]:
    """Questions about one picture, with a long instruction."""
    media = probe(Media("image", bytes=jpeg(photos(1)[0])))
    return [
        with_id(Sample("", "s", task, user_prompt(form.format(question), ["image"]), answer, (media,)))
        for question, answer in answers.items()
    ]


def dropped(samples: list[Sample]) -> list[int]:
    outcomes = near_duplicates(iter(samples))
    return [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Dropped)]


@pytest.mark.parametrize(
    ("task", "answers"),
    [
        (
            "grounding",
            {f"Locate the {n}.": {"boxes": [[9 * i, 5, 9 * i + 60, 99]]} for i, n in enumerate("abcdefgh")},
        ),
        ("yesno", {f"Is there a {thing}?": {"yesno": True} for thing in ("car", "dog", "bus", "tree", "roof")}),
        ("count", {f"How many {thing} are there?": {"number": 1.0} for thing in ("cars", "dogs", "buses", "roofs")}),
        ("point", {f"Point at the {n}.": {"points": [[40 * i, 50]]} for i, n in enumerate(("car", "dog", "bus"))}),
        (
            "detection",
            {f"Find: {n}.": {"boxes": [[1, 2, 90, 99]], "labels": [n]} for n in ("car", "bus", "dog")},
        ),
    ],
)
def test_a_long_instruction_does_not_make_questions_the_same(task: str, answers: dict[str, dict[str, Any]]) -> None:
    assert dropped(asked(task, answers)) == []
    assert dropped(asked(task, answers, "{} " + INSTRUCTION.format("Now."))) == []


def test_two_places_for_one_phrase_are_two_samples_and_a_scaled_copy_is_one() -> None:
    question = "Locate the old man with a red hat who stands next to the bridge in the middle of this photograph."
    first, other = asked(
        "grounding", {question: {"boxes": [[10, 20, 200, 300]]}, question + "!": {"boxes": [[10, 20, 90, 99]]}}
    )
    small = probe(Media("image", bytes=jpeg(photos(1)[0].resize((320, 240)), 40)))
    copy = with_id(replace(first, media=(small,), answer={"boxes": [[5, 10, 101, 149]]}))
    assert dropped([first, other]) == []
    assert dropped([first, copy]) == [1]


@pytest.mark.parametrize(
    ("question", "gold"),
    [
        ("In picture 2, what number is on the shirt?", "2"),
        ("Is the value in 2010 above that in 2012? Which year is higher?", "2012"),
        ("What is written on the sign? Answer no if nothing.", "no"),
        ("Which city is it? Say unknown if you cannot tell.", "unknown"),
        ("What is the word? Write 'EMPTY' if there is none.", "empty"),
        ("Which is taller, the tower and the church?", "the church"),
        ("Is A taller than B? Name the taller one.", "B"),
        ("What colour is it: red, green, blue?", "green"),
        ("Choose from cat and dog: what is it?", "dog"),
    ],
)
def test_a_gold_that_a_question_may_name_is_kept(question: str, gold: str) -> None:
    assert isinstance(validate(answered(question, gold)), Sample)


@pytest.mark.parametrize(
    ("question", "gold"), [("What colour is the red car?", "Red"), ("Who is Mona Lisa?", "mona lisa")]
)
def test_a_gold_that_is_given_away_is_found(question: str, gold: str) -> None:
    outcome = validate(answered(question, gold))
    assert isinstance(outcome, Dropped)
    assert outcome.reason == "answer_in_question"


@pytest.mark.parametrize(
    "token",
    [
        *("<|image_pad|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|vision_start|>", "</s>", "<bos>"),
        *(
            "<start_of_turn>",
            "<|turn>",
            "<audio_soft_token>",
            "<end_of_utterance>",
            "[INST]",
            "[/INST]",
            "[IMG]",
            "<img>",
            "<IMG_CONTEXT>",
        ),
        *("<image_soft_token>", "<fake_token_around_image>", "<row_1_col_2>", "<｜User｜>", "<<SYS>>", "[gMASK]"),
    ],
)
def test_a_control_token_of_any_family_is_found_in_questions_and_answers(token: str) -> None:
    for broken in (sample(question=f"Is it{token} day?"), answered("What is it?", f"a {token} b")):
        outcome = validate(broken)
        assert isinstance(outcome, Quarantined)
        assert outcome.reason == "special_token"
        assert token in outcome.why
    assert isinstance(validate(sample(question=f"Is it{token} day?"), modes={"special_token": "keep"}), Sample)


@pytest.mark.parametrize("text", ["Is 2 < 3 | 4 > 1?", "What does <b>this</b> say?", "Solve [x] and <y|z>.", "a <| b"])
def test_other_brackets_are_text(text: str) -> None:
    assert isinstance(validate(sample(question=text)), Sample)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["leaves", "leaves_all", "leaves_at_once"])
def test_an_operator_or_source_that_exits_is_named(name: str, workers: int, tmp_path: Any) -> None:
    source = {"fn": "digits_count", "args": {"n": 2, "side": 64}}
    operators = [{"fn": "validate"}, {"fn": f"tests.support.lab:{name}"}]
    if name == "leaves_at_once":
        source, operators = {"fn": f"tests.support.lab:{name}", "args": {}}, operators[:1]
    made = Recipe.model_validate({"sources": [source], "operators": operators})
    with pytest.raises(RunError, match=rf"{name}\b.* called sys.exit\(3\)"):
        run(made, out=tmp_path / "out", workers=workers)
