"""A page of `mmrl eval probes`: what the probes get right, and whether unsure answers are the wrong ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.report_tables import interval, shown_number
from mmrl.core.html import element, line_chart, page, table, write_page

HEAD = ("dimension", "classes", "learned", "held out", "accuracy", "95 %", "most frequent", "sure", "left out")


def probes_page(found: Mapping[str, Any], place: Path) -> Path:
    """Write the page of what `eval.preferences.probes.head_probes` gives."""
    about = (
        f"A linear probe of each dimension on the states that {found['head']} scores: {shown_number(found['average'])} "
        f"of the held-out answers right in the mean. {found['left_out']:.1%} of them are further than "
        f"{found['tau']:.3f} from every centroid, and unsure."
    )
    curve = [(100 * point["left_out"], point["accuracy"]) for point in found["curve"]]
    return write_page(
        page(
            "Probes of a head",
            element("p", about),
            table(HEAD, [probe_row(row) for row in found["dimensions"]]),
            element("p", "The accuracy of the answers that stay when the furthest are left out, by their share in %:"),
            line_chart(curve, title="accuracy", window=1, top=1.0),
        ),
        place,
    )


def probe_row(row: Mapping[str, Any]) -> list[str]:
    """A dimension as the cells of a table."""
    counts = [str(row[name]) for name in ("classes", "learned", "n")]
    numbers = shown_number(row["mean"]), interval(row), shown_number(row["most_frequent"]), shown_number(row["sure"])
    return [row["dimension"], *counts, *numbers, f"{row['left_out']:.1%}"]
