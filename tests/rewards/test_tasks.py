"""The table of tasks: every entry holds together, and a gold reads back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.vision import CoordinateSpace
from mmrl.trainers.targets import rendered
from rewards import Rollout, Verdict, get
from rewards.parse.numbers import number
from rewards.registry import REWARDS
from rewards.tasks.golds import digits, plain_json
from rewards.tasks.keys import KEYS, GoldError
from rewards.tasks.table import OTHER, TASKS, task_type

ENTRY = "rewards/tasks/table.py, TASKS"
PICTURE = Media("image", path="a.png", width=200, height=100)
CLIP = Media("video", path="a.mp4", width=200, height=100, num_frames=50, fps=10.0, duration=5.0)
SCORED = sorted(task for task, kind in TASKS.items() if kind.rule)


def verdict(task: str, answer: dict[str, Any], completion: str) -> Verdict:
    media = (CLIP if task == "temporal" else PICTURE,)
    rollout = Rollout(completion, answer, task, media=media, meta={"space": "pixel"})
    return get(str(TASKS[task].rule))([rollout])[0]


def score(task: str, answer: dict[str, Any], completion: str) -> float | None:
    return verdict(task, answer, completion).score


@pytest.mark.parametrize("task", TASKS)
def test_the_example_of_every_task_is_well_formed(task: str) -> None:
    kind = TASKS[task]
    missing = [key.name for key in kind.keys if key.name not in kind.example]
    assert not missing, f"{ENTRY}[{task!r}].example lacks {missing}: give an answer that has all `keys`"
    for key in kind.keys:
        value = kind.example[key.name]
        assert key.is_right(value, kind.example), f"{ENTRY}[{task!r}].example: {key.name} must be {key.right}"
    assert not kind.needs(kind.example), f"{ENTRY}[{task!r}].example lacks {kind.needs(kind.example)}"
    unknown = kind.example.keys() - {key.name for key in kind.keys} - {*KEYS, "principles"}
    assert not unknown, f"{ENTRY}[{task!r}].example has {unknown}: put them into `keys`, or into KEYS of keys.py"


@pytest.mark.parametrize("task", TASKS)
def test_a_rule_is_a_reward_and_has_a_gold_to_score(task: str) -> None:
    kind = TASKS[task]
    assert kind.rule is None or kind.rule in REWARDS, f"{ENTRY}[{task!r}].rule: no reward {kind.rule!r} in REWARDS"
    assert kind.golds or not kind.rule, f"{ENTRY}[{task!r}].golds: say how the gold is written that the rule scores"


@pytest.mark.parametrize("task", SCORED)
def test_every_way_to_write_the_gold_scores_1_and_silence_does_not(task: str) -> None:
    kind = TASKS[task]
    assert kind.golds
    for gold in kind.golds(kind.example, lambda rows: rows):
        for text in (gold, kind.inline.format(gold)):
            found = verdict(task, kind.example, f"<think>I look</think><answer>{text}</answer>")
            mend = "mend `golds`" if found.kind != "abstained" else "name a `rule` that reads its keys, or use its key"
            assert found.score == 1, f"{ENTRY}[{task!r}]: {kind.rule} gives {found} to the gold {text!r}; {mend}"
    assert score(task, kind.example, "<answer></answer>") == 0


@pytest.mark.parametrize("task", sorted(task for task, kind in TASKS.items() if kind.read and kind.golds))
def test_a_gold_reads_back_from_its_text(task: str) -> None:
    kind = TASKS[task]
    assert kind.read
    assert kind.golds
    golds = kind.golds(kind.example, lambda rows: rows)
    if not golds:
        return  # `open`: the example has questions instead of references
    columns = kind.read(golds[0], "Which?\nA. cat\nB. dog")
    first = kind.keys[0]
    value = first.shaped(columns.get("answer", columns.get(first.name)), columns)
    again = kind.golds({**kind.example, first.name: value}, lambda rows: rows)[0]
    same = score(task, kind.example, f"<answer>{again}</answer>") == 1 if kind.rule else again == golds[0]
    assert same, f"{ENTRY}[{task!r}]: `read` makes {columns} of the gold {golds[0]!r}; it must undo `golds`"


@pytest.mark.parametrize("task", sorted(task for task, kind in TASKS.items() if kind.choices))
def test_one_of_the_choices_is_right(task: str) -> None:
    kind = TASKS[task]
    assert kind.choices
    scores = [score(task, kind.example, f"<answer>{choice}</answer>") for choice in kind.choices(kind.example)]
    assert sorted(scores, key=str) == [0.0] * (len(scores) - 1) + [1.0]
    assert kind.chance(kind.example) == 1 / len(scores)


def test_a_guess_at_a_text_is_never_right_by_chance() -> None:
    assert TASKS["count"].chance({"number": 3}) == OTHER.chance({}) == 0.0


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_a_number_is_read_back_as_it_was_written(value: float) -> None:
    text = digits(value)
    assert "e" not in text
    assert float(text) == value == number(text) == json.loads(plain_json([value]))[0]


def test_numbers_keep_the_look_that_models_learnt() -> None:
    assert [digits(number) for number in (3.0, 3, 0.25, 1234567.0, 1e-07, -0.5, 1e16)] == [
        *("3", "3", "0.25", "1234567", "0.0000001", "-0.5", "10000000000000000")
    ]
    assert plain_json([1.0, 2.5, 3, 1e-07]) == "[1.0,2.5,3,0.0000001]"
    assert plain_json([{"bbox_2d": [1, 2], "label": 'ä "b"', "more": None}]) == (
        '[{"bbox_2d":[1,2],"label":"ä \\"b\\"","more":null}]'
    )


def test_all_points_are_part_of_the_gold_to_learn() -> None:
    """`point_match` counts the points that are missing: one of two is not the whole answer."""
    answer = {"points": [[10, 20], [80, 60]]}
    (gold,) = TASKS["point"].golds(answer, lambda rows: rows)  # pyright: ignore[reportOptionalCall]
    assert gold == "[[10,20],[80,60]]"
    assert score("point", answer, f"<answer>{gold}</answer>") == 1
    assert score("point", answer, "<answer>[10,20]</answer>") == pytest.approx(2 / 3)


def test_polygons_and_boxes_with_y_first_become_boxes_and_a_column_of_corners_is_refused() -> None:
    read, polygon = TASKS["grounding"].read, [[100, 50], [300, 50], [300, 200], [100, 200]]
    assert read
    for text in (json.dumps(polygon), '{"box_2d": [50, 100, 200, 300]}'):
        assert read(text, "Where?") == {"answer": [[100, 50, 300, 200]]}
    with pytest.raises(GoldError, match="corners x1, y1, x2, y2"):
        KEYS["boxes"].shaped(polygon, {})
    assert KEYS["points"].shaped(polygon, {}) == polygon


@pytest.mark.parametrize(
    "written",
    [
        [{"name": "crop", "arguments": {"box": [1, 2, 3, 4]}}],
        {"type": "function", "function": {"name": "crop", "arguments": '{"box": [1, 2, 3, 4]}'}},
        '{"name": "crop", "parameters": {"box": [1, 2, 3, 4]}}',
        '<tool_call>\n{"name": "crop", "parameters": {"box": [1, 2, 3, 4]}}\n</tool_call>',
    ],
)
def test_gold_calls_are_read_as_datasets_write_them(written: Any) -> None:
    calls = TASKS["tool"].keys[0].shaped(written, {})
    assert calls == [{"name": "crop", "parameters": {"box": [1, 2, 3, 4]}}]
    row = {"id": "a", "task": "tool", "answer": {"tools": calls}, "media": (), "meta": {}}
    target = rendered(row, CoordinateSpace.resized, [])
    assert target == (
        '<think>I look</think>\n<tool_call>\n{"name":"crop","parameters":{"box":[1,2,3,4]}}\n</tool_call>'
    )
    assert [get(name)([Rollout(target, row["answer"])])[0].score for name in ("tool_call", "tool_format")] == [1, 1]


@pytest.mark.parametrize("written", ["crop it", [{"name": "crop"}], [3], {"parameters": {}}])
def test_what_is_no_call_is_named(written: Any) -> None:
    with pytest.raises(GoldError, match="a call is an object"):
        TASKS["tool"].keys[0].shaped(written, {})


def test_an_unknown_task_names_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"unknown task 'grouding'; did you mean grounding\? \(known: caption"):
        task_type("grouding")
