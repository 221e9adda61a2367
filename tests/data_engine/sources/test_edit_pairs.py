"""Edit pairs: deterministic, one side right and the other not, from installed photographs or a user's own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from data_engine.dataset.shards import read_samples
from data_engine.engine.pipeline import run
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from data_engine.sources.editing.edit_pairs import FAULTS, QUARTERS, edit_pairs
from mmrl.core.config import InputError, validate
from mmrl.core.media.image import load_image
from mmrl.core.messages import prompt_text


def pairs(samples: list[Sample]) -> list[tuple[Sample, Sample]]:
    """(right, faulty) samples of each pair."""
    sides = [
        sorted(two, key=lambda sample: not sample.meta["preferred"])
        for two in zip(samples[::2], samples[1::2], strict=True)
    ]
    return [(right, faulty) for right, faulty in sides]


@pytest.fixture(scope="module")
def made() -> list[Sample]:
    return list(edit_pairs(n=30, seed=1, side=96))


def test_a_pair_is_one_question_about_one_photograph_with_two_edits(made: list[Sample]) -> None:
    assert len(made) == 60
    assert len({sample.meta["pair"] for sample in made}) == 30
    for right, faulty in pairs(made):
        assert right.meta["pair"] == faulty.meta["pair"]
        assert (right.meta["preferred"], faulty.meta["preferred"]) == (True, False)
        assert right.prompt == faulty.prompt
        assert right.answer == faulty.answer
        assert right.answer["candidates"][right.answer["preferred"]] == "right"
        assert right.media[0] == faulty.media[0]
        assert len({right.media[0].bytes, right.media[1].bytes, faulty.media[1].bytes}) == 3


def test_every_fault_is_as_frequent_and_the_right_edit_comes_first_about_half_the_time(made: list[Sample]) -> None:
    assert Counter(sample.meta["fault"] for sample in made) == dict.fromkeys(FAULTS, 20)
    assert 8 <= sum(sample.meta["preferred"] for sample in made[::2]) <= 22


def test_the_right_edit_changes_its_quarter_and_nothing_else(made: list[Sample]) -> None:
    looked_at = 0
    for right, faulty in pairs(made):
        place = next((i for i, name in enumerate(QUARTERS) if f"{name} quarter" in prompt_text(right.prompt)), None)
        if place is None:
            continue
        looked_at += 1
        before, after, wrong = (load_image(media) for media in (*right.media, faulty.media[1]))
        for i in range(len(QUARTERS)):
            box = (i % 2 * 48, i // 2 * 48, i % 2 * 48 + 48, i // 2 * 48 + 48)
            assert (before.crop(box) != after.crop(box)) == (i == place)
            if faulty.meta["fault"] == "wrong" and i == place:
                assert before.crop(box) == wrong.crop(box)
    assert looked_at > 15


def test_the_same_seed_gives_the_same_pairs_and_more_of_them_begin_alike(made: list[Sample]) -> None:
    assert list(edit_pairs(n=4, seed=1, side=96)) == made[:8]
    assert list(edit_pairs(n=4, seed=2, side=96)) != made[:8]
    assert list(edit_pairs(n=4, seed=1, side=96, split="test")) != made[:8]


def test_a_folder_of_photographs_and_a_folder_for_the_edits(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(load_sample_image("flower.jpg")).save(tmp_path / "photos" / "flower.jpg")
    samples = list(edit_pairs("photos", n=2, side=64, out=tmp_path / "edits", root=tmp_path))
    assert all(Path(media.path or "").is_file() for sample in samples for media in sample.media)
    assert "licence" not in samples[0].meta
    with pytest.raises(InputError, match=r"no folder of photographs at .*nowhere"):
        edit_pairs("nowhere", n=1, root=tmp_path)
    (tmp_path / "edits2").mkdir()
    with pytest.raises(InputError, match=r"no picture in .*edits2"):
        edit_pairs("edits2", n=1, root=tmp_path)
    with pytest.raises(InputError, match="side is 20; give 64 or more"):
        edit_pairs(n=1, side=20)


def test_a_recipe_builds_pairs_and_keeps_both_sides_in_one_split(tmp_path: Path) -> None:
    recipe = validate(
        Recipe,
        {
            "sources": [{"fn": "edit_pairs", "args": {"n": 6, "side": 64}}],
            "operators": [{"fn": "validate"}, {"fn": "exact_duplicates"}],
        },
        where="recipe",
    )
    counts = run(recipe, out=tmp_path / "out")
    assert counts.kept == {"edit_pairs": 12}
    assert set(Counter(sample.meta["pair"] for sample in read_samples(tmp_path / "out")).values()) == {2}
