"""A run that is killed and started again ends where it would have ended."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmrl.core.config import InputError, load
from mmrl.core.locks import alone
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.callbacks import read_metrics
from mmrl.trainers.checkpoints import check_resumable, latest_checkpoint
from tests.support.runs import assert_same_run, assert_same_weights, closing
from tests.support.training import config, killed, material, metrics, rollouts, trained


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 samples, which are three batches of four prompts and one left over."""
    return material(tmp_path_factory.mktemp("world"), "tivp" * 3 + "t")


def command(config: Path, *overrides: str, **environment: str) -> int:
    """The exit status of `python -m mmrl train CONFIG key=value ...`."""
    line = [sys.executable, "-m", "mmrl", "train", str(config), *overrides]
    return subprocess.run(line, env=os.environ | environment, capture_output=True, timeout=600).returncode


def test_full_fine_tuning_resumes_exactly(world: Path, tmp_path: Path) -> None:
    """Rollouts serve two steps, an epoch has three times two. Killed twice, each time two steps after a checkpoint: the
    first resume starts amid epoch 0 and crosses its end, the second starts amid epoch 1."""
    grpo = {"steps_per_generation": 4, "gradient_accumulation_steps": 2, "max_steps": 12, "save_steps": 4, "beta": 0.1}
    whole = trained(config(world, tmp_path / "whole.yaml", grpo=grpo))
    stopping = config(world, tmp_path / "broken.yaml", grpo={**grpo, "max_steps": 1})
    broken = tmp_path / "broken"
    assert command(stopping, "grpo.max_steps=12", DIE_AT="6") == -signal.SIGKILL
    assert [line["step"] for line in metrics(broken)] == list(range(1, 7))
    assert command(stopping, "grpo.max_steps=12", DIE_AT="10") == -signal.SIGKILL
    assert [line["step"] for line in metrics(broken)] == list(range(1, 11))
    assert command(stopping, "grpo.max_steps=12") == 0
    assert_same_run(whole, broken)
    assert list(rollouts(whole)) == [f"step-{step:05d}.parquet" for step in range(1, 13, 2)]
    kl = [line["kl"] for line in metrics(whole)]
    assert kl[0] < 1e-6 < 1e-3 < min(kl[4], kl[8])  # the reference is the original model, not the checkpoint


def test_a_run_killed_before_its_last_write_only_writes(world: Path, tmp_path: Path) -> None:
    grpo = {"max_steps": 2, "per_device_train_batch_size": 4, "save_steps": 2, "lr_scheduler_type": "constant"}
    once = trained(config(world, tmp_path / "once.yaml", grpo=grpo))
    before = metrics(once)
    (tmp_path / "kept").mkdir()
    (once / "final").rename(tmp_path / "kept" / "final")
    mean = closing(once)
    trained(tmp_path / "once.yaml")
    assert_same_weights(tmp_path / "kept", once)
    assert metrics(once) == before
    assert closing(once) == mean


def test_two_processes_resume_exactly(world: Path, tmp_path: Path) -> None:
    """Three steps an epoch; the run is resumed in the middle of the second epoch."""
    grpo = {"per_device_train_batch_size": 4, "max_steps": 6, "save_steps": 4}
    whole = trained(config(world, tmp_path / "whole.yaml", grpo=grpo), processes=2)
    broken = config(world, tmp_path / "broken.yaml", grpo=grpo)
    trained(broken, processes=2, dies=True, DIE_AT="5")
    assert_same_run(whole, trained(broken, processes=2))


def test_warm_up_and_lora_resume_exactly(world: Path, tmp_path: Path) -> None:
    """Killed in the warm-up during a save; in GRPO before the first checkpoint, and again during a save: the run
    resumes from the checkpoint at the end of the first epoch."""
    blocks = {
        "sft": {"per_device_train_batch_size": 4, "max_steps": 5, "save_steps": 2},
        "grpo": {"per_device_train_batch_size": 8, "max_steps": 7, "save_steps": 3, "beta": 0.1},
        "lora": {"r": 4, "dropout": 0.1},
    }
    whole = trained(config(world, tmp_path / "whole.yaml", **blocks))
    broken = config(world, tmp_path / "broken.yaml", **blocks)
    trained(broken, dies=True, DIE_OPENING="sft/.saving/checkpoint-4/trainer_state.json")
    trained(broken, dies=True, DIE_AT="1")
    trained(broken, dies=True, DIE_OPENING="broken/.saving/checkpoint-6/trainer_state.json")
    assert (tmp_path / "broken" / ".saving" / "checkpoint-6").is_dir()
    assert_same_run(whole, trained(broken))
    assert metrics(whole / "sft") == metrics(tmp_path / "broken" / "sft")
    assert_same_weights(whole / "sft", tmp_path / "broken" / "sft")
    assert not (tmp_path / "broken" / ".saving").exists()


