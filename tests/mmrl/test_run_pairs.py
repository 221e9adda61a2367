"""`mmrl data pairs RUN`: the best and the worst of a run's answers become pairs that DPO learns from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from data_engine.dataset.shards import prompt_of, read_samples
from eval.config import EvalConfig
from eval.run import run as evaluate
from mmrl.core.config import load, validate
from mmrl.core.media.item import Media
from mmrl.train.config import TrainConfig
from mmrl.train.run_pairs import Group, pair_of
from mmrl.train.run_steps import tree_steps
from mmrl.train.stages import run as train
from mmrl.trainers.preferences import with_step_scores
from tests.support.training import REWARDS, VISION, config, material, metrics, rollouts

PROMPT = {"tasks": {"count": {"suffix": "Answer with a number."}}}


def group(*answers: tuple[str, float | None], media: tuple[Media, ...] = ()) -> Group:
    return Group("q1", "count", [{"role": "user", "content": "How many?"}], media, [*answers], {"reward": "r"})


@pytest.mark.parametrize(
    ("answers", "candidates", "preferred"),
    [
        ([("a", 0.2), ("b", 0.9), ("c", 0.1)], ["b", "c"], 0),  # in the order in which they were drawn
        ([("a", 0.0), ("b", 1.0), ("c", 0.0), ("d", 1.0)], ["a", "b"], 1),  # of equal ones the first
        ([("a", None), ("b", 0.3), ("c", 0.4)], ["b", "c"], 1),
    ],
)
def test_the_best_and_the_worst_are_a_pair(answers: Any, candidates: list[str], preferred: int) -> None:
    made: Any = pair_of(group(*answers))
    assert made.answer == {"candidates": candidates, "preferred": preferred}
    assert made.meta["task"] == "count"
    assert made.meta["scores"] == [dict(answers)[text] for text in candidates]


@pytest.mark.parametrize(
    ("given", "gap", "why"),
    [
        (group(("a", 0.5), ("b", 0.5)), 0.0, "no difference"),
        (group(("a", 0.5), ("b", 0.7)), 0.3, "no difference above 0.3"),
        (group(("a", 0.5), ("b", None)), 0.0, "fewer than two answers with a score"),
        (replace(group(("a", 0.5)), cut=3), 0.0, "fewer than two whole answers with a score"),
        (group(("a", 0.5), ("a ", 0.7)), 0.0, "a blank answer, or the same answer twice"),
        (group(("a", 0.5), (" ", 0.7)), 0.0, "a blank answer, or the same answer twice"),
    ],
)
def test_a_group_that_decides_nothing_is_left_out(given: Group, gap: float, why: str) -> None:
    assert pair_of(given, gap) == why


def test_an_answer_of_several_turns_is_noted() -> None:
    given = group(("a\nb", 0.2), ("c", 0.9), ("d", 0.5))
    for of_turns, noted in ((frozenset({"a\nb"}), True), (frozenset({"d"}), None)):
        made: Any = pair_of(replace(given, of_turns=of_turns))
        assert made.meta.get("of_turns") is noted


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions, and a model that has learned to end its answers."""
    out = material(tmp_path_factory.mktemp("world"), "tivp")
    sft = {"max_steps": 60, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "save_strategy": "no"}
    train(load(TrainConfig, config(out, out / "warm.yaml", sft=sft, grpo=None)))
    (out / "model").rename(out / "untrained")
    (out / "warm" / "sft" / "final").rename(out / "model")
    return out


