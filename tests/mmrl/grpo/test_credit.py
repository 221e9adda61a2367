"""Advantages per token while training: spans, THR and importance weights, on real tokenizers and tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch.testing import assert_close

from data_engine.schema import Sample
from mmrl.advantages.sibling import sibling_advantages
from mmrl.advantages.token_credit import residuals, thr_scores, thr_weights
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.grpo.credit import Credit, check_credit, importance, token_offsets
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.model.sampling import RowSampler
from mmrl.model.tiny_twins import tiny_model
from rewards.base import Span, Verdict
from tests.conftest import TEXTS
from tests.mmrl.grpo.test_trainer import Recording, trainer
from tests.support.training import inputs_alone, tiny_policy

SPANS = {"second_half": {"fn": "tests.mmrl.grpo.test_credit:second_half"}}
TOKENIZERS = {name: tiny_model(name, TEXTS)[1].tokenizer for name in ("qwen2_5_vl", "idefics3")}


def second_half(rollouts: Any) -> list[Verdict]:
    """The second half of every completion is worth 1, the first nothing; long completions are worth more."""
    verdicts = []
    for rollout in rollouts:
        size = len(rollout.completion)
        halves = [Span(0, size // 2, 0.0), Span(size // 2, size, 1.0)] if size > 1 else []
        verdicts.append(Verdict(min(size / 100, 1.0), spans=tuple(halves)))
    return verdicts


def vowels(rollouts: Any) -> list[float]:
    """1 for the first rollout of every two, so that each group has a right and a wrong answer."""
    return [float(index % 2 == 0) for index, _ in enumerate(rollouts)]


class Keeping(Recording):
    """Keeps a step's rollouts, and the batch that is trained on."""

    kept: dict[str, Any]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        spread = self.credit

        def kept(batch: Any, output: Any, advantages_B: Any) -> Any:
            per_token = spread(batch, output, advantages_B)
            own = {"completions": batch.completions, "rewards_BK": batch.rewards_BK}
            self.kept = {**output, **own, "advantages": advantages_B, "per_token": per_token}
            return per_token

        self.credit: Any = kept
        output = super()._generate_and_score_completions(inputs)
        self.credit = spread
        return output


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_offsets_cover_the_text_in_order(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    offsets = token_offsets(ids, tokenizer)
    assert [a for a, _ in offsets[1:]] == [b for _, b in offsets[:-1]]
    if "\ufffd" not in whole:
        assert (offsets[0][0], offsets[-1][1]) == (0, len(whole))
    assert offsets[-1][0] == offsets[-1][1]


def test_importance_follows_the_vector_of_the_paper_and_leaves_labels_alone() -> None:
    got = importance([[-1, -2, -0.5]], [[-1.2, -1, -3]], cap=2)
    assert_allclose(got, [[1.2214028, 0.3678794, 2.0]], rtol=1e-6)
    assert importance([-1.0], [float("nan")], cap=2) == 1


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.6}, {"min_p": 0.2}])
def test_the_sampler_knows_under_what_probability_it_drew(options: dict[str, Any]) -> None:
    scores = torch.randn(2000, 6, generator=torch.Generator().manual_seed(0))[:1].expand(2000, 6)
    sampler = RowSampler([(row,) for row in range(2000)], max_new_tokens=1, **options)
    tokens = sampler(torch.zeros(2000, 1, dtype=torch.long), scores.clone()).argmax(dim=-1)
    probabilities = sampler.log_probs()[:, 0].exp()
    for token in tokens.unique():
        assert float(probabilities[tokens == token][0]) == pytest.approx(
            float((tokens == token).float().mean()), abs=0.04
        )
    assert float(sum(probabilities[tokens == token][0] for token in tokens.unique())) == pytest.approx(1, abs=0.02)


@pytest.fixture
def qwen(budget: VisionBudget) -> Any:
    return tiny_policy(budget)


