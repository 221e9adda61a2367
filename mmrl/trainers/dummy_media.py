"""A row that shows what a batch does not, for processes that must stay in step.

Where gradients or weights are sharded (DeepSpeed ZeRO, FSDP), every process has to use every part of the model, as
often as the others: a process whose batch shows no picture would leave them waiting in the vision tower for ever. Such
a batch gets one short row more that shows the missing kinds of media; it has nothing to learn, its gradient is zero.
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
from mmrl.core.media.item import MediaKind
from mmrl.model.encoding import MEDIA_FIELDS, Encoded

FIELDS: dict[MediaKind, str] = {"image": "pixel_values", "video": "pixel_values_videos"}


class Blanks:
    """The rows to add; none where nothing is sharded, nor of kinds that the training set has nothing of."""

    def __init__(self, trainer: Any, processor: Any, dataset: Dataset) -> None:
        sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        self.processor = processor
        self.kinds: set[MediaKind] = media_kinds(dataset) if sharded and trainer.args.world_size > 1 else set()
        self.made = functools.cache(functools.partial(blank, processor))

    def beside(self, rows: Sequence[Encoded]) -> list[Encoded]:
        """What to add to a batch of `rows`: a row or none."""
        shown = {kind for kind, field in FIELDS.items() if any(field in row.tensors for row in rows)}
        missing = tuple(sorted(self.kinds - shown))
        return [self.made(missing)] if missing else []


def blank(processor: Any, kinds: Sequence[MediaKind]) -> Encoded:
    """A prompt without words that shows a black picture, a black video of two frames, or both."""
    frame = np.zeros((28, 28, 3), np.uint8)
    visual: dict[str, Any] = {"images": [Image.fromarray(frame)]} if "image" in kinds else {}
    if "video" in kinds:
        told = {"fps": 1.0, "total_num_frames": 2, "frames_indices": [0, 1], "duration": 2.0, "height": 28, "width": 28}
        visual |= {"videos": [np.stack([frame, frame])], "video_metadata": [told], "do_sample_frames": False}
    text = processor.apply_chat_template(user_prompt("", kinds), tokenize=False, add_generation_prompt=True)
    features = processor(text=[text], return_tensors="pt", **visual)
    tensors = {key: torch.as_tensor(features[key]) for key in features if key in MEDIA_FIELDS}
    return Encoded(features["input_ids"][0].tolist(), tensors, ((28, 28),) * len(kinds))


def media_kinds(dataset: Dataset) -> set[MediaKind]:
    """The kinds of media that a training set shows."""
    return {media["kind"] for row in dataset.with_format(None)["media"] for media in row}
