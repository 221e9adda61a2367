"""What holds of every rule reward, whatever is said: range, gold scores most, junk does not help, nothing stalls."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reward_peers import write_table
from rewards import Rollout, Verdict, get

CALL = {"name": "search", "parameters": {"q": "cat", "k": 5}}
BOXES = [[0, 0, 90, 90], [200, 200, 290, 290]]
LONG = "a red bus waits near the old stone bridge in the rain"
GOLDS: dict[str, tuple[Any, str]] = {  # a gold answer, and a completion that gives it
    "choice_match": ({"choice": "B", "options": ["cat", "bus", "dog"]}, "<answer>B</answer>"),
    "yesno_match": ({"yesno": True}, "<answer>yes</answer>"),
    "number_match": ({"number": 3.5}, "<answer>3.5</answer>"),
    "text_match": ({"text": ["Paris"]}, "<answer>paris</answer>"),
    "math_match": ({"math": r"\frac{1}{2}"}, r"<answer>\frac{1}{2}</answer>"),
    "relaxed_match": ({"text": ["12%"]}, "<answer>12%</answer>"),
    "anls": ({"text": ["Paris"]}, "<answer>Paris</answer>"),
    "bleu": ({"references": [LONG]}, LONG),
    "chrf": ({"references": [LONG]}, LONG),
    "rouge_l": ({"references": [LONG]}, LONG),
    "bmas": ({"references": [LONG]}, LONG),
    "reward_chain": ({"chain": {"a": ["red bus", "bridge"], "b": ["rain"]}}, LONG),
    "box_iou": ({"boxes": BOXES[:1]}, json.dumps(BOXES[:1])),
    "box_set": ({"boxes": BOXES}, json.dumps(BOXES)),
    "point_match": ({"points": [[5, 5], [300, 300]]}, "[[5, 5], [300, 300]]"),
    "span_iou": ({"spans": [[2, 6]]}, "[2, 6]"),
    "tool_call": ({"tools": [CALL]}, f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"),
    "object_hallucination": ({"objects": ["bus", "dog"]}, "A bus and a dog."),
    "think_format": (None, "<think>so</think><answer>B</answer>"),
    "tag_format": (None, "<think>so</think><answer>B</answer>"),
    "length_window": (None, "B"),
    "repetition": (None, "B"),
    "overlong": (None, "B"),
}
PENALTIES = ("repetition", "overlong")
SETS = ("box_set", "point_match")


@pytest.fixture(scope="module")
def reward_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder: Path = tmp_path_factory.mktemp("table")
    write_table(folder, LONG.split())
    return functools.cache(lambda name: get(name, **({"table": str(folder)} if name == "bmas" else {})))


def scored(reward: Any, completion: str, answer: Any) -> Verdict:
    return reward([Rollout(completion, answer)])[0]


def number(verdict: Verdict) -> float:
    assert verdict.score is not None, verdict
    return verdict.score


SCRAPS = st.sampled_from(
    [
        *("<think>", "</think>", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "\\boxed{", "```json", "```"),
        *("[", "]", "{", "}", "(", ")", ",", ":", '"', "-", "%", "1", "2.5", "1e999", "９", "NaN", "B", "yes", "no"),
        *("red bus", "dog", "Paris", "\n", "\x00", "\ud800", "é", "[0, 0, 9, 9]", '{"name": "search"}', "bbox_2d"),
    ]
)  # fmt: skip
TEXTS = st.text(max_size=80) | st.lists(SCRAPS, max_size=25).map(" ".join) | st.lists(SCRAPS, max_size=25).map("".join)
SENTENCES = st.lists(st.sampled_from([*LONG.split(), "dog", "cat", "?"]), max_size=30).map(" ".join)


@pytest.mark.parametrize("name", GOLDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS | SENTENCES)
def test_any_text_is_scored_within_the_range_and_the_gold_scores_most(
    reward_of: Callable[..., Any], name: str, text: str
) -> None:
    answer, right = GOLDS[name]
    verdict, best = scored(reward_of(name), text, answer), number(scored(reward_of(name), right, answer))
    low, high = (-1, 0) if name in PENALTIES else (0, 1)
    assert low <= number(verdict) <= high
    assert best == pytest.approx(high)
    assert verdict.kind == "scored" or (verdict.kind, verdict.score) == ("unparsed", 0)


@pytest.mark.parametrize("name", [name for name in GOLDS if GOLDS[name][0] is not None])
@settings(max_examples=20, deadline=None)
@given(junk=st.lists(st.sampled_from(["<answer>", "B", "yes", "3.5", "Paris", "[0, 0, 90, 90]", "bus"]), max_size=8))
def test_what_is_only_thought_neither_helps_nor_hurts(
    reward_of: Callable[..., Any], name: str, junk: list[str]
) -> None:
    answer, right = GOLDS[name]
    thought = f"<think>{' '.join(junk)}</think>"
    assert number(scored(reward_of(name), thought + right, answer)) == pytest.approx(1)
    assert number(scored(reward_of(name), thought, answer)) == 0


@pytest.mark.parametrize("name", ["bleu", "chrf", "rouge_l", "bmas", "reward_chain", "anls", "text_match"])
@settings(max_examples=20, deadline=None)
@given(junk=st.lists(st.sampled_from(["unrelated", "purple", "bus", "bridge"]), min_size=1, max_size=12))
def test_words_beside_the_gold_never_raise_the_score(reward_of: Callable[..., Any], name: str, junk: list[str]) -> None:
    answer, right = GOLDS[name]
    plain = right.removeprefix("<answer>").removesuffix("</answer>")
    for text in (f"{plain} {' '.join(junk)}", f"{' '.join(junk)} {plain}"):
        assert number(scored(reward_of(name), text, answer)) <= 1 + 1e-9


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 5), junk=st.integers(1, 4), seed=st.randoms())
def test_sets_have_no_order_and_every_piece_of_junk_costs(
    reward_of: Callable[..., Any], name: str, count: int, junk: int, seed: Any
) -> None:
    width, key = (4, "boxes") if name == "box_set" else (2, "points")
    rows = [[100 * i, 100 * i, 100 * i + 50, 100 * i + 50][:width] for i in range(count)]
    litter = [[5000 + 100 * i, 0, 5050 + 100 * i, 50][:width] for i in range(junk)]
    clean = number(scored(reward_of(name), json.dumps(rows), {key: rows}))
    dirty = number(scored(reward_of(name), json.dumps([*rows, *litter]), {key: rows}))
    mixed = seed.sample([*rows, *litter], count + junk)
    assert clean == pytest.approx(1)
    assert dirty == pytest.approx(2 * count / (2 * count + junk))
    assert number(scored(reward_of(name), json.dumps(mixed), {key: seed.sample(rows, count)})) == pytest.approx(dirty)


@pytest.mark.parametrize("name", ["box_iou", "box_set", "span_iou"])
@settings(max_examples=30, deadline=None)
@given(lengths=st.tuples(st.integers(1, 100), st.integers(1, 100)))
def test_more_overlap_never_scores_less(reward_of: Callable[..., Any], name: str, lengths: tuple[int, int]) -> None:
    short, long = sorted(lengths)
    key, said, gold = (
        ("spans", lambda end: [[0, end]], [[0, 100]])
        if name == "span_iou"
        else ("boxes", lambda end: [[0, 0, 100, end]], [[0, 0, 100, 100]])
    )
    scores = [number(scored(reward_of(name), json.dumps(said(end)), {key: gold})) for end in (short, long)]
    assert scores == pytest.approx([short / 100, long / 100])


BAITS = [
    *("a ", "1", "1,", "[", "[1,", "{", '{"a":', "(", "<answer>", "</think>", "<think>", "<tool_call>", "\\boxed{"),
    *("bus ", "the answer is A or ", ".", "\n", "-", "é", "％", "0:01 ", "start at 1 ", "```json\n[1,2]"),
]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in GOLDS if name != "math_match"])  # that one is killed at a deadline
def test_a_hundred_kilobytes_of_bait_do_not_stall(reward_of: Callable[..., Any], name: str) -> None:
    """Whole rewards, not only their patterns; a quadratic step takes seconds at this length."""
    reward, answer = reward_of(name), GOLDS[name][0]
    slow = {}
    for bait in BAITS:
        text = (bait * 100_000)[:100_000]
        start = time.process_time()
        verdict = reward([Rollout(text, answer)])[0]
        if (seconds := time.process_time() - start) > 1:
            slow[bait] = seconds
        assert verdict.kind != "failed", verdict.why
    assert not slow
