"""A wrong training config gives one clear line and exit status 2, and leaves nothing behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from trl.trainer.grpo_config import GRPOConfig

from mmrl.core.config import load
from mmrl.grpo.config_checks import check_settings
from mmrl.train.config import TrainConfig, arguments_of
from tests.support.training import config, material, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "ti")


def refusal(says: Callable[..., str], *arguments: str | Path) -> str:
    """The last line that a refused `mmrl train ARGUMENTS` says."""
    errors = says("train", *arguments, status=2)
    assert "Traceback" not in errors
    line = errors.splitlines()[-1]
    assert line.startswith("mmrl train: ")
    return line


GRPO = {"per_device_train_batch_size": 4, "max_steps": 1, "save_strategy": "no"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"grpo": {"max_step": 3}}, "unknown key grpo.max_step (value 3); did you mean max_steps"),
    "unknown key of ours": (
        {"advantages": {"nam": "gdpo"}},
        "unknown key advantages.nam (value 'gdpo'); did you mean name?",
    ),
    "key in the wrong place": ({"grpo": {"seed": 3}}, "grpo.seed is set at the top level"),
    "a value that TRL refuses": ({"grpo": {"num_generations": 3}}, "grpo: generation_batch_size (4) must be divisible"),
    "nothing to train": (
        {"grpo": None},
        "nothing to train: the config has none of the blocks reward, sft, dpo, grpo, latent, flow",
    ),
    "a task that nothing scores": (
        {"rewards": {"boxes": {"fn": "box_iou", "tasks": ["grounding"]}}},
        "no reward scores the task 'count'",
    ),
    "a reward that is not there": ({"rewards": {"boxes": {"fn": "box_iuo"}}}, "did you mean box_iou?"),
    "an estimator that is not there": ({"advantages": {"name": "gdop"}}, "did you mean gdpo?"),
    "an estimator that asks for too much": (
        {"advantages": {"name": "grpo_s"}},
        "grpo_s needs scores of the gold answers in meta.demonstration_scores",
    ),
    "a split that is not there": ({"split": "trian"}, "no split 'trian'; did you mean train?"),
    "a save amid a cycle": (
        {
            "grpo": {
                "steps_per_generation": 4,
                "gradient_accumulation_steps": 2,
                "save_strategy": "steps",
                "save_steps": 3,
            }
        },
        "save_steps=3 is not a multiple of 2",
    ),
    "no steps": ({"grpo": {"max_steps": 0}}, "grpo.max_steps=0 does not stop TRL from training"),
    "no generations": ({"grpo": {"num_generations": 0}}, "grpo.num_generations=0; it must be at least 1"),
    "a rate that is no number": ({"grpo": {"learning_rate": "nan"}}, "grpo.learning_rate=nan; give a finite number"),
    "a rate without an end": ({"grpo": {"learning_rate": float("inf")}}, "grpo.learning_rate=inf; give a finite"),
    "a rate below 0": ({"sft": {"learning_rate": -1e-3}}, "sft.learning_rate=-0.001; it must be at least 0"),
    "a momentum of 1": ({"grpo": {"adam_beta1": 1.0}}, "grpo.adam_beta1=1.0; it must be at least 0 and below 1"),
    "no epochs": ({"grpo": {"max_steps": -1, "num_train_epochs": 0}}, "grpo.num_train_epochs=0 trains nothing"),
    "greedy rollouts": ({"grpo": {"temperature": 0}}, "grpo.temperature=0; must be above 0"),
    "completions without an end": (
        {"grpo": {"max_completion_length": None}},
        "grpo.max_completion_length=None; must be",
    ),
    "a word for a number": ({"grpo": {"beta": "small"}}, "grpo.beta: Input should be a valid number"),
    "more prompts than there are": ({"grpo": {"gradient_accumulation_steps": 2}}, "has 4 prompts (per_device_train"),
    "an evaluation of nothing": ({"grpo": {"eval_on_start": True}}, "grpo.eval_on_start=true needs an `evaluation:`"),
    "a warm-up that cuts": ({"sft": {"max_length": 64}}, "sft.max_length=64 has no effect in this trainer"),
    "a type that is none": ({"dtype": "fp32"}, "dtype: Input should be 'auto', 'float32', 'bfloat16' or 'float16'"),
    "a limit of nothing": ({"limit": 0}, "limit: Input should be greater than 0"),
    "an adapter of nothing": ({"lora": {"target_modules": ["q_prj"]}}, "lora: Target modules"),
    "generations of half a step": (
        {"grpo": {"steps_per_generation": 3, "gradient_accumulation_steps": 2}},
        "steps_per_generation=3 must be a multiple of gradient_accumulation_steps=2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_config_is_refused_in_one_line(
    case: str, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    changes, expected = WRONG[case]
    grpo = changes.get("grpo", {})
    values = changes | {"grpo": None if grpo is None else GRPO | grpo}
    assert expected in refusal(says, config(world, tmp_path / "run.yaml", **values))
    assert not (tmp_path / "run" / "config.yaml").exists()  # corrected, the same command runs


def test_a_quoted_number_is_a_number(world: Path, tmp_path: Path) -> None:
    quoted = load(TrainConfig, config(world, tmp_path / "run.yaml", grpo=GRPO | {"beta": "1e-3", "top_k": "5"}))
    arguments = arguments_of(quoted, "grpo")
    assert (arguments.beta, arguments.top_k) == (0.001, 5)


def damaged(world: Path, out: Path, damage: str) -> None:
    """A copy of the model in `world` with something wrong about it."""
    shutil.copytree(world / "model", out)
    weights = load_file(out / "model.safetensors")
    name = next(key for key in weights if key.endswith("layers.0.mlp.up_proj.weight"))
    if damage == "architecture":
        values = json.loads((out / "config.json").read_text())
        (out / "config.json").write_text(json.dumps(values | {"model_type": "bert", "architectures": ["BertModel"]}))
    elif damage == "missing":
        save_file(
            {key: value for key, value in weights.items() if key != name}, out / "model.safetensors", {"format": "pt"}
        )
    elif damage == "shape":
        save_file(weights | {name: weights[name][:-1].clone()}, out / "model.safetensors", {"format": "pt"})
    elif damage == "cut":
        whole = (out / "model.safetensors").read_bytes()
        (out / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    else:
        (out / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("architecture", "is a bert checkpoint, which transformers does not have among"),
        ("missing", "mlp.up_proj.weight is missing"),
        ("shape", "mlp.up_proj.weight has shape (63, 32), not (64, 32)"),
        ("cut", "are damaged"),
        ("gone", "no *.safetensors in"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(
    damage: str, expected: str, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    damaged(world, tmp_path / "model", damage)
    assert expected in refusal(says, config(world, tmp_path / "run.yaml", model=str(tmp_path / "model"), grpo=GRPO))


def test_another_config_in_the_same_output_is_refused(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    place = config(world, tmp_path / "run.yaml", grpo=GRPO)
    trained(place)
    said = refusal(says, place, "grpo.learning_rate=0.5", "seed=3")
    assert "grpo.learning_rate: " in said
    assert "seed: 0 then, 3 now" in said
    assert f"trained model: {tmp_path / 'run' / 'final'}" in says("train", place)


def test_the_command_itself_exits_with_status_2(world: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mmrl", "train", str(config(world, tmp_path / "run.yaml")), "grpo=[1]"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mmrl train: ")
    assert "grpo: Input should be a valid dictionary (got [1])" in done.stderr


def test_what_is_wrong_about_a_later_stage_is_refused_before_the_first(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    place = config(world, tmp_path / "run.yaml", sft={"max_steps": 1}, grpo=GRPO | {"max_step": 3})
    assert "unknown key grpo.max_step" in refusal(says, place)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "grpo",
    [
        {"save_steps": 4, "gradient_accumulation_steps": 2, "steps_per_generation": 4},
        {"save_steps": 6, "steps_per_generation": 3, "num_iterations": 2},
        {"save_steps": 0.1, "gradient_accumulation_steps": 2, "steps_per_generation": 2},
        {"save_strategy": "epoch", "steps_per_generation": 4},
    ],
)
def test_saves_between_cycles_are_taken(grpo: dict[str, Any], tmp_path: Path) -> None:
    check_settings(GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **grpo), "gdpo")