def test_a_rollouts_tokens_get_what_their_spans_earned(
    qwen: Any, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    credit = Credit.model_validate({"spans": {"reward": "second_half"}})
    run = trainer(
        tmp_path,
        qwen[0],
        qwen[1],
        mixed_samples,
        budget,
        kind=Keeping,
        suite=SPANS,
        advantages="dr_grpo",
        credit=credit,
    )
    run.train()
    kept = run.kept
    plain_B, credit_BC = kept["advantages"], kept["per_token"]
    moved = 0
    for row, (_, count) in enumerate(kept["completions"]):
        assert_close(credit_BC[row, :count].mean(), plain_B[row], atol=1e-5, rtol=1e-4)
        if plain_B[row] and kept["completions"][row][0].strip():
            moved += int(credit_BC[row, 0] < plain_B[row] < credit_BC[row, count - 2])
    assert moved


def test_where_rollouts_part_each_branch_is_compared_with_its_siblings(
    qwen: Any, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    credit = Credit.model_validate({"sibling": {"weight": 0.5, "whole_branch": True}})
    run = trainer(tmp_path, qwen[0], qwen[1], mixed_samples, budget, kind=Keeping, suite=SPANS, credit=credit)
    run.train()
    kept, group = run.kept, run.num_generations
    total_B = (kept["rewards_BK"] * run.reward_weights).sum(dim=1)
    rows = [
        ids[mask.bool()].tolist() for ids, mask in zip(kept["completion_ids"], kept["completion_mask"], strict=True)
    ]
    added = 0.0
    for first in range(0, len(rows), group):
        part = slice(first, first + group)
        for row, own_T in enumerate(sibling_advantages(rows[part], total_B[part].numpy(), whole_branch=True), first):
            wanted = kept["advantages"][row] + 0.5 * torch.from_numpy(own_T)
            assert_close(kept["per_token"][row, : len(own_T)].double(), wanted, atol=1e-5, rtol=1e-5)
            added += float(np.abs(own_T).sum())
    assert added > 0


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "idefics3"])
def test_token_weights_are_thr_of_each_row_alone(
    architecture: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget, architecture)
    samples = [s for s in mixed_samples if architecture != "idefics3" or all(m.kind == "image" for m in s.media)][:2]
    credit = Credit.model_validate({"thr": {"reward": "right", "p": 0.1}})
    suite = {"right": {"fn": "tests.mmrl.grpo.test_credit:vowels"}}
    run = trainer(
        tmp_path, model, processor, samples, budget, kind=Keeping, suite=suite, credit=credit, learning_rate=0.0
    )
    run.train()
    kept = run.kept
    for first in range(0, len(kept["rows"]), 2):
        rows = range(first, first + 2)
        completions = [kept["completion_ids"][row][kept["completion_mask"][row].bool()] for row in rows]
        vocabulary, number = torch.cat(completions).unique(return_inverse=True)
        states = [alone(model, kept["rows"][row], ids) for row, ids in zip(rows, completions, strict=True)]
        hidden = torch.cat([h for h, _ in states]).double().numpy()
        residual = residuals(torch.cat([p[:, vocabulary] for _, p in states]).numpy(), number.numpy())
        whose = np.repeat([0, 1], [len(ids) for ids in completions])
        scores = thr_scores(hidden, residual, whose, np.array([1, 0]))
        expected = thr_weights(scores, whose, np.array([1, 0]), p=0.1)
        pairs = zip(rows, completions, strict=True)
        got = torch.cat([kept["per_token"][row, : len(ids)] / kept["advantages"][row] for row, ids in pairs])
        assert_allclose(got.numpy(), expected, atol=1e-5)


def alone(model: Any, row: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(states, log-probs) where a completion's tokens are predicted, from one plain forward of its prompt."""
    tokens = torch.tensor([[*row.input_ids, *ids.tolist()]])
    media = inputs_alone(model, row, tokens)
    with torch.no_grad():
        output = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), output_hidden_states=True, **media)
    predicting = slice(-len(ids) - 1, -1)
    hidden = output.hidden_states[-1][0, predicting]
    assert_close(model.get_output_embeddings()(hidden), output.logits[0, predicting])
    return hidden, output.logits[0, predicting].log_softmax(dim=-1)


@pytest.mark.parametrize("temperature", [None, TemperatureSchedule(schedule="cosine", start=1.5, end=1.5)])
def test_importance_is_one_where_the_model_scores_as_it_drew(
    temperature: TemperatureSchedule | None,
    qwen: Any,
    mixed_samples: list[Sample],
    budget: VisionBudget,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = {"kind": Keeping, "importance_cap": 2.0, "temperature": temperature}
    run = trainer(tmp_path, qwen[0], qwen[1], mixed_samples, budget, **options)
    run.train()
    mask = run.kept["completion_mask"].bool()
    weights = run.kept["importance"][
        mask
    ]  # the policy may not draw vision tokens: a hundredth of a random model's mass
    assert 0.97 < weights.min() <= weights.max() < 1.0001
    narrow = trainer(tmp_path, qwen[0], qwen[1], mixed_samples, budget, **options, top_k=2)
    narrow.train()
    mask = narrow.kept["completion_mask"].bool()
    assert (narrow.kept["importance"][mask] < 0.9).any()  # drawn from two tokens, scored among all
    kept = narrow.kept
    assert_close(kept["per_token"], kept["advantages"].unsqueeze(1) * kept["importance"].float())


def test_importance_that_nothing_has_is_not_logged(
    qwen: Any, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    cut: dict[str, Any] = {"importance_cap": 2.0, "mask_truncated_completions": True, "max_completion_length": 2}
    run = trainer(tmp_path, qwen[0], qwen[1], mixed_samples, budget, **cut)
    run.train()
    line = next(line for line in run.state.log_history if "loss" in line)
    assert line["completions/clipped_ratio"] == 1
    assert "importance/mean" not in line


def test_a_reward_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"tokens\.thr: no reward 'acuracy'; there are accuracy"):
        check_credit(Credit.model_validate({"thr": {"reward": "acuracy"}}), ["accuracy"])
