"""`mmrl train` of a tiny editor: what is refused and recorded, and runs that are killed or run by two processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, user_prompt, with_id
from data_engine.sources.editing.descriptions import descriptions
from data_engine.sources.editing.edit_pairs import edits
from eval.records import read_records
from eval.run import EvalConfig
from eval.run import run as evaluate
from mmrl.core.config import InputError, load, validate
from mmrl.core.media.image import load_image
from mmrl.core.media.item import Media, MediaKind
from mmrl.core.media.pictures import as_media
from mmrl.flow.algorithms import ALGORITHMS
from mmrl.flow.arguments import FlowArguments
from mmrl.flow.monitor import MEASURES, measured
from mmrl.flow.trainer import FlowTrainer
from mmrl.model.flow.loading import load_editor
from mmrl.model.tiny_editors import tiny_kontext
from mmrl.pages.rollout_pages import as_page, chosen
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check
from mmrl.train.stages import run as train
from mmrl.trainers.callbacks import read_metrics
from mmrl.trainers.dataset import as_dataset, training_samples
from rewards import Rollout, Suite, Verdict
from rewards.base import abstain
from tests.support.training import metrics, rollouts, trained

CHANGES = ["red", "invert"]
STEPS = {"use_cpu": True, "logging_steps": 1, "learning_rate": 1e-3, "max_steps": 4, "save_steps": 2}
FLOW: dict[str, Any] = {"per_device_train_batch_size": 2, "num_generations": 3, "sampling_steps": 2}
AVERAGED = {"ema_decay": 0.9, "ema_steps": 2}


def bright(rollouts: list[Rollout]) -> list[float]:
    return [np.asarray(load_image(rollout.made[0])).mean().item() / 255 for rollout in rollouts]


def unsure(rollouts: list[Rollout]) -> list[Verdict]:
    return [abstain("I cannot tell")] * len(rollouts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of edits and a tiny editor with random weights."""
    out = tmp_path_factory.mktemp("world")
    samples = list(edits(n=12, side=8, changes=CHANGES))
    write_dataset(samples, out / "data")
    tiny_kontext([sample.answer["instruction"] for sample in samples]).save_pretrained(out / "model")
    return out


