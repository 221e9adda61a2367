"""Building blocks of pages that are one file: no scripts, nothing loaded from anywhere, all text escaped.

Colours are those of Okabe and Ito, which colour-blind people tell apart; marks differ in lightness and dashes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import accumulate
from pathlib import Path

from mmrl.core.files import write_atomic

VOID = {"br", "img", "meta"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # no browser will fetch or run anything

STYLE = "\n" + Path(__file__).with_name("page.css").read_text(encoding="utf-8")


class Html(str):
    """Text that is HTML already; all other text is escaped when it becomes part of an element."""

    __slots__ = ()


Child = Html | str | None


def element(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element; `class_` is the attribute class, `stroke_width` is stroke-width, attributes of None are left out.

    >>> element("b", "1 < 2", element("br"), class_="x")
    '<b class="x">1 &lt; 2<br></b>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Html:
    """The children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children if child is not None))


def page(title: str, *content: Child) -> Html:
    """A whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", title),
        element("style", Html(STYLE)),
    )
    body = element("body", element("main", element("h1", title), *content))
    return Html(f"<!doctype html>\n{element('html', head, body, lang='en')}\n")


def write_page(content: Html, place: Path) -> Path:
    """Write a page, whole or not at all; half characters that JSON may hold become question marks."""
    write_atomic(place, content.encode(errors="replace"))
    return place


def table(
    head: Sequence[Child], rows: Sequence[Sequence[Child]], *, texts: int = 1, strong: Sequence[int] = ()
) -> Html:
    """A table whose first `texts` columns are text and whose others are numbers; the rows at `strong` stand out."""

    def line(name: str, cells: Sequence[Child]) -> Html:
        return joined(*(element(name, cell, class_=None if i < texts else "number") for i, cell in enumerate(cells)))

    body = (element("tr", line("td", row), class_="strong" if i in strong else None) for i, row in enumerate(rows))
    content = element("thead", element("tr", line("th", head))), element("tbody", *body)
    return element("div", element("table", *content, class_="numbers"), class_="scroll")


def line_chart(points: Sequence[tuple[float, float]], *, title: str, window: int, top: float = 0.0) -> Html:
    """Values over steps: every point light, the mean of the last `window` points bold. The axis holds 0 and `top`.

    `points` are (step, value), at least one.
    """
    width, height, left, bottom = 320, 170, 36, 22
    steps, values = zip(*points, strict=True)
    low = min(0.0, *values)
    rise = (max(top, *values) - low) or 1
    first, span = min(steps), (max(steps) - min(steps)) or 1

    def place(step: float, value: float) -> str:
        x = left + 6 + (step - first) / span * (width - left - 12)
        return f"{x:.1f} {height - bottom - 4 - (value - low) / rise * (height - bottom - 12):.1f}"

    grid: list[Html] = []
    for tick in ticks(low, low + rise):
        y = place(first, tick).split()[1]
        grid.append(element("path", d=f"M{left} {y}H{width}", class_="grid"))
        grid.append(element("text", f"{tick:g}", x=left - 5, y=y, dy=".35em", text_anchor="end"))
    for tick in (tick for tick in ticks(first, first + span) if tick.is_integer()):
        x = place(tick, low).split()[0]
        grid.append(element("text", f"{tick:g}", x=x, y=height - 5, text_anchor="middle"))
    raw = "".join(f"M{place(*point)}h0" for point in points)
    mean = "M" + "L".join(place(*point) for point in zip(steps, running_mean(values, window), strict=True))
    lines = element("path", d=raw, class_="raw"), element("path", d=mean, class_="mean")
    drawing = element("svg", *grid, *lines, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)
    return element("figure", element("strong", title), drawing, class_="chart")


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and up to `window - 1` before it.

    >>> running_mean([1, 3, 5, 7], 2)
    [1.0, 2.0, 4.0, 6.0]
    """
    sums = [0.0, *accumulate(values)]
    starts = [max(0, end - window) for end in range(1, len(sums))]
    return [(sums[end] - sums[start]) / (end - start) for end, start in enumerate(starts, 1)]


def ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers from `low` to `high`, which must be apart.

    >>> ticks(0, 1), ticks(0, 119)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 50.0, 100.0])
    """
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(step for step in (1, 2, 5, 10) if (high - low) / (step * power) <= 5.0000001) * power
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
