"""A prompt with its pictures, its gold answer and completions, as a part of a page.

Regions are drawn as the rewards read them: from the answer text of a completion, converted to pixels, with corners in
order, cut at the picture.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mmrl.core.config import InputError
from mmrl.core.html import Child, Html, element, joined
from mmrl.core.media.drawings import SIDE, Mark, Region, cut, film, gold_places, gold_rows, gold_spans, picture, swatch
from mmrl.core.media.files import check_recorded, resolve
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media, shown_seconds
from mmrl.core.media.video import load_frames
from mmrl.core.messages import parts_of
from mmrl.core.vision import to_pixels
from mmrl.pages.turn_cards import called_boxes, turn_cards
from rewards import Verdict
from rewards.parse.extract import answer_text
from rewards.parse.objects import points
from rewards.parse.regions import boxes
from rewards.parse.spans import spans
from rewards.tasks.keys import BOXES, POINTS, SPANS

FRAMES = 8  # of a strip
FILM = 1280  # pixels of the longer side of a film of steps
FAR = 1e9  # pixels; boxes are cut here before they are scaled, as the reward does
DRAWN = (BOXES, POINTS, SPANS)  # the keys of gold answers that are drawn
CHARACTERS = 4000  # of a completion that are shown


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion with its verdicts. `kind` is that of its marks; `facts` are short texts for its title line; `turns`
    are shown in the place of the completion. `made` are pictures, and `film` how the first of them came about."""

    kind: str
    label: str
    completion: str
    verdicts: Mapping[str, Verdict]
    facts: Sequence[str]
    space: str
    seen_size: Sequence[Sequence[int]]
    turns: Sequence[Mapping[str, Any]] = ()
    made: Sequence[Media] = ()
    film: Sequence[Media] = ()


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A prompt as it is shown; `about` is a note for its title line.

    `gold_media` are the pictures that would be right. `run` is the folder of the run that names the media, if one does.
    Of other folders a page then shows only what has the hash that the run recorded: a run of somebody else could name
    any picture of this machine.
    """

    title: str
    about: str
    prompt: Sequence[Mapping[str, Any]]
    gold: Any
    media: Sequence[Media]
    answers: Sequence[Answer] = ()
    run: Path | None = None
    gold_media: Sequence[Media] = ()


def card(exhibit: Exhibit, *, badge: str | None = None) -> Html:
    """The exhibit as an article: a single picture is next to the text, other media are above it."""
    title = element("h3", exhibit.title), badge and element("span", badge, class_="badge")
    shown = exhibit.media or exhibit.gold_media
    figures = element("div", *_figures(exhibit), class_="figures") if shown else None
    drawn = any(gold_rows(exhibit.gold, key.name, key.numbers) for key in DRAWN)
    gold = element("p", swatch("gold") if drawn else None, " gold: ", _plain(exhibit.gold))
    question = element("p", _prompt_text(exhibit.prompt), class_="question")
    answers = element("div", *(_answer(answer, drawn, exhibit.run) for answer in exhibit.answers), class_="answers")
    text = element("div", question, gold, answers)
    side_by_side = [media.kind for media in exhibit.media] == ["image"]
    header = element("header", *title, element("small", exhibit.about))
    return element(
        "article", header, element("div", figures, text, class_="side" if side_by_side else None), class_="card"
    )


def answer_boxes(answer: Answer, size: Sequence[int]) -> list[Region]:
    """The boxes that a completion names, in pixels of a picture of `size`, as `rewards.rules.grounding` reads them."""
    return _placed(answer, boxes, size)


def answer_points(answer: Answer, size: Sequence[int]) -> list[Region]:
    """The points that a completion names, in the same pixels, as `point_match` reads them."""
    return _placed(answer, points, size)


def _placed(answer: Answer, read: Callable[[str], Sequence[Region]], size: Sequence[int]) -> list[Region]:
    text = answer_text(answer.completion)
    return _in_pixels(answer, read(text) if text is not None else [], size)


def _in_pixels(answer: Answer, found: Sequence[Region], size: Sequence[int]) -> list[Region]:
    if not found:
        return []
    seen_size = answer.seen_size[0] if answer.seen_size else ()
    try:
        return cut(to_pixels(np.clip(found, -FAR, FAR), answer.space, size, seen_size).tolist(), size)
    except InputError:  # the size that the model saw is unknown; the reward's verdict gives the reason
        return []


def answer_spans(answer: Answer) -> list[Region]:
    """The spans of seconds that a completion names."""
    text = answer_text(answer.completion)
    return list(spans(text)) if text is not None else []


def _figures(exhibit: Exhibit) -> Iterable[Html]:
    """Each picture or video; marks are on the first, which is where the rewards look."""
    golds = [(media, "gold") for media in exhibit.gold_media]
    named = [(media, f"{media.kind} {place}") for place, media in enumerate(exhibit.media, 1)] + golds
    for place, (media, name) in enumerate(named):
        caption = name if len(named) > 1 or not exhibit.media else ""
        try:
            _check_recorded(media, exhibit.run)
            yield (
                _picture(exhibit, media, caption, place)
                if media.kind == "image"
                else _film(media, _times(exhibit), caption)
            )
        except InputError as error:
            yield element("p", f"not shown: {error}", class_="missing")


def _check_recorded(media: Media, run: Path | None) -> None:
    """MediaError for a file that is not the one that the run had before it."""
    if run is not None and media.path is not None and not resolve(media.path).is_relative_to(run.resolve()):
        check_recorded(media)


def _picture(exhibit: Exhibit, media: Media, caption: str, place: int) -> Html:
    image = load_image(media)
    marks = [*_places(exhibit, image.size), *_looked(exhibit, image.size)] if place == 0 else []
    return picture(image, marks, caption=f"{caption} {image.width}×{image.height}".strip())


def _film(media: Media, marks: Sequence[Mark], caption: str) -> Html:
    video = load_frames(media, FRAMES)
    seconds = shown_seconds(Media("video", duration=video.duration, start=media.start, end=media.end))
    assert seconds is not None
    height, width = video.frames.shape[1:3]
    caption = f"{caption} {width}×{height}, {video.num_frames} frames".strip()
    return film(video.frames, seconds, marks, caption=caption)


def _places(exhibit: Exhibit, size: Sequence[int]) -> list[Mark]:
    """The gold boxes and points, and the places of the answers: all points where these are asked for, all boxes where
    there are labels, else the first box of each."""
    golds = gold_places(exhibit.gold, size)
    if not golds:
        return []
    labelled = "labels" in exhibit.gold
    pointed = not labelled and any(len(mark.region) == 2 for mark in golds)
    for answer in exhibit.answers:
        given = answer_points(answer, size) if pointed else answer_boxes(answer, size)[: None if labelled else 1]
        golds += [Mark(answer.kind, answer.label, region) for region in given]
    return golds


def _looked(exhibit: Exhibit, size: Sequence[int]) -> Iterator[Mark]:
    """The boxes that calls of tools looked at."""
    for answer in exhibit.answers:
        for tool, box in called_boxes(answer.turns):
            for region in _in_pixels(answer, [box], size):
                yield Mark(answer.kind, f"{answer.label} {tool}", region)


def _times(exhibit: Exhibit) -> list[Mark]:
    """The gold spans, and the first of each answer."""
    golds = gold_spans(exhibit.gold)
    for answer in exhibit.answers if golds else ():
        golds += [Mark(answer.kind, answer.label, span) for span in answer_spans(answer)[:1]]
    return golds


def _answer(answer: Answer, drawn: bool, run: Path | None) -> Html:
    title = swatch(answer.kind) if drawn else None, element("strong", answer.label)
    header = element("header", *title, *(element("span", fact, class_="dim") for fact in answer.facts))
    made = [_made(media, run) for media in answer.made]
    films = [_made(media, run, caption="step by step from noise", side=FILM) for media in answer.film]
    text = [element("div", *made, class_="figures"), *films] if made else list(turn_cards(answer.turns, run))
    text = text or [element("pre", _shortened(answer.completion))]
    return element("section", header, *text, *_verdicts(answer.verdicts), class_="answer")


def _made(media: Media, run: Path | None, *, caption: str = "", side: int = SIDE) -> Html:
    try:
        _check_recorded(media, run)
        return (
            _film(media, (), caption)
            if media.kind == "video"
            else picture(load_image(media), (), caption=caption, side=side)
        )
    except InputError as error:
        return element("p", f"not shown: {error}", class_="missing")


def _verdicts(verdicts: Mapping[str, Verdict]) -> Iterable[Html]:
    """A table of score and why, and a line for those rewards that abstained for one reason."""
    rows, silent = [], defaultdict[str, list[str]](list)
    for name, verdict in verdicts.items():
        if verdict.kind == "abstained":
            silent[verdict.why].append(name)
            continue
        score = "–" if verdict.score is None else f"{verdict.score:.2f}"
        why = verdict.why if verdict.kind == "scored" else f"{verdict.kind}: {verdict.why}"
        rows.append(element("tr", *(element("td", cell) for cell in (name, score, why))))
    yield element("table", element("tbody", *rows))
    for why, names in silent.items():
        yield element("p", f"abstained: {', '.join(names)}{f' ({why})' if why else ''}", class_="dim small")


def _shortened(text: str) -> Child:
    if not text:
        return element("span", "(empty answer)", class_="dim")
    if len(text) <= CHARACTERS:
        return text
    left_out = element("span", f" … {len(text) - CHARACTERS:,} more characters", class_="dim")
    return joined(text[:CHARACTERS], left_out)


def _prompt_text(prompt: Sequence[Mapping[str, Any]]) -> Html:
    """The texts of a prompt; roles are named where there are several messages, media where there are several parts."""
    lines: list[Html] = []
    places = [part["type"] for message in prompt for part in parts_of(message["content"]) if part["type"] != "text"]
    for message in prompt:
        children: list[Child] = [element("small", f"{message['role']}: ")] if len(prompt) > 1 else []
        for kind, parts in groupby(parts_of(message["content"]), key=lambda part: part["type"]):
            if kind == "text":
                children += [part["text"] for part in parts]
            elif len(places) > 1:
                children += [element("small", f"[{kind}] ") for _ in parts]
        lines.append(joined(*children, "\n" if message is not prompt[-1] else None))
    return joined(*lines)


def _plain(gold: Any) -> str:
    """The gold answer in a line.

    >>> _plain({"boxes": [[3.0, 4.5, 12.0, 9.0]], "labels": ["cat"]})
    'boxes [[3, 4.5, 12, 9]], labels ["cat"]'
    """
    if isinstance(gold, Mapping):
        return ", ".join(f"{key} {value if isinstance(value, str) else _plain(value)}" for key, value in gold.items())
    return json.dumps(_whole(gold), ensure_ascii=False)


def _whole(value: Any) -> Any:
    """`value` with whole floats as integers, as people write them."""
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
