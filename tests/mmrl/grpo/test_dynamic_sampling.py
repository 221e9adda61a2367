"""Dynamic sampling: groups without any signal are replaced, and training still uses the sampled tokens."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.grpo_config import GRPOConfig

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.vision import VisionBudget
from mmrl.grpo.config_checks import check_settings
from mmrl.grpo.dynamic_sampling import dead_group_numbers, fresh, replaced
from mmrl.grpo.temperature import TemperatureSchedule
from mmrl.model.tiny_twins import tiny_model
from mmrl.trainers.callbacks import read_metrics
from rewards import Verdict
from tests.conftest import TEXTS
from tests.mmrl.grpo.test_trainer import assert_own_logps, trainer
from tests.support.runs import assert_same_run
from tests.support.training import config, material, metrics, rollouts, tiny_policy, trained

NAN = float("nan")


def picky(rollouts: Any) -> list[float]:
    """The share of vowels, but the same for all completions about an odd number of digits."""
    if rollouts[0].step >= int(os.environ.get("DIE_AT", sys.maxsize)):
        os.kill(os.getpid(), signal.SIGKILL)
    return [0.5 if _odd(rollout) else sum(c in "aeiou" for c in rollout.completion) / 100 for rollout in rollouts]


def own_length(rollouts: Any) -> list[float]:
    """Different for every completion of a group."""
    return [place / len(rollouts) for place in range(len(rollouts))]


def _odd(rollout: Any) -> bool:
    words = " ".join(part.get("text", "") for part in rollout.prompt[0]["content"])
    return int(words.split()[0].removeprefix("<image>")) % 2 == 1


def test_a_group_is_dead_when_all_of_its_rewards_are() -> None:
    rewards = [[1.0, 0.2], [1.0, 0.4], [0.5, NAN], [0.5, NAN], [0.0, 0.3], [0.0, 0.3]]
    assert dead_group_numbers(torch.tensor(rewards), group=2) == [1, 2]


def test_fresh_prompts_are_others_and_depend_on_the_key() -> None:
    assert set(fresh(10, {1, 2}, 20, 0)) == set(range(10)) - {1, 2}
    assert fresh(100, set(), 5, 0, 3) != fresh(100, set(), 5, 0, 4)
    assert fresh(3, {0, 1, 2}, 1, 0) == []


def test_rows_of_other_widths_are_put_in_place() -> None:
    batch = {
        "prompt_ids": torch.tensor([[1, 2], [1, 2], [3, 4], [3, 4]]),
        "completion_ids": torch.tensor([[5], [6], [7], [8]]),
        "completion_mask": torch.ones(4, 1, dtype=torch.long),
        "count": torch.tensor(4),
        "rows": ["a", "a", "b", "b"],
    }
    other = {
        "prompt_ids": torch.tensor([[9, 9, 9]] * 2),
        "completion_ids": torch.tensor([[5, 6], [7, 8]]),
        "completion_mask": torch.ones(2, 2, dtype=torch.long),
        "count": torch.tensor(2),
        "rows": ["c", "c"],
    }
    made = replaced(batch, other, [(1, 0)], 2, pad=0)
    assert made["prompt_ids"].tolist() == [[0, 1, 2], [0, 1, 2], [9, 9, 9], [9, 9, 9]]
    assert made["completion_ids"].tolist() == [[5, 0], [6, 0], [5, 6], [7, 8]]
    assert made["completion_mask"].tolist() == [[1, 0], [1, 0], [1, 1], [1, 1]]
    assert made["rows"] == ["a", "a", "c", "c"]
    assert made["count"] == 4
    assert batch["completion_ids"].shape == (4, 1)


def test_groups_cut_by_processes_are_refused(tmp_path: Path) -> None:
    args = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, num_generations=8, generation_batch_size=8,
        per_device_train_batch_size=4,
    )  # fmt: skip
    args.steps_per_generation = 1
    with pytest.raises(InputError, match=r"rollout.refills=2 needs whole groups"):
        check_settings(args, "gdpo", None, 2)


def test_log_probs_stay_those_of_each_row_alone(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """A reward that is 0 for some of the mixed prompts: others, with other media, take their places."""
    model, processor = tiny_policy(budget)
    run = trainer(
        tmp_path, model, processor, mixed_samples, budget, refills=2, num_generations=2, max_steps=3,
        per_device_train_batch_size=4, learning_rate=1e-8, gradient_accumulation_steps=1,
    )  # fmt: skip
    lively = {mixed_samples[1].id, mixed_samples[3].id}
    suite = run.scoring.suite
    scored = suite.score

    def score(rollouts: Any) -> Any:
        flat = dict.fromkeys(suite.names, Verdict(0.0))
        pairs = zip(scored(rollouts), rollouts, strict=True)
        return [verdicts if rollout.group in lively else flat for verdicts, rollout in pairs]

    suite.score = score
    plain, _ = tiny_model("qwen2_5_vl", TEXTS)
    run.train()
    assert_own_logps(run, plain)
    trained_on = {row["id"] for rows in rollouts(tmp_path).values() for row in rows if row["advantage"]}
    assert trained_on
    assert trained_on <= lively


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivp" * 4)


DYNAMIC = {
    "rewards": {"picky": {"fn": "tests.mmrl.grpo.test_dynamic_sampling:picky"}},
    "rollout": {"refills": 3, "temperature": TemperatureSchedule(schedule="ead", head=1, d0=4).model_dump(
        exclude={"start", "end"})},
}  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
def test_dead_groups_are_replaced_and_counted(processes: int, world: Path, tmp_path: Path) -> None:
    grpo = {"per_device_train_batch_size": 8 // processes, "num_generations": 2, "max_steps": 3}
    out = trained(config(world, tmp_path / "run.yaml", grpo=grpo, **DYNAMIC), processes=processes)
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "loss" in line]
    assert [sorted(key for key in line if key.startswith("dynamic/")) for line in lines] == [
        ["dynamic/drawn", "dynamic/left_dead", "dynamic/replaced"]
    ] * 3
    assert sum(line["dynamic/replaced"] for line in lines) > 0
    for line, rows in zip(lines, rollouts(out).values(), strict=True):
        assert len(rows) == 8
        ids = [row["id"] for row in rows]
        assert ids[::2] == ids[1::2]
        assert len(set(ids)) == 4
        same = [a["score/picky"] == b["score/picky"] for a, b in zip(rows[::2], rows[1::2], strict=True)]
        assert sum(same) == line["dynamic/left_dead"] == round(4 * line["frac_reward_zero_std"])
        assert line["dynamic/drawn"] >= line["dynamic/replaced"]


def test_a_reward_of_weight_zero_keeps_no_group_alive(world: Path, tmp_path: Path) -> None:
    watched = DYNAMIC["rewards"] | {
        "brevity": {"fn": "tests.mmrl.grpo.test_dynamic_sampling:own_length", "weight": 0.0}
    }
    grpo = {"per_device_train_batch_size": 8, "num_generations": 2, "max_steps": 1, "save_strategy": "no"}
    options = {**DYNAMIC, "grpo": grpo}
    alone = metrics(trained(config(world, tmp_path / "alone.yaml", **options)))
    both = metrics(trained(config(world, tmp_path / "both.yaml", **options | {"rewards": watched})))
    names = [key for key in alone[0] if key in {"loss", "frac_reward_zero_std"} or key.startswith("dynamic/")]
    assert [both[0][key] for key in names] == [alone[0][key] for key in names]
    assert alone[0]["dynamic/replaced"] > 0


def test_a_killed_run_refills_as_the_undisturbed_one(world: Path, tmp_path: Path) -> None:
    grpo = {"per_device_train_batch_size": 8, "num_generations": 2, "max_steps": 6, "save_steps": 2}
    whole = trained(config(world, tmp_path / "whole.yaml", grpo=grpo, **DYNAMIC))
    broken = config(world, tmp_path / "broken.yaml", grpo=grpo, **DYNAMIC)
    trained(broken, dies=True, DIE_AT="3")
    trained(broken, dies=True, DIE_AT="5")
    assert_same_run(whole, trained(broken))
