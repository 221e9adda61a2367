"""Policies: adapters and frozen parts that reach what they say, checkpoints that lack something, the final model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from data_engine.schema import user_prompt
from mmrl.core.config import InputError, RunError, load
from mmrl.core.vision import VisionBudget
from mmrl.model.encoding import encode
from mmrl.model.loading import load_processor
from mmrl.model.policy import LoraSettings, adapted, load_policy
from mmrl.train.config import TrainConfig
from mmrl.train.stages import run
from mmrl.trainers.final import compare, next_log_probs
from tests.support.families import TWINS
from tests.support.training import config, material, metrics, rollouts, tiny_policy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return material(tmp_path_factory.mktemp("world"), "tipt")


def test_adapters_on_tied_embeddings_are_refused(budget: VisionBudget) -> None:
    for module in ("embed_tokens", "lm_head"):
        model, _ = tiny_policy(budget)  # its head is its embeddings
        with pytest.raises(InputError, match=rf"lora.target_modules reaches .*{module}, .*\(tied embeddings\)"):
            adapted(model, lora=LoraSettings(r=4, target_modules=[module]))


def test_experts_without_adapters_are_told_and_can_have_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    adapted(TWINS["Qwen3-VL-MoE"]()[0], lora=LoraSettings(r=2))
    assert "no adapters on the experts" in caplog.text
    named = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    assert all(name in caplog.text for name in named)
    caplog.clear()
    model = adapted(TWINS["Qwen3-VL-MoE"]()[0], lora=LoraSettings(r=2, target_parameters=named))
    assert "experts" not in caplog.text
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert any("experts" in name for name in trained)


@pytest.mark.parametrize("name", ["kernels-community/flash-attn", "sdpaa"])
def test_attention_that_transformers_does_not_have_itself_is_refused(name: str, world: Path) -> None:
    with pytest.raises(InputError, match="is no implementation of transformers' own; "):
        load_policy(world / "model", VisionBudget(), attention=name)


def test_a_part_without_parameters_cannot_be_frozen(budget: VisionBudget) -> None:
    model, _ = tiny_policy(budget)
    del model.model.visual
    with pytest.raises(InputError, match="freeze: qwen2_5_vl has no parameters that are known as projector or vision"):
        adapted(model, frozen=["vision", "projector"])


def test_a_tokenizer_without_end_is_refused_and_one_without_padding_pads_with_its_end(
    world: Path, tmp_path: Path
) -> None:
    processor = load_processor(world / "model")
    processor.tokenizer.pad_token = None
    processor.save_pretrained(tmp_path / "unpadded")
    assert load_processor(tmp_path / "unpadded").tokenizer.pad_token == "<|im_end|>"
    processor.tokenizer.eos_token = None
    processor.save_pretrained(tmp_path / "endless")
    with pytest.raises(InputError, match="has no end token: set eos_token"):
        load_processor(tmp_path / "endless")


def test_the_final_model_is_the_trained_one_or_the_run_stops(budget: VisionBudget, tmp_path: Path) -> None:
    model, processor = tiny_policy(budget)
    prompt = encode(processor, user_prompt("Is it new?"), (), budget)
    trained = next_log_probs(model, prompt)
    model.save_pretrained(tmp_path / "same")
    compare(tmp_path / "same", model, prompt, trained)
    with torch.no_grad():
        model.model.language_model.norm.weight.mul_(1.5)
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(RunError, match="is not the model that was trained: log-probs of the next token differ by"):
        compare(tmp_path / "other", model, prompt, trained)


HABITS: dict[str, Any] = {
    "no_repeat_ngram_size": 2, "min_new_tokens": 5, "bad_words_ids": [[40], [41]], "num_beams": 2, "max_time": 0.001,
    "forced_eos_token_id": 30, "repetition_penalty": 3.0, "return_dict_in_generate": True, "do_sample": True,
    "temperature": 0.1,
}  # fmt: skip


def test_rollouts_know_nothing_of_the_generation_config_of_a_checkpoint(world: Path, tmp_path: Path) -> None:
    import json
    import shutil

    shutil.copytree(world, tmp_path / "other")
    place = tmp_path / "other" / "model" / "generation_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | HABITS))
    grpo = {"max_steps": 1, "save_strategy": "no", "max_completion_length": 8}
    evaluation: dict[str, Any] = {"data": {"path": str(world / "data"), "split": "train", "limit": 2}}
    outs = []
    for name, source in (("plain", world), ("habits", tmp_path / "other")):
        changes = {"grpo": grpo | {"eval_on_start": True}, "evaluation": evaluation, "data": str(world / "data")}
        run(load(TrainConfig, config(source, tmp_path / f"{name}.yaml", **changes)))
        outs.append(tmp_path / name)
    drawn = [[row["completion"] for rows in rollouts(out).values() for row in rows] for out in outs]
    assert drawn[0] == drawn[1]
    assert metrics(outs[0]) == metrics(outs[1])
    records = [[file.read_text() for file in sorted(out.glob("eval/*/records.jsonl"))] for out in outs]
    answers = [[line.partition('"response"')[2].partition('"gold"')[0] for line in texts] for texts in records]
    assert answers[0] == answers[1]
