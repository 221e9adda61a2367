"""A dummy row with the media kinds that a batch lacks, so that all processes run the same modules.

Where gradients or weights are sharded (DeepSpeed ZeRO, FSDP), every process has to use every part of the model as often
as the others. A process whose batch shows no picture would leave them waiting in the vision tower for ever. Such a
batch gets one short row more, which shows the missing kinds of media. The row has no tokens to learn, so that its
gradient is zero.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image

from data_engine.schema import user_prompt
from mmrl.core.families import family_of
from mmrl.core.media.item import MediaKind
from mmrl.model.encoding import MEDIA_FIELDS, Encoded


class DummyMedia:
    """The rows to add: none if nothing is sharded, and no media of kinds that the training set does not have."""

    def __init__(self, trainer: Any, processor: Any, dataset: Dataset) -> None:
        sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        self.pixels = family_of(trainer.accelerator.unwrap_model(trainer.model).config).pixels
        self.kinds: set[MediaKind] = media_kinds(dataset) if sharded and trainer.args.world_size > 1 else set()
        self.made = functools.cache(functools.partial(dummy_prompt, processor))

    def lacking(self, rows: Sequence[Encoded]) -> list[Encoded]:
        """The rows to add to a batch of `rows`: one or none."""
        present = {kind for kind, field in self.pixels.items() if any(field in row.tensors for row in rows)}
        missing = tuple(sorted(self.kinds - present))
        return [self.made(missing)] if missing else []


def dummy_prompt(processor: Any, kinds: Sequence[MediaKind]) -> Encoded:
    """A prompt without words that shows a black picture, a black video of two frames, or both."""
    frame = np.zeros((28, 28, 3), np.uint8)
    visual: dict[str, Any] = {"images": [Image.fromarray(frame)]} if "image" in kinds else {}
    if "video" in kinds:
        clip = {"fps": 1.0, "total_num_frames": 2, "frames_indices": [0, 1], "duration": 2.0, "height": 28, "width": 28}
        visual |= {"videos": [np.stack([frame, frame])], "video_metadata": [clip], "do_sample_frames": False}
    text = processor.apply_chat_template(user_prompt("", kinds), tokenize=False, add_generation_prompt=True)
    features = processor(text=[text], return_tensors="pt", **visual)
    tensors = {key: torch.as_tensor(features[key]) for key in features if key in MEDIA_FIELDS}
    return Encoded(features["input_ids"][0].tolist(), tensors, ((28, 28),) * len(kinds))


def media_kinds(dataset: Dataset) -> set[MediaKind]:
    """The kinds of media that occur in a training set."""
    return {media["kind"] for row in dataset.with_format(None)["media"] for media in row}
