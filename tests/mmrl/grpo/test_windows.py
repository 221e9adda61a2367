"""Windows, masks of pictures and states, by architecture: prompts are shared where that is exact, batch by batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from data_engine.schema import Sample, user_prompt, with_id
from mmrl.core.vision import VisionBudget, apply_budget
from tests.mmrl.grpo.test_trainer import trainer
from tests.support.families import TWINS


def asked(words: int) -> Sample:
    """A question of about so many tokens."""
    return with_id(Sample("", "t", "text", user_prompt("Is it new? " * (words // 4)), {"text": ["yes"]}))


def losses(samples: list[Sample], budget: VisionBudget, out: Path, *, shared: bool) -> tuple[Any, list[Any]]:
    """(trainer, its losses and gradient norms) of a Gemma 3 with a window of 64 tokens; a prompt a step, in order."""
    model, processor = TWINS["Gemma 3"]()
    apply_budget(processor, budget)
    settings = {"per_device_train_batch_size": 2, "num_generations": 2, "max_steps": len(samples), "optim": "sgd"}
    settings |= {"gradient_accumulation_steps": 1, "steps_per_generation": 1, "shuffle_dataset": False}
    run = trainer(
        out, model, processor, samples, budget, shared_prefix=shared, max_completion_length=24, learning_rate=1e-3,
        **settings,
    )  # fmt: skip
    run.train()
    logged = [line for line in run.state.log_history if "loss" in line]
    return run, [(line["loss"], line["grad_norm"]) for line in logged]


@pytest.mark.parametrize("words", [(8, 200), (8, 48), (200, 8)], ids=["beyond", "across", "first"])
def test_a_window_is_obeyed_whatever_the_first_prompt_is(
    words: tuple[int, int], budget: VisionBudget, tmp_path: Path
) -> None:
    samples = [asked(count) for count in words]
    ours, got = losses(samples, budget, tmp_path / "shared", shared=True)
    _, expected = losses(samples, budget, tmp_path / "plain", shared=False)
    assert ours.sharing.packing is True
    assert_close(got, expected, rtol=1e-4, atol=1e-6)
