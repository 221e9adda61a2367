"""The configs of the project can be planned, and every stage of them runs with a tiny twin."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from eval.config import EvalConfig
from mmrl.core.config import InputError, load, validate
from mmrl.grpo.config_checks import check_settings
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.train.config import TrainConfig, arguments_of, without_device
from mmrl.train.continuation import remember
from mmrl.verifier.pairs import preferred_edits
from rewards.suite import SuiteConfig
from tests.conftest import TEXTS
from tests.support.training import preferences, questions

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "train").glob("*.yaml"))

DATA = {
    "verifier": "pairs",
    "edit_head": "pairs",
    "reward": "preferences",
    "response_head": "preferences",
    "student": "steps",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, questions to train and to measure on, questions with two answers, and pairs of edits."""
    out = tmp_path_factory.mktemp("world")
    for part in tiny_model("qwen2_5_vl", TEXTS, size=TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)):
        part.save_pretrained(out / "model")
    asked = list(questions("i" * 8 + "ii", out / "media"))  # generations of up to 16 prompts
    asked += [choice(sample, number) for number, sample in enumerate(asked)]
    splits = ["train"] * 8 + ["test"] * 2
    made = [replace(s, meta={**s.meta, "split": split}) for s, split in zip(asked, splits * 2, strict=True)]
    write_dataset(iter(made), out / "data")
    write_dataset(preferences("tivi", out / "more"), out / "preferences")
    scored = {"steps": ["It shows one.", " It is new."], "step_scores": [1.0, 0.2]}
    write_dataset((with_id(replace(s, task="steps", answer=scored)) for s in made[:10]), out / "steps")
    pairs = [*preferred_edits(n=4, side=56), *preferred_edits(n=2, side=56, split="test")]
    write_dataset(iter(pairs), out / "pairs")
    return out


def choice(sample: Sample, number: int) -> Sample:
    """The same pictures with a question that has options."""
    asked = user_prompt(f"{number} Which digit? (A) 1 (B) 2", ["image"])
    return with_id(replace(sample, task="choice", prompt=asked, answer={"choice": "B", "options": ["1", "2"]}))


@pytest.mark.parametrize("place", CONFIGS, ids=lambda place: place.stem)
def test_a_config_opens_with_its_command_and_runs(
    place: Path, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    assert place.read_text().startswith(f"# mmrl train configs/train/{place.name}")
    data = world / DATA.get(place.stem, "data")
    overrides = [f"model={world / 'model'}", f"data={data}", f"output={tmp_path / 'run'}"]
    overrides += [f"preferences.path={world / 'preferences'}"] if "preferences: {" in place.read_text() else []
    overrides += [f"evaluation.data.path={data}"] if "evaluation: {data" in place.read_text() else []
    for option, expected in (("--plan", "memory of a process"), ("--smoke", "smoke test passed")):
        assert expected in says("train", place, *overrides, option)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "rollout",
    [
        {},
        {"tools": ["zoom"], "max_turns": 3},
        {"temperature": {"schedule": "cosine", "start": 1.2, "end": 0.8}},
        {"temperature": {"schedule": "ead", "head": 2}},
        {"engine": "vllm", "vllm": {"base_url": "http://localhost:1"}},
        {"tools": ["calculator"], "max_turns": 3},
    ],
)
def test_the_config_that_a_run_remembers_can_be_given_again(rollout: dict[str, Any], tmp_path: Path) -> None:
    values = {"model": "m", "data": "d", "output": str(tmp_path), "rollout": rollout, "grpo": {"max_steps": 1}}
    config = TrainConfig.model_validate(values)
    remember(config, tmp_path)
    assert load(TrainConfig, tmp_path / "config.yaml") == config
    assert TrainConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grpo": {"report_to": "swanlab"}}, "grpo.report_to=swanlab: the package swanlab is missing; pip install"),
        ({"grpo": {"report_to": "tensorbord"}}, "grpo.report_to='tensorbord'; did you mean tensorboard?"),
        ({"report_to": "none"}, "report_to is a setting of TRL and belongs into a block: grpo.report_to"),
        ({"grpo": {"loss_type": "dapoo"}}, "grpo.loss_type: unknown loss 'dapoo'; did you mean dapo?"),
    ],
)
def test_settings_of_trl_that_cannot_work_are_refused_at_once(values: dict[str, Any], message: str) -> None:
    given = {"model": "m", "data": "d", "output": "o", **values}
    with pytest.raises(InputError, match=re.escape(message)):
        check(without_device(validate(TrainConfig, given, where="config")))


def check(config: TrainConfig) -> None:
    check_settings(arguments_of(config, "grpo"), "gdpo")


def test_a_suite_file_can_be_extended_whole(tmp_path: Path) -> None:
    suite = {"rewards": {"form": {"fn": "think_format"}}, "max_failed": 0.3, "min_calls": 5, "form_only": ["ocr"]}
    assert suite.keys() | {"judges"} == SuiteConfig.model_fields.keys()
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    (tmp_path / "run.yaml").write_text("extends: suite.yaml\nmodel: m\n")
    assert load(TrainConfig, tmp_path / "run.yaml", ["data=d", "output=o"]).min_calls == 5
    assert load(EvalConfig, tmp_path / "run.yaml", ["data.path=d", "out=o"]).max_failed == 0.3
