"""Pages are whole, safe and right: nothing runs, nothing is fetched, and marks stand where the rewards look."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_engine.schema import user_prompt
from data_engine.sources.synthesis import digits_grounding, digits_video
from mmrl.core.html import Html, element, line_chart, page, table, ticks, write_page
from mmrl.core.media.drawings import SIDE, Mark, film, gold_rows, picture
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media
from mmrl.core.vision import box_iou
from mmrl.pages.cards import Answer, Exhibit, answer_boxes, answer_points, card
from rewards import Rollout, Verdict, get
from tests.support.gallery import HOSTILE
from tests.support.markup import Markup, checked

SIZE, SEEN = (192, 192), (64, 48)


def answer(completion: str, **changes: Any) -> Answer:
    plain = Answer("answer", "0", completion, {"box": Verdict(0.5, HOSTILE)}, ("3 tokens",), "pixel", [SEEN])
    return replace(plain, **changes)


def exhibit(*answers: Answer, gold: Any = None, media: Sequence[Media] = ()) -> Exhibit:
    return Exhibit("grounding", HOSTILE, user_prompt(HOSTILE), gold, media, answers)


def rects(markup: Markup, class_: str = "mark") -> list[list[float]]:
    """x, y, width and height of the rectangles of a class."""
    sides = ("x", "y", "width", "height")
    return [[float(str(given[side]).rstrip("%")) for side in sides] for given in markup.named("rect", class_)]


@pytest.fixture(scope="module")
def photo() -> Media:
    return next(digits_grounding(n=1, side=SIZE[0])).media[0]


def test_text_becomes_text_wherever_it_stands() -> None:
    made = element("p", HOSTILE, element("b", HOSTILE), title=f'"{HOSTILE}')
    assert "<script" not in made
    markup = Markup(made)
    assert markup.tags == [("p", {"title": f'"{HOSTILE}'}), ("b", {})]
    assert markup.texts == [HOSTILE, HOSTILE]


def test_a_card_of_hostile_text_is_a_safe_page() -> None:
    markup = checked(page(HOSTILE, card(exhibit(answer(HOSTILE), gold={"text": [HOSTILE]}), badge=HOSTILE)))
    assert sum(HOSTILE in text for text in markup.texts) >= 7  # title twice, badge, about, question, answer, why


def test_a_page_with_half_characters_is_written(tmp_path: Path) -> None:
    place = write_page(page("half \ud800", card(exhibit(answer("\udfff")))), tmp_path / "new" / "page.html")
    assert "half ?" in checked(place.read_text(encoding="utf-8")).text


def test_boxes_stand_in_pixels_of_the_picture(photo: Media) -> None:
    boxes = {"gold": (10.0, 20.0, 60.0, 80.0), "before": (0.0, 0.0, 192.0, 100.5), "after": (50.0, 50.0, 50.0, 90.0)}
    marks = [Mark(kind, kind, box) for kind, box in boxes.items()]
    markup = Markup(picture(load_image(photo), marks, caption="x"))
    assert markup.named("svg")[0]["viewbox"] == "0 0 192 192"
    assert rects(markup) == [[10, 20, 50, 60], [0, 0, 192, 100.5], [50, 50, 0, 40]]
    assert [given["class"] for given in markup.named("rect")] == ["mark gold", "mark before", "mark after"]
    difference = np.asarray(markup.images()[0], dtype=int) - np.asarray(load_image(photo), dtype=int)
    assert abs(difference).mean() < 4


def test_a_huge_picture_is_scaled_down_and_its_boxes_stay_in_place() -> None:
    markup = Markup(picture(Image.new("RGB", (4000, 1000)), [Mark("gold", "gold", (0, 0, 2000, 500))], caption="x"))
    assert markup.images()[0].size == (SIDE, SIDE // 4)
    assert markup.named("svg")[0]["viewbox"] == "0 0 4000 1000"
    assert rects(markup) == [[0, 0, 2000, 500]]


def test_spans_stand_on_the_time_axis() -> None:
    frames = np.stack([np.full((90, 160, 3), shade, np.uint8) for shade in (0, 80, 160, 240)])
    marks = [Mark("gold", "gold", (1.0, 3.0)), Mark("gold", "gold", (3.5, 4.0)), Mark("after", "after", (2.0, 9.0))]
    content = film(frames, 4.0, marks, caption="x")
    markup = Markup(content)
    places = [(given["x"], given["width"]) for given in markup.named("rect")]
    assert places == [("25.00%", "50.00%"), ("87.50%", "12.50%"), ("50.00%", "50.00%")]
    assert content.count("track") == 2  # a row for the gold spans, one for the answer
    strip = markup.images()[0]
    assert strip.size == (4 * 160, 90)
    assert [round(strip.getpixel((160 * i + 80, 45))[0], -1) for i in range(4)] == [0, 80, 160, 240]  # pyright: ignore
    assert [text for text in markup.texts if text.endswith(" s") and "to" not in text] == [
        "0 s",
        "1 s",
        "2 s",
        "3 s",
        "4 s",
    ]


def test_the_axis_of_a_cut_video_begins_at_the_cut() -> None:
    cut = replace(next(digits_video(n=1, side=64)).media[0], start=1.0, end=3.0)
    exhibited = exhibit(answer("from 0.5 to 1 s"), gold={"spans": [[1.0, 2.0]]}, media=[cut])
    markup = Markup(card(exhibited))
    assert [given["x"] for given in markup.named("rect")] == ["50.00%", "25.00%"]
    assert [text for text in markup.texts if text in ("0 s", "2 s", "3 s")] == ["0 s", "2 s"]


@pytest.mark.parametrize("space", ["pixel", "unit", "per_mille", "resized"])
@pytest.mark.parametrize(
    "answer_text",
    ["[0.1, 0.2, 0.6, 0.5]", "[10, 12, 40, 44]", "[40, 44, 10, 12]", "[[-5, 2], [1e30, 33]]", "[400, 10, 900, 480]"],
)
def test_the_box_that_is_drawn_is_the_box_that_was_scored(space: str, answer_text: str) -> None:
    completion = f"<think>[1, 2, 3, 4]</think><answer>{answer_text} or [0, 0, 5, 5]</answer>"
    gold = [20.0, 10.0, 150.0, 140.0]
    media = (Media("image", width=SIZE[0], height=SIZE[1]),)
    rollout = Rollout(completion, {"boxes": [gold]}, media=media, seen_size=[SEEN], meta={"space": space})
    drawn = answer_boxes(answer(completion, space=space), SIZE)
    assert box_iou(drawn[:1], [gold])[0, 0] == pytest.approx(get("box_iou")([rollout])[0].score)


def test_only_the_box_that_counts_is_drawn(photo: Media) -> None:
    two = answer("[10, 10, 50, 50] or [20, 20, 60, 60]")
    grounding = exhibit(two, gold={"boxes": [[0, 0, 9, 9]]}, media=[photo])
    detection = replace(grounding, gold={"boxes": [[0, 0, 9, 9], [1, 1, 8, 8]], "labels": ["a", "b"]})
    assert rects(Markup(card(grounding))) == [[0, 0, 9, 9], [10, 10, 40, 40]]
    assert len(rects(Markup(card(detection)))) == 4


def test_the_boxes_that_calls_looked_at_are_drawn_on_the_first_picture(photo: Media) -> None:
    looks = [({"box": [16, 12, 32, 24]}, "ok"), ({"box": [0, 0, 8, 8], "picture": 2}, "ok"), ({"box": "all"}, "ok")]
    made = [*looks, ({"box": [0, 0, 8, 8]}, "refused"), (None, "unreadable"), ({"expression": "1"}, "ok")]
    calls = [
        {"name": "zoom", "arguments": json.dumps(arguments), "outcome": outcome, "read": "", "media": []}
        for arguments, outcome in made
    ]
    looked = answer("<answer>7</answer>", space="resized", turns=[{"said": "", "calls": calls}])
    markup = Markup(card(exhibit(looked, gold={"number": 7}, media=[photo])))
    assert rects(markup) == [[48, 48, 48, 48]]  # the model saw 64 by 48 of 192 by 192 pixels
    assert "0 zoom" in markup.texts


def test_points_are_drawn_where_points_are_asked_for(photo: Media) -> None:
    said = answer("(20, 30), (500, 40)")
    gold = {"points": [[5, 5]], "boxes": [[0, 0, 9, 9]]}
    markup = Markup(card(exhibit(said, gold=gold, media=[photo])))
    assert rects(markup) == [[0, 0, 9, 9]]
    lines = [str(given["d"]).partition("V")[0] for given in markup.named("path", "mark") if "V" in str(given["d"])]
    assert [line.rpartition("M")[2].split()[0] for line in lines] == ["5.0", "20.0", "192.0"]
    assert answer_points(replace(said, space="nowhere"), SIZE) == []


def test_boxes_that_have_no_place_are_not_drawn() -> None:
    assert answer_boxes(answer("[1, 2, 3, 4]", space="resized", seen_size=[]), SIZE) == []
    assert answer_boxes(answer("[1, 2, 3, 4]", space="nowhere"), SIZE) == []
    assert answer_boxes(answer("<think>[1, 2, 3, 4]"), SIZE) == []


@pytest.mark.parametrize(
    "gold",
    [
        None,
        3,
        "yes",
        {},
        {"boxes": None},
        {"boxes": [[1, 2]]},
        {"boxes": [["a"] * 4]},
        {"boxes": [[0, 0, 10**400, 5]]},
        [1],
    ],
)
def test_odd_gold_answers_are_shown_without_boxes(gold: Any, photo: Media) -> None:
    assert gold_rows(gold, "boxes", 4) == []
    assert rects(Markup(card(exhibit(answer("[1, 2, 3, 4]"), gold=gold, media=[photo])))) == []


@pytest.mark.parametrize(
    ("media", "note"),
    [
        (Media("image", path="https://example.org/x.png"), "is remote"),
        (Media("video", path="https://example.org/x.mp4"), "is remote"),
        (Media("image", path="/nowhere/<script>.png"), "/nowhere/<script>.png"),
        (Media("image", path=__file__), "is not an image"),
        (Media("video", path=__file__), "test_pages.py"),
        (Media("image"), "neither a path nor bytes"),
    ],
)
def test_media_that_cannot_be_shown_leave_a_note(media: Media, note: str) -> None:
    markup = checked(page("x", card(exhibit(answer("yes"), media=[media]))))
    assert note in markup.text
    assert not markup.images()


def test_a_long_completion_is_cut_with_a_note() -> None:
    markup = Markup(card(exhibit(answer("x" * 10_000))))
    assert " … 6,000 more characters" in markup.texts
    assert max(map(len, markup.texts)) == 4000


def test_verdicts_show_score_kind_and_why() -> None:
    verdicts = {
        "right": Verdict(1.0),
        "mute": Verdict(0.0, "no box", "unparsed"),
        "broken": Verdict(None, "ValueError: x", "failed"),
        "one": Verdict(None, "another task"),
        "two": Verdict(None, "another task"),
    }
    text = Markup(card(exhibit(answer("yes", verdicts=verdicts)))).text
    for verdict_text in ("right 1.00", "mute 0.00 unparsed: no box", "broken – failed: ValueError: x"):
        assert verdict_text in text
    assert "abstained: one, two (another task)" in text


def test_a_chart_has_a_dot_for_each_point_and_a_line_of_running_means() -> None:
    chart = line_chart([(0, 0.0), (1, 1.0), (2, 0.0), (3, 1.0)], title="<b>", window=2, top=1.0)
    paths = {given["class"]: given["d"] or "" for given in Markup(chart).named("path")}
    assert paths["raw"].count("h0") == 4
    heights = [float(point.split()[1]) for point in paths["mean"][1:].split("L")]
    low, high = (float(paths["raw"].split("M")[place].removesuffix("h0").split()[1]) for place in (1, 2))
    assert heights == pytest.approx([low, (low + high) / 2, (low + high) / 2, (low + high) / 2], abs=0.1)
    assert "<b>" in Markup(chart).texts


@pytest.mark.parametrize("points", [[(5, 0.0)], [(5, 0.0), (6, 0.0)], [(0, -1.0), (1, -0.5)], [(0, 1e9)]])
def test_charts_of_few_or_equal_values_are_drawn(points: list[tuple[float, float]]) -> None:
    Markup(line_chart(points, title="x", window=5))


def test_ticks_are_round_and_inside() -> None:
    assert ticks(-1, 1) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    for low, high in ((0, 0.037), (3, 4), (0, 12_345), (-0.2, 1.2)):
        marks = ticks(low, high)
        assert 2 <= len(marks) <= 6
        assert low <= marks[0] < marks[-1] <= high


def test_a_table_sorts_numbers_and_texts_apart() -> None:
    markup = Markup(table(["a", "b"], [["x", "1"], ["y", Html("<i>2</i>")]], strong=[1]))
    assert [given.get("class") for given in markup.named("td")] == [None, "number"] * 2
    assert [given.get("class") for given in markup.named("tr")] == [None, None, "strong"]
