"""The configs of policies that make pictures: planned, and run in miniature."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample
from data_engine.sources.editing.conditions import conditions
from data_engine.sources.editing.descriptions import descriptions
from data_engine.sources.editing.edit_pairs import edits
from mmrl.model.tiny_editors import tiny_kontext, tiny_qwen_image_edit, tiny_stable_diffusion_3, tiny_wan

CONFIGS = Path("configs/flow")
CASES: dict[str, tuple[Callable[..., Iterator[Sample]], Callable[[list[str]], Any]]] = {
    "editor": (edits, tiny_kontext),
    "editscore": (edits, tiny_kontext),
    "text_to_image": (descriptions, tiny_kontext),
    "conditions": (conditions, tiny_kontext),
    "qwen_image_edit": (edits, tiny_qwen_image_edit),
    "stable_diffusion_3": (descriptions, tiny_stable_diffusion_3),
    "wan": (partial(descriptions, video=True), tiny_wan),
}


def test_every_config_is_tried() -> None:
    names = {place.stem for place in CONFIGS.glob("*.yaml") if "flow" in yaml.safe_load(place.read_text())}
    assert names == CASES.keys(), "add the config to CASES, with the source of its data and the twin of its model"


@pytest.mark.parametrize("name", CASES)
def test_a_config_is_planned_and_runs_in_miniature(tmp_path: Path, name: str, says: Callable[..., str]) -> None:
    source, twin = CASES[name]
    write_dataset([*source(n=4, side=32), *source(n=2, side=32, split="test")], tmp_path / "data")
    twin(["an instruction"]).save_pretrained(tmp_path / "model")
    overrides = [f"model={tmp_path / 'model'}", f"output={tmp_path / 'run'}", f"data={tmp_path / 'data'}"]
    if "evaluation" in yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()):
        overrides.append(f"evaluation.data.path={tmp_path / 'data'}")
    for option, expected in (("--plan", "pictures a step"), ("--smoke", "smoke test passed")):
        assert expected in says("train", CONFIGS / f"{name}.yaml", *overrides, option)
    assert not (tmp_path / "run").exists()
