"""What the commands of data show: tables that fit, advice that helps, one line for each thing to look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from data_engine.engine.cost import measure_costs
from data_engine.engine.pipeline import run
from data_engine.recipe import Recipe, plan
from data_engine.schema import Sample, user_prompt
from data_engine.similar.index import Leak
from data_engine.similar.report import Leakage, Pair, leakage_table, pairs_table
from mmrl.commands.lint_boxes import Gold, fits, verdict
from mmrl.commands.terminal import difficulty_table, fitted, plan_table
from mmrl.core.config import validate
from mmrl.core.media.item import Media
from mmrl.core.vision import VisionBudget, VisionGeometry
from tests.data_engine.ops.test_difficulty import numbers, row
from tests.data_engine.test_commands import printed
from tests.support.clips import write_clip
from tests.support.markup import checked

RIGHT = [Gold([10.0 + n, 10.0, 1590.0 - n, 1100.0], (1600, 1200), f"right {n}") for n in range(22)]
OVER = Gold([500.0, 10.0, 1700.0, 400.0], (1600, 1200), "wrong (boxes.json:7)")


def shown(table: object, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as printed_:
        console.print(table)
    return printed_.get()


def test_a_box_that_is_wrong_does_not_hide_the_space_of_the_others() -> None:
    gold = [*RIGHT, OVER]
    said = verdict(fits(gold, VisionBudget(), VisionGeometry(14, 2, 2), 0.0), gold)
    assert said.startswith("fits best: pixel, but for 1 of 23 boxes")
    assert "wrong (boxes.json:7)" in said
    assert verdict(fits([OVER] * 5, VisionBudget(), VisionGeometry(14, 2, 2), 0.0), [OVER] * 5).startswith(
        "no space fits"
    )


def test_a_box_over_the_edge_does_not_make_per_mille_of_pixels() -> None:
    size = (640, 480)
    right = [Gold([10.0 + n, 10.0, 630.0 - n, 470.0 - n], size, f"right {n}") for n in range(22)]
    gold = [*right, Gold([500.0, 10.0, 700.0, 400.0], size, "wrong (boxes.json:7)")]
    said = verdict(fits(gold, VisionBudget(), VisionGeometry(14, 2, 2), 0.0), gold)
    assert said.startswith("fits best: pixel, but for 1 of 23 boxes")
    assert "all boxes fit per_mille too" in said
    spread = [Gold([40.0 * n, 20.0, 40.0 * n + 120, 960.0], size) for n in range(22)]
    assert verdict(fits(spread, VisionBudget(), VisionGeometry(14, 2, 2), 0.0), spread) == "fits: per_mille"


def test_a_narrow_terminal_loses_columns_before_words() -> None:
    rows = [row(sample, at) for at, sample in enumerate(numbers(8, "a source"))]
    table = difficulty_table(rows)
    wide, narrow = (
        shown(difficulty_table(rows)),
        fitted(Console(width=70), table, "truncated", "no score", "draws", "mean"),
    )
    assert "truncated" in wide
    lines = shown(narrow, 70).splitlines()
    assert "accuracy" in lines[3]
    assert len(lines) == 5  # no cell is broken into two lines
    assert all("…" not in line for line in lines)


def test_a_plan_writes_options_as_recipes_do(tmp_path: Path) -> None:
    rows = []
    for n in range(6):
        Image.new("RGB", (64, 48), (n, 0, 0)).save(tmp_path / f"{n}.png")
        box = {"boxes": [[0.1, 0.1, 0.5, 0.5]]}
        rows.append({"question": f"Where is {n}?", "task": "grounding", "image": f"{n}.png", **box})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"fn": "jsonl", "args": {"path": "rows.jsonl", "rows": {"space": "unit"}}}
    recipe = validate(
        Recipe, {"root": str(tmp_path), "sources": [source], "operators": [{"fn": "validate"}]}, where="recipe"
    )
    steps = plan(recipe, engine="local", run=True)
    _, (reading, validating) = measure_costs(steps, 6)
    assert (reading.files, validating.files) == (6, 5), "once to read, once to check; the first before the clock runs"
    assert '{"space": "unit"}' in shown(plan_table(steps, "local", None))


@pytest.mark.parametrize(
    ("box", "advice"),
    [([300, 10, 700, 60], "modes: {box_outside: fix} of validate clips it"), ([600, 10, 900, 60], "boxes are pixels")],
)
def test_a_box_over_the_edge_is_told_with_what_would_help(box: list[int], advice: str, tmp_path: Path) -> None:
    Image.new("RGB", (640, 427)).save(tmp_path / "a.png")
    long = {"note": "x" * 900}
    written = {"question": "Where?", "image": "a.png", "task": "grounding", "boxes": [box], **long}
    (tmp_path / "rows.jsonl").write_text(json.dumps(written))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("sources: [{fn: jsonl, args: {path: rows.jsonl}}]")
    printed("build", recipe, f"root={tmp_path}", "--workers", 1, "--out", tmp_path / "out")
    text = printed("show", tmp_path / "out", "--quarantine")
    assert advice in text
    assert "more characters" in text  # a row that is cut says so


def test_the_report_draws_gold_places_and_times(tmp_path: Path) -> None:
    Image.new("RGB", (640, 427)).save(tmp_path / "a.png")
    write_clip(tmp_path / "a.mp4", 50)
    rows = [
        {"question": "Where?", "image": "a.png", "task": "grounding", "boxes": [[64, 40, 320, 200]]},
        {"question": "Where else?", "image": "a.png", "task": "point", "points": [[100, 50]]},
        {"question": "When?", "video": "a.mp4", "spans": [[0.5, 1]]},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = {"root": tmp_path, "sources": [{"fn": "jsonl", "args": {"path": "rows.jsonl"}}]}
    run(Recipe.model_validate(recipe), out=tmp_path / "out")
    markup = checked((tmp_path / "out" / "report.html").read_text())
    (box,) = markup.named("rect", "mark")
    assert [box[side] for side in ("x", "y", "width", "height")] == ["64.0", "40.0", "256.0", "160.0"]
    (cross,) = markup.named("path", "mark")
    assert "M100.0 " in str(cross["d"])
    (span,) = (given for given in markup.named("rect", "gold") if given is not box)
    assert (span["x"], span["width"]) == ("25.00%", "25.00%")


def test_leaks_count_my_samples_and_show_each_once() -> None:
    mine = [
        Sample(
            f"m{n}", "lab", "yesno", user_prompt("?", ["image"]), {"yesno": True}, (Media("image", path=f"{n}.png"),)
        )
        for n in range(3)
    ]
    pairs = [Pair(sample, Leak("pope", f"p{at}", "image")) for sample in mine for at in range(4)]
    overlap = Leakage("pope", 100, {"image": 4}, {"lab": {"image": 4}}, pairs)
    table = leakage_table([overlap])
    assert list(table.columns[-1].cells) == ["3", "3"]
    few = pairs_table([overlap], 2)
    assert [str(cell) for cell in few.columns[0].cells] == ["m0", "m1"]
    assert str(few.caption) == "and 1 more samples that match pope: --n shows more"