def test_a_save_that_was_killed_is_not_a_checkpoint(tmp_path: Path) -> None:
    for name in ("checkpoint-8", "checkpoint-12", ".saving/checkpoint-16"):
        (tmp_path / name).mkdir(parents=True)
    assert latest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-12")
    assert not (tmp_path / ".saving").exists()
    assert latest_checkpoint(tmp_path / "nothing") is None


def test_a_checkpoint_that_lacks_a_file_or_a_part_of_one_is_refused(world: Path, tmp_path: Path) -> None:
    grpo = {"max_steps": 2, "per_device_train_batch_size": 4, "save_steps": 1, "save_total_limit": 2}
    out = trained(config(world, tmp_path / "run.yaml", grpo=grpo))
    shutil.rmtree(out / "final")
    whole = out / "checkpoint-2"
    names = [file.relative_to(whole).as_posix() for file in whole.rglob("*") if file.is_file()]
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "model.safetensors"} < set(names)
    check_resumable(whole, 1)
    for name in names:
        shutil.copytree(whole, tmp_path / "copy")
        (tmp_path / "copy" / name).unlink()
        with pytest.raises(InputError, match=rf"copy is not whole: it lacks {re.escape(name)}[;,].*copy it again, or"):
            check_resumable(tmp_path / "copy", 1)
        shutil.rmtree(tmp_path / "copy")
    (whole / "optimizer.pt").write_bytes((whole / "optimizer.pt").read_bytes()[:-1])
    with pytest.raises(InputError, match=r"checkpoint-2 is not whole: it has [\d,]+ of [\d,]+ bytes of optimizer.pt"):
        train(load(TrainConfig, tmp_path / "run.yaml"))
    shutil.rmtree(whole)
    assert_same_weights(trained(tmp_path / "run.yaml"), trained(config(world, tmp_path / "whole.yaml", grpo=grpo)))


def test_a_checkpoint_of_weights_alone_is_refused(world: Path, tmp_path: Path) -> None:
    grpo = {"max_steps": 1, "per_device_train_batch_size": 4, "save_steps": 1, "save_only_model": True}
    out = trained(config(world, tmp_path / "run.yaml", grpo=grpo))
    with pytest.raises(InputError, match="holds weights alone"):
        check_resumable(out / "checkpoint-1", 1)


def test_a_second_training_into_an_output_is_refused(world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", grpo={"max_steps": 1})
    with alone(tmp_path / "run"), pytest.raises(InputError, match=r"another run .* is writing to .*run; wait for it"):
        train(load(TrainConfig, place))
    assert not (tmp_path / "run").exists()


def test_a_half_written_line_is_not_a_metric(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_the_same_run(world: Path, tmp_path: Path) -> None:
    """With dynamic sampling, injected labels, a schedule of temperatures, importance weights and credit per token."""
    blocks = {
        "advantages": {"name": "visurf", "tokens": {"thr": {"reward": "letters", "right": 0.2}}},
        "rollout": {
            "refills": 2,
            "inject": {},
            "importance_cap": 2.0,
            "temperature": {"schedule": "ead", "d0": 10, "growth": 1, "head": 1},
        },
        "grpo": {"max_steps": 60, "save_steps": 2, "num_generations": 4, "per_device_train_batch_size": 8},
    }
    whole = trained(config(world, tmp_path / "whole.yaml", **blocks))
    broken, chance, reached = config(world, tmp_path / "broken.yaml", **blocks), random.Random(0), [0]
    for _ in range(10):
        reached.append(killed(broken, step=reached[-1] + 1, delay=chance.uniform(0, 0.8)))
    print(f"killed after steps {reached[1:]}")
    assert reached[-1] < 60
    assert_same_run(whole, trained(broken))