def test_rollouts_become_pairs_and_dpo_learns_from_them(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    """Asked as the run asked them."""
    grpo = {"max_steps": 1, "per_device_train_batch_size": 16, "num_generations": 4, "max_completion_length": 24}
    place = config(world, tmp_path / "run.yaml", grpo=grpo, prompt=PROMPT)
    train(load(TrainConfig, place))
    out, made = tmp_path / "run", tmp_path / "pairs"
    assert "name the one that decides with --reward" in says("data", "pairs", out, "--out", made, status=2)
    assert "has no scores of ''" in says("data", "pairs", out, "--out", made, "--reward", "", status=2)
    assert "no scores of 'leters'; did you mean letters?" in says(
        "data", "pairs", out, "--out", made, "--reward", "leters", status=2
    )
    printed = says("data", "pairs", out, "--out", made, "--reward", "letters")
    samples = list(read_samples(made, split="train"))
    assert f"{made}: {len(samples)} pairs" in printed
    [rows] = rollouts(out).values()
    for sample in samples:
        scores = {
            row["completion"]: row["score/letters"]
            for row in rows
            if row["id"] == sample.meta["of"] and row["tokens"] < 24
        }
        ranked = [scores[text] for text in sample.answer["candidates"]]
        assert (max(ranked), min(ranked)) == (max(scores.values()), min(scores.values()))
        assert ranked[sample.answer["preferred"]] == max(ranked)
    assert prompt_of(made).protocol() == PROMPT

    learning = {"max_steps": 1, "per_device_train_batch_size": 2}
    train(load(TrainConfig, config(world, tmp_path / "dpo.yaml", data=str(made), dpo=learning, grpo=None)))
    assert len(metrics(tmp_path / "dpo" / "dpo")) == 1


def test_records_become_pairs(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    """Whole answers: the chat template has begun them."""
    shutil.copytree(world / "model", tmp_path / "model")
    template = tmp_path / "model" / "chat_template.jinja"
    template.write_text(template.read_text() + "{%- if add_generation_prompt %}{{ '<think>\\n' }}{%- endif %}")
    values = {
        "model": str(tmp_path / "model"),
        "data": {"path": str(world / "data"), "split": "train"},
        "rewards": REWARDS,
        "out": str(tmp_path / "run"),
        "vision": VISION,
        "sampling": {"do_sample": True, "samples": 4, "max_new_tokens": 24},
    }
    records = evaluate(validate(EvalConfig, values, where="test"))
    says("data", "pairs", tmp_path / "run", "--out", tmp_path / "pairs", "--reward", "total")
    answered = {f"<think>\n{record.response}": record.total for record in records}
    samples = list(read_samples(tmp_path / "pairs"))
    for sample in samples:
        assert sample.meta["scores"] == [answered[text] for text in sample.answer["candidates"]]
    assert {sample.meta["reward"] for sample in samples} == {"total"}
    assert json.loads((tmp_path / "pairs" / "manifest.json").read_text())["tasks"] == {"preference": len(samples)}


def test_what_is_no_run_is_refused(tmp_path: Path, says: Callable[..., str]) -> None:
    (tmp_path / "run").mkdir()
    printed = says("data", "pairs", tmp_path / "run", "--out", tmp_path / "pairs", status=2)
    assert "has neither rollouts nor records; give the output of mmrl train or mmrl eval run" in printed


def test_a_beginning_has_the_mean_of_what_came_of_it() -> None:
    answers = [
        ("a\n\nb\n\nc", 1.0),
        ("a\n\nb\n\nd", 0.0),
        ("a\n\ne\n\n\n\nc", 0.5),
        ("a\n\nb\n\nc", None),
        ("f\n\n", 1.0),
    ]
    found = tree_steps(answers, "\n\n")
    assert found == [
        [("a\n\n", 0.5), ("b\n\n", 0.5), ("c", 1.0)],
        [("a\n\n", 0.5), ("b\n\n", 0.5), ("d", 0.0)],
        [("a\n\n", 0.5), ("e\n\n\n\n", None), ("c", 0.5)],
        [("a\n\n", 0.5), ("b\n\n", 0.5), ("c", None)],
        [("f", 1.0)],
    ]
    assert tree_steps([("</think>x", 1.0), ("</think>y", 0.0)], "</think>")[0] == [("</think>", 0.5), ("x", 1.0)]
    assert tree_steps([("a. b", None), ("a. c", None), (" ", 1.0)], ". ")[1:] == [[("a. ", None), ("c", None)], []]


def minus(rollouts: Sequence[Any]) -> list[float]:
    """A penalty."""
    return [-0.5] * len(rollouts)


def test_the_trees_of_a_run_become_scored_steps(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    grpo = {"max_steps": 1, "per_device_train_batch_size": 16, "num_generations": 8, "max_completion_length": 24}
    rollout = {"tree": {"after": "a", "branches": 2, "depth": 2}}
    rewards = REWARDS | {"minus": {"fn": "tests.mmrl.test_run_pairs:minus"}}
    train(load(TrainConfig, config(world, tmp_path / "run.yaml", grpo=grpo, rollout=rollout, rewards=rewards)))
    out, made = tmp_path / "run", tmp_path / "steps"

    def steps(*arguments: str, status: int = 0) -> str:
        return says("data", "steps", out, "--out", made, *arguments, status=status)

    assert "minus gave -0.5; as a score of a step it must be in [0, 1]" in steps(
        "--after", "a", "--reward", "minus", status=2
    )
    for wrong in (["--after", "a", "--onsets"], [], ["--reward", "letters"]):
        assert "give a SUITE whose reward scores steps" in steps(*wrong, status=2)
    assert "no beginning in common" in steps("--after", "#", "--reward", "letters", status=2)
    printed = steps("--after", "a", "--reward", "letters")
    samples, (rows,), shared = list(read_samples(made)), rollouts(out).values(), 0
    assert f"{len(samples)} answers" in printed
    assert len(with_step_scores(samples)) == len(samples)
    for sample in samples:
        group = [row for row in rows if row["id"] == sample.meta["of"] and row["tokens"] < 24]
        parts, begun = sample.answer["steps"], ""
        assert "".join(parts) in [row["completion"].strip() for row in group]
        for part, score in zip(parts[:-1], sample.answer["step_scores"][:-1], strict=True):
            begun += part
            below = [row["score/letters"] for row in group if row["completion"].strip().startswith(begun)]
            assert part.endswith("a")
            assert score == (pytest.approx(fmean(below)) if len(below) > 1 else None)
            shared += score is not None
    assert shared >= 2
