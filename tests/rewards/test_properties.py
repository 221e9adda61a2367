"""Properties of every rule reward: its range, gold scores most, order does not matter, junk does not help."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.peers.rewards import write_table
from mmrl.core.registry import options_of
from rewards import REWARDS, Reward, Rollout, Verdict, get
from rewards.forms import OF_FORM, OF_PICTURES
from rewards.registry import function_of
from tests.support.reward_examples import best

CALL = {"name": "search", "parameters": {"q": "cat", "k": 5}}
LONG = "a red bus waits near the old stone bridge in the rain"
SETS = ("box_set", "point_match")
MODES = ("f1", "recall", "precision", "map", "weighted", "vision_r1", "visionreasoner", "od_length")

CHOICE, YESNO = {"fn": "choice_match"}, {"fn": "yesno_match"}
RICHER: dict[str, dict[str, Any]] = {  # other options of rewards made of rewards than choice_match
    "blend": {"model": {"fn": "think_format"}},
    "fallback": {"rule": YESNO},
    "gate": {"when": {"fn": "length_window"}},
    "length_mask": {"reward": {"fn": "rouge_l"}},
    "partial_credit": {"model": {"fn": "think_format"}},
    "progressive": {"schedule": {0.5: YESNO}},
    "scheduled": {"start": 1.0, "end": 1.0, "last": 10},
    "shape": {"method": "clip"},
}
MODELS = {"judge", "model"}  # options that tell a reward by model
PENALTIES = [name for name in REWARDS if (function_of(name).__doc__ or "").startswith("A penalty")]
OPTIONS = {name: options_of(function_of(name)).model_fields for name in REWARDS}
MADE_OF = [name for name, options in OPTIONS.items() if options.keys() & {"reward", "rule"}]
RULES = [
    name
    for name, options in OPTIONS.items()
    if not options.keys() & MODELS and name not in MADE_OF and name not in OF_PICTURES
]


def golds() -> dict[str, tuple[Any, str, dict[str, Any]]]:
    """For each rule: a gold answer, a completion that gives it, and the options with which its docstring scores it."""
    examples = {name: best(name, 0.0 if name in PENALTIES else 1.0) for name in RULES}
    golds = {
        name: (example.rollout.answer, example.rollout.completion, example.options)
        for name, example in examples.items()
        if example
    }
    return {**golds, "bmas": ({"references": [LONG]}, LONG, {})}  # it needs a file, so its docstring cannot show one


GOLDS = golds()


def test_every_rule_reward_shows_a_completion_that_earns_the_most() -> None:
    for name in RULES:
        assert name in GOLDS, (
            f"{REWARDS[name]}: the docstring needs an example with a completion that earns 1 (0 if it begins with "
            f'"A penalty"), such as >>> {name}([Rollout(completion, answer)])[0].score; these tests use it'
        )


def made_of(name: str) -> dict[str, Any]:
    """Options of a reward made of rewards: choice_match for every reward that it needs, or what is RICHER."""
    needed = {option for option, field in OPTIONS[name].items() if field.is_required() and field.annotation == Reward}
    options = {**dict.fromkeys(needed, CHOICE), **RICHER.get(name, {})}
    missing = {option for option, field in OPTIONS[name].items() if field.is_required()} - options.keys()
    assert not missing, f"{REWARDS[name]} needs {', '.join(missing)}: give values for the tests in RICHER"
    return options


@pytest.fixture(scope="module")
def reward_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    folder: Path = tmp_path_factory.mktemp("table")
    write_table(folder, LONG.split())
    options = {"bmas": {"table": str(folder)}} | {name: made_of(name) for name in MADE_OF}
    return functools.cache(lambda name: get(name, **options.get(name) or GOLDS[name][2]))


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
    answer, right, _ = GOLDS[name]
    verdict, best = scored(reward_of(name), text, answer), number(scored(reward_of(name), right, answer))
    low, high = (-1, 0) if name in PENALTIES else (0, 1)
    assert low <= number(verdict) <= high
    assert best == pytest.approx(high)
    assert verdict.kind == "scored" or (verdict.kind, verdict.score) == ("unparsed", 0)


@pytest.mark.parametrize("name", [name for name in GOLDS if GOLDS[name][0] is not None and name not in OF_FORM])
@settings(max_examples=20, deadline=None)
@given(junk=st.lists(st.sampled_from(["<answer>", "B", "yes", "3.5", "Paris", "[0, 0, 90, 90]", "bus"]), max_size=8))
def test_what_is_only_thought_neither_helps_nor_hurts(
    reward_of: Callable[..., Any], name: str, junk: list[str]
) -> None:
    answer, right, _ = GOLDS[name]
    thought = f"<think>{' '.join(junk)}</think>"
    assert number(scored(reward_of(name), thought + right, answer)) == pytest.approx(1)
    assert number(scored(reward_of(name), thought, answer)) == 0
    begun = Rollout(thought.removeprefix("<think>") + right, answer, opened="<think>\n")
    unended = replace(begun, completion=right)
    assert [number(verdict) for verdict in reward_of(name)([begun, unended])] == pytest.approx([1, 0])


@pytest.mark.parametrize("name", MADE_OF)
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(TEXTS | SENTENCES, min_size=1, max_size=4), step=st.none() | st.integers(0, 10))
def test_rewards_made_of_rewards_stay_in_range(
    reward_of: Callable[..., Any], name: str, texts: list[str], step: int | None
) -> None:
    answer = {"choice": "B", "options": ["cat", "bus", "dog"], "references": [LONG]}
    rollouts = [Rollout(text, answer, group=1, step=step, total_steps=10) for text in texts]
    low, high = (-1, 0) if name in PENALTIES else (0, 1)
    for verdict in reward_of(name)(rollouts):
        assert verdict.kind != "failed", verdict.why
        assert verdict.score is None or low <= verdict.score <= high


def size(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


GOLD_TEXTS = {"text": ["Paris", "12%", "red bus", "Rome"]}
BOXES = {"boxes": [[0, 0, 90, 90], [5, 5, 50, 60], [200, 200, 290, 290]]}
REFERENCES = {"references": [LONG, "a red dog", "the old bridge", "rain"]}
ORDERED = {"choice_match"}  # the order of what is listed in the gold counts
UNORDERED: dict[str, Any] = {  # the golds of all other rewards that list something, or longer ones
    **{
        name: answer
        for name, (answer, _, _) in GOLDS.items()
        if isinstance(answer, dict) and name not in ORDERED and max(map(size, answer.values())) > 1
    },
    **dict.fromkeys(("text_match", "relaxed_match", "anls"), GOLD_TEXTS),
    **dict.fromkeys(("bleu", "chrf", "rouge_l", "bmas"), REFERENCES),
    **dict.fromkeys(("box_iou", "box_set"), BOXES),
    "point_match": {"points": [[5, 5], [300, 300], [20, 10]]},
    "span_iou": {"spans": [[2, 6], [4, 9], [20, 30]]},
    "object_hallucination": {"objects": ["bus", "dog", "person"]},
}
REGIONS = st.sampled_from(["[0, 0, 60, 90]", "[[5, 5], [9, 9]]", "(20, 12)", "[3, 7]", "[[200, 200, 280, 290]]"])


@pytest.mark.parametrize("name", UNORDERED)
@settings(max_examples=25, deadline=None)
@given(text=REGIONS | SENTENCES | st.sampled_from(["Paris", "0.12", "red bus", "Rom"]), seed=st.randoms())
def test_the_order_of_a_gold_set_is_nothing(reward_of: Callable[..., Any], name: str, text: str, seed: Any) -> None:
    answer = UNORDERED[name]
    order = seed.sample(range(count := max(map(size, answer.values()))), count)
    mixed = {key: [value[i] for i in order] if size(value) == count else value for key, value in answer.items()}
    before, after = (number(scored(reward_of(name), text, completion)) for completion in (answer, mixed))
    assert after == pytest.approx(before), f"{name} depends on the order of its gold; if it should, put it in ORDERED"


FOREIGN = st.lists(st.sampled_from(["zzz", "qqq", "xxxx", "jj"]), min_size=1, max_size=8)  # no letter of the gold
PART = st.lists(st.booleans(), min_size=len(LONG.split()), max_size=len(LONG.split()))


@pytest.mark.parametrize("name", ["chrf", "rouge_l", "reward_chain", "object_hallucination", "text_match"])
@settings(max_examples=40, deadline=None)
@given(kept=PART, junk=FOREIGN, first=st.booleans())
def test_words_beside_a_part_of_the_gold_never_raise_the_score(
    reward_of: Callable[..., Any], name: str, kept: list[bool], junk: list[str], first: bool
) -> None:
    """Not so of BLEU, whose brevity makes filler pay where little is said, nor of ANLS, where blanks match blanks."""
    answer = {"text": [LONG], "chain": GOLDS["reward_chain"][0]["chain"], "objects": ["bus", "bridge"]}
    part = [word for word, keep in zip(LONG.split(), kept, strict=True) if keep]
    whole = [*junk, *part] if first else [*part, *junk]
    clean, dirty = (number(scored(reward_of(name), " ".join(words), answer)) for words in (part, whole))
    assert dirty <= clean + 1e-9


@pytest.mark.parametrize("name", ["bleu", "bmas", "anls", "chrf", "rouge_l"])
@given(junk=FOREIGN)
@settings(max_examples=20, deadline=None)
def test_words_beside_the_whole_gold_cost(reward_of: Callable[..., Any], name: str, junk: list[str]) -> None:
    assert number(scored(reward_of(name), f"{LONG} {' '.join(junk)}", {"references": [LONG]})) < 1 - 1e-3


@settings(max_examples=30, deadline=None)
@given(made=st.lists(st.booleans(), min_size=2, max_size=2), junk=st.integers(1, 4))
def test_calls_beside_the_wanted_ones_never_help(made: list[bool], junk: int) -> None:
    calls = [CALL, {"name": "open", "parameters": {}}]
    completions = [json.dumps(call) for call, there in zip(calls, made, strict=True) if there]
    litter = [json.dumps({"name": f"stop{i}", "parameters": {}}) for i in range(junk)]
    for variant in ("full", "coarse", "refined", "intermediate"):
        clean, dirty = (
            number(
                scored(
                    get("tool_call", variant=variant),
                    f"<tool_call>\n{chr(10).join(lines)}\n</tool_call>",
                    {"tools": calls},
                )
            )
            for lines in (completions, [*completions, *litter])
        )
        assert dirty <= clean


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
    key, completion, gold = (
        ("spans", lambda end: [[0, end]], [[0, 100]])
        if name == "span_iou"
        else ("boxes", lambda end: [[0, 0, 100, end]], [[0, 0, 100, 100]])
    )
    scores = [number(scored(reward_of(name), json.dumps(completion(end)), {key: gold})) for end in (short, long)]
    assert scores == pytest.approx([short / 100, long / 100])


SHIFTS = st.tuples(st.floats(0, 120), st.floats(0, 120))


@pytest.mark.parametrize(
    ("name", "options"),
    [("box_iou", {"kind": kind}) for kind in ("iou", "giou", "diou", "ciou")]
    + [("box_iou", {"threshold": 0.5}), ("box_iou", {"as_released": True})]
    + [("box_set", {"mode": mode}) for mode in MODES]
    + [("box_set", {"mode": mode, "as_released": True}) for mode in ("recall", "map", "vision_r1", "visionreasoner")],
)
@settings(max_examples=15, deadline=None)
@given(shifts=SHIFTS, aside=st.sampled_from([(1, 0), (0, 1), (-1, 0), (1, 1)]))
def test_a_box_that_moves_away_from_its_gold_never_scores_more(
    name: str, options: dict[str, Any], shifts: tuple[float, float], aside: tuple[int, int]
) -> None:
    x, y = aside
    reward, answer = get(name, **options), {"boxes": [[300, 300, 400, 400], [0, 0, 50, 50]]}
    near, far = (
        number(scored(reward, json.dumps([[300 + x * s, 300 + y * s, 400 + x * s, 400 + y * s]]), answer))
        for s in sorted(shifts)
    )
    assert near >= far - 1e-9


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
