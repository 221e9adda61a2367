"""Edits for editors: the instruction's change in its place and nowhere else, other instructions for testing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_engine.engine.pipeline import run
from data_engine.recipe import Recipe
from data_engine.sources.editing.edit_pairs import CHANGES, FAULTS, PLACES, edits, instructions, versions
from mmrl.core.config import InputError, validate
from mmrl.core.media.image import load_image
from mmrl.core.messages import prompt_text


def test_the_right_edit_has_the_change_in_its_place_and_nothing_elsewhere() -> None:
    for sample in edits(n=60, seed=1, side=32):
        source, edited = (np.asarray(load_image(media)) for media in sample.media)
        x1, y1, x2, y2 = (round(share * 32) for share in PLACES[sample.meta["place"]])
        inside = np.zeros((32, 32), bool)
        inside[y1:y2, x1:x2] = True
        changed = (source != edited).any(axis=2)
        assert not changed[~inside].any()
        assert changed[inside].mean() > 0.5
        assert prompt_text(sample.prompt) == sample.answer["instruction"]
        assert sample.meta["place"] in sample.answer["instruction"]


def test_the_instructions_for_testing_are_a_quarter_and_occur_in_no_training() -> None:
    train, test = (set(instructions(list(CHANGES), split)) for split in ("train", "test"))
    assert not train & test
    assert train | test == {(change, place) for change in CHANGES for place in PLACES}
    assert len(test) * 4 == len(CHANGES) * len(PLACES)
    assert {change for change, _ in test} == set(CHANGES)
    asked = {(s.meta["change"], s.meta["place"]) for s in edits(n=200, split="test", side=8)}
    assert asked == test


def test_a_careless_editor_errs_as_often_as_said_and_in_every_way() -> None:
    made = list(edits(n=400, right=0.4, side=8, changes=["red", "invert"]))
    kinds = Counter(sample.meta["kind"] for sample in made)
    assert kinds.keys() == {"right", *FAULTS}
    assert 0.33 < kinds["right"] / 400 < 0.47
    assert {sample.meta["change"] for sample in made} == {"red", "invert"}
    for sample in made[:40]:
        photo, edited = map(load_image, sample.media)
        kept = versions(photo, sample.meta["change"], sample.meta["place"], ["red", "invert"])
        assert kept[sample.meta["kind"]] == edited
        assert len({version.tobytes() for version in kept.values()}) == 4


def test_the_same_seed_gives_the_same_edits_and_unknown_changes_are_named() -> None:
    assert list(edits(n=3, seed=1, side=16)) == list(edits(n=5, seed=1, side=16))[:3]
    assert list(edits(n=3, seed=2, side=16)) != list(edits(n=3, seed=1, side=16))
    with pytest.raises(InputError, match="changes: unknown 'bluer'; did you mean blu"):
        edits(n=1, changes=["bluer"])


def test_a_recipe_builds_them(tmp_path: Path) -> None:
    values = {
        "sources": [{"fn": "edits", "args": {"n": 8, "side": 16}}],
        "operators": [{"fn": "validate", "args": {"limits": {"min_side": 16}}}, {"fn": "exact_duplicates"}],
    }
    assert run(validate(Recipe, values, where="recipe"), out=tmp_path / "out").kept == {"edits": 8}
