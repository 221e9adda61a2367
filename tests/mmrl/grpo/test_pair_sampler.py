"""GCPO in the trainer: both sides of a pair are in one generation batch; settings that would separate them fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.utils import RepeatSampler

from data_engine.dataset.pairs import pair_places
from data_engine.dataset.shards import read_samples, write_dataset
from data_engine.schema import Sample, from_row, to_row
from mmrl.advantages.gcpo import gcpo
from mmrl.core.config import InputError, load
from mmrl.grpo.pair_sampler import PairSampler, pair_labels, pair_metrics
from mmrl.model.tiny_twins import TinySize, tiny_model
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.verifier.pairs import preferred_edits
from tests.conftest import TEXTS
from tests.support.training import config, metrics, rollouts, trained

REWARDS = {
    "score": {"fn": "tests.mmrl.grpo.test_pair_sampler:vowels"},
    "brevity": {"fn": "tests.support.training:brevity", "weight": 0.5},
}
GCPO = {"name": "gcpo", "options": {"compared_K": ["score"]}}


def vowels(rollouts: Any) -> list[Any]:
    """The share of vowels; no readable score where the completion has none. Dies as `letters` does."""
    from rewards.base import unparsed
    from tests.support.training import letters

    return [score or unparsed("no vowel") for score in letters(rollouts)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs, their first sides in front of all second ones, and a tiny random model."""
    out = tmp_path_factory.mktemp("pairs")
    samples = list(preferred_edits(n=8, side=28))
    write_dataset([*samples[::2], *samples[1::2]], out / "data")
    size = TinySize(hidden=32, mlp=64, heads=2, vision_hidden=16, vocab=400)
    for part in tiny_model("qwen2_5_vl", TEXTS, size=size):
        part.save_pretrained(out / "model")
    return out


