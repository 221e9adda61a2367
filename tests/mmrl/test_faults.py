"""Faults around a training: no verdicts, prompts too long, another number of processes, a full disk, a dead process."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.trainer.grpo_config import GRPOConfig

from data_engine.dataset.shards import read_samples
from data_engine.schema import Sample
from mmrl.core.config import InputError, load
from mmrl.core.vision import VisionBudget
from mmrl.grpo.config_checks import check_settings
from mmrl.grpo.context_length import check_context, most_tokens
from mmrl.model.encoding import encode
from mmrl.model.policy import load_policy
from mmrl.model.tiny_twins import tiny_model
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from rewards import Rollout
from tests.conftest import TEXTS
from tests.mmrl.grpo.test_trainer import trainer
from tests.support.runs import assert_same_run
from tests.support.training import VISION, brevity, config, ended, letters, material, rollouts, tiny_policy, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tivp" * 2)


def silent_in_the_second_step(rollouts: Any) -> list[float | None]:
    return [None if rollout.step == 1 else 1 / (1 + len(rollout.completion)) for rollout in rollouts]


def test_a_step_without_any_verdict_teaches_nothing(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    suite = {"silent": {"fn": "tests.mmrl.test_faults:silent_in_the_second_step"}}
    run = trainer(tmp_path, model, processor, mixed_samples[:2], budget, suite=suite, max_steps=3)
    weight: Any = run.model.get_input_embeddings().weight
    seen: list[torch.Tensor] = []
    step = run.training_step
    run.training_step = lambda *a, **k: (seen.append(weight.detach().clone()), step(*a, **k))[1]
    run.train()
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], weight)
    assert [entry["steps_without_verdict"] for entry in run.state.log_history[:3]] == [0, 1, 0]


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl"])
def test_no_prompt_is_longer_than_predicted(
    architecture: str, mixed_samples: list[Sample], budget: VisionBudget
) -> None:
    _, processor = tiny_policy(budget, architecture)
    for sample in mixed_samples:
        exact = len(encode(processor, sample.prompt, sample.media, budget).input_ids)
        assert exact <= most_tokens(sample, processor, budget) <= exact + 60


def test_a_prompt_without_room_is_refused_before_training(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text())
    _, processor = load_policy(str(world / "model"), VisionBudget(**VISION))
    samples = list(read_samples(world / "data"))
    lengths = [len(encode(processor, s.prompt, s.media, VisionBudget(**VISION)).input_ids) for s in samples]
    check_context(samples, processor, VisionBudget(**VISION), max(lengths) + 6, 6)
    described["text_config"]["max_position_embeddings"] = max(lengths) + 5
    (tmp_path / "model" / "config.json").write_text(json.dumps(described))
    place = config(world, tmp_path / "run.yaml", model=str(tmp_path / "model"), grpo={"max_steps": 1})
    with pytest.raises(InputError, match=rf"sample .* has {max(lengths)} tokens; .*context of {max(lengths) + 5}"):
        train(load(TrainConfig, place))
    assert not (tmp_path / "run" / "rollouts").exists()


def test_tiles_without_room_are_refused_as_they_are_encoded(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_model("idefics3", TEXTS)
    model.config.text_config.max_position_embeddings = 20
    pictured = [s for s in mixed_samples if [m.kind for m in s.media] == ["image"]]
    with pytest.raises(InputError, match=rf"sample {pictured[0].id}: the prompt has \d+ tokens; .* context of 20"):
        trainer(tmp_path, model, processor, pictured[:1], budget).train()


@pytest.mark.parametrize(
    ("grpo", "instead"),
    [
        ({"scale_rewards": "none"}, "the estimator scales"),
        ({"multi_objective_aggregation": "normalize_then_sum"}, "{name: gdpo} standardises first"),
        ({"reward_weights": [1.0]}, "each has a weight"),
        ({"repetition_penalty": 1.1}, "rewards: {fn: repetition}"),
        ({"generation_kwargs": {"num_beams": 2}}, "temperature, top_p"),
        ({"model_init_kwargs": {"attn_implementation": "eager"}}, "attention at the top level"),
        ({"label_smoothing_factor": 0.1}, "no labels"),
        ({"log_multimodal": False}, "`mmrl view`"),
        ({"use_vllm": True}, "rollout: {engine: vllm}"),
        ({"vllm_server_port": 9}, "the block rollout.vllm"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "prompt: {chat_template_kwargs"),
    ],
)
def test_settings_of_trl_without_effect_here_are_refused(grpo: dict[str, Any], instead: str, tmp_path: Path) -> None:
    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **grpo)
    with pytest.raises(InputError, match=f"grpo.{next(iter(grpo))}=.* has no effect in this trainer; use .*{instead}"):
        check_settings(args, "gdpo")


def test_weights_in_shards_are_gathered_to_answer(tmp_path: Path) -> None:
    """A process without a picture would leave the others waiting in the vision tower."""
    args = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, ds3_gather_for_generation=False)
    args.deepspeed = "configs/train/zero3.json"  # not given above: it would hold for the whole process
    with pytest.raises(InputError, match="ds3_gather_for_generation=false"):
        check_settings(args, "gdpo")


@pytest.mark.parametrize("processes", [1, 2])
def test_fsdp_where_it_would_be_left_out_in_silence_is_refused(processes: int, world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", grpo={"fsdp": True})
    codes, output = ended(place, [{}] * processes, timeout=120)
    assert 2 in codes
    assert set(codes) <= {1, 2}  # 1: it lost the other, which had ended first, while both were still meeting
    assert "grpo.fsdp=True divides nothing in one process or on a CPU; start several processes" in output


def test_a_progressive_reward_changes_with_the_share_of_the_training(world: Path, tmp_path: Path) -> None:
    """Vowels up to half of the four steps, brevity from there on."""
    schedule = {0.5: {"fn": "tests.support.training:brevity"}}
    args = {"reward": {"fn": "tests.support.training:letters"}, "schedule": schedule}
    rewards = {"rising": {"fn": "progressive", "args": args}}
    grpo = {"max_steps": 4, "save_strategy": "no"}
    train(load(TrainConfig, config(world, tmp_path / "run.yaml", grpo=grpo, rewards=rewards)))
    for step, rows in enumerate(rollouts(tmp_path / "run").values()):
        answers = [Rollout(completion=row["completion"], answer={}, step=step) for row in rows]
        expected = (letters if step < 2 else brevity)(answers)
        assert [row["score/rising"] for row in rows] == pytest.approx(expected)


def test_another_number_of_processes_is_refused(world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", grpo={"max_steps": 4, "save_steps": 2, "save_total_limit": 3})
    trained(place, dies=True, DIE_AT="3")
    codes, output = ended(place, [{}, {}], timeout=120)
    assert codes == [2, 2]
    assert "checkpoint-2 was written by 1 processes and would be resumed by 2" in output


def test_a_full_disk_leaves_the_last_checkpoint_whole(world: Path, tmp_path: Path) -> None:
    grpo = {"max_steps": 5, "save_steps": 2}
    whole = trained(config(world, tmp_path / "whole.yaml", grpo=grpo))
    broken = config(world, tmp_path / "broken.yaml", grpo=grpo)
    codes, _ = ended(broken, [{"FULL_OPENING": ".saving/checkpoint-4/config.json"}])
    assert codes == [1]
    assert (tmp_path / "broken" / "checkpoint-2" / "model.safetensors").exists()
    assert not (tmp_path / "broken" / "checkpoint-4").exists()
    assert_same_run(whole, trained(broken))


def test_a_process_that_dies_takes_the_others_with_it(world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", grpo={"max_steps": 4, "save_strategy": "no"})
    codes, output = ended(place, [{}, {"DIE_AT": "1"}], timeout=120)
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, None)  # it did not wait for ever
    assert "Connection closed by peer" in output or "onnection reset" in output
