"""Attention segment by segment is attention under the tree mask: outputs and gradients, whatever the lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig
from transformers.integrations.sdpa_attention import repeat_kv

from mmrl.grpo.shared_prefix import attention as shared_attention
from mmrl.grpo.shared_prefix.attention import carrier, installed, segment_attention, segments_of

SEGMENTS = [[0] * 5 + [1] * 3 + [2] * 6 + [3] + [-1] * 2, [0] * 9 + [1] * 4 + [2] * 4]  # unequal, and equal lengths
TREES = [[0] * 5 + [1] * 3 + [-1] + [2] * 2 + [3] * 3 + [4] * 3, [0] * 4 + [1] * 3 + [2] * 4 + [3] * 2 + [4] * 3 + [-1]]
PARENTS = [[0] * 9 + [1] * 5 + [3] * 3, [0] * 7 + [1] * 9 + [0]]  # at three levels; three behind one
BLOCKS = [[0, 1, 1, 1, 0] + [0] * 12, [0, 0, 1, 1, 1, 0, 2, 2, 0] + [0] * 8]


def by_tree_mask(query: Tensor, key: Tensor, value: Tensor, carried: Tensor, window: int | None) -> Tensor:
    """[R, T, H, D] of one dense mask in float64."""
    segment_RT, block_RT, parent_RT = carried[:, 0].unbind(1)
    step_RT, of_path_RTT = torch.zeros_like(segment_RT), torch.zeros(2, 17, 17, dtype=torch.bool)
    for row, parent, step, of_path in zip(segment_RT, parent_RT, step_RT, of_path_RTT, strict=True):
        paths = {0: [0]}  # each segment, and all that it goes on from
        for segment in range(int(row.max()) + 1):
            own = row == segment
            paths[segment] = [*paths[int(parent[own][0])], segment] if segment else [0]
            above = torch.isin(row, torch.tensor(paths[segment]))
            step[own] = torch.arange(int(own.sum())) + int((above & ~own).sum())
            of_path |= own[:, None] & above
    apart = step_RT[:, :, None] - step_RT[:, None]
    seen = of_path_RTT & (apart >= 0) & (apart < (window or 99))
    seen |= (block_RT[:, :, None] == block_RT[:, None]) & (block_RT[:, :, None] > 0)
    seen |= torch.eye(seen.shape[1], dtype=torch.bool)
    parts = [part.double() for part in (query, repeat_kv(key, 2), repeat_kv(value, 2))]
    return scaled_dot_product_attention(*parts, attn_mask=seen[:, None], scale=0.3).transpose(1, 2)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("tree", [True, False])
@pytest.mark.parametrize(("window", "blocks"), [(None, False), (4, False), (99, False), (None, True), (3, True)])
def test_segments_attend_as_under_a_tree_mask(
    window: int | None, blocks: bool, tree: bool, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_attention, "has_kernel", lambda query, value: kernel)
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 17, 8, requires_grad=True) for heads in (4, 2, 2))
    segment_RT, parent_RT = torch.tensor(TREES if tree else SEGMENTS), torch.tensor(PARENTS) * tree
    carried = carrier(segment_RT, torch.tensor(BLOCKS) * (segment_RT == 0) if blocks else None, parent_RT)
    ours = segment_attention(query, key, value, carried, scaling=0.3, window=window)
    dense = by_tree_mask(query, key, value, carried, window)
    weight = torch.randn(2, 17, 4, 8) * (carried[:, 0, 0] >= 0)[:, :, None, None]
    torch.testing.assert_close(ours * weight, (dense * weight).float(), atol=1e-5, rtol=1e-5)
    gradients = (torch.autograd.grad((out * weight).sum(), (query, key, value)) for out in (ours, dense))
    torch.testing.assert_close(next(gradients), next(gradients), atol=1e-5, rtol=1e-5)


def test_autocast_casts_all_three() -> None:
    query, key, value = (
        torch.randn(2, 4, 17, 8),
        torch.randn(2, 2, 17, 8),
        torch.randn(2, 2, 17, 8, dtype=torch.bfloat16),
    )
    carried = carrier(torch.tensor(SEGMENTS))
    with torch.autocast("cpu", torch.bfloat16):
        ours = segment_attention(query, key, value, carried)
    assert ours.dtype == torch.bfloat16
    whole = segment_attention(query, key, value.float(), carried)
    torch.testing.assert_close(ours.float(), whole, atol=0.05, rtol=0.05)


def test_the_layout_is_read_from_the_carrier() -> None:
    first, second = segments_of(carrier(torch.tensor(SEGMENTS)))
    assert (first.prompt, first.kept_GS.sum(1).tolist()) == (5, [3, 6, 1])
    assert second.place_GS.tolist() == [[9, 10, 11, 12], [13, 14, 15, 16]]
    assert first.block_P is None


def test_what_changes_scores_is_refused_and_other_masks_go_to_the_implementation_that_was_there() -> None:
    config: Any = AutoConfig.for_model("llama")
    config._attn_implementation = "sdpa"
    assert installed(installed(config))._attn_implementation == "segments|sdpa"
    attend = shared_attention.ALL_ATTENTION_FUNCTIONS["segments|sdpa"]
    module, query = torch.nn.Module(), torch.randn(1, 4, 17, 8)
    carried = carrier(torch.tensor(SEGMENTS[:1]))
    with pytest.raises(ValueError, match="do not support softcap"):
        attend(module, query, query, query, carried, softcap=30.0)
    with pytest.raises(ValueError, match="dropout"):
        attend(module, query, query, query, carried, dropout=0.1)
    seen = torch.ones(17, 17, dtype=torch.bool).tril()[None, None]
    plain = scaled_dot_product_attention(query, query, query, attn_mask=seen).transpose(1, 2)
    torch.testing.assert_close(attend(module, query, query, query, seen)[0], plain)
