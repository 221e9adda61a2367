"""Families in training, by their tiny twins: a warm-up and GRPO through `mmrl train`, prompts shared or not, adapters
merged, resumed. The trained model is compared with the one on disk by the run itself."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from data_engine.dataset.shards import write_dataset
from mmrl.core.config import load
from mmrl.core.families import family_of
from mmrl.core.vision import VisionBudget
from mmrl.grpo.shared_prefix.attention import takes_packed_rows
from mmrl.grpo.shared_prefix.parity import DECIDED
from mmrl.grpo.shared_prefix.prefix_cache import takes_prefill
from mmrl.model.encoding import kinds_of
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from tests.support.families import PICTURES_ONLY, TWINS, twin
from tests.support.training import VISION, config, metrics, questions, rollouts

FAST = ("Gemma 3", "LLaVA-OneVision", "Llama 3.2 Vision")
NAMES = [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in sorted(TWINS)]
STEPS = {"max_steps": 2, "per_device_train_batch_size": 4, "save_steps": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a family: questions that it can be asked in `data`, and its twin in `model`."""
    base = tmp_path_factory.mktemp("families")

    @functools.cache
    def made(name: str) -> Path:
        place = base / "".join(letter for letter in name if letter.isalnum())
        model, processor = twin(name, VisionBudget(**VISION))
        family = family_of(model.config)
        kinds = "i" if family.equal_counts else "ip" if name in PICTURES_ONLY else "tip"
        if "video" in kinds_of(processor) - family.fails_on and family.one_kind_in != "batch":
            kinds += "v"
        write_dataset(questions((kinds * 4)[:4], place / "media"), place / "data")
        model.save_pretrained(place / "model")
        processor.save_pretrained(place / "model")
        return place

    return made


def trained(place: Path, out: Path, **changes: Any) -> Path:
    """The output of a training in this process."""
    run(load(TrainConfig, config(place, out.with_suffix(".yaml"), **changes)))
    return out


@pytest.mark.parametrize("name", NAMES)
def test_it_warms_up_and_trains_the_same_with_prompts_shared_or_not(
    name: str, worlds: Callable[[str], Path], tmp_path: Path
) -> None:
    place = worlds(name)
    model, _ = twin(name, VisionBudget(**VISION))
    grpo = {**STEPS, "num_generations": 2, "learning_rate": 1e-5}  # Adam makes a large step of a rounding
    shared = trained(place, tmp_path / "shared", sft=STEPS, grpo=grpo)
    plain = trained(place, tmp_path / "plain", sft=STEPS, grpo=grpo, rollout={"shared_prefix": False})
    assert rollouts(shared).keys() == rollouts(plain).keys()
    for ours, theirs in zip(metrics(shared), metrics(plain), strict=True):
        for key in ("loss", "grad_norm", "entropy"):
            assert_close(ours[key], theirs[key], rtol=1e-3, atol=1e-5)
    decided = (shared / "checkpoint-2" / DECIDED).read_text()
    assert f'"sharing": {str(takes_packed_rows(model)).lower()}' in decided
    window = getattr(model.config.get_text_config(), "sliding_window", None) or 4096
    undecided = window <= 64 and '"prefilling": null' in decided  # every prompt was beyond the window
    assert undecided or f'"prefilling": {str(takes_prefill(model)).lower()}' in decided


@pytest.mark.parametrize("name", NAMES)
def test_adapters_are_merged_and_a_run_goes_on_where_it_stopped(
    name: str, worlds: Callable[[str], Path], tmp_path: Path
) -> None:
    place = worlds(name)
    settings: dict[str, Any] = {"grpo": {**STEPS, "num_generations": 2}, "lora": {"r": 4}}
    out = trained(place, tmp_path / "run", **settings)
    before = metrics(out)
    shutil.rmtree(out / "final")
    shutil.rmtree(out / "checkpoint-2")
    trained(place, out, **settings)
    assert metrics(out)[-1] == before[-1]