def settings(processes: int = 1, **grpo: Any) -> dict[str, Any]:
    block = {"max_steps": 3, "save_strategy": "no", "per_device_train_batch_size": 8 // processes} | grpo
    return {"rewards": REWARDS, "advantages": GCPO, "grpo": block}


@pytest.fixture(scope="module")
def alone(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(config(world, tmp_path_factory.mktemp("alone") / "run.yaml", **settings()))


def recomputed(rows: list[dict[str, Any]], metas: dict[str, Any]) -> np.ndarray:
    """The advantages of a rollout file's groups of two, from its scores alone."""
    rewards_PGK = np.array([[row["score/score"], row["score/brevity"]] for row in rows]).reshape(-1, 2, 2)
    batch = batch_of([metas[row["id"]] for row in rows[::2]], [row["kind/score"] == "unparsed" for row in rows])
    return gcpo(rewards_PGK, [1.0, 0.5], compared_K=[True, False], **batch).ravel()


def batch_of(metas_P: list[dict[str, Any]], failed: list[bool]) -> dict[str, Any]:
    """The batch data of GCPO for groups of two."""
    sides = {"pairs_P": pair_labels(metas_P), "preferred_P": [meta["preferred"] for meta in metas_P]}
    return {**sides, "failed_PG": np.array(failed).reshape(-1, 2)}


@given(pairs=st.integers(2, 9), batch=st.integers(1, 4), group=st.integers(1, 3), repeat=st.integers(1, 2))
def test_a_batch_holds_whole_pairs(pairs: int, batch: int, group: int, repeat: int) -> None:
    places = [(2 * i, 2 * i + 1) for i in range(pairs)]
    sampler = PairSampler(RepeatSampler(range(2 * pairs), group, 2 * batch, repeat, seed=1), places)
    drawn, size = list(sampler), 2 * batch * group
    assert len(drawn) == len(sampler) == pairs // batch * size * repeat
    for start in range(0, len(drawn), size):
        chunk = drawn[start : start + size]
        assert sorted(chunk) == sorted(place for place in set(chunk) for _ in range(group))
        assert {place ^ 1 for place in chunk} == set(chunk)
        assert all(len(set(chunk[i : i + group])) == 1 for i in range(0, size, group))


def test_chains_are_compared_with_the_other_side(world: Path, alone: Path) -> None:
    """The advantages on disk are those that the scores on disk give; both sides of each pair are in the step."""
    steps, metas = rollouts(alone), {sample.id: sample.meta for sample in read_samples(world / "data")}
    assert len(steps) == 3
    for rows in steps.values():
        got = np.array([row["advantage"] for row in rows])
        np.testing.assert_allclose(got, recomputed(rows, metas), atol=1e-6)
    assert any(np.any([row["advantage"] for row in rows]) for rows in steps.values())
    assert {"pairs/right", "pairs/dead", "pairs/unread"} <= set(metrics(alone)[0])


def test_two_processes_do_what_one_does(world: Path, alone: Path, tmp_path: Path) -> None:
    both = trained(config(world, tmp_path / "two.yaml", **settings(2)), processes=2)
    for name, rows in rollouts(alone).items():
        others = rollouts(both)[name]
        assert [row["completion"] for row in others] == [row["completion"] for row in rows]
        np.testing.assert_allclose([r["advantage"] for r in others], [r["advantage"] for r in rows], atol=1e-6)
    for first, two in zip(metrics(alone), metrics(both), strict=True):
        assert two["loss"] == pytest.approx(first["loss"], abs=1e-5, rel=1e-4)
        assert {k: v for k, v in two.items() if k.startswith("pairs/")} == pytest.approx(
            {k: v for k, v in first.items() if k.startswith("pairs/")}
        )


def test_one_pair_may_lie_on_two_processes(world: Path, tmp_path: Path) -> None:
    """Two groups of two a step: each process has one side."""
    first = trained(config(world, tmp_path / "one.yaml", **settings(1, per_device_train_batch_size=4)))
    two = trained(config(world, tmp_path / "two.yaml", **settings(2, per_device_train_batch_size=2)), processes=2)
    for name, rows in rollouts(first).items():
        np.testing.assert_allclose(
            [r["advantage"] for r in rollouts(two)[name]], [r["advantage"] for r in rows], atol=1e-6
        )


def test_a_run_that_was_killed_resumes_exactly(world: Path, alone: Path, tmp_path: Path) -> None:
    broken = config(world, tmp_path / "run.yaml", **settings(save_strategy="steps", save_steps=1))
    trained(broken, dies=True, DIE_AT="2")
    trained(broken)
    assert metrics(tmp_path / "run") == metrics(alone)
    assert rollouts(tmp_path / "run") == rollouts(alone)


def torn(samples: list[Sample], fault: str) -> Iterator[Sample]:
    rows = [to_row(sample) for sample in samples]
    metas = [json.loads(row["meta"]) for row in rows]
    if fault == "one side":
        rows, metas = rows[1:], metas[1:]
    elif fault == "two preferred":
        metas[0]["preferred"] = metas[1]["preferred"] = True
    elif fault == "three sides":
        metas[2]["pair"] = metas[0]["pair"]
    else:
        del metas[0]["pair"]
    for row, meta in zip(rows, metas, strict=True):
        yield from_row(row | {"meta": json.dumps(meta)})


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("one side", "must have two, one of them preferred; is it cut"),
        ("two preferred", "must have two, one of them preferred"),
        ("three sides", "must have two, one of them preferred"),
        ("no label", "pairs are wanted"),
    ],
)
def test_samples_that_are_not_pairs_are_refused(fault: str, message: str, world: Path, tmp_path: Path) -> None:
    write_dataset(torn(list(preferred_edits(n=2, side=28)), fault), tmp_path / "data")
    with pytest.raises(InputError, match=message):
        check(load(TrainConfig, config(world, tmp_path / "run.yaml", **settings()), [f"data={tmp_path / 'data'}"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("grpo.per_device_train_batch_size=6", "a generation has 3 prompts"),
        ("rollout={refills: 1}", "rollout.refills=1 cannot be combined with gcpo"),
        ("rollout={inject: {}}", "rollout.inject cannot be combined with gcpo"),
        ("advantages.options={compared_K: [sore]}", "compared_K: no reward 'sore'; there are brevity, score"),
        ("advantages.options={compared_K: true}", "give a list of the rewards to compare: brevity, score"),
        ("limit=3", "is it cut by `limit`"),
    ],
)
def test_what_would_tear_pairs_apart_is_refused(change: str, message: str, world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", **settings())
    with pytest.raises(InputError, match=message):
        check(load(TrainConfig, place, [change]))


def test_the_log_says_how_often_the_preferred_side_wins() -> None:
    """Four chains: 0.8 and 0.4 against 0.4 and 0.2 win three times and tie once; one that is not read is left out."""
    metas = [{"pair": "a", "preferred": False}, {"pair": "a", "preferred": True}]
    scores = torch.tensor([[[0.4], [0.2]], [[0.8], [0.4]]])
    batch = batch_of(metas, [False] * 4)
    assert pair_metrics(scores, torch.ones(2, 2), batch, None) == {
        "pairs/right": 0.875, "pairs/dead": 0.0, "pairs/unread": 0.0,
    }  # fmt: skip
    batch = batch_of(metas, [False, True, False, False])
    assert pair_metrics(scores, torch.zeros(2, 2), batch, [True])["pairs/right"] == 0.75


def test_half_a_pair_in_an_evaluation_is_in_no_pair() -> None:
    metas = [{"pair": 1, "preferred": True}, {"pair": 2, "preferred": True}, {"pair": 2, "preferred": False}]
    assert pair_labels(metas, whole=False) == [None, 2, 2]


def test_pairs_are_named_in_the_order_they_appear() -> None:
    metas = [{"pair": p, "preferred": w} for p, w in (("a", True), ("b", False), ("a", False), ("b", True))]
    assert pair_places(["1", "2", "3", "4"], metas) == [(0, 2), (3, 1)]
