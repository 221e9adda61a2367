"""A page of `mmrl eval frontier`: reward against divergence, with the tilted optimum as a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.core.html import Html, element, page, table, ticks, write_page

HEAD = ("policy", "KL (nats)", "reward", "95 %", "optimum there")
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 380, 44, 30


def frontier_page(found: Mapping[str, Any], place: Path) -> Path:
    """Write the page of what `eval.frontier.frontier` gives."""
    left_out = f" {found['left_out']} others, whose draws have too little, were left out." if found["left_out"] else ""
    about = (
        f"Means over {found['prompts']} prompts, whose drawn answers have at least {found['coverage']:.1%} of the "
        f"probability in the mean.{left_out} No policy that moves as far from the reference scores above the curve."
    )
    return write_page(
        page(
            "Reward and distance",
            element("p", about),
            element("div", _chart(found["points"], found["optimum"]), class_="chart"),
            table(HEAD, [frontier_row(point) for point in found["points"]]),
        ),
        place,
    )


def frontier_row(point: Mapping[str, Any]) -> list[str]:
    """A point as the cells of a table."""
    reach = "-" if point["low"] is None else f"{point['low']:.3f} to {point['high']:.3f}"
    return [point["name"], f"{point['kl']:.4f}", f"{point['reward']:.3f}", reach, f"{point['optimum']:.3f}"]


def _chart(points: Sequence[Mapping[str, Any]], optimum: Sequence[Mapping[str, float]]) -> Html:
    far = max(point["kl"] for point in points) * 1.1 or 1.0
    shown = [one for one in optimum if one["kl"] <= far]
    values = [one["reward"] for one in (*points, *shown)]
    low, rise = min(values), (max(values) - min(values)) or 1.0

    def at(kl: float, reward: float) -> tuple[float, float]:
        x = LEFT + 6 + kl / far * (WIDTH - LEFT - 90)
        return round(x, 1), round(HEIGHT - BOTTOM - 8 - (reward - low) / rise * (HEIGHT - BOTTOM - 24), 1)

    parts: list[Html] = []
    for tick in ticks(low, low + rise):
        _, y = at(0, tick)
        parts.append(element("path", d=f"M{LEFT} {y}H{WIDTH}", class_="grid"))
        parts.append(element("text", f"{tick:g}", x=LEFT - 5, y=y, dy=".35em", text_anchor="end"))
    for tick in ticks(0.0, far):
        parts.append(element("text", f"{tick:g}", x=at(tick, low)[0], y=HEIGHT - 8, text_anchor="middle"))
    line = "M" + "L".join(f"{x} {y}" for x, y in (at(one["kl"], one["reward"]) for one in shown))
    parts.append(element("path", d=line, class_="mean"))
    for point in points:
        x, y = at(point["kl"], point["reward"])
        parts.append(element("circle", cx=x, cy=y, r=4))
        parts.append(element("text", point["name"], x=x + 7, y=y, dy=".35em"))
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label="reward against KL")
