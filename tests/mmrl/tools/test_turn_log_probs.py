"""Log-probs of rollouts with turns are those of one plain forward of the row; results of tools are not learned."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from trl.chat_template_utils import add_response_schema

from data_engine.schema import Sample
from mmrl.core.media.image import load_image
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget, geometry_of
from mmrl.tools.settings import ToolSettings
from tests.mmrl.grpo.test_trainer import trainer
from tests.support.scripted import call, scripted
from tests.support.training import tiny_policy

TOOLS = ToolSettings(tools=["crop", "calculator"], max_turns=3)


def templated(processor: Any, template: str) -> Any:
    """`processor` with a published chat template that writes tools, that of Qwen3-VL if `native`, or with its own
    (`words`), which does not."""
    if template == "words":
        return processor
    name = "qwen3_vl" if template == "native" else template
    processor.chat_template = files("trl").joinpath(f"chat_templates/{name}.jinja").read_text()
    return processor if template == "native" else add_response_schema(processor)


def says(rollout: int, turn: int) -> str:
    """The first rollout crops twice, the second calculates, the third fails, the last answers at once."""
    boxes = [[0, 0, 28, 28], [10, 20, 50, 56]]
    turns = {
        0: [call("crop", box=box) for box in boxes],
        1: [call("calculator", expression="2*3")],
        2: [call("crop", box=[5, 5, 5, 5]) + call("nothing")],
    }
    said = turns.get(rollout, [])
    return said[turn] if turn < len(said) else "<answer>7</answer>"


def logps_of_the_whole(model: Any, processor: Any, ids: list[int], pictures: list[Image.Image]) -> torch.Tensor:
    """Log-probs of all tokens but the first from one forward, made without any of the code under test."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([ids])}
    if pictures:
        features = processor.image_processor(images=pictures, return_tensors="pt")
        inputs |= {"pixel_values": features["pixel_values"], "image_grid_thw": features["image_grid_thw"]}
    types = (inputs["input_ids"] == model.config.image_token_id).int()
    with torch.no_grad():
        logits = model(**inputs, attention_mask=torch.ones(1, len(ids)), mm_token_type_ids=types).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "plain"])
@pytest.mark.parametrize(("architecture", "template"), [("qwen2_5_vl", "words"), ("qwen3_vl", "native")])
def test_log_probs_of_turns_are_those_of_one_plain_forward(
    architecture: str, template: str, shared: bool, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget, architecture)
    templated(processor, template)
    sample = mixed_samples[1]
    sizes: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 4, "max_completion_length": 600}
    twice: dict[str, Any] = {"num_iterations": 2, "max_steps": 2, "learning_rate": 1e-9}  # old log-probs as well
    run = trainer(tmp_path, model, processor, [sample], budget, tools=TOOLS, shared_prefix=shared, **sizes, **twice)
    engine = scripted(run, says)
    run.train()

    whole = load_image(sample.media[0])
    scale = whole.width / run.seen[0][0][0].seen_size[0][0]
    boxes = [tuple(round(side * scale) for side in box) for box in ([0, 0, 28, 28], [10, 20, 50, 56])]
    crops = [whole.crop(box) for box in boxes]
    shown = [[whole, *crops], [whole], [whole], [whole]]
    assert len(engine.prompts) == 3
    assert [len(rows) for rows in engine.prompts] == [4, 3, 1]
    assert len(run.seen) == 3  # the old log-probs, and one micro-batch for each iteration
    for rows, input_ids, mask, _, logps in run.seen:
        for row, ids, valid, got in zip(rows, input_ids, mask, logps, strict=True):
            tokens = ids[valid.bool()].tolist()
            text = processor.tokenizer.decode(tokens[len(row.input_ids) :])
            number = 0 if row.behind else 1 if "2*3" in text else 2 if "nothing" in text else 3
            expected = logps_of_the_whole(model, processor, tokens, shown[number])[len(row.input_ids) - 1 :]
            assert_close(got[: len(expected)], expected, atol=1e-4, rtol=0)
    assert run.sharing.packing is run.sharing.behind is shared


