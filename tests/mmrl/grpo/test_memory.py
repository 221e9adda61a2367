"""Media are processed once per prompt, wherever prompts cannot be shared too, and never all on the device at once."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask

from data_engine.schema import Sample
from mmrl.core.config import InputError
from mmrl.core.vision import CoordinateSpace, VisionBudget, apply_budget
from mmrl.grpo.rollout_step import by_prompt
from mmrl.grpo.rollouts import columns_of
from mmrl.grpo.shared_prefix.prefix_cache import generated
from mmrl.model.encoding import Encoded, encode
from mmrl.model.inputs import media_inputs
from mmrl.model.policy import load_policy
from mmrl.model.tiny_twins import tiny_model
from mmrl.trainers.dataset import as_dataset
from rewards import Verdict
from tests.conftest import TEXTS
from tests.mmrl.grpo.test_trainer import Recording, logps_alone, trainer
from tests.support.training import material, tiny_policy


def padding_alone(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **settings: Any) -> Any:
    """Attention that takes masks as FlashAttention does: causal, and the padding."""
    new, length = query.shape[2], key.shape[2]
    causal = getattr(module, "is_causal", True) and new > 1
    seen = torch.ones(new, length, dtype=torch.bool).tril(length - new) if causal else torch.ones(1, 1).bool()
    if attention_mask is not None:
        if attention_mask.dim() != 2:
            raise ValueError("padding is the only mask")
        seen = seen & attention_mask[:, None, None, -length:].bool() | torch.eye(new, length).bool() * (new == length)
    settings.pop("is_causal", None)
    return sdpa_attention_forward(module, query, key, value, seen.expand(len(query), 1, new, length), **settings)


class Watched(Recording):
    """Keeps how many prompts or rows had their media on the device at once."""

    at_once: list[int]

    def media(self, rows: Any, input_ids: Any, completion: int = 0) -> Any:
        self.at_once = [*getattr(self, "at_once", []), sum(bool(row.kinds) for row in rows)]
        return super().media(rows, input_ids, completion)


def pictured(samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.media and all(media.kind == "image" for media in sample.media)]


def count_pictures(processor: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures of every call of the image processor from now on."""
    counted: list[int] = []
    real = processor.image_processor.preprocess

    def preprocess(images: Any, *args: Any, **kwargs: Any) -> Any:
        counted.append(sum(len(of_prompt) for of_prompt in images))  # a list for every prompt
        return real(images, *args, **kwargs)

    monkeypatch.setattr(processor.image_processor, "preprocess", preprocess)
    return counted


