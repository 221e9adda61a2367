"""Rotary positions of Qwen2-VL and Qwen2.5-VL as these models were pretrained.

Text behind a picture or a video goes on after the largest position in it (Qwen2-VL, arXiv:2409.12191, section 2.1: "the
maximum position ID of the preceding modality incremented by one"). transformers 5.23 goes on after the height or width
of the grid. Both agree on pictures. A video with more time positions than rows and columns of tokens differs: there
text would take the positions of later frames, and rollouts, which go on after the largest position of all, would be
scored at other positions than they were drawn.
"""

from __future__ import annotations

import functools
from itertools import groupby
from typing import Any

from torch import Tensor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLModel

PRETRAINED_SO = (Qwen2VLModel, Qwen2_5_VLModel)


def as_pretrained() -> None:
    """Give the classes of these models, and so all their instances in this process, the positions of their training."""
    for model in PRETRAINED_SO:
        if not hasattr(model.get_rope_index, "__wrapped__"):
            model.get_rope_index = _after_the_largest(model.get_rope_index)


def _after_the_largest(stock: Any) -> Any:
    """`get_rope_index` whose runs of text, picture or video each begin after the largest position before them."""

    @functools.wraps(stock)
    def rope_index(
        self: Any, input_ids: Tensor, mm_token_type_ids: Tensor, *args: Any, attention_mask: Any = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        position_3BT, delta_B1 = stock(
            self, input_ids, mm_token_type_ids, *args, attention_mask=attention_mask, **kwargs
        )
        for b, types in enumerate(mm_token_type_ids):
            kept = slice(None) if attention_mask is None else attention_mask[b].bool()
            row_3T = position_3BT[:, b, kept]
            start, after = 0, 0
            for _, run in groupby(types[kept].tolist()):
                end = start + len(list(run))
                part = row_3T[:, start:end]
                part += after - part.min()
                start, after = end, int(part.max()) + 1
            position_3BT[:, b, kept] = row_3T
            delta_B1[b] = after - row_3T.shape[1]
        return position_3BT, delta_B1

    return rope_index
