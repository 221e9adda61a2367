"""`mmrl data plan`: it tries a build on few samples, and refuses early what a build would refuse late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_engine.engine.cost import measure_costs
from data_engine.recipe import Recipe, plan
from mmrl.core.config import InputError, validate
from tests.data_engine.test_commands import printed


def planned(root: Path, *operators: Any, **fields: Any) -> Path:
    """A recipe over two sources of ten questions each."""
    for task, answer in (("yesno", "yes"), ("count", 3)):
        rows = [{"question": f"{task} {n}?", "task": task, "answer": answer} for n in range(10)]
        (root / f"{task}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sources = [
        {"fn": "jsonl", "name": "one", "args": {"path": "yesno.jsonl"}, "licence": "mit"},
        {"fn": "jsonl", "name": "other", "args": {"path": "count.jsonl"}},
    ]
    written = {"root": str(root), "sources": sources, "operators": [{"fn": "validate"}, *operators], **fields}
    (root / "recipe.yaml").write_text(yaml.safe_dump(written))
    return root / "recipe.yaml"


def test_a_mix_of_two_sources_is_planned_by_their_names(tmp_path: Path) -> None:
    validating = {"fn": "validate", "args": {"modes": {"no_licence": "drop"}}}
    assert " mix 20 0 0 " in printed("plan", planned(tmp_path, mix={"one": 1, "other": 1}))
    by_source = {"fn": "quota", "args": {"n": 8, "by": "source", "shares": {"one": 3, "other": 1}}}
    assert " quota 20 12 0 " in printed("plan", planned(tmp_path, by_source))
    assert " validate 20 10 0 " in printed("plan", planned(tmp_path, operators=[validating]))


def test_what_so_few_samples_do_not_do_for_is_not_measured(tmp_path: Path) -> None:
    shares = {"yesno": 1, "count": 1}
    strict = {"fn": "quota", "args": {"n": 20, "by": "task", "shares": shares, "shortage": "fail"}}
    text = printed("plan", planned(tmp_path, strict, mix={"one": 1, "other": 1}), "--measure", 4)
    assert " quota - - - - - - mix 8 0 0 " in text
    assert "could not be tried on these samples alone: quota: too few samples by task" in text


def test_a_mix_with_a_source_on_the_hub_is_planned(tmp_path: Path) -> None:
    path = planned(tmp_path)
    written = yaml.safe_load(path.read_text())
    hub = {"fn": "hub", "name": "far", "args": {"repo": "a/b", "split": "train"}}
    written |= {"sources": [*written["sources"], hub], "mix": {"one": 1, "other": 1, "far": 2}}
    path.write_text(yaml.safe_dump(written))
    text = printed("plan", path)
    assert "far (needs a network, not read)" in text
    assert "mix: no sample of far is left to mix" in text


def test_pictures_that_a_source_writes_are_not_left_behind_by_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = {"fn": "edit_pairs", "args": {"n": 1, "side": 64, "out": "pictures"}}
    made = validate(Recipe, {"sources": [source], "root": tmp_path / "root"}, where="recipe")
    assert [cost.stopped for cost in measure_costs(plan(made), 2)[1]] == [{}, {}]
    assert list(tmp_path.iterdir()) == []
    assert len(list(plan(made).sources[0].read())) == 2
    assert len(list((tmp_path / "root" / "pictures").iterdir())) == 3


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        ("split", {"shares": {"train": 0.8, "dev-test": 0.2}}, "shares: .*'dev-test' cannot be the name of a split"),
        ("difficulty", {"file": "nothere.parquet"}, "file: .*there is nothing at .*/nothere.parquet"),
        ("decontaminate", {"against": ["yesno.jsonl", "no.parquet"]}, "against.1: .*there is nothing at .*/no.parquet"),
        ("difficulty", {"file": "yesno.jsonl"}, "file: .*cannot be read as a difficulty file"),
        ("difficulty", {"file": "yesno.jsonl", "bands": {"captoin": {"least": 1}}}, "did you mean caption"),
        ("verifiable", {"rewards": {"yesno": {"fn": "yesno_mach"}}}, "unknown reward 'yesno_mach'"),
        ("verifiable", {"rewards": {"count": {"fn": "number_match", "args": {"tol": 1}}}}, "unknown key tol"),
        ("other_golds", {"rewards": {"yes_no": {"fn": "yesno_match"}}}, "unknown task 'yes_no'; did you mean yesno"),
        ("only_tasks", {"tasks": ["yes_no"]}, "unknown task 'yes_no'; did you mean yesno"),
        ("measure", {"names": ["words", "vision_tokens"]}, "measure cannot take vision_tokens"),
    ],
)
def test_options_that_cannot_work_are_refused_before_a_sample_is_read(
    tmp_path: Path, fn: str, args: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"(?s)operator {fn}: .*{message}"):
        printed("plan", planned(tmp_path, {"fn": fn, "args": args}), "--measure", 0)


def test_a_plan_says_what_is_broken_and_why(tmp_path: Path) -> None:
    path = planned(tmp_path)
    rows = [{"question": f"{n}?", "task": "count", "answer": n, "image_path": f"{n}.jpg"} for n in range(3)]
    (tmp_path / "count.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = printed("plan", path)
    assert "read other stopped 3: unread_media" in text
