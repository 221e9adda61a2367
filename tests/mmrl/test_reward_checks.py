"""Rewards that do not go together, and heads that give nothing, are refused before the first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaForSequenceClassification

from mmrl.core.config import InputError
from mmrl.train.reward_checks import check_heads, check_rewards
from rewards import RewardSpec
from tests.support.heads import tiny_head
from tests.support.training import config, material


def student(labels: object) -> dict[str, object]:
    return {"fn": "student", "args": {"teacher": {"fn": "letters"}, "model": "x", "labels": str(labels)}}


def test_students_have_labels_of_their_own(tmp_path: Path) -> None:
    first = RewardSpec.model_validate(student(tmp_path / "a"))
    nested = {"fn": "all_of", "args": {"rewards": [{"fn": "letters"}, student(tmp_path / "b" / ".." / "a")]}}
    with pytest.raises(
        InputError, match=r"^rewards\.two\.args\.rewards\.1: its labels .* are those of rewards\.one too"
    ):
        check_rewards({"one": first, "two": RewardSpec.model_validate(nested)})
    check_rewards({"one": first, "two": RewardSpec.model_validate(student(tmp_path / "b"))})
    late = RewardSpec.model_validate({**student(tmp_path / "c"), "deadline": 5})
    with pytest.raises(InputError, match=r"^rewards\.late: a student with a deadline is in a process"):
        check_rewards({"late": late})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^rewards\.one: its labels .* are a file; give a folder"):
        check_rewards({"one": RewardSpec.model_validate(student(tmp_path / "file"))})


def test_heads_that_give_nothing_stop_a_training_before_its_first_step(
    tmp_path: Path, says: Callable[..., str]
) -> None:
    world = material(tmp_path / "world", "t")
    scorer = tiny_head(LlamaForSequenceClassification, tmp_path / "scorer", num_labels=1)
    grpo = {"per_device_train_batch_size": 2, "max_steps": 1, "save_strategy": "no"}
    asked = {"fn": "reward_model", "args": {"model": scorer}}
    wrong = {"fn": "shape", "args": {"reward": {"fn": "multi_response", "args": {"model": scorer}}}}
    place = config(world, tmp_path / "run.yaml", grpo=grpo, rewards={"a": asked, "b": wrong})
    printed = says("train", place, status=2)
    assert "rewards.b.args.reward: multi_response raised InputError: checkpoint" in printed
    assert not (tmp_path / "run" / "rollouts").exists()
    check_heads({"a": RewardSpec.model_validate(asked)})
