"""DPO is TRL's on pictures, sees clips, learns which answer is preferred, and refuses pairs that are none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.testing import assert_close
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, user_prompt
from mmrl.core.config import InputError
from mmrl.core.media.image import load_image
from mmrl.core.vision import VisionBudget
from mmrl.model.encoding import chat_text
from mmrl.model.policy import LoraSettings, adapted
from mmrl.trainers.dpo import MultimodalDPOTrainer
from mmrl.trainers.preferences import as_pairs, of_one_turn, relabelled, sides
from tests.mmrl.grpo.test_stock_trl import lively
from tests.support.runs import assert_same_run, assert_same_weights
from tests.support.training import config, material, metrics, preferences, trained

STAGE = {"per_device_train_batch_size": 4, "max_steps": 5, "save_steps": 2}
TRL = {
    **{"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "logging_steps": 1},
    **{"save_strategy": "no", "per_device_train_batch_size": 2, "lr_scheduler_type": "constant", "max_length": None},
}
ANSWERS = ["the 7 is here", "I see two digits"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def preferred(mixed_samples: list[Sample]) -> list[Sample]:
    """The mixed samples with two answers each, of which the second is preferred."""
    return [replace(s, task="preference", answer={"candidates": ANSWERS, "preferred": 1}) for s in mixed_samples]


def trainer(out: Path, model: Any, processor: Any, samples: list[Sample], budget: VisionBudget, **dpo: Any) -> Any:
    args = DPOConfig(output_dir=str(out), **(TRL | dpo))
    return MultimodalDPOTrainer(model, processing_class=processor, args=args, train_dataset=samples, budget=budget)


def moved(model: Any) -> Any:
    """The model some way from where it was, as after training: else the loss is log 2 whatever it reads."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.02)
    return model


def logged(run: Any, rows: list[Any]) -> dict[str, float]:
    """The loss of a batch, and what TRL logs of it."""
    run.model.train()
    with torch.no_grad():
        loss = float(run.compute_loss(run.model, run.data_collator(rows)))
    return {"loss": loss, **{name: values[-1] for name, values in run._metrics["train"].items()}}


