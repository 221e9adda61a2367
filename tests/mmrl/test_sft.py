"""The warm-up learns the answers, all of them and nothing else, whatever the prompts show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from trl.trainer.sft_config import SFTConfig

from data_engine.schema import Sample, user_prompt
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.trainers.dataset import as_dataset
from mmrl.trainers.sft import IGNORED, AnswerCollator, MultimodalSFTTrainer
from mmrl.trainers.targets import answer_text, check_answers, rendered
from tests.support.training import tiny_policy


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trainer(out: Path, samples: list[Sample], budget: VisionBudget, **sft: Any) -> MultimodalSFTTrainer:
    model, processor = tiny_policy(budget)
    settings = {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "per_device_train_batch_size": len(samples),
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
    }
    args = SFTConfig(output_dir=str(out), **(settings | sft))
    return MultimodalSFTTrainer(
        model, processing_class=processor, args=args, train_dataset=as_dataset(samples), budget=budget
    )


def losses(run: MultimodalSFTTrainer) -> list[float]:
    return [line["loss"] for line in run.state.log_history if "loss" in line]


@pytest.mark.parametrize("number", [3.0, 1234567.0, 1999999.5, 0.00001234567, 1e15, -123456.789])
@pytest.mark.parametrize("task", ["number", "count"])
def test_a_number_is_written_with_all_its_digits(task: str, number: float) -> None:
    row = {"id": "a", "task": task, "answer": {"number": number}, "media": (), "meta": {}}
    text = answer_text(row, CoordinateSpace.resized, [])
    assert float(text) == number
    assert "e" not in text


@pytest.mark.parametrize(
    ("task", "answer", "message"),
    [
        ("edit", {"instruction": "Red."}, "its answer of task 'edit' cannot be written"),
        ("preference", {"preferred": 0, "candidates": ["a", "b"]}, "no answer of task 'preference' can be written"),
    ],
)
def test_samples_without_an_answer_to_learn_are_refused(task: str, answer: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_answers([Sample("a", "test", task, user_prompt("?", []), answer, (), {})])


def test_labels_are_on_the_answer_alone(mixed_samples: list[Sample], budget: VisionBudget) -> None:
    model, processor = tiny_policy(budget)
    rows: list[Any] = list(as_dataset(mixed_samples))
    collator = AnswerCollator(processor, model, budget, CoordinateSpace.resized)
    batch = collator(rows)
    for row, ids, mask, labels in zip(rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        learned = labels != IGNORED
        assert torch.equal(labels[learned], ids[learned])
        seen = collator.kept[row["id"]].seen_size
        answer = rendered(row, CoordinateSpace.resized, seen)
        assert processor.tokenizer.decode(labels[learned]) == answer + processor.tokenizer.eos_token
        assert torch.equal(learned.nonzero()[:, 0], torch.arange(int(mask.sum() - learned.sum()), int(mask.sum())))


def test_the_loss_of_a_mixed_batch_is_the_mean_over_all_answer_tokens(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    run: Any = trainer(tmp_path, mixed_samples, budget)
    plain, processor = tiny_policy(budget)
    collator = AnswerCollator(processor, plain, budget, CoordinateSpace.resized)
    rows: list[Any] = list(as_dataset(mixed_samples))
    total = tokens = 0.0
    with torch.no_grad():
        got = run.compute_loss(run.model, collator(rows))
        for row in rows:
            batch = collator([row])
            labels = batch.pop("labels")[0, 1:]
            log_probs = plain(**batch).logits[0, :-1].log_softmax(-1)
            learned = labels != IGNORED
            total -= float(log_probs[learned].gather(1, labels[learned, None]).sum())
            tokens += float(learned.sum())
    assert_close(float(got), total / tokens, atol=1e-4, rtol=0)


def test_accumulated_batches_weigh_tokens_and_not_rows(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """Answers differ in length: the mean of the rows' means would be another number."""
    whole = trainer(tmp_path / "whole", mixed_samples, budget, max_steps=2)
    parts = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": len(mixed_samples)}
    split = trainer(tmp_path / "split", mixed_samples, budget, max_steps=2, **parts)
    whole.train()
    split.train()
    assert_close(losses(whole), losses(split), atol=1e-5, rtol=0)


def test_an_answer_longer_than_the_model_takes_is_refused_by_name(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    long = replace(mixed_samples[0], meta={"rationale": "digit " * 5000})
    with pytest.raises(InputError, match=f"^sample {long.id}: .* tokens are more than the .* that the model takes"):
        trainer(tmp_path, [long], budget, max_steps=1).train()


def test_it_learns(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    run = trainer(tmp_path, mixed_samples, budget, max_steps=30, learning_rate=5e-3)
    run.train()
    assert losses(run)[-1] < losses(run)[0] / 2


def test_it_goes_on_exactly_with_all_weights(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    """Two samples a step, three steps an epoch; from amid the second epoch on, from weights not yet learned."""
    settings = {"per_device_train_batch_size": 2, "max_steps": 8, "save_strategy": "steps", "save_steps": 5}
    whole = trainer(tmp_path, mixed_samples, budget, **settings)
    whole.train()
    again = trainer(tmp_path, mixed_samples, budget, **settings)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert losses(again) == losses(whole)
    weights = again.model.state_dict()  # pyright: ignore[reportOptionalMemberAccess]
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.model.state_dict().items())  # pyright: ignore
