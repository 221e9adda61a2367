"""The trainer's log-probs of mixed batches are those of each row alone, with its media."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from trl.trainer.grpo_config import GRPOConfig

from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.grpo.trainer import MultimodalGRPOTrainer
from mmrl.model.encoding import encode, kinds_of
from mmrl.model.tiny_twins import ARCHITECTURES, tiny_model
from mmrl.trainers.dataset import as_dataset
from rewards import Suite
from tests.conftest import TEXTS
from tests.support.training import config, inputs_alone, material, rollouts, tiny_policy, trained

SUITE = {
    "length": {"fn": "tests.mmrl.grpo.test_trainer:brevity"},
    "letters": {"fn": "tests.mmrl.grpo.test_trainer:letters", "weight": 0.5},
}
OWN = {"advantages", "shared_prefix", "temperature", "refills", "inject", "importance_cap", "credit", "tools", "tree"}


def brevity(rollouts: Any) -> list[float]:
    return [1 / (1 + len(rollout.completion)) for rollout in rollouts]


def letters(rollouts: Any) -> list[float]:
    return [sum(c in "aeiou" for c in rollout.completion) / max(len(rollout.completion), 1) for rollout in rollouts]


class Recording(MultimodalGRPOTrainer):
    """Keeps the inputs and the log-probs of every scoring forward."""

    seen: list[Any]

    def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(model, input_ids, *args, **kwargs)
        self.seen = [
            *getattr(self, "seen", []),
            (list(self.batch.rows), input_ids, args[0], args[1], result[0].detach()),
        ]
        return result


def trainer(
    out: Path,
    model: Any,
    processor: Any,
    samples: list[Sample],
    budget: VisionBudget,
    *,
    kind: Any = Recording,
    suite: Any = SUITE,
    **options: Any,
) -> Any:
    """A trainer of `kind`; the options are its own (OWN) or TRL's."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": len(samples) * 2,
        "num_generations": 2,
        "max_completion_length": 8,
        "max_steps": 1,
        "learning_rate": 1e-3,
        "report_to": "none",
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "gradient_checkpointing": False,
    }
    own = {"advantages": "gdpo"} | {name: options.pop(name) for name in OWN & options.keys()}
    args = GRPOConfig(output_dir=str(out), **(settings | options))
    data: dict[str, Any] = {"train_dataset": as_dataset(samples), "budget": budget}
    return kind(model, processing_class=processor, rewards=Suite(suite), args=args, **data, **own)


def logits_alone(model: Any, row: Any, completion: Tensor) -> Tensor:
    """Logits of a completion's tokens from one plain forward of its prompt, unpadded."""
    ids = torch.tensor([[*row.input_ids, *completion.tolist()]])
    media = inputs_alone(model, row, ids)
    with torch.no_grad():
        logits = type(model).forward(model, input_ids=ids, attention_mask=torch.ones_like(ids), **media).logits
    return logits[0, :-1][-len(completion) :]


def logps_alone(model: Any, row: Any, completion: Tensor) -> Tensor:
    """Log-probs of a completion from one plain forward of its prompt, unpadded."""
    return logits_alone(model, row, completion).log_softmax(-1).gather(1, completion[:, None])[:, 0]


def assert_own_logps(run: Any, plain: Any) -> None:
    """The run's log-probs equal those that a plain model gives each row alone."""
    for rows, input_ids, mask, keep, logps in run.seen:
        for row, ids, valid, got in zip(rows, input_ids, mask, logps, strict=True):
            length = int(valid[-keep:].sum())
            assert_close(got[:length], logps_alone(plain, row, ids[-keep:][:length]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_log_probs_of_a_mixed_batch_are_those_of_each_row_alone(
    architecture: str, shared_prefix: bool, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget, architecture)
    kinds = kinds_of(processor)
    samples = [s for s in mixed_samples if all(m.kind in kinds for m in s.media)]
    grpo = {
        "per_device_train_batch_size": len(samples),
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,
        "num_generations": 4,
        "max_steps": 2,
        "learning_rate": 1e-8,  # the weights stay put, so that later slices can be compared as well
    }
    run = trainer(tmp_path, model, processor, samples, budget, shared_prefix=shared_prefix, **grpo)
    plain, _ = tiny_model(architecture, TEXTS)
    run.train()
    assert run.sharing.packing is shared_prefix
    assert run.sharing.prefix_cache is shared_prefix
    assert len(run.seen) >= 4  # old log-probs of the whole batch, then every micro-batch
    for rows, input_ids, mask, keep, logps in run.seen:
        for row, ids, valid, got in zip(rows, input_ids, mask, logps, strict=True):
            length = int(valid[-keep:].sum())
            assert_close(got[:length], logps_alone(plain, row, ids[-keep:][:length]), atol=1e-4, rtol=0)


def test_a_video_moves_the_log_probs(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    """The comparison above would pass if neither side saw the video; here a black clip must change the numbers."""
    model, processor = tiny_policy(budget)
    row = encode(processor, mixed_samples[3].prompt, mixed_samples[3].media, budget)
    completion = torch.tensor(processor.tokenizer("[0.5,2.0]")["input_ids"])
    logps = logps_alone(model, row, completion)
    row.tensors["pixel_values_videos"].zero_()
    assert (logps - logps_alone(model, row, completion)).abs().max() > 1e-4


class Comparing:
    """Keeps the advantages that TRL computed of the same rewards, and ours."""

    silent = False

    def __init__(self, run: Any) -> None:
        self.run, self.ours = run, run.advantages
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def __call__(self, batch: Any) -> Tensor:
        theirs = torch.tensor(list(self.run._logs["advantages"])[-len(batch.samples) :])
        self.pairs.append((self.ours(batch), theirs))
        return self.pairs[-1][0]


@pytest.mark.parametrize(("estimator", "aggregation"), [("grpo", "sum_then_normalize"), ("gdpo", "normalize_then_sum")])
def test_advantages_are_those_that_trl_itself_computes(
    estimator: str, aggregation: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    grpo: dict[str, Any] = {"num_generations": 5, "per_device_train_batch_size": 25}
    run = trainer(tmp_path, model, processor, mixed_samples, budget, advantages=estimator, max_steps=2, **grpo)
    run.advantages = Comparing(run)
    run.multi_objective_aggregation = aggregation  # TRL's own setting, which a config may not set: it has no effect
    run.train()
    assert len(run.advantages.pairs) == 2
    for ours, theirs in run.advantages.pairs:
        assert theirs.abs().max() > 0.5
        assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_prompt_that_occurs_twice_gets_new_completions(processes: int, tmp_path: Path) -> None:
    made = material(tmp_path / "world", "t")
    (sample,) = read_samples(made / "data")
    write_dataset([replace(sample, meta={**sample.meta, "repeat": 2})], tmp_path / "twice")
    grpo = {"per_device_train_batch_size": 4 // processes, "max_steps": 1, "save_strategy": "no"}
    out = trained(config(made, tmp_path / "run.yaml", data=str(tmp_path / "twice"), grpo=grpo), processes=processes)
    (rows,) = rollouts(out).values()
    assert [row["id"] for row in rows] == [sample.id] * 4
    assert len({row["completion"] for row in rows}) == 4
