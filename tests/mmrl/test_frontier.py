"""`mmrl eval frontier`: how far trained policies moved, by the probabilities that their models give."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.answer.local import LocalGenerator
from eval.config import EvalConfig
from eval.generation import Sampling
from eval.records import read_records
from eval.run import run as evaluate
from mmrl.core.config import load, validate
from mmrl.core.vision import VisionBudget
from mmrl.model.policy import load_policy
from mmrl.train.answer_laws import drawn_answers
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.dataset import training_samples
from tests.support.training import REWARDS, VISION, config, material


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions, a model that has learned to answer them in a word or two, and one that has learned more."""
    torch.set_num_threads(1)
    out = material(tmp_path_factory.mktemp("world"), "ti")
    sft = {"per_device_train_batch_size": 2, "learning_rate": 1e-2, "save_strategy": "no"}
    for name, steps in (("warm", 25), ("more", 28)):
        train(load(TrainConfig, config(out, out / f"{name}.yaml", sft={**sft, "max_steps": steps}, grpo=None)))
    for name in ("warm", "more"):
        asked(out, name, out / f"{name}_drawn")
    return out


def asked(world: Path, name: str, out: Path, **changes: Any) -> None:
    sampling = {"do_sample": True, "samples": 48, "max_new_tokens": 24, "temperature": 0.5}
    values = {
        "model": str(world / name / "sft" / "final"),
        "data": {"path": str(world / "data"), "split": "train"},
        "rewards": REWARDS,
        "out": str(out),
        "vision": VISION,
        "sampling": {**sampling, **changes},
        "batch_size": 48,
    }
    evaluate(validate(EvalConfig, values, where="test"))


def test_an_answers_probability_is_the_product_of_its_tokens(world: Path) -> None:
    """As the model that draws has them, at the temperature of the draws."""
    found = drawn_answers(world / "warm_drawn", {"more": world / "more_drawn"})
    budget, name = VisionBudget(**VISION), world / "warm" / "sft" / "final"
    model, processor = load_policy(name, budget)
    generator = LocalGenerator(model, processor, budget=budget, sampling=Sampling(max_new_tokens=24))
    samples = {sample.id: sample for sample in training_samples(world / "data")}
    laws = {answers.item: answers.reference_Y for answers in found}
    whole = [record for record in read_records(world / "warm_drawn") if "truncated" not in record.flags]
    assert len(whole) > 2
    for record in whole[:3]:
        prompt = generator.encoded(samples[record.item_id])
        answer = [*processor.tokenizer(record.response, add_special_tokens=False)["input_ids"], generator.stops[0]]
        total = 0.0
        for place, token in enumerate(answer):
            [scores_V] = generator.next_log_probs([replace(prompt, input_ids=prompt.input_ids + answer[:place])])
            total += float((scores_V / 0.5).log_softmax(dim=-1)[token])
        assert min(abs(laws[record.item_id] / math.exp(total) - 1)) < 1e-3
    assert all(answers.coverage <= 1 + 1e-6 for answers in found)


def test_the_page_has_every_policy_and_the_optimum(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    drawn = world / "warm_drawn", world / "more_drawn", "--reward", "letters", "--coverage", "0"
    printed = says("eval", "frontier", *drawn, "--json", tmp_path / "f.json", "--html", tmp_path / "f.html")
    found = json.loads((tmp_path / "f.json").read_text())
    points = {point["name"]: point for point in found["points"]}
    assert points["reference"]["kl"] == 0
    assert points[str(world / "more_drawn")]["kl"] > 0
    assert points["reference"]["reward"] < points["best of 2"]["reward"] < points["best of 8"]["reward"]
    assert all(point["reward"] <= point["optimum"] + 1e-3 for point in found["points"])
    page = (tmp_path / "f.html").read_text()
    assert all(name in page for name in points)
    assert "best of 8" in printed


def test_runs_that_cannot_be_compared_are_refused(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    asked(world, "more", tmp_path / "hot", temperature=1.0, samples=2)
    asked(world, "more", tmp_path / "greedy", do_sample=False, samples=1)
    reference = world / "warm_drawn"
    assert "they differ in temperature" in says("eval", "frontier", reference, tmp_path / "hot", status=2)
    assert "is no run of plain draws" in says("eval", "frontier", reference, tmp_path / "greedy", status=2)
    assert "has not moved; leave it out" in says("eval", "frontier", reference, reference, status=2)
    assert "has no scores of 'leters'; did you mean letters?" in says(
        "eval", "frontier", reference, "--reward", "leters", status=2
    )