def config(world: Path, place: Path, *, flow: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A config in `place` with its output next to it."""
    values = {
        "model": str(world / "model"),
        "data": str(world / "data"),
        "output": str(place.with_suffix("")),
        "rewards": {
            "match": {"fn": "edit_match"},
            "bright": {"fn": f"{__name__}:bright"},
            "death": {"fn": "tests.support.training:letters", "weight": 0},
        },
        "flow": {**STEPS, **FLOW, **(flow or {})},
        **changes,
    }
    place.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
    return place


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "final" / "transformer" / "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sft = {**STEPS, "max_steps": 2, "per_device_train_batch_size": 4}
    return trained(config(world, tmp_path_factory.mktemp("whole") / "run.yaml", sft=sft, flow=AVERAGED))


def test_a_killed_run_ends_as_an_undisturbed_one(world: Path, undisturbed: Path, tmp_path: Path) -> None:
    sft = {**STEPS, "max_steps": 2, "per_device_train_batch_size": 4}
    place = config(world, tmp_path / "run.yaml", sft=sft, flow=AVERAGED)
    trained(place, dies=True, DIE_AT="3")
    out = trained(place)
    assert metrics(out) == metrics(undisturbed)
    assert rollouts(out) == rollouts(undisturbed)
    assert all(torch.equal(value, weights(undisturbed)[name]) for name, value in weights(out).items())


def test_two_processes_draw_and_learn_as_one(world: Path, tmp_path: Path) -> None:
    flow = {"max_steps": 2, "per_device_train_batch_size": 1, "algorithm": "flow_grpo", **AVERAGED}
    two = trained(config(world, tmp_path / "two.yaml", flow=flow), processes=2)
    one = trained(config(world, tmp_path / "one.yaml", flow=flow | {"per_device_train_batch_size": 2}))
    for file, rows in rollouts(one).items():
        for row, other in zip(rows, rollouts(two)[file], strict=True):
            assert (row["id"], row["draw"]) == (other["id"], other["draw"])
            assert row["advantage"] == pytest.approx(other["advantage"], abs=1e-3)
    for name, value in weights(one).items():
        assert torch.allclose(value, weights(two)[name], atol=1e-4), name
    for line, other in zip(metrics(one), metrics(two), strict=True):
        assert [line[name] for name in MEASURES] == pytest.approx([other[name] for name in MEASURES], abs=1e-4)


def test_what_pictures_show_beside_their_reward_is_measured() -> None:
    black, grey, half = (Image.new("RGB", (4, 4), colour) for colour in ("black", (51, 51, 51), (51, 51, 51)))
    half.paste("white", (0, 0, 2, 4))
    noise = Image.fromarray(np.random.default_rng(0).integers(1, 255, (4, 4, 3), dtype=np.uint8))
    row = {"id": "1", "task": "edit", "media": [as_media(black), as_media(grey)]}
    text = {"id": "2", "task": "text_to_image", "media": []}
    found = measured([[black], [grey], [half], [black]], [row, row, row, text])
    assert found[:3] == [[1, 1, 0], [1, 0, 0], [0, 0, pytest.approx(0.4)]]  # half of it is white instead of 0.2
    assert found[3][:2] == [1, 1]
    assert np.isnan(found[3][2])
    assert [values[:2] for values in measured([[noise], [black, grey]], [row, text])] == [[0, 0]] * 2


def test_a_run_records_pictures_verdicts_and_advantages_and_ends_with_a_pipeline(undisturbed: Path) -> None:
    files = rollouts(undisturbed)
    assert len(files) == 4
    for rows in files.values():
        assert len(rows) == 6
        assert [row["draw"] for row in rows] == [0, 1, 2] * 2
        assert {row["made"][0]["width"] for row in rows} == {8}
        assert len({row["made"][0]["bytes"] for row in rows}) == 6
        assert [len(row["film"]) for row in rows] == [1, 0, 0] * 2
        for first in rows[::3]:  # noise and two steps
            film, picture = load_image(Media(**first["film"][0])), load_image(Media(**first["made"][0]))
            assert (film.size, film.crop((16, 0, 24, 8)).tobytes()) == ((24, 8), picture.tobytes())
        for group in (rows[:3], rows[3:]):
            assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-4)
            assert all(0 <= row["score/match"] <= 1 for row in group)
    line = metrics(undisturbed)[-1]
    assert {"reward", "rewards/match/mean", "crd/anchor", "frac_reward_zero_std", *MEASURES} <= line.keys()
    policy = load_editor(undisturbed / "final")
    sizes = {picture.size for picture in policy.pictures(*_sampled(policy))}
    assert sizes == {(8, 8)}
    assert "image-to-image" in (undisturbed / "final" / "README.md").read_text()


def test_the_page_of_a_run_shows_the_source_the_right_edit_and_what_was_made(undisturbed: Path) -> None:
    page = as_page(chosen(undisturbed, step=4, task=None, limit=9))
    assert page.count("<figcaption>gold 8×8") == page.count("<figcaption>image 1 8×8") == 2
    assert page.count("<svg") >= 2 * (2 + 3 + 1)
    assert page.count("<figcaption>step by step from noise") == 2
    assert "not shown" not in page


def test_held_out_pictures_are_made_and_scored_while_it_learns_and_the_best_weights_are_kept(
    world: Path, tmp_path: Path
) -> None:
    write_dataset(edits(n=5, side=8, changes=CHANGES, split="test"), tmp_path / "held_out")
    flow = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "edit/match"}
    flow |= {"load_best_model_at_end": True, "learning_rate": 0.02, **AVERAGED}
    place = config(world, tmp_path / "run.yaml", flow=flow, evaluation={"data": {"path": str(tmp_path / "held_out")}})
    out = trained(place)
    lines = {line["step"]: line for line in read_metrics(out / "metrics.jsonl") if "eval_reward" in line}
    assert list(lines) == [2, 4]
    best = max(lines, key=lambda step: (lines[step]["eval_edit/match"], -step))
    records = {step: read_records(out / "eval" / f"step-{step:05d}") for step in lines}
    assert all(len(some) == 5 and all(record.made for record in some) for some in records.values())
    asked = {"engine": "flow", "model": str(out / "final"), "out": str(tmp_path / "again"), "flow": {"steps": 2}}
    asked |= {"data": {"path": str(tmp_path / "held_out")}, "rewards": {"match": {"fn": "edit_match"}}}
    again = evaluate(validate(EvalConfig, asked, where="test"))
    assert {r.item_id: r.scores["match"] for r in again} == pytest.approx(
        {r.item_id: r.scores["match"] for r in records[best]}, abs=1e-4
    )
    plain = trained(config(world, tmp_path / "plain.yaml", flow={"learning_rate": 0.02}))
    assert metrics(out) == metrics(plain)


def test_a_pipeline_learns_from_texts_alone(world: Path, tmp_path: Path) -> None:
    write_dataset(descriptions(n=8, side=16, things=["square"]), tmp_path / "data")
    out = trained(
        config(
            world,
            tmp_path / "run.yaml",
            data=str(tmp_path / "data"),
            rewards={"content": {"fn": "content_match"}, "bright": {"fn": f"{__name__}:bright"}},
            sft={**STEPS, "max_steps": 1, "per_device_train_batch_size": 4},
            flow={"max_steps": 2, "algorithm": "flow_grpo"},
        )
    )
    rows = [row for file in rollouts(out).values() for row in file]
    assert len(rows) == 2 * 6
    assert all(row["media"] == [] and len(row["gold_media"]) == 1 for row in rows)
    assert {(row["made"][0]["width"], row["kind/content"]) for row in rows} == {(16, "scored")}
    page = as_page(chosen(out, step=2, task=None, limit=9))
    assert page.count("<figcaption>gold 16×16") == 2
    plain = [asked([], "a red square", "text_to_image")]
    write_dataset(plain, tmp_path / "prompts")
    flow = {"max_steps": 1, "side": 8, "per_device_train_batch_size": 1}
    prompts = {"data": str(tmp_path / "prompts"), "rewards": {"bright": {"fn": f"{__name__}:bright"}}}
    small = train(load(TrainConfig, config(world, tmp_path / "plain.yaml", flow=flow, **prompts))).parent
    assert {row["made"][0]["width"] for file in rollouts(small).values() for row in file} == {8}


def _sampled(policy: Any) -> tuple[torch.Tensor, Any]:
    condition = policy.condition(["invert the left half"], [Image.new("RGB", (8, 8), "red")])
    return policy.noise(condition, torch.Generator().manual_seed(0)), condition


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "consistency"])  # it makes no pictures
def test_without_a_verdict_nothing_is_learned(world: Path, tmp_path: Path, algorithm: str) -> None:
    silent = {"match": {"fn": f"{__name__}:unsure"}}
    flow = {"algorithm": algorithm, "num_generations": 2, "max_steps": 2}
    out = train(load(TrainConfig, config(world, tmp_path / "run.yaml", rewards=silent, flow=flow)))
    before = load_file(world / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in weights(out.parent).items())
    assert {line["steps_without_verdict"] for line in metrics(out.parent)} == {1.0}


def test_each_step_of_a_dense_algorithm_has_its_own_advantage_and_noise(world: Path, tmp_path: Path) -> None:
    rows = as_dataset(training_samples(world / "data"))
    args = FlowArguments(str(tmp_path), use_cpu=True, report_to="none", algorithm="dense_grpo", **FLOW)
    run = FlowTrainer(
        load_editor(world / "model"), rewards=Suite.of(bright), args=args, train_dataset=rows, advantages="grpo"
    )
    (batch,) = run.rollouts([{"rows": [rows[0], rows[1]]}])
    advantage_TPG = batch["advantage_TN"].view(2, 2, 3)
    assert torch.allclose(advantage_TPG.sum(dim=-1), torch.zeros(2, 2), atol=1e-4)
    assert not torch.allclose(advantage_TPG[0], advantage_TPG[1])
    assert batch["drawn"].trajectory.levels == pytest.approx([0.7, 0.7])
    assert all(level in (pytest.approx(0.735), pytest.approx(0.665)) for level in run.model.levels.tolist())
    assert run.rollouts([{"rows": [rows[2]]}])[0]["drawn"].trajectory.levels != [0.7, 0.7]
    loss, _ = run.loss_of(run.model, batch)
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in run.model.trained.parameters())


def test_adapters_are_merged_into_the_final_pipeline(world: Path, tmp_path: Path) -> None:
    place = config(world, tmp_path / "run.yaml", lora={"r": 2, "alpha": 4}, flow={"max_steps": 1, "learning_rate": 0.1})
    after = weights(train(load(TrainConfig, place)).parent)
    before = load_file(world / "model" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert after.keys() == before.keys()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_checkpointed_activations_change_no_weight(world: Path, tmp_path: Path) -> None:
    flow = {"max_steps": 1, "algorithm": "flow_grpo"}
    plain = train(load(TrainConfig, config(world, tmp_path / "plain.yaml", flow=flow)))
    flow["gradient_checkpointing"] = True
    saving = train(load(TrainConfig, config(world, tmp_path / "saving.yaml", flow=flow)))
    for name, value in weights(plain.parent).items():
        assert torch.allclose(value, weights(saving.parent)[name], atol=1e-6), name


def asked(media: list[Image.Image], text: str = "invert it", task: str = "edit") -> Sample:
    kinds: list[MediaKind] = ["image"] * len(media)
    return with_id(Sample("", "x", task, user_prompt(text, kinds), {"instruction": text}, tuple(map(as_media, media))))


def picture(width: int = 8) -> Image.Image:
    return Image.new("RGB", (width, 8))


@pytest.mark.parametrize("part", ["vae", "text_encoder", "text_encoder_2"])
def test_a_part_that_gives_nan_is_named_before_the_first_step(world: Path, tmp_path: Path, part: str) -> None:
    pipeline = load_editor(world / "model").pipeline
    for weight in getattr(pipeline, part).parameters():
        weight.data.fill_(float("nan"))
    pipeline.save_pretrained(tmp_path / "model")
    place = config(world, tmp_path / "run.yaml", model=str(tmp_path / "model"))
    with pytest.raises(InputError, match=f"the {part} of the model gives NaN for sample"):
        train(load(TrainConfig, place))
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def other_class(world: Path, out: Path) -> str:
    pipeline = load_editor(world / "model").pipeline
    pipeline.save_pretrained(out / "model")
    index = out / "model" / "model_index.json"
    index.write_text(index.read_text().replace("FluxKontextPipeline", "FluxPipeline"))
    return str(out / "model")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "algorithm": ({"flow": {"algorithm": "crt"}}, "flow.algorithm='crt'; did you mean crd"),
    "option": ({"flow": {"options": {"anker": 1}}}, "flow.options of crd: unknown key anker"),
    "key": ({"flow": {"num_generation": 3}}, "unknown key flow.num_generation"),
    "group": ({"flow": {"num_generations": 1}}, "a group needs at least 2 pictures"),
    "pairs": ({"flow": {"algorithm": "prdp"}}, "flow.num_generations=3; prdp compares pairs"),
    "average": ({"flow": {"ema_decay": 1.0}}, "flow.ema_decay=1.0; it must be at least 0 and below 1"),
    "steps": ({"flow": {"sampling_steps": 0}}, "flow.sampling_steps=0; it must be at least 1"),
    "reward": ({"rewards": {"right": {"fn": "choice_match"}}}, "rewards.right: choice_match reads what a model writes"),
    "estimator": ({"advantages": {"name": "gcpo"}}, "the estimator gcpo needs pairs_P"),
    "evaluation": ({"flow": {"eval_strategy": "steps"}}, "flow.eval_strategy=steps needs an `evaluation:` block"),
    "held-out reward": (
        {"flow": {"eval_strategy": "steps", "eval_steps": 2}, "evaluation": {"rewards": {"right": {"fn": "anls"}}}},
        "rewards.right: anls reads what a model writes",
    ),
    "grpo": ({"grpo": {}}, "flow: is for models that make pictures"),
    "space": ({"space": "unit"}, "space is for models that write"),
    "class": ({"model": other_class}, "holds a FluxPipeline; must be a FluxKontextPipeline"),
    "no pipeline": ({"model": lambda world, _: str(world / "data")}, "no model_index.json in"),
    "no source": ({"data": [asked([])]}, "must be a source picture, and perhaps its edit"),
    "no edit": ({"data": [asked([picture()])], "sft": STEPS}, "shows no picture to learn from"),
    "other task": (
        {"data": [asked([picture()], task="caption")]},
        "the data have caption",
    ),
    "two tasks": (
        {"data": [asked([picture()]), asked([], "a square", "text_to_image")]},
        "the data have the tasks edit and text_to_image; a run learns one of them",
    ),
    "two pictures": (
        {"data": [asked([picture(), picture(16)], "a square", "text_to_image")]},
        "must be nothing, or the picture that is right",
    ),
    "odd side": (
        {"data": [asked([], "a square", "text_to_image")], "flow": {"side": 10}},
        "10x10; both sides must be multiples of 4",
    ),
    "odd size": ({"data": [asked([picture(10)])]}, "10x8; both sides must be multiples of 4"),
    "two sizes": (
        {"data": [asked([picture()]), asked([picture(16)], "blur it")]},
        "an editor's batches need one size",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_trained_is_refused_before_the_first_step(world: Path, tmp_path: Path, name: str) -> None:
    changes, words = WRONG[name]
    made: dict[str, Any] = dict(changes)
    if isinstance(make := made.get("model"), Callable):
        made["model"] = make(world, tmp_path)
    if "evaluation" in made:
        made["evaluation"] |= {"data": {"path": str(world / "data"), "split": "train"}}
    if "data" in made:
        write_dataset(made["data"], tmp_path / "data")
        made["data"] = str(tmp_path / "data")
    with pytest.raises(InputError) as caught:
        check(load(TrainConfig, config(world, tmp_path / "run.yaml", **made)))
    assert words in str(caught.value)
    assert len(str(caught.value)) <= 500
