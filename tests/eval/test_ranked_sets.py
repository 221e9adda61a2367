"""Published sets in which several answers stand in an order, judged by rewards of known behaviour."""

from pathlib import Path
from typing import Any

import pytest

from eval.preferences.sets import rabench
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from tests.eval.test_preference_sets import measured
from tests.support.benchmarks.fixture import cell
from tests.support.clips import write_clip

PICTURES = [
    {"id": "1", "prompt": "What is it?", "responses": ["5", "3", "4"], "rankings": [1, 3, 2], "image": cell(1)},
    {"id": "2", "prompt": "What is it?", "responses": ["2", "4", "", "1"], "rankings": [2, 3, 1, 3], "image": cell(2)},
]
PRINCIPLES = [
    {"principle": "Be brief.", "prompt": "Who?", "category": "chat", "scores": {"a": 5, "b": 2, "c": 2.5},
     "responses": {"a": "5", "b": "2", "c": "3"}},
    {"principle": "Be long.", "prompt": "Who?", "category": "code", "scores": {"a": 1, "d": 4},
     "responses": {"a": "5", "d": "2"}},
]  # fmt: skip


def test_rankings_are_measured_by_the_pick_by_pairs_and_by_order(tmp_path: Path) -> None:
    """The scores follow the first ranking, a half of the second and nothing of the third. An empty answer and pairs
    that are equal do not count."""
    write_clip(tmp_path / "clip.mp4")
    film = {"id": "3", "prompt": "What happens?", "responses": ["1", "2"], "rankings": [1, 2], "video": "clip.mp4"}
    numbers, rows = measured(tmp_path, "mr2bench", [{**row, "video": None} for row in PICTURES] + [film], "says_right")
    assert numbers["picked"] == pytest.approx(1 / 3)
    assert numbers["pairwise"] == pytest.approx((3 + 1 + 0) / (3 + 2 + 1))
    assert numbers["kendall"] == pytest.approx((1 + 0 - 1) / 3)
    assert (numbers["picked.image"], numbers["pairwise.image"], numbers["pairwise.video"]) == (0.5, 0.8, 0)
    assert (rows["image"]["n"], rows["video"]["n"]) == (2, 1)


def test_a_constant_reward_picks_at_random_and_orders_nothing(tmp_path: Path) -> None:
    numbers, _ = measured(tmp_path, "mr2bench", PICTURES, "constant")
    assert numbers == {"picked": pytest.approx(1 / 3), "pairwise": 0, "kendall": 0}


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_answers_by_the_names_of_models_are_ranked_by_their_scores(tmp_path: Path, suffix: str) -> None:
    numbers, rows = measured(tmp_path, "rabench", PRINCIPLES, "says_right", suffix)
    assert (numbers["picked"], numbers["pairwise"], numbers["kendall"]) == (0.5, 0.75, 0)
    assert (numbers["picked.chat"], numbers["kendall.code"]) == (1, -1)
    assert set(rows) == {"all", "chat", "code"}
    first, _ = rabench(PRINCIPLES, lambda _: Media("image", "0.png"))
    assert (first.prompt, first.ranks) == ("Be brief.\n\nWho?", (0, 2, 1))


@pytest.mark.parametrize(
    ("layout", "row", "message"),
    [
        ("mr2bench", {**PICTURES[0], "rankings": [1, 2]}, r"1: rankings \[1, 2\] of 3 responses"),
        ("mr2bench", {**PICTURES[0], "rankings": ["a", "b", "c"]}, r"1: rankings \['a', 'b', 'c'\]"),
        ("mr2bench", {**PICTURES[0], "responses": ["5", " ", ""]}, "1: 1 responses that are not empty"),
        ("rabench", {**PRINCIPLES[0], "scores": {"a": 5, "b": 2}}, r"0: responses of \['a', 'b', 'c'\]"),
        ("rabench", {**PRINCIPLES[1], "scores": {"a": "good", "d": "bad"}}, r"0: scores \['good', 'bad'\]"),
        ("rabench", {**PRINCIPLES[0], "scores": ["5", "2", "1"]}, "expected a mapping from the names of models"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, layout: str, row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(tmp_path, layout, [row], "constant")
