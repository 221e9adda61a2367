"""Why the trainer's scoring is not TRL's own: what stock TRL 1.16 does with a video, kept as a comparison.

Stock TRL generates with the video, then scores the completion without its pixels: the video tokens are in the prompt,
their features are not. Training runs without a warning. When this test fails, TRL has learned to see videos.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.testing import assert_close
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from data_engine.schema import Sample
from mmrl.core.media.video import load_video
from mmrl.core.vision import VisionBudget, geometry_of
from mmrl.model.encoding import Encoded, encode
from tests.mmrl.grpo.test_trainer import logps_alone, trainer
from tests.support.training import tiny_policy


class Stock(GRPOTrainer):
    """Stock TRL that keeps the inputs of its generation, and the log-probs of its scoring."""

    def _generate_single_turn(self, prompt_ids: Any, images: Any, multimodal_fields: Any, *args: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.generated_from = multimodal_fields
        return super()._generate_single_turn(prompt_ids, images, multimodal_fields, *args)

    def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._get_per_token_logps_and_entropies(model, input_ids, *args, **kwargs)
        self.scored = input_ids[0], args[0][0], args[1], result[0][0].detach()
        return result


def lively(budget: VisionBudget) -> tuple[Any, Any]:
    """A tiny model whose random weights are large enough that the media change the answers."""
    model, processor = tiny_policy(budget)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(5)
    return model, processor


def gap(ours: Tensor, other: Tensor) -> float:
    return float((ours - other).abs().max())


def test_stock_trl_scores_a_video_that_it_does_not_see(
    mixed_samples: list[Sample], budget: VisionBudget, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"per_device_train_batch_size": 2, "num_generations": 2, "max_completion_length": 8}
    settings |= {"max_steps": 1, "report_to": "none", "bf16": False, "use_cpu": True, "save_strategy": "no"}
    settings |= {"learning_rate": 1e-8, "gradient_checkpointing": False}
    sample = mixed_samples[3]
    plain, processor = lively(budget)
    row = encode(processor, sample.prompt, sample.media, budget)

    ours = trainer(tmp_path, lively(budget)[0], processor, [sample], budget, **settings)
    ours.train()
    seen, input_ids, mask, keep, logps = ours.seen[-1]  # pyright: ignore[reportAttributeAccessIssue]
    length = int(mask[0, -keep:].sum())
    assert gap(logps[0, :length], logps_alone(plain, seen[0], input_ids[0, -keep:][:length])) < 1e-4

    processor.video_processor.do_sample_frames = False  # the frames are those of our trainer
    frames = load_video(sample.media[0], budget, geometry=geometry_of(processor)).frames
    content = [part | ({"video": frames} if part["type"] == "video" else {}) for part in sample.prompt[0]["content"]]
    stock = Stock(
        lively(budget)[0],
        reward_funcs=lambda completions, **_: [float(len(completion[0]["content"])) for completion in completions],
        args=GRPOConfig(output_dir=str(tmp_path), **settings),
        train_dataset=Dataset.from_dict({"id": [0]}).with_transform(
            lambda batch: {"prompt": [[{"role": "user", "content": content}] for _ in batch["id"]]}
        ),
        processing_class=processor,
    )
    stock.train()
    ids, mask, keep, scored = stock.scored
    length = int(mask[-keep:].sum())
    completion = ids[-keep:][:length]
    assert ids[:-keep].tolist() == row.input_ids  # the same prompt, with all its video tokens
    pixels = row.tensors["pixel_values_videos"]
    assert_close(stock.generated_from["pixel_values_videos"][: len(pixels)], pixels)  # generation saw the frames
    assert gap(scored[:length], logps_alone(plain, row, completion)) > 0.01
    unseen = Encoded(row.input_ids, {}, row.seen_size)
    assert gap(scored[:length], logps_alone(plain, unseen, completion)) < 1e-4  # scoring did not
