"""The recipe of every paper: its data build without a network, its training can be planned and runs in miniature."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data_engine.dataset.shards import read_manifest
from data_engine.engine.pipeline import run as build
from data_engine.recipe import Recipe, SourceSpec
from eval.config import EvalConfig
from eval.run import run as evaluate
from mmrl.core.config import load
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.train.config import TrainConfig
from mmrl.train.smoke import miniature
from mmrl.train.stages import run as train
from rewards import Suite
from tests.conftest import TEXTS
from tests.support.heads import tiny_heads
from tests.support.judge_server import serving, user_text, verdict
from tests.support.training import rollouts

ROOT = Path(__file__).parents[2]
PAPERS = sorted(place.parent.name for place in (ROOT / "configs" / "papers").glob("*/train.yaml"))
QUICK = {"mixed_r1", "balcaprl", "visurf"}  # the default tests run these in miniature, the slow ones all
SIDE = 64
VISION = "{min_pixels: 784, max_pixels: 3136}"


def answer(body: dict[str, Any]) -> str:
    """A judge that finds two claims, lets every second one pass, and has a view of the language and of what is said."""
    text = user_text(body)
    listed = re.search(r"a JSON list of (\d+)", text)
    half = [place % 2 == 0 for place in range(int(listed[1]) if listed else 0)]
    fields: dict[str, Any] = {
        "claims": ["a digit", "a dog"],
        "true": half,
        "pointable": half,
        "covered": half,
        "score": len(text) % 10,
        "clarity": len(text) % 10,
        "fluency": 5,
        "coherence": 5,
        "verdict": "yes" if len(text) % 2 else "no",
    }
    return verdict(body, **{name: value for name, value in fields.items() if f'"{name}"' in text})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, and models for the rewards that run one."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("papers")
    for part in tiny_model("qwen2_5_vl", TEXTS, size=TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)):
        part.save_pretrained(out / "model")
    tiny_heads(out)
    return out


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    with serving(answer) as server:
        yield server.url


def small(spec: SourceSpec) -> SourceSpec:
    """The same source with a few small pictures."""
    few = 2 if spec.label.endswith("test") else 6
    sizes: dict[str, int] = {"per_kind": few} if spec.fn == "easy_vqa" else {"n": few}
    if spec.fn not in ("easy_vqa", "sums", "database_questions"):
        sizes["side"] = SIDE
    return spec.model_copy(update={"args": {**spec.args, **sizes}})


def built(paper: str, world: Path) -> Path:
    """The dataset of the paper's own recipe, small; it is built once."""
    out = world / "data" / paper
    if not out.exists():
        recipe = load(Recipe, ROOT / "configs" / "papers" / paper / "data.yaml")
        build(recipe.model_copy(update={"sources": [small(spec) for spec in recipe.sources]}), out=out)
    return out


def overrides(paper: str, world: Path, judge: str) -> list[str]:
    """What a machine gives: models, judges, places."""
    scorer = {"reward": {"fn": "reward_model", "args": {"model": str(world / "scorer")}}}
    hybrid = {"rule": {"fn": "choice_match"}, "model": scorer["reward"]}
    places = {
        "mixed_r1": [f"rewards.text.args.table={world / 'model'}"],
        "balcaprl": [f"judges.local.base_url={judge}", "judges.local.cache=null"],
        "reasoning_sql": [f"judges.local.base_url={judge}", "judges.local.cache=null"],
        "self_hallucination": [f"judges.self.base_url={judge}", "judges.self.cache=null"],
        "harmo": [
            f"rewards.answer.args={json.dumps(hybrid)}",
            f"rewards.length.args.reward={json.dumps({'fn': 'fallback', 'args': hybrid})}",
        ],
        "par": [f"rewards.preferred.args.reward={json.dumps(scorer['reward'])}"],
        "r3": [f"rewards.relevance.args.model={world / 'encoder'}"],
        "endogenous": [f"rewards.likely.args.model={world / 'language'}"],
    }
    return [f"model={world / 'model'}", f"vision={VISION}", *places.get(paper, [])]


