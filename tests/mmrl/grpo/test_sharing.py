"""Prompts shared or not: the same completions, losses and gradients, to one part in ten thousand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import TrainerCallback

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.shared_prefix.prefix_cache import left_padded
from mmrl.model.policy import LoraSettings, adapted
from mmrl.trainers.dataset import as_dataset
from tests.mmrl.grpo.test_trainer import trainer
from tests.support.training import config, material, metrics, rollouts, tiny_policy, trained

MEDIA = {"images": (1, 2), "video": (3,), "mixed": (0, 1, 2, 3, 4), "text": (0,)}
CASES = [
    ("qwen2_5_vl", media, way) for media in ("images", "video", "mixed") for way in ("full", "lora", "checkpointing")
] + [
    ("qwen2_5_vl", "text", "full"),
    ("qwen3_vl", "mixed", "full"),
    ("qwen3_vl", "mixed", "lora"),
    ("idefics3", "images", "full"),
    ("idefics3", "images", "checkpointing"),
]


class Gradients(TrainerCallback):
    """Keeps the gradients of every optimizer step."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append({
            name: weight.grad.clone() for name, weight in self.model.named_parameters() if weight.grad is not None
        })  # fmt: skip


def steps(
    architecture: str, way: str, samples: list[Sample], budget: VisionBudget, out: Path, *, shared: bool
) -> tuple[Any, list[dict[str, torch.Tensor]]]:
    model, processor = tiny_policy(budget, architecture)
    torch.manual_seed(0)  # the first weights of adapters
    model = adapted(model, lora=LoraSettings(r=4)) if way == "lora" else model
    if way == "lora":  # the second of two adapters starts at zero, and the first then has no gradient
        torch.manual_seed(1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.05)
    run = trainer(
        out,
        model,
        processor,
        samples,
        budget,
        shared_prefix=shared,
        per_device_train_batch_size=len(samples) * 2,
        gradient_accumulation_steps=2,
        num_generations=4,
        gradient_checkpointing=way == "checkpointing",
        max_steps=2,
        learning_rate=1e-3,
        optim="sgd",  # Adam turns a last digit of a gradient near zero into a whole step
    )
    kept = Gradients(run.model)
    run.add_callback(kept)
    run.train()
    return run, kept.seen


@pytest.mark.parametrize(("architecture", "media", "way"), CASES, ids=["-".join(case) for case in CASES])
def test_losses_and_gradients_are_the_same(
    architecture: str, media: str, way: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    samples = [mixed_samples[index] for index in MEDIA[media]]
    runs = [steps(architecture, way, samples, budget, tmp_path / str(on), shared=on) for on in (True, False)]
    (ours, gradients), (plain, expected) = runs
    assert (ours.sharing.packing, ours.sharing.prefix_cache, plain.sharing.packing) == (True, True, False)
    losses = [[line["loss"] for line in run.state.log_history if "loss" in line] for run in (ours, plain)]
    assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    assert len(gradients) == len(expected) == 2
    for actual, other in zip(gradients, expected, strict=True):
        assert actual.keys() == other.keys()
        size = torch.cat([gradient.flatten() for gradient in other.values()]).norm()
        gap = torch.cat([(actual[name] - other[name]).flatten() for name in actual]).norm()
        assert size > 1e-4
        assert gap / size < 1e-4


def test_packed_rows_never_read_more_tokens_than_plain_ones(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """A chunk with many completions of one prompt and one of another would be padded to the longer packed row."""
    model, processor = tiny_policy(budget)
    run = trainer(tmp_path, model, processor, mixed_samples, budget)
    run.sharing.packing = True
    first, other = (run.generation.encode(row) for row in as_dataset(mixed_samples[:2]))
    read: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: read.append(given[0].numel()))

    def scored(rows: list[Any], new: int) -> tuple[Any, int, int]:
        torch.manual_seed(0)
        ids, mask = left_padded(rows, 0, "cpu")
        ids = torch.cat([ids, torch.randint(10, 300, (len(rows), new))], dim=1)
        mask = torch.cat([mask, torch.ones(len(rows), new, dtype=torch.long)], dim=1)
        run.batch = RolloutBatch(rows=rows)
        with torch.no_grad():
            logprobs, *_ = run._get_per_token_logps_and_entropies(run.model, ids, mask, new)
        return logprobs, read.pop(), ids.numel()

    logprobs, tokens, plain = scored([first] * 3 + [other], 200)
    assert tokens == plain
    alone, fewer, plain = scored([first] * 3, 200)
    assert fewer == len(first.input_ids) - 1 + 3 * 201 < plain
    assert_close(logprobs[:3, :50], alone[:, :50], atol=1e-4, rtol=1e-4)
    _, fewer, plain = scored([first] * 3 + [other], 4)
    assert fewer < plain


def test_two_processes_learn_the_same_from_shared_prompts(tmp_path: Path) -> None:
    world = material(tmp_path / "world", "tvip" * 2)
    grpo = {"per_device_train_batch_size": 4, "max_steps": 3, "save_strategy": "no", "optim": "sgd"}
    runs = [
        trained(
            config(world, tmp_path / f"{name}.yaml", grpo=grpo, rollout={"shared_prefix": name == "shared"}),
            processes=2,
        )
        for name in ("shared", "plain")
    ]
    ours, plain = map(metrics, runs)
    for key in ("loss", "grad_norm", "entropy"):
        assert_close([line[key] for line in ours], [line[key] for line in plain], rtol=1e-4, atol=1e-6)
    completions = [[row["completion"] for rows in rollouts(run).values() for row in rows] for run in runs]
    assert completions[0] == completions[1]
