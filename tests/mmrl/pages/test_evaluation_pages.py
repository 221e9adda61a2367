"""Evaluation pages: whole, harmless, with pictures, in the words of the models escaped."""

from dataclasses import replace
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from eval.report import report
from eval.report_tables import report_tables
from mmrl.commands.eval import app
from mmrl.core.files import sha256_of
from mmrl.pages.evaluation_page import compare_page, run_page
from tests.eval.test_records import RIGHT, WRONG, grounding, written, yesno
from tests.support.browser import needs_browser, opened
from tests.support.markup import checked

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def pictured(records: list, directory: Path) -> list:
    errors = []
    for record in records:
        place = directory / f"{record.item_id}.png"
        Image.new("RGB", (64, 64), "red").save(place)
        entry = {
            **record.media[0],
            "path": str(place),
            "sha256": sha256_of(place),
            "start": None,
            "end": None,
            "num_frames": None,
        }
        errors.append(replace(record, media=[entry]))
    return errors


def test_a_run_is_a_page_with_scores_pictures_boxes_and_escaped_answers(tmp_path: Path) -> None:
    records = [yesno("a", RIGHT), yesno("b", ATTACK), grounding("c", "<answer>[0,0,32,16]</answer>")]
    out = written(tmp_path / "run", pictured(records, tmp_path))
    markup = checked(run_page(out, tmp_path / "report.html").read_text())
    assert all(word in markup.text for word in ("Scores", "accuracy", "Confusion by task", "Worst items", "unparsed"))
    assert "alert(1)" in markup.text
    assert len(markup.images()) == 3
    assert markup.named("path", "mark") or markup.named("rect", "mark")


def test_the_confusion_of_yes_and_no_is_that_of_the_reward(tmp_path: Path) -> None:
    said = ["</think>no<think></think>", "No, there is none.", "Yes.", "perhaps"]
    out = written(tmp_path / "run", pictured([yesno(f"y{at}", text) for at, text in enumerate(said)], tmp_path))
    text = checked(run_page(out, tmp_path / "report.html").read_text()).text
    cells = text[text.index("gold, answered:") :].split()
    assert cells[2:5] == ["no", "unparsed", "yes"]
    assert cells[6:9] == ["2", "1", "1"]


def test_tasks_take_turns_and_several_draws_have_a_table(tmp_path: Path) -> None:
    records = [yesno(f"y{at}", WRONG, draw=draw) for at in range(9) for draw in (0, 1)] + [grounding("g", WRONG)]
    out = written(tmp_path / "run", pictured(records, tmp_path))
    text = checked(run_page(out, tmp_path / "report.html").read_text()).text
    worst = text[text.index("Worst items") : text.index("Best items")]
    assert worst.count("hand ·") == 6
    assert "hand · g" in worst
    assert "pass@k" in text


def test_the_report_the_page_and_the_terminal_show_the_same_cells(tmp_path: Path) -> None:
    records = [yesno(f"y{at}", RIGHT if at % 3 else WRONG, draw=draw) for at in range(9) for draw in (0, 1)]
    out = written(tmp_path / "run", pictured([*records, grounding("g", RIGHT)], tmp_path))
    tables = report_tables(report(out))
    assert [table.title for table in tables] == ["Scores", "Several answers to a question", "Cost of an answer"]
    page, markdown = checked(run_page(out, tmp_path / "report.html").read_text()).text, (out / "report.md").read_text()
    terminal = CliRunner().invoke(app, ["report", str(out)]).output
    assert all(f"| {' | '.join(row)} |" in markdown for table in tables for row in table.rows)
    assert all(cell in page for table in tables for row in table.rows for cell in row)
    assert all(cell in terminal for row in tables[0].rows for cell in row)


@needs_browser
def test_a_browser_shows_the_report_without_a_complaint(tmp_path: Path) -> None:
    records = [yesno("a", RIGHT), yesno("b", ATTACK), grounding("c", "<answer>[0,0,32,16]</answer>")]
    out = written(tmp_path / "run", pictured(records, tmp_path))
    tab = opened(run_page(out, tmp_path / "report.html"), tmp_path / "profile")
    assert tab.complaints == []
    assert len(tab.pictures) == 3
    assert all(width > 50 and height > 50 for width, height in tab.pictures)
    assert tab.marks >= 2  # the gold box and the predicted one
    assert ATTACK in tab.text  # as text: nothing of it has run
    assert all(word in tab.text for word in ("Scores", "accuracy", "Confusion by task", "Worst items"))


@needs_browser
def test_a_page_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(f"<body>{ATTACK}<img src='data:image/png;base64,AAAA'><p>words")
    tab = opened(page, tmp_path / "profile")
    assert "a dialog" in tab.complaints
    assert (0, 0) in tab.pictures
    assert "words" in tab.text


def test_a_comparison_shows_what_flipped(tmp_path: Path) -> None:
    before = written(tmp_path / "before", pictured([yesno("a", WRONG), yesno("b", RIGHT)], tmp_path))
    after = written(tmp_path / "after", pictured([yesno("a", RIGHT), yesno("b", ATTACK)], tmp_path))
    markup = checked(compare_page(before, after, tmp_path / "compare.html").read_text())
    assert "after against before" in markup.text
    assert markup.text.count("1 items, 1 shown.") == 2
    assert "alert(1)" in markup.text