def training(paper: str, world: Path, judge: str, out: Path) -> tuple[Path, list[str]]:
    """The paper's config and what is given on its command line."""
    data = built(paper, world)
    given = [*overrides(paper, world, judge), f"data={data}", f"output={out / 'run'}"]
    few = ["grpo.gradient_accumulation_steps=1"]  # a generation of the paper's size has more prompts than these data
    return ROOT / "configs" / "papers" / paper / "train.yaml", [*given, *few]


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_has_data_a_plan_and_an_evaluation(
    paper: str, world: Path, judge: str, tmp_path: Path, says: Callable[..., str]
) -> None:
    place, given = training(paper, world, judge, tmp_path)
    for name, command in (("train", "mmrl train"), ("data", "mmrl data build"), ("eval", "mmrl eval run")):
        assert place.with_name(f"{name}.yaml").read_text().startswith(f"# {command} configs/papers/{paper}/{name}.yaml")
    assert re.search(r"^# Hardware: .+\n# Paper's result: .+\n# Expects: ", place.read_text(), re.MULTILINE)
    plan = says("train", place, *given, "--plan")
    assert "rewards by task" in plan
    assert "warning" not in plan
    data = built(paper, world)
    assert set(read_manifest(data)["splits"]) == {"train", "test"}
    config = load(EvalConfig, place.with_name("eval.yaml"), [*overrides(paper, world, judge), f"data.path={data}"])
    assert config.rewards == load(TrainConfig, place, given).rewards
    assert config.model != ""


@pytest.mark.parametrize(
    "paper", [pytest.param(paper, marks=() if paper in QUICK else pytest.mark.slow) for paper in PAPERS]
)
def test_a_paper_runs_in_miniature_and_every_reward_scores(paper: str, world: Path, judge: str, tmp_path: Path) -> None:
    place, given = training(paper, world, judge, tmp_path)
    config = load(TrainConfig, place, given)
    train(miniature(config, tmp_path))
    rows = [row for step in rollouts(tmp_path / "run").values() for row in step]
    tasks = {row["task"] for row in rows}
    for name, spec in config.rewards.items():
        mine = [row for row in rows if spec.tasks is None or row["task"] in spec.tasks]
        assert not [row[f"why/{name}"] for row in mine if row[f"kind/{name}"] == "failed"]
        if tasks & set(spec.tasks or tasks) and name != "yesno":
            assert any(row[f"score/{name}"] is not None for row in mine), name


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["mixed_r1", "edit_r1"])
def test_a_paper_is_evaluated_as_it_was_trained(paper: str, world: Path, judge: str, tmp_path: Path) -> None:
    data = built(paper, world)
    given = [
        *overrides(paper, world, judge),
        f"data.path={data}",
        f"out={tmp_path / 'out'}",
        "sampling.max_new_tokens=4",
    ]
    records = evaluate(load(EvalConfig, ROOT / "configs" / "papers" / paper / "eval.yaml", given))
    assert len(records) == read_manifest(data)["splits"]["test"]
    assert all(record.total is not None for record in records)


def test_mixed_r1_scores_each_of_the_seven_tasks_of_its_mixture_by_a_rule_of_its_own(world: Path) -> None:
    public = load(Recipe, ROOT / "configs" / "data" / "mixed.yaml")
    (quota,) = [operator for operator in public.operators if operator.fn == "quota"]
    suite = Suite.load(ROOT / "configs/papers/mixed_r1/rewards.yaml", [f"rewards.text.args.table={world / 'model'}"])
    scored = suite.tasks_scored(quota.args["shares"])
    assert len(scored) == 7
    assert {task: names[0] for task, names in scored.items()} == {
        **{task: task for task in ("choice", "chart", "math", "ocr", "grounding")},
        "caption": "text",
        "open": "text",
    }
    assert set(read_manifest(built("mixed_r1", world))["tasks"]) == set(quota.args["shares"])
