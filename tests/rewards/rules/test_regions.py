"""Boxes and time spans are read in every notation that models use, and in no other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.parse.regions import Box, boxes
from rewards.parse.spans import Span, spans

BOX = (1.0, 2.5, 30.0, 40.0)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2.5, 30, 40]",
        "[1 2.5 30 40]",
        "[+1.0, 2.5e0, 3E1, 40.]",
        "(1, 2.5, 30, 40)",
        "[[1, 2.5], [30, 40]]",
        "(1, 2.5), (30, 40)",
        "((1,2.5),(30,40))",
        "[１, 2.5, 30, 40]",
        "<box>(1,2.5),(30,40)</box>",
        "<box>[1, 2.5, 30, 40]</box>",
        "<|box_start|>(1,2.5),(30,40)<|box_end|>",
        '{"bbox_2d": [1, 2.5, 30, 40], "label": "cat"}',
        '[{"bbox": [[1, 2.5], [30, 40]]}]',
        '{"objects": [{"label": [9], "bbox": [1, 2.5, 30, 40]}]}',
        '{"box_2d": [2.5, 1, 40, 30]}',
        "[[1, 2.5], [30, 2.5], [30, 40], [1, 40]]",
        "(1, 2.5), (30, 2.5), (30, 40), (1, 40)",
        '```json\n{"coordinates": [1, 2.5, 30, 40]}\n```',
        "```\n[1, 2.5, 30, 40]",
        'The cat [see above] is at {"box": [1, 2.5, 30, 40]}, I think.',
        '{"bbox_2d": [1, 2.5, 30, 40], "label": "cut off',
        "[1] says it is at [1, 2.5, 30, 40]",
        "x1=1 y1=2.5 x2=30 y2=40",
        '{"x": 1, "y": 2.5, "w": 29, "h": 37.5}',
        '{"bbox_xywh": [1, 2.5, 29, 37.5]}',
        "[ymin, xmin, ymax, xmax] = [2.5, 1, 40, 30]",
    ],
)
def test_a_box_is_read_in_every_notation(text: str) -> None:
    assert boxes(text) == [BOX]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[1, 2, 3, 4",
        "1, 2, 3, 4",
        '["1", "2", "3", "4"]',
        "[1; 2; 3; 4]",
        "[true, 1, 2, 3]",
        *['{"bbox": [NaN, 1, 2, 3]}', "[1e999, 1, 2, 3]", '{"bbox": {"x1": 1}}', "x1=1 y1=2 x2=3"],
    ],
)
def test_what_is_not_four_finite_numbers_is_no_box(text: str) -> None:
    assert boxes(text) == []


def test_json_goes_before_tags_and_tags_before_brackets() -> None:
    tagged = "[9, 9, 9, 9, 9] (5, 6, 7, 8) <box>(1,2.5),(30,40)</box>"
    assert boxes(tagged) == [BOX]
    assert boxes(f'{tagged} ```json\n[{{"bbox": [0, 0, 1, 1]}}]\n```') == [(0, 0, 1, 1)]


def test_several_boxes_keep_their_order() -> None:
    both = [BOX, (5.0, 6.0, 7.0, 8.0)]
    assert boxes("[1, 2.5, 30, 40] and [5, 6, 7, 8]") == both
    assert boxes(json.dumps([{"bbox_2d": box} for box in both])) == both
    assert boxes('{"box": [1, 2.5, 30, 40]}\n{"box": [5, 6, 7, 8]}') == both
    assert boxes(json.dumps({"a": both[0], "b": both[1]})) == both


COORDINATES = st.floats(-1e6, 1e6)


@given(st.tuples(COORDINATES, COORDINATES, COORDINATES, COORDINATES))
def test_every_box_reads_back_as_itself(box: Box) -> None:
    x1, y1, x2, y2 = box
    assert (
        boxes(str(list(box)))
        == boxes(f"<box>({x1},{y1}),({x2},{y2})</box>")
        == boxes(json.dumps({"box": box}))
        == [box]
    )


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ('{"start": 1.5, "end": 4}', (1.5, 4)),
        ('```json\n[{"start_time": "1.5 s", "end_time": "0:04"}]\n```', (1.5, 4)),
        ("[1.5, 4]", (1.5, 4)),
        ("[1.5s, 4 s]", (1.5, 4)),
        ("0:05 - 1:10.5", (5, 70.5)),
        ("from 01:00:05 until 01:00:10", (3605, 3610)),
        ("[0:05, 0:10]", (5, 10)),
        ("1.5 - 4", (1.5, 4)),
        ("1.5s–4s", (1.5, 4)),
        ("1.5 to 4", (1.5, 4)),
        ("from 1.5 seconds to 4 seconds", (1.5, 4)),
        ("between 1.5 and 4 seconds", (1.5, 4)),
        ("It starts at 1.5 s and ends at 4 s.", (1.5, 4)),
        ("Start time: 1.5, end time: 4", (1.5, 4)),
        ("4 to 1.5", (1.5, 4)),
        ("[4, 1.5]", (1.5, 4)),
    ],
)
def test_a_time_span_is_read_in_every_notation_and_swapped_if_reversed(text: str, span: Span) -> None:
    assert spans(text) == [span]


@pytest.mark.parametrize(
    "text",
    [
        *("", "at 5", "5 seconds", "0:05", "1 to", "ends at 3, starts", "[1, 2, 3]", "12:99 to 13:00"),
        *("from 1 to 2 minutes", "between 1 and 2 hours", "starts at 1 min and ends at 2 min", "5 to 10 ms"),
    ],
)
def test_what_is_not_two_times_is_no_span(text: str) -> None:
    assert spans(text) == []


def test_several_spans_keep_their_order() -> None:
    both = [(1.0, 2.0), (5.0, 6.0)]
    assert spans("[1, 2], [5, 6]") == spans("1 to 2 and 5 to 6") == spans("0:01-0:02, 0:05-0:06") == both
    assert spans("starts at 1, ends at 2; starts at 5, ends at 6") == both


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_every_span_reads_back_as_itself(start: float, end: float) -> None:
    span = [(min(start, end), max(start, end))]
    assert spans(f"[{start!r}, {end!r}]") == spans(json.dumps({"start": start, "end": end})) == span
