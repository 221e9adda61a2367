"""Completions that begin alike: what they share is read once, and every log-prob and gradient is that of plain rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from data_engine.schema import Sample
from mmrl.core.vision import VisionBudget
from mmrl.grpo.batch import RolloutBatch
from mmrl.grpo.engines.tree import Tree
from mmrl.grpo.rollout_step import by_prompt
from mmrl.grpo.shared_prefix.beginnings import Line, Part, parts_of
from mmrl.grpo.shared_prefix.prefix_cache import left_padded
from mmrl.model.encoding import Encoded
from mmrl.trainers.dataset import as_dataset
from tests.mmrl.grpo.test_trainer import trainer
from tests.mmrl.grpo.test_tree import TREE, Keeping
from tests.support.families import twin_of
from tests.support.training import tiny_policy

A, B, C = ([20 + 3 * place + kind for place in range(4)] for kind in range(3))
TREES = [  # beginnings at two levels, one that ends where others go on, two that are equal, one of its own
    [A + B + C, A + B + A, A + B, A + C, A + C, A + C + B + B, C, [90, 91]],
    [[50], [50, 51], [50, 51, 52], [50, 60], [], [], A, A[:3]],
]


def flat(completions: list[list[int]]) -> list[Part]:
    return [Part([number], 0, ids, []) for number, ids in enumerate(completions)]


@given(st.lists(st.lists(st.sampled_from([1, 2, 3]), max_size=7), min_size=1, max_size=8))
def test_every_completion_is_read_off_its_row_and_no_token_too_many_is_written(completions: list[list[int]]) -> None:
    line, apart = (Line([8, 9], parts) for parts in (parts_of(dict(enumerate(completions))), flat(completions)))
    for number, ids in enumerate(completions):
        read, steps = [0] * len(ids), [0] * len(ids)
        for row, first, place, count in line.places:
            if row == number:
                read[first : first + count] = line.ids[place : place + count][: len(ids) - first]
                steps[first : first + count] = line.steps[place : place + count][: len(ids) - first]
        assert read == ids
        assert steps == list(range(2, 2 + len(ids)))
    assert len(line.ids) <= len(apart.ids)


def scored(run: Any, rows: list[Any], completions: list[list[int]]) -> tuple[Tensor, list[Tensor], int]:
    """Log-probs of completions, gradients of their weighted sum, and how many tokens were read."""
    read: list[int] = []
    hook = run.model.get_input_embeddings().register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    ids_BL, mask_BL = left_padded(rows, 0, "cpu")
    keep = max(map(len, completions))
    ids_BC = torch.tensor([[*ids, *[0] * (keep - len(ids))] for ids in completions])
    mask_BC = torch.tensor([[1] * len(ids) + [0] * (keep - len(ids)) for ids in completions])
    run.batch = RolloutBatch(rows=rows)
    ids, mask = torch.cat([ids_BL, ids_BC], dim=1), torch.cat([mask_BL, mask_BC], dim=1)
    logps_BC, *_ = run._get_per_token_logps_and_entropies(run.model, ids, mask, keep)
    hook.remove()
    logps_BC = logps_BC * mask_BC
    run.model.zero_grad()
    (logps_BC * torch.linspace(-1, 1, logps_BC.numel()).view_as(logps_BC)).sum().backward()
    return (
        logps_BC.detach(),
        [weight.grad.clone() for weight in run.model.parameters() if weight.grad is not None],
        read[0],
    )


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl", "idefics3", "Gemma 3"])
def test_log_probs_and_gradients_of_trees_are_those_of_plain_rows(
    architecture: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = twin_of(architecture) if " " in architecture else tiny_policy(budget, architecture)
    samples = [sample for sample in mixed_samples[:3] if all(item.kind == "image" for item in sample.media)]
    run = trainer(tmp_path, model, processor, samples[:2], budget)
    first, other = (run.generation.encode(row) for row in as_dataset(samples[:2]))
    for tree in TREES:
        rows, completions = [first] * len(tree) + [other] * 3, [*tree, A + B, A + C, B]
        run.sharing.packing = False
        plain_BC, plain, everything = scored(run, rows, completions)
        run.sharing.packing = True
        shared_BC, shared, fewer = scored(run, rows, completions)
        assert_close(shared_BC, plain_BC, atol=1e-5, rtol=0)
        size = torch.cat([gradient.flatten() for gradient in plain]).norm()
        gap = torch.cat([(one - two).flatten() for one, two in zip(shared, plain, strict=True)]).norm()
        assert gap < 1e-4 * size
        lines = [Line(first.input_ids, parts_of(dict(enumerate(tree)))), Line(other.input_ids, flat([A + B, A + C, B]))]
        assert fewer <= 2 * max(len(line.ids) for line in lines) < everything


def test_a_tree_is_scored_with_what_its_branches_share_read_once(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    sizes: dict[str, Any] = {"num_generations": 8, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
    options = {"max_completion_length": 24, "max_steps": 1, "kind": Keeping, "tree": Tree(**TREE)} | sizes
    run = trainer(tmp_path, model, processor, mixed_samples[1:2], budget, **options)
    read: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    run.train()
    drawn, branches = run.kept, run.of_batch.branches
    shared = [branch.tokens for branch in branches]
    assert sum(tokens > 2 for tokens in shared) >= 2
    prompt = len(drawn["prompt_ids"][0])
    apart = 2 * (prompt - 1) + sum(1 + len(ids) for ids in drawn["completion_ids"])
    assert sum(read[-2:]) < apart  # the two micro-batches of the loss


def test_rollouts_that_begin_alike_are_dealt_to_one_micro_batch() -> None:
    row = Encoded([1], {}, ())
    ids = [[5, 6, 7], [8, 9, 0], [5, 6, 8], [8, 9, 1]]
    batches = [{"rows": [row, row], "completion_ids": torch.tensor(ids[start : start + 2])} for start in (0, 2)]
    dealt = [batch["completion_ids"].tolist() for batch in by_prompt(batches, alike=True)]
    assert dealt == [[[5, 6, 7], [5, 6, 8]], [[8, 9, 0], [8, 9, 1]]]
