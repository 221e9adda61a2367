"""Preferences about edits: one as instructed, the other with one fault, other instructions for testing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from data_engine.dataset.pairs import picture_pairs
from data_engine.sources.editing.edit_pairs import CHANGES, PLACES, changed, edits, instructions
from data_engine.sources.editing.edit_preferences import FLAWS, edit_preferences
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.messages import prompt_text


def test_a_fault_is_one_thing_and_the_other_edit_is_right() -> None:
    drawn = edit_preferences(n=50, seed=1, side=32)
    made = [replace(sample, id=str(number)) for number, sample in enumerate(drawn)]
    assert Counter(sample.meta["fault"] for sample in made) == dict.fromkeys(FLAWS, 20)
    for better, other in picture_pairs(made):
        photo, right, faulty = (np.asarray(load_image(one)) for one in (*better.media, other.media[1]))
        x1, y1, x2, y2 = (round(share * 32) for share in PLACES[better.meta["place"]])
        inside = np.zeros((32, 32), bool)
        inside[y1:y2, x1:x2] = True
        asked, done = ((photo != edited).any(axis=2) for edited in (right, faulty))
        assert not asked[~inside].any()
        assert prompt_text(better.prompt) == better.answer["instruction"]
        fault = better.meta["fault"]
        if fault == "partial":
            assert not done[~inside].any()
            assert done.sum() <= inside.sum() / 2
        elif fault == "overdone":
            assert done[~inside].mean() > 0.4
        elif fault == "operation":
            assert not done[~inside].any()
        elif fault == "place":
            assert done.any()
            assert not done[inside].any()
        else:
            assert not done.any()


def test_the_instructions_for_testing_occur_in_no_training() -> None:
    for split in ("train", "test"):
        asked = {(s.meta["change"], s.meta["place"]) for s in edit_preferences(n=300, split=split, side=8)}
        assert asked == set(instructions(list(CHANGES), split))


def test_no_fault_in_training_is_what_an_instruction_for_testing_asks_for() -> None:
    """Else these edits are always wrong in training, and a head learns to know them whatever the instruction."""
    every = [(change, place) for change in CHANGES for place in PLACES]
    learned, told = set(instructions(list(CHANGES), "train")), Counter()
    drawn = edit_preferences(n=90, side=32, faults=["partial", "operation", "place"])
    for better, other in picture_pairs([replace(sample, id=str(number)) for number, sample in enumerate(drawn)]):
        photo, faulty = map(load_image, other.media)
        made = {(change, place) for change, place in every if changed(photo, change, PLACES[place]) == faulty}
        assert made <= learned - {(better.meta["change"], better.meta["place"])}
        told[better.meta["fault"]] += bool(made)
    assert (told["operation"], told["place"]) == (30, 30)
    assert 0 < told["partial"] < 30  # half of a quarter is no place


def test_what_was_done_is_asked_with_the_instruction_as_the_answer() -> None:
    asked, plain = list(edits(n=3, side=16, ask="name")), list(edits(n=3, side=16))
    assert [(s.task, s.answer["text"]) for s in asked] == [("text", [s.answer["instruction"]]) for s in plain]
    assert [s.media for s in asked] == [s.media for s in plain]
    assert {prompt_text(s.prompt) for s in asked} == {"What was done?"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": ["bluer"]}, "changes: unknown 'bluer'; did you mean blu"),
        ({"changes": ["red"]}, r"changes: \['red'\] has no other operation; give two or more"),
    ],
)
def test_changes_are_known_and_several(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        edit_preferences(n=1, **options)
