"""Attention of packed rows, segment by segment: the completions of a prompt share its keys, and no mask is [T, T].

A packed row is a prompt followed by its completions (`packing.py`). The prompt attends to itself, causally. Every
completion attends to the whole prompt and to itself, causally. Of a tree of completions each path from the prompt to a
leaf is a completion here: the attention of tokens that paths share is computed for each and kept of the first, and all
else is computed once. Flash kernels compute the two parts of a completion's attention, each with its log-sum-exp, and
the parts are merged exactly: with l = log(exp(l1) + exp(l2)) the output is o1 exp(l1 - l) + o2 exp(l2 - l). In the
backward pass each kernel gets the merged output and log-sum-exp. Its probabilities, and so its gradients, are then
those of the whole softmax (as in Ring Attention, arXiv 2310.01889).

The segments reach the attention function in the place of a 4-D mask, which transformers passes through as it is.
Shapes: R packed rows, T packed tokens, H heads, D head dimension; in one row: P prompt tokens, G completions,
S tokens of the longest.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from mmrl.core.families import family_of
from mmrl.grpo.shared_prefix.cache import prefix_attention, prefix_of
from mmrl.model.inputs import bare, core, has_rope_index

PREFIX = "segments|"  # before the name of the implementation that serves all other attention
PADDING = -1
UNSUPPORTED = ("softcap", "s_aux", "position_bias")  # options of some architectures that change the scores
LAYERS = {"full_attention", "sliding_attention"}  # all others carry a state from token to token, or attend by chunks


@dataclass(frozen=True, slots=True)
class Segments:
    """Where the tokens of one packed row lie.

    The first `prompt` tokens are the prompt's. `place_GS` indexes the tokens of each completion, `kept_GS` is False
    behind its end, and at tokens that it shares with one before. `block_P` numbers the pictures whose tokens attend to
    each other both ways; 0 elsewhere.
    """

    prompt: int
    place_GS: Tensor
    kept_GS: Tensor
    block_P: Tensor | None


def carrier(segment_RT: Tensor, block_RT: Tensor | None = None, parent_RT: Tensor | None = None) -> Tensor:
    """[R, 1, 3, T]: what `model(attention_mask=...)` takes for packed rows. Segment 0 is the prompt, from 1 on they are
    completions or parts of them, -1 is seen by none. `block_RT` numbers the pictures of the prompt whose tokens see
    each other both ways; `parent_RT` has the segment that a token's own segment goes on from, by default the prompt."""
    none = torch.zeros_like(segment_RT)
    parts = [segment_RT, none if block_RT is None else block_RT, none if parent_RT is None else parent_RT]
    return torch.stack(parts, dim=1).unsqueeze(1)


def segments_of(carried: Tensor) -> list[Segments]:
    """The layout of every row of a `carrier`; computed once and kept on the tensor, since every layer asks for it."""
    known = getattr(carried, "segments", None)
    if known is None:
        known = [_segments(*row) for row in carried[:, 0]]
        carried.segments = known  # pyright: ignore[reportAttributeAccessIssue]
    return known


def _segments(segment_T: Tensor, block_T: Tensor, parent_T: Tensor) -> Segments:
    segments, device = segment_T.cpu(), segment_T.device
    of = [(segments == number).nonzero()[:, 0] for number in range(int(segments.max()) + 1)]
    above = [int(parent_T.cpu()[places[0]]) if len(places) else 0 for places in of]
    new, place, kept = set(range(len(of))), [], []
    for leaf in sorted(set(range(1, len(of))) - set(above)):
        path = [leaf]
        while above[path[0]]:
            path.insert(0, above[path[0]])
        place.append(torch.cat([of[number] for number in path]))
        kept.append(torch.cat([torch.full_like(of[number], number in new, dtype=torch.bool) for number in path]))
        new -= set(path)
    place_GS, kept_GS = (torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device) for rows in (place, kept))
    block_P = block_T[: len(of[0])]
    return Segments(len(of[0]), place_GS, kept_GS, block_P if bool(block_P.any()) else None)


