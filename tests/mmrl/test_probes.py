"""`mmrl eval probes` reads the states that a head scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from data_engine.dataset.shards import read_samples, write_dataset
from mmrl.core.config import load
from mmrl.core.vision import VisionBudget
from mmrl.model.policy import load_policy
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run as train
from mmrl.trainers.token_rewards import with_scores
from rewards import Rollout
from rewards.heads.checkpoint_torch import loaded
from rewards.heads.embeddings_torch import last_states
from rewards.heads.process_model import process_model
from rewards.heads.reward_model import reward_model
from tests.support.training import VISION, config, material, preferences

PLACE: Any = {"device": "cpu", "dtype": "float32", "batch": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preferences about texts, pictures and clips, the last of them held out, and a head that has learned them."""
    torch.set_num_threads(1)
    out = material(tmp_path_factory.mktemp("world"), "tivp")
    made = [
        replace(sample, meta={**sample.meta, "split": "test" if number >= 6 else "train", "dimension": "sight"})
        for number, sample in enumerate(preferences("tivp" * 2 + "iv", out / "more"))
    ]
    write_dataset(iter(made), out / "preferences")
    reward = {"per_device_train_batch_size": 3, "max_steps": 8, "save_strategy": "no", "learning_rate": 3e-3}
    blocks: dict[str, Any] = {"grpo": None, "preferences": {"path": str(out / "preferences")}}
    train(load(TrainConfig, config(out, out / "run.yaml", reward=reward, **blocks)))
    return out


@pytest.fixture(scope="module")
def head(world: Path) -> Path:
    return world / "run" / "reward" / "final"


def rollouts(world: Path) -> list[Rollout]:
    return [
        Rollout(text, prompt=sample.prompt, media=sample.media)
        for sample in read_samples(world / "preferences")
        for text in sample.answer["candidates"]
    ]


def test_a_heads_score_is_that_of_the_state(world: Path, head: Path) -> None:
    """Of answers to texts, pictures and clips, in batches of several lengths."""
    asked = rollouts(world)
    states = np.stack(last_states(asked, model=str(head), **PLACE))
    weight = loaded("score", str(head)).model.score.weight.detach().double().numpy()[0]
    raw = [float(verdict.why.removeprefix("raw ")) for verdict in reward_model(asked, model=str(head))]
    assert_allclose(states @ weight, raw, atol=1e-3)


def test_so_it_is_of_a_head_that_scores_tokens(world: Path, tmp_path: Path) -> None:
    model, processor = load_policy(str(world / "model"), VisionBudget(**VISION))
    for part in (with_scores(model, processor, "process"), processor):
        part.save_pretrained(tmp_path)
    asked = rollouts(world)
    states = torch.tensor(np.stack(last_states(asked, model=str(tmp_path), **PLACE))).float()
    scores = loaded("tokens", str(tmp_path)).model.score(states).sigmoid().tolist()
    found = [verdict.score or 0.0 for verdict in process_model(asked, model=str(tmp_path), reduce="last")]
    assert_allclose(found, scores, atol=1e-5)


def test_the_page_and_the_numbers_say_what_is_printed(
    world: Path, head: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    """What the head has learned to prefer can be read from its states."""
    files = "--json", tmp_path / "p.json", "--html", tmp_path / "p.html"
    printed = says("eval", "probes", head, world / "preferences", *files)
    found = json.loads((tmp_path / "p.json").read_text())
    [row] = found["dimensions"]
    assert (row["dimension"], row["classes"], row["learned"], row["n"], row["mean"]) == ("sight", 2, 12, 8, 1.0)
    assert (row["most_frequent"], found["unread"]) == (0.5, 0)
    assert [len(place["states"][0]) for place in found["centroids"]] == [32, 32]
    assert all("sight" in text and "1.000" in text for text in (printed, (tmp_path / "p.html").read_text()))
    none = says("eval", "probes", head, world / "preferences", "--tau", "0")
    assert "100.0% of the held-out answers are further than 0.000" in none


def test_what_cannot_be_probed_is_refused(world: Path, head: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    data = world / "preferences"
    assert "no checkpoint at" in says("eval", "probes", tmp_path / "nowhere", data, status=2)
    assert "no labelled answers at" in says("eval", "probes", head, tmp_path / "nowhere", status=2)
    assert "holds no sample of the task preference" in says("eval", "probes", head, world / "data", status=2)
    line = {"prompt": "?", "completion": " ", "answer": None, "meta": {"labels": {"good": 1}}}
    (tmp_path / "blank.jsonl").write_text(json.dumps(line) + "\n")
    assert "can read none of the 1 answers" in says("eval", "probes", head, tmp_path / "blank.jsonl", status=2)
