"""The page of the demo of editors: what changed in numbers, and sources with their edits before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmrl.core.html import Html, element, page, table, write_page
from mmrl.core.media.drawings import picture
from mmrl.core.media.image import load_image
from mmrl.demo.editor.steps import RIGHT, Edit
from mmrl.pages.curves import charts
from mmrl.pages.rollout_pages import spread

SHOWN = 18
LARGER = 10
ABOUT = {
    RIGHT: "edits that are nearer to the right one than to the source and to three faulty ones; not the reward",
    "edit_match": "done where it was asked, kept elsewhere: the reward",
    "distance_to_real": "mean difference to the nearest of these pictures, in [0, 1]; less is better",
}


def write_report(
    out: Path, *, summary: Sequence[dict[str, Any]], before: Sequence[Edit], after: Sequence[Edit], training: Path
) -> Path:
    """Write `out/report.html`; `before` and `after` are the edits of the same samples."""
    pairs = list(zip(before, after, strict=True))
    content = page(
        "An editor before and after reinforcement learning",
        numbers(summary),
        element("p", f"{len(pairs)} photographs and instructions that no training sample has.", class_="dim"),
        element("h2", "What the edits are"),
        kinds(before, after),
        element("h2", "During training"),
        charts(training),
        element("h2", f"{min(SHOWN, len(pairs))} edits before and after, evenly spread"),
        *(_card(*pair) for pair in spread(pairs, len(pairs), SHOWN)),
    )
    return write_page(content, out / "report.html")


def numbers(summary: Sequence[dict[str, Any]]) -> Html:
    """A row for each metric."""
    head = ["metric", "is", "before", "after", "difference", "95 % interval", "n"]
    body = [
        [
            row["metric"],
            ABOUT[row["metric"]],
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            f"{row['difference']:+.3f}",
            "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            str(row["n"]),
        ]
        for row in summary
    ]
    return table(head, body, texts=2, strong=[0])


def kinds(before: Sequence[Edit], after: Sequence[Edit]) -> Html:
    """How many edits are nearest to the right one, to each faulty one, and to the source."""
    old, new = (Counter(edit.kind for edit in edits) for edits in (before, after))
    names = sorted(old | new, key=lambda name: (name != RIGHT, name))
    return table(["nearest to", "before", "after"], [[name, str(old[name]), str(new[name])] for name in names])


def _card(before: Edit, after: Edit) -> Html:
    source, gold = (load_image(media) for media in before.sample.media)
    shown = {"source": source}
    for when, edit in (("before", before), ("after", after)):
        shown[f"{when}: {edit.kind}, {edit.score:.2f}"] = edit.made
    shown["gold"] = gold
    figures = [picture(_large(image), (), caption=caption) for caption, image in shown.items()]
    title = element("header", element("h3", before.sample.answer["instruction"]))
    return element("article", title, element("div", *figures, class_="figures"), class_="card")


def _large(image: Image.Image) -> Image.Image:
    """Every pixel as a square: JPEG, in which pages hold pictures, smears the colours of small ones."""
    return image.resize((image.width * LARGER, image.height * LARGER), Image.Resampling.NEAREST)
