"""The `prompt:` block reaches the model in the warm-up, in GRPO and in evaluation, and is part of what a run is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from data_engine.dataset.card import card
from data_engine.dataset.shards import prompt_of, read_manifest, read_samples
from data_engine.engine.pipeline import run as build
from data_engine.recipe import Recipe
from data_engine.schema import Sample
from eval.answer.backends import local_generator
from eval.config import EvalConfig
from eval.records import read_records, read_run
from eval.run import asking, sample_set
from eval.run import run as evaluate
from mmrl.core.config import InputError, load, validate
from mmrl.model.policy import load_policy
from mmrl.model.tiny_twins import QWEN_TEMPLATE, tiny_model
from mmrl.train.asked import Asked
from mmrl.train.config import TrainConfig
from mmrl.train.stages import check, grpo_trainer, sft_trainer
from mmrl.train.stages import run as train
from mmrl.trainers.dataset import as_dataset
from rewards.stock_prompts import STOCK
from tests.conftest import TEXTS
from tests.support.judge_server import Reply, serving
from tests.support.training import VISION, config, material

THINKING = "{%- if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{%- endif %}"
PROMPT = {
    "system": "think_answer",
    "tasks": {"count": {"suffix": "number_only"}},
    "chat_template_kwargs": {"enable_thinking": False},
}
SYSTEM, SUFFIX = STOCK["think_answer"].text, STOCK["number_only"].text
RIGHT = {"right": {"fn": "number_match", "tasks": ["count"]}, "text": {"fn": "text_match", "tasks": ["text"]}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose chat template can end the thinking before it begins, and four questions."""
    out = material(tmp_path_factory.mktemp("world"), "itii")
    (out / "model" / "chat_template.jinja").write_text(QWEN_TEMPLATE + THINKING)
    return out


def loaded(world: Path, place: Path, **changes: Any) -> TrainConfig:
    return load(TrainConfig, config(world, place, **{"rewards": RIGHT, "prompt": PROMPT, **changes}))


def counting(world: Path) -> Sample:
    return next(sample for sample in read_samples(world / "data") if sample.task == "count")


def is_whole(text: str) -> bool:
    """Whether a prompt has all that PROMPT lays around the question of a count, in its places."""
    return text.startswith(f"<|im_start|>system\n{SYSTEM}<|im_end|>") and text.endswith(
        f"?\n{SUFFIX}<|im_end|>\n<|im_start|>assistant\n<think></think>"
    )