def installed(config: Any) -> Any:
    """`config` of a model whose language part takes packed rows and shared caches from now on.

    All other rows go to the implementation that it had. It stays so: gradient checkpointing computes forwards again in
    the backward pass.
    """
    text = config.get_text_config()
    base = text._attn_implementation or "sdpa"
    if not base.startswith(PREFIX):
        name = PREFIX + base
        AttentionInterface.register(name, _attention(base))
        AttentionMaskInterface.register(name, ALL_MASK_ATTENTION_FUNCTIONS[base])
        text._attn_implementation = name
    return config


def _attention(base: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    def attention(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if (layer := prefix_of(key)) is not None:
            return prefix_attention(query, key, value, layer, scaling), None
        if attention_mask is None or not is_carrier(attention_mask, query.shape[2]):
            whole = ALL_ATTENTION_FUNCTIONS[base]
            return whole(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options)
        strange = [name for name in UNSUPPORTED if options.get(name) is not None]
        if strange or dropout:
            raise ValueError(f"packed rows do not support {', '.join(strange) or 'attention dropout'}")
        return segment_attention(
            query, key, value, attention_mask, scaling=scaling, window=options.get("sliding_window")
        ), None

    return attention


def takes_packed_rows(model: Any) -> bool:
    """Whether packed rows are right for `model` by its architecture: every layer attends to tokens alone, and a mask of
    its own is one that `Segments` describe."""
    own = has_own_mask(model) and family_of(bare(model).config).both_ways != "pictures"
    return attends(model) and not own and has_known_positions(model)


def attends(model: Any) -> bool:
    """Whether every layer of `model` attends, to tokens alone; a recurrent or convolutional state would run from one
    completion into the next, and layers that look at pictures have a mask with a row per token."""
    text = model.config.get_text_config()
    layers = getattr(text, "layer_types", None) or ()
    crossing = getattr(text, "cross_attention_layers", None)
    return set(layers) <= LAYERS and not model._is_stateful and not crossing


def has_known_positions(model: Any) -> bool:
    """Whether positions are those of text, or `get_rope_index` makes them of what `packing.py` has."""
    if not has_rope_index(model):
        return True
    return {"mm_token_type_ids", "attention_mask"} <= set(inspect.signature(core(model).get_rope_index).parameters)


def has_own_mask(model: Any) -> bool:
    """Whether the model makes masks of its own, such as of pictures whose tokens attend to each other both ways."""
    return hasattr(bare(model), "create_masks_for_generate")


def is_carrier(mask: Tensor, length: int) -> bool:
    """Whether a mask is the `carrier` of packed rows with `length` tokens."""
    return mask.dtype == torch.long and mask.shape[1:] == (1, 3, length)


def segment_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    carried: Tensor,
    *,
    scaling: float | None = None,
    window: int | None = None,
) -> Tensor:
    """[R, T, H, D] attention of packed rows; `query` is [R, H, T, D], `key` and `value` may have fewer heads. With a
    `window` a token sees as many tokens of its own sequence, itself included. Outputs at padding are 0."""
    device, groups = query.device.type, query.shape[1] // key.shape[1]
    if torch.is_autocast_enabled(device):  # it knows PyTorch's own attention, but not the kernels below
        query, key, value = (part.to(torch.get_autocast_dtype(device)) for part in (query, key, value))
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = zip(query, key, value, segments_of(carried), strict=True)
    return torch.stack([_row(*row, scale, window) for row in rows]).transpose(1, 2).contiguous()


def _row(query: Tensor, key: Tensor, value: Tensor, segments: Segments, scale: float, window: int | None) -> Tensor:
    prompt = [part[:, : segments.prompt].unsqueeze(0) for part in (query, key, value)]  # [1, H, P, D]
    own = [part[:, segments.place_GS].transpose(0, 1).contiguous() for part in (query, key, value)]  # [G, H, S, D]
    masked = segments.block_P is not None or (window or 0) in range(1, segments.prompt + own[0].shape[2])
    if masked or not has_kernel(query, value):
        prompt_P, own_GS = _by_masks(prompt, own, segments.block_P, scale, window)
    else:
        prompt_P, own_GS = _Shared.apply(*prompt, *own, scale)
    output = torch.zeros_like(value)
    output[:, : segments.prompt] = prompt_P[0]
    output[:, segments.place_GS[segments.kept_GS]] = own_GS.transpose(0, 1)[:, segments.kept_GS]
    return output


def _by_masks(
    prompt: list[Tensor], own: list[Tensor], block_P: Tensor | None, scale: float, window: int | None
) -> tuple[Tensor, Tensor]:
    """The same by masks of [P, P] and [S, P + S], for windows, pictures that attend both ways and devices without
    kernel."""
    (P, G, S), device = (prompt[0].shape[2], own[0].shape[0], own[0].shape[2]), own[0].device
    step, seen = torch.arange(P + S, device=device), torch.ones(P + S, P + S, dtype=torch.bool, device=device)
    seen = (step[:, None] >= step) & (step[:, None] - step < (window or P + S))
    of_prompt = seen[:P, :P]
    if block_P is not None:
        of_prompt = of_prompt | ((block_P[:, None] == block_P) & (block_P > 0))
    prompt_P = scaled_dot_product_attention(*prompt, attn_mask=of_prompt, scale=scale)
    key, value = (
        torch.cat([one.expand(G, -1, -1, -1), two], dim=2) for one, two in zip(prompt[1:], own[1:], strict=True)
    )
    return prompt_P, scaled_dot_product_attention(own[0], key, value, attn_mask=seen[P:], scale=scale)


class _Shared(torch.autograd.Function):
    """(prompt [1, H, P, D], completions [G, H, S, D]) of queries, keys and values of both."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        """The outputs of the prompt and of the completions."""
        q_P, k_P, v_P, q_GS, k_GS, v_GS, scale = inputs
        out_P, lse_P = _attend(q_P, k_P, v_P, True, scale)
        out_GS, lse_GS = _attend(q_GS, k_GS, v_GS, True, scale)
        seen, lse = _attend(_joined(q_GS), k_P, v_P, False, scale)
        seen, lse = _parted(seen, len(q_GS)), _parted(lse, len(q_GS))
        total = torch.logaddexp(lse_GS, lse)
        weights = ((part - total).exp().unsqueeze(-1).to(out_GS.dtype) for part in (lse_GS, lse))
        out_GS = out_GS * next(weights) + seen * next(weights)
        ctx.save_for_backward(q_P, k_P, v_P, q_GS, k_GS, v_GS, out_P, lse_P, out_GS, total)
        ctx.scale = scale
        return out_P, out_GS

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        """The gradients of the six inputs."""
        q_P, k_P, v_P, q_GS, k_GS, v_GS, out_P, lse_P, out_GS, lse_GS = ctx.saved_tensors
        grad_P, grad_GS = grads
        dq_P, dk_P, dv_P = _attend_backward(grad_P, q_P, k_P, v_P, out_P, lse_P, True, ctx.scale)
        dq_GS, dk_GS, dv_GS = _attend_backward(grad_GS, q_GS, k_GS, v_GS, out_GS, lse_GS, True, ctx.scale)
        joined = [_joined(part) for part in (grad_GS, q_GS, out_GS, lse_GS)]
        seen = _attend_backward(joined[0], joined[1], k_P, v_P, joined[2], joined[3], False, ctx.scale)
        return dq_P, dk_P + seen[1], dv_P + seen[2], dq_GS + _parted(seen[0], len(q_GS)), dk_GS, dv_GS, None


def _joined(parts: Tensor) -> Tensor:
    """[G, H, S, ...] as [1, H, G * S, ...]."""
    return parts.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _parted(whole: Tensor, count: int) -> Tensor:
    """[1, H, G * S, ...] as [G, H, S, ...]."""
    return whole[0].unflatten(1, (count, -1)).transpose(0, 1)


def has_kernel(query: Tensor, value: Tensor) -> bool:
    """Whether there is a flash kernel for such tensors that gives its log-sum-exp."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    return query.shape[-1] == value.shape[-1] and (query.device.type == "cpu" or (query.device.type == "cuda" and half))


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """(output, log-sum-exp [.., queries])."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)
    output = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
    return output[0], output[1]


def _attend_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, given the output and log-sum-exp of the whole softmax."""
    if query.device.type == "cpu":
        backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return backward(grad, query, key, value, output, lse, 0.0, causal, scale=scale)
    none = torch.zeros((), dtype=torch.long, device=query.device)  # no dropout, so no random state
    backward = torch.ops.aten._scaled_dot_product_flash_attention_backward
    lengths = (None, None, query.shape[2], key.shape[2])
    return backward(grad, query, key, value, output, lse, *lengths, 0.0, causal, none, none, scale=scale)
