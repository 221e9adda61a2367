"""A run that is there becomes longer, and refuses to become another one; its final model says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mmrl.core.config import InputError, load
from mmrl.train.config import TrainConfig
from mmrl.train.continuation import check_change, remember
from mmrl.train.stages import run
from tests.support.training import config, material, metrics, rollouts

GRPO = {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "ti")


def written(world: Path, out: Path, **changes: Any) -> TrainConfig:
    grpo = {**GRPO, **changes.pop("grpo", {})}
    return load(TrainConfig, config(world, out.with_suffix(".yaml"), grpo=grpo, **changes))


@pytest.fixture(scope="module")
def short(world: Path) -> Path:
    """The output of a run of two steps."""
    out = world / "run"
    run(written(world, out))
    return out


def test_a_run_becomes_longer_and_is_then_the_run_that_was_as_long_from_the_start(
    world: Path, short: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    longer = {"max_steps": 4, "report_to": "none", "save_total_limit": 3}
    final = run(written(world, short, grpo=longer))
    assert "resuming from" in caplog.text
    assert "checkpoint-2" in caplog.text
    assert (final, (short / "final-step-00002" / "model.safetensors").is_file()) == (short / "final", True)
    whole = tmp_path / "whole"
    run(written(world, whole, grpo=longer))
    assert metrics(short) == metrics(whole)
    assert [line["step"] for line in metrics(short)] == [1, 2, 3, 4]
    assert rollouts(short) == rollouts(whole)
    assert sorted(rollouts(short)) == [f"step-{step:05d}.parquet" for step in (1, 2, 3, 4)]
    assert (short / "final" / "model.safetensors").read_bytes() == (whole / "final" / "model.safetensors").read_bytes()
    caplog.clear()
    run(written(world, short, grpo={**longer, "save_total_limit": 2, "logging_first_step": True}))
    assert f"done already: {short / 'final'}" in caplog.text


def test_the_final_model_has_a_card_of_its_own(world: Path, short: Path) -> None:
    card = ModelCard.load(short / "final" / "README.md")
    data: Any = card.data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert data.base_model is None  # a folder of this machine
    for text in (
        str(world / "model"),
        "| `brevity` | 0.5 |",
        "SHA-256 of its manifest",
        "learning_rate",
        "by reinforce",
    ):
        assert text in card.content, text
    assert "None" not in card.content
    assert "time machine" not in "".join(place.read_text() for place in short.rglob("README.md"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grpo": {"learning_rate": 0.5}}, r"grpo\.learning_rate: 0\.01 then, 0\.5 now"),
        ({"grpo": {"beta": 0.1}}, r"grpo\.beta: None then, 0\.1 now"),
        ({"rewards": {"letters": {"fn": "tests.support.training:letters"}}}, r"rewards\.brevity\.fn: 'tests"),
        ({"seed": 3, "dtype": "bfloat16"}, r"dtype: 'float32' then, 'bfloat16' now; seed: 0 then, 3 now"),
        ({"grpo": {"max_steps": 1}}, r"grpo\.max_steps=1 is passed: there is .*checkpoint-2"),
    ],
)
def test_a_change_is_refused_with_its_key_then_and_now(
    world: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    out = tmp_path / "run"
    remember(written(world, out), out)
    (out / "checkpoint-2").mkdir()
    (out / "metrics.jsonl").touch()
    with pytest.raises(InputError, match=message) as refused:
        check_change(written(world, out, **changes), out)
    assert len(str(refused.value)) < 500


def test_a_run_without_checkpoints_cannot_become_longer(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    remember(written(world, out), out)
    (out / "metrics.jsonl").touch()
    with pytest.raises(InputError, match="has no checkpoint to go on from"):
        check_change(written(world, out, grpo={"max_steps": 4}), out)
    (out / "checkpoint-3").mkdir()
    shared = {"max_steps": 8, "steps_per_generation": 2}
    remember(written(world, out, grpo={**shared, "max_steps": 3, "save_steps": 2}), out)
    with pytest.raises(InputError, match="lies within 2 optimizer steps that share rollouts"):
        check_change(written(world, out, grpo={**shared, "save_steps": 2}), out)