@pytest.mark.parametrize("build_trainer", [sft_trainer, grpo_trainer])
def test_both_stages_show_the_model_the_whole_prompt(
    build_trainer: Callable[..., Any], world: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    settings = loaded(world, tmp_path / "run.yaml", sft={"max_steps": 1})
    model, processor = load_policy(settings.model, settings.vision)
    sample = counting(world)
    trainer = build_trainer(settings, tmp_path / "run", model, processor, as_dataset([sample] * 4))
    row = trainer.train_dataset[0]
    if build_trainer is grpo_trainer:
        ids = trainer.generation.encode(row).input_ids
    else:
        batch = trainer.data_collator([row])
        ids = [i for i, label in zip(batch["input_ids"][0], batch["labels"][0], strict=True) if label == -100]
    assert is_whole(processor.tokenizer.decode(ids))
    assert row["prompt"] == sample.prompt, "rewards and judges see the question alone"


def test_an_evaluation_asks_in_the_same_form_and_its_protocol_says_so(world: Path, tmp_path: Path) -> None:
    values = {"model": str(world / "model"), "data": {"path": str(world / "data"), "split": "train"}, "vision": VISION}
    values |= {"rewards": RIGHT, "out": str(tmp_path / "out"), "sampling": {"max_new_tokens": 3}}
    settings = validate(EvalConfig, {**values, "prompt": PROMPT}, where="eval")
    generator = local_generator(asking(settings, sample_set(settings)), list(read_samples(world / "data")))
    assert is_whole(generator.processor.tokenizer.decode(generator.encoded(counting(world)).input_ids))
    assert is_whole(
        generator.processor.tokenizer.decode(generator.under(generator.sampling).encoded(counting(world)).input_ids)
    )
    records = evaluate(settings)
    stored = read_run(tmp_path / "out").protocol["prompt"]
    assert stored == {**PROMPT, "system": SYSTEM, "tasks": {"count": {"suffix": SUFFIX}}}
    assert "digits?" in json.dumps(records[0].prompt)
    with pytest.raises(InputError, match=r"holds records of another protocol \(prompt: "):
        evaluate(validate(EvalConfig, values, where="eval"))
    plain = evaluate(validate(EvalConfig, {**values, "out": str(tmp_path / "plain")}, where="eval"))
    assert "prompt" not in read_run(tmp_path / "plain").protocol
    assert {record.response for record in plain} != {record.response for record in records}


def test_a_server_is_asked_in_the_same_form(world: Path, tmp_path: Path) -> None:
    reply = {"choices": [{"message": {"content": "7"}}]}
    with serving(lambda body: Reply(body=json.dumps(reply).encode())) as server:
        values = {"model": "served", "engine": "openai", "server": {"base_url": server.url}, "space": "pixel"}
        values |= {"data": {"path": str(world / "data"), "split": "train"}, "rewards": RIGHT, "prompt": PROMPT}
        evaluate(validate(EvalConfig, {**values, "out": str(tmp_path / "out"), "vision": VISION}, where="eval"))
    assert len(server.bodies) == 4
    for body in server.bodies:
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        system, asked = body["messages"]
        assert system == {"role": "system", "content": [{"type": "text", "text": SYSTEM}]}
        texts = [part["text"] for part in asked["content"] if part["type"] == "text"]
        shows_a_picture = asked["content"][0]["type"] == "image_url"
        assert texts[-1].endswith(f"digits?\n{SUFFIX}" if shows_a_picture else "digits?")


def test_a_dataset_brings_the_prompt_of_its_recipe_and_a_run_may_ask_otherwise(world: Path, tmp_path: Path) -> None:
    made = {"sources": [{"fn": "digits_count", "args": {"n": 4, "side": 64}}], "prompt": PROMPT}
    build(validate(Recipe, made, where="recipe"), out=tmp_path / "data")
    assert prompt_of(tmp_path / "data").system == SYSTEM
    assert SUFFIX in card(read_manifest(tmp_path / "data"))
    assert SUFFIX not in json.dumps([sample.prompt for sample in read_samples(tmp_path / "data")])
    own = {"data": str(tmp_path / "data"), "rewards": {"right": {"fn": "number_match"}}}
    assert is_whole(Asked(loaded(world, tmp_path / "a.yaml", prompt=None, **own)).prompts()["count"])
    other = {"tasks": {"count": {"template": "Count. {question}"}}}
    (asked,) = Asked(loaded(world, tmp_path / "b.yaml", prompt=other, **own)).prompts().values()
    assert "Count. How many digits are there?<|im_end|>" in asked
    (bare,) = Asked(loaded(world, tmp_path / "c.yaml", prompt={}, **own)).prompts().values()
    assert SYSTEM not in bare


def test_a_run_goes_on_only_with_its_prompt_and_is_evaluated_with_it(world: Path, tmp_path: Path) -> None:
    small = {"max_steps": 1, "per_device_train_batch_size": 2, "max_completion_length": 3, "eval_on_start": True}
    changes = {"grpo": small, "evaluation": {"data": {"path": str(world / "data"), "split": "train", "limit": 1}}}
    settings = loaded(world, tmp_path / "run.yaml", **changes)
    train(settings)
    (step,) = (tmp_path / "run" / "eval").iterdir()
    assert read_run(step).protocol["prompt"]["system"] == SYSTEM
    assert len(read_records(step)) == 2
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["prompt"]["system"] == SYSTEM
    train(settings)
    with pytest.raises(InputError, match=r"holds a run with another config \(prompt\."):
        train(loaded(world, tmp_path / "run.yaml", **changes, prompt={}))


def test_the_plan_prints_whole_prompts_and_what_does_not_fit(
    world: Path, tmp_path: Path, says: Callable[..., str]
) -> None:
    rewards = {**RIGHT, "form": {"fn": "think_format", "weight": 0.2}}
    place = config(world, tmp_path / "run.yaml", rewards=rewards, prompt=PROMPT)
    whole = says("train", place, "--plan")
    prompt = whole.partition("prompt of the task count:\n")[2].partition("\n\nprompt of the task text:")[0]
    assert is_whole(prompt), whole
    assert "<|vision_start|><|image_pad|><|vision_end|>0 digits?" in prompt
    assert "warning" not in whole
    unasked = says("train", place, "--plan", "prompt={}")
    assert (
        "warning: rewards.form wants <think> and <answer> in answers of the task count, and 3 of 3 prompts" in unasked
    )
    assert "think_answer" in unasked
    half = says("train", place, "--plan", "prompt={tasks: {text: {suffix: think_answer}}}")
    assert "of the task count" in half
    assert "answers of the task text" not in half


def test_a_space_that_the_model_does_not_speak_is_doubted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = {"sources": [{"fn": "digits_grounding", "args": {"n": 2, "side": 64}}]}
    build(validate(Recipe, made, where="recipe"), out=tmp_path / "data")
    for part in tiny_model("qwen3_vl", TEXTS):
        part.save_pretrained(tmp_path / "model")
    own = {"rewards": {"box": {"fn": "box_iou"}}, "prompt": None}
    (doubt,) = Asked(loaded(tmp_path, tmp_path / "a.yaml", **own)).doubts()
    assert "qwen3_vl models are known to give coordinates as `per_mille` (grounding)" in doubt
    assert not Asked(loaded(tmp_path, tmp_path / "b.yaml", space="per_mille", **own)).doubts()
    values = {"model": str(tmp_path / "model"), "data": {"path": str(tmp_path / "data"), "split": "train"}}
    values |= {"rewards": own["rewards"], "out": str(tmp_path / "out"), "sampling": {"max_new_tokens": 1}}
    evaluate(validate(EvalConfig, {**values, "vision": VISION}, where="eval"))
    assert doubt in caplog.text


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"chat_template_kwargs": {"enable_thinkin": False}}, "does not read 'enable_thinkin'"),
        ({"tasks": {"cuont": {"suffix": "number_only"}}}, "unknown task 'cuont'; did you mean count"),
    ],
)
def test_a_prompt_without_effect_is_refused_before_the_run(
    block: dict[str, Any], message: str, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(loaded(world, tmp_path / "run.yaml", prompt=block))
    assert not (tmp_path / "run").exists()


def test_a_system_message_that_the_template_leaves_out_is_refused(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "model", tmp_path / "model")
    silent = "{%- for m in messages if m['role'] == 'user' %}{{ m['content'][-1]['text'] }}{%- endfor %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(silent)
    with pytest.raises(InputError, match="leaves the system message out"):
        Asked(loaded(world, tmp_path / "run.yaml", model=str(tmp_path / "model"), prompt={"system": "Be short."}))


def test_a_task_that_only_a_form_scores_is_not_trained_unless_the_suite_says_so(world: Path, tmp_path: Path) -> None:
    rewards = {"right": {"fn": "number_match"}, "form": {"fn": "think_format"}}  # the first abstains on texts
    with pytest.raises(
        InputError, match=r"task 'text', only form \(think_format\), right \(number_match\): .*text_match"
    ):
        check(loaded(world, tmp_path / "a.yaml", rewards=rewards))
    check(loaded(world, tmp_path / "b.yaml", rewards=rewards, form_only=["text"]))
