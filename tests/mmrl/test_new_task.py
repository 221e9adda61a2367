"""A task that is added to the table, and nowhere else, goes all the way: rows, checks, targets, pages, evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from data_engine.dataset.card import front_matter
from data_engine.operator import Dropped, Quarantined
from data_engine.ops.duplicates import near_duplicates
from data_engine.ops.validate import validate
from data_engine.ops.verify import verifiable
from data_engine.schema import Sample, with_id
from data_engine.sources.row_format import Rows
from data_engine.sources.tables import jsonl
from eval.space_check import space_check
from mmrl.core.config import InputError, load
from mmrl.core.vision import CoordinateSpace
from mmrl.pages.cards import Answer, Exhibit, card
from mmrl.trainers.targets import check_answers, rendered
from rewards import Rollout, Suite
from rewards.tasks import golds as gold
from rewards.tasks.keys import BOXES, AnswerKey, is_text
from rewards.tasks.table import TASKS, TaskType
from rewards.workbench import try_suite
from tests.support.markup import Markup

LIGHT = AnswerKey(name="light", right="a text that is not blank", is_right=is_text, column=True)
SIGNAL = TaskType(
    example={"boxes": [[10, 10, 40, 60]], "light": "red"},
    keys=(BOXES, LIGHT),
    rule="box_iou",
    golds=gold.each_box,
    category="object-detection",
)
ROW = {"task": "signal", "question": "Where is the signal?", "image": "a.png", "answer": [0.1, 0.1, 0.4, 0.6]}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "signal", SIGNAL)


def read(root: Path, *rows: dict[str, Any]) -> list[Sample | Quarantined]:
    Image.effect_noise((100, 100), 90).convert("RGB").save(root / "a.png")
    (root / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    space = load(Rows, None, ["space=unit", "columns.light=colour"])
    return list(jsonl(path="rows.jsonl", root=root, rows=space))


def whole(root: Path) -> Sample:
    (sample,) = read(root, {**ROW, "colour": "red"})
    assert isinstance(sample, Sample), sample
    checked = validate(sample)
    assert isinstance(checked, Sample), checked
    return with_id(checked)


def test_rows_are_read_and_checked(tmp_path: Path) -> None:
    sample = whole(tmp_path)
    assert (sample.task, sample.answer) == ("signal", {"boxes": [[10, 10, 40, 60]], "light": "red"})
    blank, lost, misspelt = read(tmp_path, {**ROW, "colour": " "}, {**ROW}, {**ROW, "task": "singal", "colour": "red"})
    assert isinstance(blank, Sample)
    assert isinstance(lost, Sample)
    for outcome, reason, message in (
        (validate(blank), "bad_answer", "light of task signal must be a text that is not blank, got ' '"),
        (validate(lost), "no_answer", "task signal needs the answer keys boxes, light"),
        (misspelt, "unknown_task", "unknown task 'singal'; did you mean signal?"),
    ):
        assert isinstance(outcome, Quarantined)
        assert (outcome.reason, message in outcome.why) == (reason, True), outcome.why


def test_columns_that_no_task_has_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown column 'ligth'; did you mean light\?"):
        load(Rows, None, ["columns.ligth=colour"])


def test_it_is_verified_and_compared(tmp_path: Path) -> None:
    sample = whole(tmp_path)
    assert verifiable(sample) is sample
    again = with_id(Sample("", "other", "signal", sample.prompt, sample.answer, sample.media))
    differs = with_id(Sample("", "other", "signal", sample.prompt, {**sample.answer, "light": "other"}, sample.media))
    outcomes = near_duplicates(iter([sample, again, differs]))
    assert [type(outcome) for outcome in outcomes] == [Sample, Dropped, Sample]


def test_its_gold_is_a_target_that_scores(tmp_path: Path) -> None:
    sample = whole(tmp_path)
    check_answers([sample])
    row = {name: getattr(sample, name) for name in ("id", "task", "answer", "media", "meta")}
    text = rendered(row, CoordinateSpace.per_mille, [(28, 28)])
    assert text == "<think>I look</think><answer>[100,100,400,600]</answer>"
    suite = Suite({"place": {"fn": "box_iou", "tasks": ["signal"]}})
    rollout = Rollout(text, sample.answer, "signal", media=sample.media, meta={"space": "per_mille"})
    assert suite.score([rollout])[0]["place"].score == 1
    (finding,) = try_suite(suite, [rollout])
    assert (finding.task, finding.means["exact"], finding.means["empty"]) == ("signal", 1.0, 0.0)


def test_it_is_drawn_and_described(tmp_path: Path) -> None:
    sample = whole(tmp_path)
    answer = Answer("answer", "1", "<answer>[20, 10, 40, 60]</answer>", {}, [], "pixel", [(100, 100)])
    markup = Markup(card(Exhibit("one", "", sample.prompt, sample.answer, sample.media, [answer])))
    drawn = [[float(str(rect[side])) for side in ("x", "y", "width", "height")] for rect in markup.named("rect")]
    assert drawn == [[10, 10, 30, 50], [20, 10, 20, 50]]
    assert any("light red" in text for text in markup.texts)
    counts = {"licences": {}, "splits": {}, "name": "x", "counts": {"kept": 1}, "tasks": {"signal": 1}}
    assert front_matter(counts)["task_categories"] == ["object-detection"]


def test_its_coordinate_space_is_checked() -> None:
    media = [{"kind": "image", "width": 100, "height": 100}]
    record = {"answer_text": "[10, 10, 400, 600]", "media": media, "meta": {"space": "pixel"}, "seen_size": [[28, 28]]}
    records: list[Any] = [SimpleNamespace(task=task, **record) for task in ("signal", "number")]
    assert space_check(records) == {"boxes": 1, "outside": 1.0, "fractions": 0.0}
