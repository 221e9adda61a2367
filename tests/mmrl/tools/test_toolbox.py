"""Every call has an outcome of a known kind that the model can read, whatever the tool does."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmrl.core.boxes import CoordinateSpace
from mmrl.core.config import InputError
from mmrl.core.media.item import Media
from mmrl.core.media.video import Video
from mmrl.tools.calls import KINDS, MOST_CALLS, Call, calls_in
from mmrl.tools.registry import NEEDED, tools_of
from mmrl.tools.scene import Scene, Shown
from mmrl.tools.search import index_of
from mmrl.tools.settings import ToolSettings
from mmrl.tools.toolbox import Toolbox
from tests.support.clips import write_clip
from tests.support.scripted import call

HOSTILE = "tests.support.hostile_tools:"
OWN = [
    HOSTILE + name
    for name in (
        "raises",
        "hangs",
        "dies",
        "talks",
        "paints",
        "returns_odd",
        "injects",
        "empty",
        "grey_clip",
        "waits",
        "chokes",
    )
]
NAMES = ["calculator", "crop", "zoom", "sql", "frames_at", *OWN]


@pytest.fixture(scope="module")
def toolbox() -> Iterator[Toolbox]:
    box = Toolbox(NAMES, seconds=3.0)
    yield box
    box.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    place = tmp_path_factory.mktemp("scene") / "a.png"
    picture = Image.new("RGB", (200, 100), "white")
    picture.paste("red", (100, 0, 200, 50))
    picture.save(place)
    media = Media("image", str(place), width=200, height=100)
    database = "CREATE TABLE users (name, age); INSERT INTO users VALUES ('Ann', 9), ('Bo', 3);"
    return Scene((Shown(media, (100, 50)),), CoordinateSpace.resized, {"database": database})


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        (call("calculator", expression="2*(3+4)/7"), "ok", "2"),
        (call("calculator", expression="sqrt(2)"), "ok", "1.4142135623731"),
        (call("calculator", expression="9**9**9"), "refused", "this cannot be calculated"),
        (call("calculator", expression="1/0"), "refused", "this cannot be calculated: division by zero"),
        (call("calculator", expression="__import__('os').abort()"), "refused", "is not arithmetic"),
        (call("calculator", expression="(" * 9000), "refused", "this is no expression"),
        (call("calculator", sum="2"), "wrong_arguments", "unknown key sum"),
        (call("sql", query="select name from users where age > 5"), "ok", '["name"]\n["Ann"]'),
        (call("sql", query="drop table users"), "refused", "not authorized"),
        (call("crop", box=[0, 0, "a", 4]), "wrong_arguments", "box.2"),
        (call("crop", box=[0, 0, 1]), "refused", "four finite numbers"),
        (call("crop", box=[300, 300, 400, 400]), "refused", "holds no pixel of picture 1"),
        (call("crop", box=[0, 0, 10, 10], picture=2), "refused", "no image 2: there are 1, counted from 1"),
        (call("crop", box=[0, 0, 10, 10], scene=None), "wrong_arguments", "unknown argument scene"),
        (call("frames_at", start=0, end=1), "refused", "no video 1: there is none"),
        (call("raises", text="no disk"), "raised", "OSError: no disk"),
        (call("chokes"), "raised", "MuteError: <exception str() failed>"),
        (
            '<tool_call>{"name": "waits", "arguments": {"a": ' + "[" * 800 + "]" * 800 + "}}</tool_call>",
            "unreadable",
            "deep",
        ),
        (call("calculator", expression="sqrt(-1)"), "refused", "this cannot be calculated: math domain error"),
        (call("calculator", expression="min(3)*-0"), "ok", "0"),
        (call("sql", query="select RANDOM()"), "refused", "not authorized to use function"),
        (call("hangs", seconds=60), "timed_out", "hangs did not end within 3 seconds"),
        (call("dies"), "died", "dies ended its process"),
        (call("talks", letters=10_000_000), "too_large", "10,000,000 characters, the limit is 8,000"),
        (call("paints", width=10_000, height=10_000), "too_large", "100,000,000 pixels"),
        (call("returns_odd"), "raised", "TypeError"),
        (call("empty"), "unusable", "without pixels"),
        (call("grey_clip"), "raised", "uint8 [T, height, width, 3], not (2, 8, 8)"),
        (call("waits"), "ok", "done"),
        ('<tool_call>{"name": "waits", "arguments": null}</tool_call>', "ok", "done"),
        ('<tool_call>{"name": "waits"}</tool_call>', "ok", "done"),
        (call("calculate", expression="2"), "unknown_tool", "no tool 'calculate'; did you mean calculator?"),
        ("<tool_call>\ncrop(1)\n</tool_call>", "unreadable", "not JSON"),
        ("<tool_call>[1]</tool_call>", "unreadable", "no object with a name"),
        ('<tool_call>{"name": "crop"', "unreadable", "the block is not closed"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "unreadable", "not JSON"),
    ],
)
def test_an_outcome_has_a_kind_and_says_why(toolbox: Toolbox, scene: Scene, said: str, kind: str, told: str) -> None:
    begin = time.monotonic()
    (outcome,) = toolbox.outcomes([(calls_in(said), scene)])[0]
    text = "".join(piece for piece in outcome.told() if isinstance(piece, str))
    assert (outcome.kind, told in text) == (kind, True), text
    assert text.startswith("error: ") is (kind != "ok")
    assert len(text) < 500
    assert time.monotonic() - begin < 20


def test_crops_are_in_the_space_of_the_model(toolbox: Toolbox, scene: Scene) -> None:
    """The model saw the picture at half its size; its right upper quarter is red."""
    said = call("crop", box=[50, 0, 100, 25]) + call("zoom", box=[50, 0, 100, 25])
    crop, zoom = (outcome.pieces[0] for outcome in toolbox.outcomes([(calls_in(said), scene)])[0])
    assert isinstance(crop, Image.Image), crop
    assert isinstance(zoom, Image.Image), zoom
    assert (crop.size, zoom.size) == ((100, 50), (200, 100))
    assert crop.getextrema() == zoom.getextrema() == ((255, 255), (0, 0), (0, 0))


def test_printed_words_are_read(tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 160), "white")
    font = ImageFont.load_default(28)
    for place, words in ((20, "Invoice 4711"), (100, "Total 88 EUR")):
        ImageDraw.Draw(picture).text((10, place), words, fill="black", font=font)
    picture.save(tmp_path / "a.png")
    scene = Scene((Shown(Media("image", str(tmp_path / "a.png"), width=300, height=160), (300, 160)),))
    toolbox = Toolbox(["ocr"], seconds=120.0)
    said = call("ocr") + call("ocr", box=[0, 80, 300, 160]) + call("ocr", box=[200, 0, 300, 20])
    (outcomes,) = toolbox.outcomes([(calls_in(said), scene)])
    toolbox.close()
    read = ["".join(map(str, one.pieces)).replace(" ", "") for one in outcomes]  # it may leave out blanks
    assert read == ["Invoice4711\nTotal88EUR", "Total88EUR", "nowordsfound"]


def test_documents_are_found_by_their_words(tmp_path: Path) -> None:
    rows = [
        {"title": "Cats", "text": "They sleep. " * 400},
        {"text": "The river is near the bank."},
        {"text": "Äpfel \ud800"},
    ]
    place = tmp_path / "docs.jsonl"
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    toolbox = Toolbox(["search"], 60.0, str(place))
    scene = Scene(index=toolbox.index)

    def found(query: str) -> str:
        ((outcome,),) = toolbox.outcomes([(calls_in(call("search", query=query)), scene)])
        return "".join(map(str, outcome.pieces))

    assert found("RIVER bank") == "The river is near the bank."
    assert found("äpfel") == "Äpfel ?"
    assert found("who sleeps? cats sleep").startswith("Cats\nThey sleep.")
    assert len(found("sleep")) < 1600
    assert {found(query) for query in ("zebra", "", "?!", "x" * 50_000)} == {"no document has any of these words"}
    again = Toolbox(["search"], 60.0, str(place))
    assert (again.index, len(list(tmp_path.glob(".docs.jsonl.*.bm25s")))) == (toolbox.index, 1)
    settings = ToolSettings(tools=["search"], search_in=str(place))
    copied = settings.model_copy(update={"search_in": str(shutil.copy(place, tmp_path / "b"))})
    before = settings.protocol()
    place.write_text(json.dumps({"text": "a zebra"}) + "\n")
    assert index_of(place) != toolbox.index
    assert settings.protocol() != before == copied.protocol()
    toolbox.close()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "has no documents"),
        ('\n{"text": "!?"}\n\n', "no document in"),
        ("{", "docs.jsonl:1: not JSON"),
        ('{"text": "a"}\n{"title": "b"}\n', "docs.jsonl:2: a document is an object with a text"),
        (None, "search_in: no file"),
    ],
)
def test_documents_that_cannot_be_read_are_named(tmp_path: Path, content: str | None, why: str) -> None:
    place = tmp_path / "docs.jsonl"
    if content is not None:
        place.write_text(content)
    with pytest.raises(InputError) as error:
        Toolbox(["search"], 1.0, str(place))
    assert why in str(error.value)


def test_a_tool_whose_package_is_missing_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEEDED, "ocr", "no_such_reader")
    with pytest.raises(InputError, match="the tool ocr cannot be used: the package no_such_reader is missing"):
        tools_of(["ocr"])


def test_a_part_of_a_video_has_more_frames(toolbox: Toolbox, tmp_path: Path) -> None:
    place = write_clip(tmp_path / "a.mp4", 40, fps=10)
    scene = Scene((Shown(Media("video", str(place)), (64, 64)),))
    (outcome,) = toolbox.outcomes([(calls_in(call("frames_at", start=1.0, end=1.5)), scene)])[0]
    (video,) = outcome.pieces
    assert isinstance(video, Video)
    assert [index / video.fps for index in video.indices] == [1.0, 1.1, 1.2, 1.3, 1.4]


def test_a_part_of_a_cut_video_counts_from_what_is_shown(toolbox: Toolbox, tmp_path: Path) -> None:
    place = write_clip(tmp_path / "a.mp4", 40, fps=10)
    scene = Scene((Shown(Media("video", str(place), start=2.0, end=3.0), (64, 64)),))
    said = (
        call("frames_at", start=-1, end=0.3) + call("frames_at", start=0.8, end=4) + call("frames_at", start=1, end=2)
    )
    first, last, beyond = toolbox.outcomes([(calls_in(said), scene)])[0]
    videos: list[Any] = [first.pieces[0], last.pieces[0]]
    assert [video.indices for video in videos] == [[20, 21, 22], [28, 29]]
    assert (beyond.kind, beyond.pieces) == ("refused", ("no frame is shown in [1, 2) seconds of video 1",))


def test_calls_beyond_the_limit_of_a_turn_are_told_so(toolbox: Toolbox) -> None:
    calls = calls_in(call("calculator", expression="1") * 1000)
    (outcomes,) = toolbox.outcomes([(calls, Scene())])
    assert [outcome.kind for outcome in outcomes] == ["ok"] * MOST_CALLS + ["too_many"]
    assert outcomes[-1].told() == ("error: ", "996 more calls of this turn are not answered, at most 4 are")


def test_a_hanging_call_does_not_hold_up_the_others(toolbox: Toolbox) -> None:
    calls = calls_in(call("hangs", seconds=60) + call("calculator", expression="1"))
    begin = time.monotonic()
    (outcomes,) = toolbox.outcomes([(calls, Scene())])
    assert [outcome.kind for outcome in outcomes] == ["timed_out", "ok"]
    assert time.monotonic() - begin < 20


def test_a_toolbox_that_was_closed_starts_again(toolbox: Toolbox) -> None:
    toolbox.close()
    (outcomes,) = toolbox.outcomes([(calls_in(call("calculator", expression="1+1")), Scene())])
    assert outcomes[0].pieces == ("2",)


def test_nonsense_never_raises(toolbox: Toolbox, scene: Scene) -> None:
    draw = random.Random(0)
    pieces = ["<tool_call>", "</tool_call>", '{"name":', '"crop"', '"arguments":', "{", "}", "[", "1e999", "null", ","]
    pieces += ['"box"', "NaN", '"calculator"', '"expression"', "\ud800", "<", "\x00", '"', ":", "\n", "-", "[0,0,9,9]"]
    texts = ["".join(draw.choices(pieces, k=draw.randint(1, 40))) for _ in range(3000)]
    turns = [(calls_in(text)[:3], scene) for text in texts]
    kinds = {outcome.kind for outcomes in toolbox.outcomes(turns) for outcome in outcomes}
    assert {"unreadable"} <= kinds <= set(KINDS)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["crap"], "unknown tool 'crap'; did you mean crop?"),
        (["no.such:tool"], "cannot import tool 'no.such:tool'"),
        (["crop", "mmrl.tools.functions:crop"], "are both called crop"),
        ([HOSTILE + "bound"], "is a partial; a tool is a function"),
        ([HOSTILE + "collects"], "no call can give its argument *words;"),
        ([HOSTILE + "gathers"], "no call can give its argument **words;"),
        ([HOSTILE + "in_place"], "no call can give its argument word;"),
        ([HOSTILE + "hides"], "no call can give its argument _word;"),
        ([HOSTILE + "configures"], "no call can give its argument model_config;"),
        ([HOSTILE + "untyped"], "a tool has types, and a docstring with a line for each argument"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(names: list[str], why: str) -> None:
    with pytest.raises(InputError) as error:
        tools_of(names)
    assert why in str(error.value)
    assert len(str(error.value)) <= 500


def test_a_model_knows_nothing_of_the_scene() -> None:
    schema = tools_of(["crop"])["crop"].schema["function"]
    assert list(schema["parameters"]["properties"]) == ["box", "picture"]
    assert schema["parameters"]["required"] == ["box"]


def test_tools_are_listed_and_shown(says: Callable[..., str]) -> None:
    for arguments, told in (["list"], "Cut a part out of a picture"), (["show", "crop"], "Args:\n    box: The corners"):
        assert told in says("train", *arguments)


def test_an_unreadable_call_keeps_its_name() -> None:
    assert calls_in('<tool_call>{"name": "crop", "arguments": 3}</tool_call>') == [
        Call("crop", fault="arguments are no object")
    ]