def test_log_probs_and_loss_on_pictures_are_those_of_stock_trl(
    preferred: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = lively(budget)
    pictures = preferred[1:3]
    ours = trainer(tmp_path, copy.deepcopy(model), processor, pictures, budget)
    moved(ours.model)
    end = processor.tokenizer.eos_token
    rows = [
        {
            "prompt": chat_text(processor, sample.prompt),
            "chosen": ANSWERS[1] + end,
            "rejected": ANSWERS[0] + end,
            "images": [load_image(media) for media in sample.media],
        }
        for sample in pictures
    ]
    stock: Any = DPOTrainer(
        moved(copy.deepcopy(model)),
        ref_model=copy.deepcopy(model),
        args=DPOConfig(output_dir=str(tmp_path), **TRL),
        train_dataset=Dataset.from_list([{"id": 0}, {"id": 1}]).with_transform(
            lambda batch: {name: [rows[i][name] for i in batch["id"]] for name in rows[0]}
        ),
        processing_class=processor,
    )
    expected, got = logged(stock, rows), logged(ours, list(ours.train_dataset))
    assert expected["loss"] != pytest.approx(np.log(2), abs=1e-2)
    for name in ("loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected"):
        assert_close(got[name], expected[name], atol=1e-4, rtol=0)


def test_a_masked_clip_moves_the_loss(preferred: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    run = trainer(tmp_path, *lively(budget), preferred[3:4], budget)
    moved(run.model)
    batch = run.data_collator(list(run.train_dataset))
    with torch.no_grad():
        seen = float(run.compute_loss(run.model, dict(batch)))
        batch["pixel_values_videos"] = torch.zeros_like(batch["pixel_values_videos"])
        masked = float(run.compute_loss(run.model, batch))
    assert abs(seen - masked) > 1e-3


@pytest.mark.parametrize("way", ["copy", "adapters", "precomputed"])
def test_every_reference_is_the_model_before_the_first_step(
    way: str, preferred: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """A batch with text, pictures and a clip: the loss begins at log 2 and falls, every pair is ranked right."""
    model, processor = lively(budget)
    model = adapted(model, lora=LoraSettings(r=4)) if way == "adapters" else model
    settings = {"max_steps": 6, "learning_rate": 1e-2 if way == "adapters" else 1e-3}
    settings |= {"per_device_train_batch_size": len(preferred), "precompute_ref_log_probs": way == "precomputed"}
    run = trainer(tmp_path, model, processor, preferred, budget, **settings)
    assert (run.ref_model is None) == (way != "copy")
    run.train()
    steps = [line for line in run.state.log_history if "loss" in line]
    assert_close(steps[0]["loss"], float(np.log(2)), atol=1e-4, rtol=0)
    assert steps[-1]["loss"] < 0.3
    assert (steps[-1]["rewards/accuracies"], len(preferred)) == (1.0, 5)


def test_every_other_candidate_is_a_pair_with_the_preferred_one() -> None:
    answer = {"candidates": ["a", "b", "c"], "preferred": 1}
    pairs = as_pairs([Sample("x", "s", "preference", user_prompt("?"), answer, (), {"task": "count"})])
    assert [(pair.id, pair.task, pair.answer["candidates"]) for pair in pairs] == [
        ("x#0", "count", ["b", "a"]),
        ("x#2", "count", ["b", "c"]),
    ]


def test_a_pair_is_asked_for_the_score_of_either_side_and_the_answer_is_swapped() -> None:
    """The vector of 2410.08067: (A, 9), (B, 7) become {goal 9: A > B}, {goal 7: B > A}; ties are left out."""
    answer, scores = {"candidates": ["A", "B", "C"], "preferred": 0}, {"scores": [9, 7, 7]}
    asked = user_prompt("Which?", ["image"])
    pairs = relabelled([Sample("x", "s", "preference", asked, answer, (), {"task": "count", **scores})])
    goals = [(pair.prompt[0]["content"][0]["text"], sides(pair.answer)) for pair in pairs[:2]]
    assert goals == [("Overall score: 9", ("A", "B")), ("Overall score: 7", ("B", "A"))]
    assert len(pairs) == 4
    assert all((pair.prompt[0]["role"], pair.prompt[1:], pair.task) == ("system", asked, "count") for pair in pairs)
    assert len({pair.id for pair in pairs}) == 4


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (None, "sample x has no meta.scores, which relabelling asks for"),
        ([1, 1], "there is nothing to relabel"),
        ([0.1 + 0.2, 0.3], "there is nothing to relabel"),  # asked for the same score, which both sides would have
        ([10**400, 1], "meta.scores must be 2 finite numbers"),
    ],
)
def test_what_cannot_be_relabelled_is_refused(scores: Any, message: str) -> None:
    answer = {"candidates": ["A", "B"], "preferred": 0}
    with pytest.raises(InputError, match=message):
        relabelled([Sample("x", "s", "preference", user_prompt("?"), answer, (), {"scores": scores})])


@pytest.mark.parametrize(
    ("task", "answer", "meta", "message"),
    [
        ("count", {"number": 2.0}, {}, "is of the task 'count'; pairs are read from samples of the task 'preference'"),
        ("preference", {"candidates": ["a", " a\n"], "preferred": 0}, {}, "candidates 0 and 1 are equal"),
        ("preference", {"candidates": ["a"], "preferred": 0}, {}, r"list of at least two texts, got \['a'\]"),
        ("preference", {"preferred": 0}, {}, "list of at least two texts, got None"),
        ("preference", {"candidates": ["a", ""], "preferred": 0}, {}, "candidate 1 must be a text that is not blank"),
        ("preference", {"candidates": ["a", 7], "preferred": 0}, {}, "candidate 1 must be a text .*, got 7"),
        ("preference", {"candidates": ["a", "b"], "preferred": 2}, {}, "one of 2 candidates, from 0, got 2"),
        ("preference", {"candidates": ["a", "b"], "preferred": True}, {}, "from 0, got True"),
        ("preference", {"candidates": ["right", "wrong"], "preferred": 0}, {"pair": "p"}, "one side of a pair of pict"),
    ],
)
def test_what_is_no_pair_is_refused_by_name(task: str, answer: dict[str, Any], meta: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^sample x.*{message}"):
        as_pairs([Sample("x", "s", task, user_prompt("?"), answer, (), meta)])


def test_an_answer_of_several_turns_is_no_answer_of_one() -> None:
    answer, place = {"candidates": ["A", "B"], "preferred": 0}, {"of_turns": True}
    with pytest.raises(InputError, match=r"^sample x has an answer of several turns without what tools returned"):
        of_one_turn([Sample("x", "s", "preference", user_prompt("?"), answer, (), place)])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions in `data`, the same with two answers in `preferences`, a model."""
    out = material(tmp_path_factory.mktemp("world"), "tivp" * 2)
    write_dataset(preferences("tivp" * 2, out / "more"), out / "preferences")
    return out


def stages(world: Path, place: Path, **changes: Any) -> Path:
    blocks = {"sft": {**STAGE, "max_steps": 2}, "dpo": STAGE, "grpo": {**STAGE, "max_steps": 2, "beta": 0.1}}
    return config(world, place, **{"preferences": {"path": str(world / "preferences")}, **blocks, **changes})


ADAPTERS = pytest.param({"lora": {"r": 4, "dropout": 0.1}}, marks=pytest.mark.slow, id="adapters")


@pytest.mark.parametrize("more", [pytest.param({}, id="full"), ADAPTERS])
def test_killed_during_a_save_it_ends_where_it_would_have_ended(world: Path, tmp_path: Path, more: Any) -> None:
    """Three stages from one config; the reference is the model of the warm-up, not that of the checkpoint."""
    whole = trained(stages(world, tmp_path / "whole.yaml", **more))
    broken = stages(world, tmp_path / "broken.yaml", **more)
    trained(broken, dies=True, DIE_OPENING="dpo/.saving/checkpoint-4/trainer_state.json")
    assert_same_run(whole, trained(broken))
    for stage in ("sft", "dpo"):
        assert metrics(whole / stage) == metrics(tmp_path / "broken" / stage)
        assert_same_weights(whole / stage, tmp_path / "broken" / stage)
    losses = [line["loss"] for line in metrics(whole / "dpo")]
    assert (len(losses), round(losses[0], 3)) == (5, 0.693)
    assert losses[-1] < 0.6
    card = (whole / "dpo" / "final" / "README.md").read_text()
    assert "trained by direct preference optimisation (DPO) for 5 steps" in card


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("beta", 0, "dpo.beta=0; it must be above 0"),
        ("loss_type", ["sigmoyd"], "dpo.loss_type: unknown loss 'sigmoyd'; did you mean sigmoid?"),
        ("loss_type", [], "dpo.loss_type=[]; it must name a loss"),
        ("loss_type", ["exo_pair"], "dpo.label_smoothing=0; exo_pair wants 0.001"),
        ("label_smoothing", 0.5, "dpo.label_smoothing=0.5; it must be at least 0 and below 0.5"),
        ("ld_alpha", 5, "dpo.ld_alpha=5; it must be in [0, 1]"),
        ("f_divergence_type", "js_divergance", "unknown divergence 'js_divergance'; did you mean js_divergence?"),
        ("use_liger_kernel", True, "dpo.use_liger_kernel=true: the package liger-kernel is missing"),
        ("max_length", 512, "dpo.max_length=512 has no effect in this trainer; remove it: nothing is truncated"),
        ("sync_ref_model", True, "the updated reference model is not in the checkpoints"),
        ("train_sampling_strategy", "group_by_length", "dpo.train_sampling_strategy=group_by_length: lengths are"),
    ],
)
def test_settings_without_effect_are_refused(
    key: str, value: Any, message: str, world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    assert message in says("train", stages(world, tmp_path / "run.yaml", dpo={**STAGE, key: value}), "--plan", status=2)


def test_an_answer_longer_than_the_model_takes_is_refused_by_name(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    [sample] = preferences("t", tmp_path / "media")
    long = replace(sample, answer={"candidates": ["digit " * 5000, "two"], "preferred": 0})
    write_dataset(iter([long]), tmp_path / "long")
    blocks = {"sft": None, "grpo": None, "preferences": {"path": str(tmp_path / "long")}}
    printed = says("train", stages(world, tmp_path / "run.yaml", **blocks), status=2)
    assert f"sample {long.id}: " in printed
    assert "tokens are more than the 4096 that the model takes" in printed


def test_relabelling_refuses_what_would_replace_its_message(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    asked = {"preferences": {"path": str(world / "scored"), "relabel": True}}
    samples = [replace(s, meta={**s.meta, "scores": [1, 9]}) for s in preferences("ti", tmp_path / "media")]
    write_dataset(iter(samples), world / "scored")
    blocks = {"sft": None, "grpo": None, "dpo": {**STAGE, "max_steps": 1}}
    out = trained(stages(world, tmp_path / "run.yaml", **asked, **blocks))
    assert len(metrics(out / "dpo")) == 1
    place = stages(world, tmp_path / "other.yaml", **asked, **blocks, prompt={"system": "Be short."})
    assert "preferences.relabel asks by a system message, which prompt.system would replace" in says(
        "train", place, status=2
    )


def test_all_stages_are_checked_before_the_first_step(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    """Without `preferences` the pairs are looked for in the data, which are questions."""
    message = says("train", stages(world, tmp_path / "run.yaml", preferences=None), status=2)
    assert "pairs are read from samples of the task 'preference'" in message
    assert not (tmp_path / "run").exists()
