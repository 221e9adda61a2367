"""`mmrl train` with tools: rollouts of several turns, on disk and in the log, and a run that is killed and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval.config import EvalConfig
from eval.records import read_records, read_run
from eval.run import run as evaluate
from mmrl.core.config import InputError, load, validate
from mmrl.demo.steps import evaluated, training
from mmrl.pages.rollout_pages import as_page, chosen
from mmrl.train.config import TrainConfig
from mmrl.train.plan import plan
from mmrl.train.stages import check
from mmrl.trainers.callbacks import read_metrics
from rewards.rollout_files import read_rollouts
from tests.support.callers import answered, calling_material
from tests.support.engine_server import COMMAND
from tests.support.runs import assert_same_run
from tests.support.scripted import call
from tests.support.training import REWARDS, VISION, config, metrics, rollouts, trained

SAID = call("crop", box=[0, 0, 28, 28])
ROLLOUT = {"tools": ["crop"], "max_turns": 2}
GRPO = {"max_completion_length": 120, "per_device_train_batch_size": 4, "max_steps": 2, "save_steps": 1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return calling_material(tmp_path_factory.mktemp("world"), "it", SAID, ["crop"])


def test_a_killed_run_with_tools_ends_where_it_would_have_ended(world: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"grpo": GRPO | {"learning_rate": 1e-4}, "rollout": ROLLOUT}
    options["rewards"] = REWARDS | {"answered": {"fn": "tests.support.callers:answered", "weight": 0}}
    whole = trained(config(world, tmp_path / "whole.yaml", **options))
    broken = config(world, tmp_path / "broken.yaml", **options)
    trained(broken, dies=True, DIE_AT="1")
    assert_same_run(whole, trained(broken))
    assert min(line["tools/turns"] for line in metrics(whole)) > 1
    turns = [json.loads(row["turns"]) for rows in rollouts(whole).values() for row in rows]
    results = [one for turn in turns for said in turn for one in said["calls"]]
    assert {"ok", "refused"} <= {one["outcome"] for one in results}  # the question without a picture has none to crop
    assert any(one["name"] == "crop" and json.loads(one["arguments"]) == {"box": [0, 0, 28, 28]} for one in results)
    shown = [media for one in results for media in one["media"]]
    assert {Image.open(whole / media["path"]).size for media in shown} == {
        (media["width"], media["height"]) for media in shown
    }
    assert not any("tool_response" in row["completion"] for rows in rollouts(whole).values() for row in rows)
    assert [rollout.turns for _, rollout in read_rollouts(whole)] == turns
    scores = [row["score/answered"] for rows in rollouts(whole).values() for row in rows]
    assert scores == answered([rollout for _, rollout in read_rollouts(whole)])
    page = as_page(chosen(whole, step=1, task=None, limit=10))
    first = [json.loads(row["turns"]) for row in rollouts(whole)["step-00001.parquet"]]
    calls = [one for turns in first for turn in turns for one in turn["calls"]]
    assert page.count("<strong>crop</strong>") == [one["name"] for one in calls].count("crop") >= 2
    assert page.count("<svg") >= sum(len(one["media"]) for one in calls) >= 1


def test_the_plan_says_how_the_tools_are_told_of(world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "a.yaml", grpo=GRPO, rollout=ROLLOUT)
    told = dict(dict(plan(load(TrainConfig, place)))["tools"])
    assert told["crop"] == "box, picture"
    assert told["turns"] == "at most 2, of 120 tokens with the results among them"
    assert told["in the prompt"].startswith("in words")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rollout": {"inject": {}}}, "rollout.tools cannot be combined with rollout.inject"),
        ({"rollout": {"ahead": 1, "engine": "vllm"}}, "rollout.tools cannot be combined with rollout.ahead"),
        ({"rollout": {"temperature": {"schedule": "ead"}}}, "rollout.temperature: {schedule: ead}"),
        ({"rollout": {"tools": ["crap"]}}, "unknown tool 'crap'"),
        ({"grpo": {"mask_truncated_completions": True}}, "grpo.mask_truncated_completions"),
        ({"advantages": {"tokens": {"thr": {"reward": "letters"}}}}, "advantages.tokens.thr: it would weigh"),
        ({"advantages": {"tokens": {"steps": {"reward": "steps"}}}}, "advantages.tokens.steps: no reward 'steps'"),
        (
            {"advantages": {"tokens": {"steps": {"reward": "letters", "outcome": "right"}}}},
            "advantages.tokens.steps.outcome: no reward 'right'; there are brevity, letters",
        ),
        (
            {"advantages": {"tokens": {"steps": {"reward": "letters"}, "spans": {"reward": "letters"}}}},
            "spans and steps both divide a rollout's advantage",
        ),
    ],
)
def test_what_does_not_go_with_tools_is_refused(world: Path, tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    blocks = {"grpo": GRPO | changes.get("grpo", {}), "rollout": {"tools": ["crop"]} | changes.get("rollout", {})}
    place = config(world, tmp_path / "a.yaml", **{**changes, **blocks})
    with pytest.raises(InputError) as error:
        check(load(TrainConfig, place))
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("rollout", "why"),
    [
        ({"max_turns": 3}, "max_turns is for tools; name them in tools"),
        ({"tools": ["crop"], "max_turns": 1}, "leaves no turn in which a result is read"),
        ({"tools": ["crop"], "tool_seconds": 0}, "rollout.tool_seconds"),
        ({"tools": ["search"]}, "search_in is the file of documents for the tool search; give both, or neither"),
        ({"tools": ["crop"], "search_in": "a.jsonl"}, "search_in is the file of documents for the tool search"),
    ],
)
def test_settings_that_mean_nothing_are_refused(world: Path, tmp_path: Path, rollout: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        load(TrainConfig, config(world, tmp_path / "a.yaml", grpo=GRPO, rollout=rollout))


def test_an_evaluation_calls_the_same_tools(world: Path, tmp_path: Path) -> None:
    values = {
        "model": str(world / "model"),
        "data": {"path": str(world / "data"), "split": "train"},
        "out": str(tmp_path / "eval"),
        "vision": VISION,
        "rewards": {"answered": {"fn": "tests.support.callers:answered"}},
        "sampling": {"max_new_tokens": 120},
        "rollout": ROLLOUT,
    }
    records = evaluate(validate(EvalConfig, values, where="test"))
    assert {record.spent["turns"] for record in records} == {2}
    assert {one["outcome"] for record in records for turn in record.turns for one in turn["calls"]} >= {"ok", "refused"}
    assert all("<tool_call>" in record.response for record in records)
    assert "tool_response" not in "".join(record.response for record in records)
    kinds = [[one["outcome"] for turn in record.turns for one in turn["calls"]] for record in records]
    scores = [record.scores["answered"] for record in records]
    assert scores == [made.count("ok") / len(made) for made in kinds]
    assert read_run(tmp_path / "eval").protocol["tools"]["tools"] == ["crop"]
    page = as_page(chosen(tmp_path / "eval", step=None, task=None, limit=10))
    called = [one["name"] for record in records for turn in record.turns for one in turn["calls"]]
    assert page.count("<strong>crop</strong>") == called.count("crop") >= 2
    assert page.count("<svg") >= 2


def test_the_evaluations_of_the_demo_call_the_tools_of_its_training(world: Path, tmp_path: Path) -> None:
    given = ["rollout.tools=[crop]", "rollout.max_turns=2", "grpo.max_completion_length=120"]
    of_demo = training(world / "data", tmp_path, given)
    records = read_records(evaluated(of_demo, world / "model", tmp_path, "greedy_before", split="train"))
    assert "crop" in {call["name"] for record in records for turn in record.turns for call in turn["calls"]}


@pytest.mark.slow
def test_a_server_draws_later_turns_as_the_trainer_scores_them(world: Path, tmp_path: Path) -> None:
    reached = {"command": COMMAND, "exchange": str(tmp_path / "x"), "check_every": 1}
    grpo = GRPO | {"max_steps": 1, "save_strategy": "no"}
    place = config(world, tmp_path / "served.yaml", grpo=grpo, rollout=ROLLOUT | {"engine": "vllm", "vllm": reached})
    out = trained(place)
    assert metrics(out)[0]["tools/ok"] > 0
    gaps = [line["engine/gap"] for line in read_metrics(out / "metrics.jsonl") if "engine/gap" in line]
    assert max(gaps) < 1e-3
