"""A key-value cache whose rollouts share their prompt: its keys exist once per group, and each step attends to them by
one matrix product per group.

Shapes: B rollouts in order of their prompts, P prompts, G rollouts of each (B = P G), L prompt tokens (left-padded),
C tokens drawn so far, K key heads, N query heads per key head, D head dimension.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class SharedPrefixLayer(DynamicLayer):
    """One layer: `prefix_keys` and `prefix_values` [P, K, L, D] of the prompts, `keys` and `values` [B, K, C, D] behind
    them, which are the first C tokens of `rooms`. So a new token does not copy those before it."""

    def __init__(self, prefix_keys: Tensor, prefix_values: Tensor, valid_PL: Tensor) -> None:
        super().__init__()
        self.prefix_keys, self.prefix_values = prefix_keys, prefix_values
        self.valid_PL = None if bool(valid_PL.all()) else valid_PL
        self.rooms = [prefix_keys[:0], prefix_values[:0]]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The tokens after the prompt; the keys carry this layer to the attention function."""
        drawn = super().get_seq_length()
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        new = (key_states, value_states)
        self.rooms = [_written(room, drawn, states) for room, states in zip(self.rooms, new, strict=True)]
        self.keys, self.values = (room[..., : drawn + key_states.shape[-2], :] for room in self.rooms)
        cast(Any, self.keys).prefix = self
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens read so far, the prompt's among them."""
        return self.prefix_keys.shape[-2] + super().get_seq_length()


def _written(room: Tensor, drawn: int, states: Tensor) -> Tensor:
    """`room` [B, K, R, D] with `states` behind the `drawn` tokens that it holds; half as large again if it is full."""
    end = drawn + states.shape[-2]
    if not drawn or end > room.shape[-2]:
        larger = states.new_empty(*states.shape[:2], max(end * 3 // 2, 64), states.shape[-1])
        if drawn:
            larger[..., :drawn, :] = room[..., :drawn, :]
        room = larger
    room[..., drawn:end, :] = states
    return room


def shares(cache: Cache) -> bool:
    """Whether every layer of a prompts' cache keeps all keys: windows and recurrent states cannot be shared so."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def shared_cache(cache: Cache, valid_PL: Tensor) -> Cache:
    """The cache of P prompts as that of their rollouts, however many each has; nothing is copied."""
    layers: list[Any] = [
        SharedPrefixLayer(cast(Any, layer).keys, cast(Any, layer).values, valid_PL) for layer in cache.layers
    ]
    return Cache(layers=layers)


def prefix_of(key: Tensor) -> SharedPrefixLayer | None:
    """The layer whose prompt belongs before `key`, if it came from a shared cache."""
    return getattr(key, "prefix", None)


def prefix_attention(
    query: Tensor, key: Tensor, value: Tensor, layer: SharedPrefixLayer, scaling: float | None
) -> Tensor:
    """[B, 1, K N, D] attention of the newest token of each rollout, `query` [B, K N, 1, D], to its prompt and to the
    tokens after it; softmax in float32."""
    (B, K, _, D), P = key.shape, len(layer.prefix_keys)
    G, N = B // P, query.shape[1] // K
    query = query.reshape(B, K, N, D) * (D**-0.5 if scaling is None else scaling)
    grouped = query.view(P, G, K, N, D).transpose(1, 2).flatten(2, 3)  # [P, K, G N, D]
    scores_prompt = (grouped @ layer.prefix_keys.transpose(-1, -2)).float()  # [P, K, G N, L]
    if layer.valid_PL is not None:
        scores_prompt = scores_prompt.masked_fill(~layer.valid_PL[:, None, None], float("-inf"))
    scores_own = (query @ key.transpose(-1, -2)).float()  # [B, K, N, C]
    scores_own = scores_own.view(P, G, K, N, -1).transpose(1, 2).flatten(2, 3)
    weights = torch.cat([scores_prompt, scores_own], dim=-1).softmax(dim=-1).to(value.dtype)
    on_prompt, on_own = weights.split([scores_prompt.shape[-1], scores_own.shape[-1]], dim=-1)
    on_own = on_own.unflatten(2, (G, N)).transpose(1, 2).reshape(B, K, N, -1)
    output = (on_prompt @ layer.prefix_values).unflatten(2, (G, N)).transpose(1, 2).reshape(B, K, N, D)
    return (output + on_own @ value).reshape(B, 1, K * N, D)
