"""T-REG: DPO whose tokens have rewards of their own, which the model gives before the first step."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trl.trainer.dpo_config import DPOConfig

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample
from mmrl.core.config import InputError, load
from mmrl.core.vision import VisionBudget
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.dpo import MultimodalDPOTrainer
from mmrl.trainers.preferences import with_system
from mmrl.trainers.token_losses import TokenReward, regulariser, token_rewards
from tests.mmrl.grpo.test_stock_trl import lively
from tests.mmrl.test_dpo import ANSWERS, TRL, moved
from tests.support.runs import assert_a_kill_changes_nothing
from tests.support.training import config, material, preferences

SETTINGS = TokenReward(weight=0.5, better="Be brief.", worse="Be wrong.")
STAGE = {"per_device_train_batch_size": 4, "max_steps": 4, "save_steps": 2, "precompute_ref_log_probs": True}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_the_papers_numbers() -> None:
    """L_reg -0.0199637 of each answer, and w 0.5498340 for rewards of 0.3 and 0.5."""
    rewards_BT = token_rewards(torch.tensor([[-1.0, -2.0, -0.5]] * 2), torch.tensor([[-1.5, -1.0, -0.5]] * 2))
    own_BT = torch.tensor([[-1.2, -1.5, -0.7]] * 2)
    found = regulariser(own_BT, rewards_BT, own_BT.sum(1) - torch.tensor([3.0, 5.0]), 0.1)
    assert found.item() == pytest.approx(2 * 0.5498340 * -0.0199637, abs=1e-7)


def answer_log_probs(model: Any, collator: Any, row: dict[str, Any], prompt: Any) -> list[Tensor]:
    """Of the tokens of both answers, by a plain forward."""
    inputs = collator.plain([{**row, "id": f"{prompt}", "prompt": prompt}])
    mask = inputs.pop("completion_mask").bool()
    with torch.no_grad():
        log_probs = model.eval()(**inputs).logits.float().log_softmax(dim=-1)[:, :-1]
    own = log_probs.gather(2, inputs["input_ids"][:, 1:, None])[..., 0]
    return [one[kept] for one, kept in zip(own, mask[:, 1:], strict=True)]


def test_the_regulariser_is_added_to_trls_loss(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """On a text, pictures and a clip, with rewards and references of the model before the first step."""
    model, processor = lively(budget)
    first = copy.deepcopy(model)
    samples = [replace(s, task="preference", answer={"candidates": ANSWERS, "preferred": 1}) for s in mixed_samples]
    args = DPOConfig(output_dir=str(tmp_path), **TRL, precompute_ref_log_probs=True)
    given = {"processing_class": processor, "args": args, "train_dataset": samples, "budget": budget}
    run: Any = MultimodalDPOTrainer(model, token_reward=SETTINGS, **given)
    moved(run.model)
    for row in list(run.train_dataset):
        batch = run.data_collator([row])
        run.token_reward = SETTINGS
        whole = run.compute_loss(run.model, dict(batch)).item()
        run.token_reward = None
        batch.pop("token_rewards")
        plain = run.compute_loss(run.model, batch).item()
        asked = [with_system(row["prompt"], text) for text in (SETTINGS.better, SETTINGS.worse)]
        better, worse, before = (
            answer_log_probs(first, run.data_collator, row, prompt) for prompt in (*asked, row["prompt"])
        )
        now = answer_log_probs(copy.deepcopy(run.model), run.data_collator, row, row["prompt"])
        leads = [float(args.beta * (one.sum() - two.sum())) for one, two in zip(now, before, strict=True)]
        weight = torch.sigmoid(torch.tensor(leads[1] - leads[0])).item()
        rewards = [torch.sigmoid(one - two) - 0.5 for one, two in zip(better, worse, strict=True)]
        sums = [-args.beta * float((reward * own).sum()) for reward, own in zip(rewards, now, strict=True)]
        assert whole - plain == pytest.approx(SETTINGS.weight * weight * sum(sums), abs=1e-4)
        assert abs(whole - plain) > 1e-5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = material(tmp_path_factory.mktemp("world"), "tiv")
    write_dataset(preferences("tivt", out / "more"), out / "preferences")
    return out


def dpo(world: Path, place: Path, **changes: Any) -> Path:
    learned = {"path": str(world / "preferences"), "token_reward": {"weight": 0.5}}
    return config(world, place, **{"dpo": STAGE, "grpo": None, "preferences": learned, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dpo": {**STAGE, "precompute_ref_log_probs": False}}, "dpo.precompute_ref_log_probs=true"),
        ({"prompt": {"system": "Be brief."}}, "preferences.token_reward asks by a system message"),
    ],
)
def test_what_it_cannot_read_is_refused(changes: Any, message: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        train(load(TrainConfig, dpo(world, tmp_path / "run.yaml", **changes)))


@pytest.mark.slow
def test_killed_during_a_save_it_ends_where_it_would_have_ended(world: Path, tmp_path: Path) -> None:
    """The rewards after a resume are those of the model before the first step."""
    lines = assert_a_kill_changes_nothing("dpo", lambda place: dpo(world, place), tmp_path)
    assert all("token_regulariser" in line for line in lines)