def test_without_sharing_pictures_are_processed_once_per_prompt(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    apply_budget(processor, budget)
    counted = count_pictures(processor, monkeypatch)
    samples = pictured(mixed_samples)
    grpo: dict[str, Any] = {
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "steps_per_generation": len(samples),
    }
    run = trainer(tmp_path, model, processor, samples, budget, kind=Watched, shared_prefix=False, **grpo)
    counted.clear()
    run.train()
    assert not run.sharing.packing
    assert sum(counted) == sum(len(sample.media) for sample in samples)
    assert max(run.at_once) <= 4


@pytest.mark.parametrize("attention", ["padding", "sliding"])
def test_prompts_are_shared_whatever_masks_the_attention_takes(
    attention: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """FlashAttention knows padding only; a window is obeyed within each completion, though not by a shared cache."""
    model, processor = tiny_model("qwen2_5_vl", TEXTS)
    if attention == "padding":
        AttentionInterface.register("padding_alone", padding_alone)
        AttentionMaskInterface.register("padding_alone", flash_attention_mask)
        model.set_attn_implementation("padding_alone")
    else:
        text = model.config.get_text_config()
        text.sliding_window, text.layer_types = 6, ["sliding_attention"] * text.num_hidden_layers
        for layer in model.model.language_model.layers:
            layer.attention_type = layer.self_attn.layer_type = "sliding_attention"
            layer.self_attn.sliding_window = 6
        model.model.language_model.has_sliding_layers = True
    reference = copy.deepcopy(model)
    apply_budget(processor, budget)
    run = trainer(tmp_path, model, processor, pictured(mixed_samples), budget, kind=Watched, num_generations=4)
    run.train()
    # prompts beyond the window are answered the plain way, batch by batch, and nothing is decided for the others
    assert (run.sharing.packing, run.sharing.prefix_cache) == (True, True if attention == "padding" else None)
    rows, ids, mask, keep, logps = run.seen[0]
    length = int(mask[0, -keep:].sum())
    assert_close(logps[0, :length], logps_alone(reference, rows[0], ids[0, -keep:][:length]), atol=1e-4, rtol=0)


def test_prompts_are_read_a_few_at_a_time(mixed_samples: list[Sample], budget: VisionBudget) -> None:
    """The same tokens, however many prompts are on the device at once."""
    model, processor = tiny_policy(budget)
    prompts = [encode(processor, sample.prompt, sample.media, budget) for sample in mixed_samples]
    rows = [prompt for prompt in prompts for _ in range(2)]
    completions: list[Any] = []
    seen: list[int] = []

    def media(some: Any, ids: Any) -> Any:
        seen.append(len(some))
        return media_inputs(some, ids, model)

    for at_once in (None, 1, 2):
        options = {"max_new_tokens": 6, "do_sample": False}
        with torch.no_grad():
            completions.append(
                generated(model, rows, media, pad=0, device="cpu", shared=True, at_once=at_once, **options)
            )
    assert seen == [5, 1, 1, 1, 1, 1, 2, 2, 1]
    assert_close(completions[1], completions[0])
    assert_close(completions[2], completions[0])


def test_shared_prompts_are_read_a_micro_batch_at_a_time(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    grpo: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 4, "steps_per_generation": 5}
    run = trainer(tmp_path, model, processor, mixed_samples, budget, kind=Watched, **grpo)
    run.sharing.packing = run.sharing.prefix_cache = True  # as after the comparison on the first batch
    run.train()
    assert sorted(run.at_once) == [0] + [1] * 4  # of five prompts one has no media
    assert run.sharing.packing


def test_what_travels_between_processes_has_no_pictures(mixed_samples: list[Sample], budget: VisionBudget) -> None:
    processor = tiny_model("qwen2_5_vl", TEXTS)[1]
    apply_budget(processor, budget)
    place = mixed_samples[1].media[0].path
    assert place is not None
    embedded = replace(mixed_samples[1].media[0], path=None, bytes=Path(place).read_bytes())
    row = as_dataset([replace(mixed_samples[1], media=(embedded,))])[0]
    assert len(pickle.dumps(row)) > len(embedded.bytes or b"")
    encoded = encode(processor, row["prompt"], row["media"], budget)
    sent = columns_of(row, encoded, ("7", 2), {"a": Verdict(1.0)}, 0.5, False, 0, space=CoordinateSpace.resized)
    assert len(pickle.dumps(sent)) < 1500 < len(embedded.bytes or b"")


def test_attention_is_as_the_config_says(tmp_path: Path, budget: VisionBudget) -> None:
    world = material(tmp_path / "world", "t")
    model, _ = load_policy(world / "model", budget, attention="eager")
    assert model.config._attn_implementation == "eager"
    with pytest.raises(InputError, match="attention='flash'"):
        load_policy(world / "model", budget, attention="flash")


@pytest.mark.parametrize("steps", [1, 2])
def test_a_prompt_is_read_by_as_few_micro_batches_as_hold_it(
    steps: int, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    """Four prompts of four rollouts in eight micro-batches of two rows, for one optimizer step or two."""
    model, processor = tiny_policy(budget)
    grpo: dict[str, Any] = {"gradient_accumulation_steps": 8 // steps, "steps_per_generation": 8, "max_steps": steps}
    grpo |= {"num_generations": 4, "per_device_train_batch_size": 2}
    run = trainer(tmp_path, model, processor, mixed_samples[:4], budget, **grpo)
    run.train()
    prompts = [{id(row) for row in rows} for rows, *_ in run.seen if len(rows) == 2]
    assert [len(prompt) for prompt in prompts] == [1] * 8
    assert len(set.union(*prompts)) == 4
    assert all(prompts[i] == prompts[i + 1] for i in range(0, 8, 2))


def test_rows_dealt_by_prompt_keep_their_tensors() -> None:
    first, two, three = (Encoded([number], {}, ()) for number in range(3))
    batches = [
        {"ids": torch.tensor([[1], [2]]), "rows": [first, two], "count": torch.tensor(6), "none": None},
        {"ids": torch.tensor([[3], [4]]), "rows": [three, two], "count": torch.tensor(6), "none": None},
        {"ids": torch.tensor([[5], [6]]), "rows": [first, three], "count": torch.tensor(6), "none": None},
    ]
    dealt = by_prompt(batches)
    assert [batch["rows"] for batch in dealt] == [[first, first], [two, two], [three, three]]
    assert torch.cat([batch["ids"] for batch in dealt]).flatten().tolist() == [1, 5, 2, 4, 3, 6]
    assert [(int(batch["count"]), batch["none"]) for batch in dealt] == [(6, None)] * 3
