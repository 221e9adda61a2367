"""Supervised answers that call tools: the gold calls are made, what comes of them is read, and words are learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from data_engine.dataset.shards import write_dataset
from data_engine.schema import Sample, with_id
from data_engine.sources.synthesis import digits_reading
from mmrl.core.config import InputError, load
from mmrl.core.media.image import load_image
from mmrl.core.vision import CoordinateSpace, VisionBudget
from mmrl.model.encoding import chat_text
from mmrl.tools.form import with_tools
from mmrl.tools.settings import ToolSettings
from mmrl.train.config import TrainConfig
from mmrl.train.plan import plan
from mmrl.train.stages import check, run
from mmrl.trainers.dataset import as_dataset
from mmrl.trainers.gold_turns import check_calls
from mmrl.trainers.sft import IGNORED, AnswerCollator
from rewards.prompt_form import PLAIN
from tests.conftest import stored
from tests.mmrl.tools.test_turn_log_probs import logps_of_the_whole, templated
from tests.support.training import config, material, metrics, tiny_policy

TOOLS = ToolSettings(tools=["zoom"], max_turns=2, told="Zoom in.")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    drawn = next(digits_reading(n=1, side=112, digit=24, zoom=56))
    return with_id(replace(drawn, media=(stored(drawn.media[0], tmp_path),)))


def batch(sample: Sample, tools: ToolSettings | None, budget: VisionBudget, template: str = "words") -> Any:
    """(model, processor, the inputs of a batch of two rows, of which the first is `sample`)."""
    model, processor = tiny_policy(budget, "qwen3_vl" if template == "native" else "qwen2_5_vl")
    collator = AnswerCollator(templated(processor, template), model, budget, CoordinateSpace.resized, tools=tools)
    plain = with_id(replace(sample, meta={"rationale": "I see"}))
    rows: Any = as_dataset([sample, plain])
    return model, processor, collator([rows[0], rows[1]])


@pytest.mark.parametrize("template", ["words", "native"])
def test_the_loss_of_gold_calls_is_that_of_one_plain_forward(
    template: str, sample: Sample, budget: VisionBudget
) -> None:
    model, processor, inputs = batch(sample, TOOLS, budget, template)
    labels = inputs.pop("labels")
    value = int(sample.answer["number"])
    whole = load_image(sample.media[0])
    x1, y1, x2, y2 = sample.meta["calls"][0]["parameters"]["box"]
    part = whole.crop((x1, y1, x2, y2)).resize(whole.size, 1)  # Lanczos
    ids = inputs["input_ids"][0][inputs["attention_mask"][0].bool()]
    expected = logps_of_the_whole(model, processor, ids.tolist(), [whole, part])
    with torch.no_grad():
        logits = model(**inputs).logits[0, : len(ids) - 1]
    got = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
    assert_close(got, expected, atol=1e-4, rtol=0)

    learned = processor.tokenizer.decode(labels[0][labels[0] != IGNORED])
    seen = 56 / 112 * sample_side(inputs, processor)
    box = [round(number / 56 * seen) for number in (x1, y1, x2, y2)]
    called = f'<think>I look</think><tool_call>{{"name": "zoom", "arguments": {{"box": {box}}}}}</tool_call>'
    answered = f"<think>it is a {value}</think><answer>{value}</answer>"
    assert learned.replace("<|im_end|>", "") == called + answered
    alone = processor.tokenizer.decode(labels[1][labels[1] != IGNORED])
    assert alone.replace("<|im_end|>", "") == f"<think>I see</think><answer>{value}</answer>"


def sample_side(inputs: Any, processor: Any) -> int:
    """Pixels of a side of the picture as the model sees it."""
    return int(inputs["image_grid_thw"][0][1]) * processor.image_processor.patch_size


def test_without_tools_the_answer_alone_is_learned(sample: Sample, budget: VisionBudget) -> None:
    _, processor, inputs = batch(sample, None, budget)
    learned = processor.tokenizer.decode(inputs["labels"][0][inputs["labels"][0] != IGNORED])
    assert "tool_call" not in learned
    assert len(inputs["image_grid_thw"]) == 2


def test_tools_can_be_told_of_in_words_of_ones_own(sample: Sample, budget: VisionBudget) -> None:
    for template in ("words", "native"):
        processor = templated(tiny_policy(budget)[1], template)
        text = chat_text(processor, sample.prompt, form=with_tools(PLAIN, processor, TOOLS))
        assert "Zoom in." in text
        assert "function" not in text
        schemas = chat_text(
            processor, sample.prompt, form=with_tools(PLAIN, processor, TOOLS.model_copy(update={"told": None}))
        )
        assert '"name": "zoom"' in schemas


def test_tools_run_once_for_a_row_and_every_epoch_reads_their_results(
    sample: Sample, budget: VisionBudget, tmp_path: Path
) -> None:
    model, processor = tiny_policy(budget)
    collator = AnswerCollator(processor, model, budget, CoordinateSpace.resized, tools=TOOLS)
    rows: Any = as_dataset([sample])
    row = rows[0]
    first = collator([row])
    [shown] = tmp_path.glob("*.png")
    shown.unlink()  # what zoom looks at
    assert_close(collator([row]), first)
    assert len(first["image_grid_thw"]) == 2


def calls(*made: Any) -> dict[str, Any]:
    return {"calls": list(made)}


ZOOM = {"name": "zoom", "parameters": {"box": [0, 0, 56, 56]}}


@pytest.mark.parametrize(
    ("meta", "why"),
    [
        (calls("zoom"), r"meta.calls are not \{name, parameters\}: \['zoom'\]"),
        ({"calls": 7}, r"meta.calls are not \{name, parameters\}: 7"),
        (calls({"name": "zom", "parameters": {}}), "no tool 'zom'; did you mean zoom"),
        (calls(ZOOM, ZOOM), "2 gold calls and an answer need more than rollout.max_turns=2 turns"),
    ],
)
def test_calls_that_cannot_be_made_are_refused_before_training(meta: Any, why: str, sample: Sample) -> None:
    with pytest.raises(InputError, match=f"sample {sample.id}: {why}"):
        check_calls([sample, replace(sample, meta=meta)], TOOLS)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"box": [0, 0, 56, 56], "picture": 3}, "no image 3: there are 1"),
        ({"box": "all of it"}, "the box of the gold call of zoom cannot be written"),
        ({"box": [0, 0, 56, 56], "scale": 2}, "zoom is wrong_arguments: .*scale"),
        ({"box": [5, 5, 5, 5]}, "zoom is refused: the box .* holds no pixel"),
    ],
)
def test_a_gold_call_that_fails_stops_the_training(
    parameters: Any, why: str, sample: Sample, budget: VisionBudget
) -> None:
    meta = {**sample.meta, **calls({"name": "zoom", "parameters": parameters})}
    with pytest.raises(InputError, match=f"sample {sample.id}: .*{why}"):
        batch(replace(sample, meta=meta), TOOLS, budget)


def test_a_run_learns_calls_and_answers(sample: Sample, tmp_path: Path) -> None:
    place = material(tmp_path / "world", "t")
    write_dataset([sample], tmp_path / "data")
    sft = {"max_steps": 20, "per_device_train_batch_size": 1, "report_to": "none", "save_strategy": "no"}
    blocks: dict[str, Any] = {"data": str(tmp_path / "data"), "grpo": None, "rewards": None, "sft": sft}
    blocks["rollout"] = TOOLS.model_dump(exclude_unset=True)
    given = load(TrainConfig, config(place, tmp_path / "a.yaml", **blocks))
    check(given)
    assert dict(dict(plan(given))["tools"])["in the prompt"] == "'Zoom in.'"
    run(given)
    losses = [line["loss"] for line in metrics(tmp_path / "a" / "sft")]
    assert losses[-1] < 0.6 * losses[0]