def test_results_are_read_and_not_learned(mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path) -> None:
    model, processor = tiny_policy(budget)
    sizes: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 4, "max_completion_length": 600}
    run = trainer(tmp_path, model, processor, [mixed_samples[1]], budget, tools=TOOLS, **sizes)
    engine = scripted(run, says)
    run.train()
    inputs, tokenizer = run._loss_inputs, processor.tokenizer
    learned = [
        tokenizer.decode(ids[(mask * own).bool()])
        for ids, mask, own in zip(inputs["completion_ids"], inputs["completion_mask"], inputs["tool_mask"], strict=True)
    ]
    said = ["<|im_end|>".join([*(says(rollout, turn) for turn in range(3 - rollout)), ""]) for rollout in range(2)]
    assert set(said) <= set(learned)
    read = [tokenizer.decode(row) for row in engine.prompts[1]]
    assert "<tool_response>\n6\n</tool_response>" in read[1]
    assert "error: the box [5.0, 5.0, 5.0, 5.0] holds no pixel of picture 1" in read[2]
    assert "error: no tool 'nothing'; known: calculator, crop" in read[2]
    assert not any("tool_response" in text for text in learned)
    metrics = run.state.log_history[0]
    assert metrics["tools/turns"] == (3 + 2 + 2 + 1) / 4
    assert metrics["tools/calls"] == 5 / 4
    assert (metrics["tools/ok"], metrics["tools/refused"], metrics["tools/unknown_tool"]) == (0.6, 0.2, 0.2)


def test_rows_are_compared_in_both_ways_once_where_tools_return_texts(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    sizes: dict[str, Any] = {"num_generations": 4, "per_device_train_batch_size": 4, "max_completion_length": 600}
    run = trainer(tmp_path, model, processor, [mixed_samples[1]], budget, tools=TOOLS, max_steps=3, **sizes)
    scripted(run, lambda rollout, turn: call("calculator", expression="2*3") if turn == 0 else "6")
    read: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    run.train()
    assert run.sharing.behind is None
    assert len(read) == 2 + 3  # plain and packed at first, then a forward for each loss
    assert len(set(read[1:])) == 1


@pytest.mark.parametrize("architecture", ["qwen2_5_vl", "qwen3_vl"])
def test_a_video_from_a_tool_is_seen_in_scoring(
    architecture: str, mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget, architecture)
    sample, sizes = mixed_samples[3], {"num_generations": 2, "per_device_train_batch_size": 2}
    tools = ToolSettings(tools=["frames_at"], max_turns=2)
    run = trainer(tmp_path, model, processor, [sample], budget, tools=tools, max_completion_length=600, **sizes)
    scripted(run, lambda rollout, turn: call("frames_at", start=0.5, end=1.5) if rollout + turn == 0 else "7")
    plain, _ = tiny_policy(budget, architecture)
    run.train()

    cut = replace(sample.media[0], start=0.5, end=1.5)
    more = VisionBudget(fps=30.0, min_frames=2, max_frames=8, total_pixels=2**40)
    clips = [load_video(sample.media[0], budget, geometry=geometry_of(processor)), load_video(cut, more)]
    parts = [{"type": "video", "video": clip.frames} for clip in clips]
    features = processor.apply_chat_template(
        [[{"role": "user", "content": parts}]],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"video_metadata": [[clip.metadata() for clip in clips]], "do_sample_frames": False},
    )
    names = ("pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
    media = {name: torch.as_tensor(features[name]) for name in names if name in features}
    ((rows, input_ids, mask, _, logps),) = run.seen
    (place,) = [place for place, row in enumerate(rows) if row.behind]
    ids = input_ids[place][mask[place].bool()][None]
    with torch.no_grad():
        types = 2 * (ids == model.config.video_token_id).int()
        logits = plain(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=types, **media).logits[0]
    expected = logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0][len(rows[place].input_ids) - 1 :]
    assert_close(logps[place][: len(expected)], expected, atol=1e-4, rtol=0)
    assert run.sharing.behind is True
