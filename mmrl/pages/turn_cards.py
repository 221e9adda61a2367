"""The turns of an answer as a part of a page: what was said, which tools were called, and what they returned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.core.config import InputError
from mmrl.core.html import Html, element
from mmrl.core.media.drawings import Region, gold_rows, picture
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media

READ = 1000  # characters of a result that are shown


def turn_cards(turns: Sequence[Mapping[str, Any]], run: Path | None) -> Iterable[Html]:
    """Each turn, with the pictures of its results from the folder of the `run`."""
    for number, turn in enumerate(turns, 1):
        yield element("p", element("small", f"turn {number}"))
        yield element("pre", turn["said"])
        for call in turn["calls"]:
            yield element("p", element("strong", call["name"] or "a call"), f" {call['arguments']}: {call['outcome']}")
            if call["read"]:
                yield element("pre", call["read"][:READ], class_="dim")
            yield element("div", *(_shown(media, run) for media in call["media"]), class_="figures")


def called_boxes(turns: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Region]]:
    """(name of the tool, box) of each call that looked at a `box` of the first picture, as the model gave it."""
    for call in (call for turn in turns for call in turn["calls"] if call["outcome"] == "ok"):
        arguments = json.loads(call["arguments"])
        if arguments.get("picture", 1) == 1:
            yield from ((call["name"], box) for box in gold_rows(arguments, "box", 4))


def _shown(media: Mapping[str, Any], run: Path | None) -> Html:
    """A picture of a result; what does not lie in the folder of the run is not read."""
    caption = f"{media['width']}×{media['height']}"
    place = None if run is None else (run / media["path"]).resolve()
    if place is None or run is None or not place.is_relative_to(run.resolve()):
        return element("p", f"not shown: {media['path']} is no file of the run", class_="missing")
    try:
        return picture(load_image(Media("image", str(place))), [], caption=caption)
    except InputError as error:
        return element("p", f"not shown: {error}", class_="missing")
