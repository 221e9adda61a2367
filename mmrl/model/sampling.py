"""Sampling that depends only on the seed and the row: not on the batch of a row, nor on the number of processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MinPLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from mmrl.core.config import RunError
from mmrl.core.families import family_of
from mmrl.model.chat import special_tokens
from mmrl.model.inputs import bare

MEDIA = ("image", "video", "audio")


class RowSampler(LogitsProcessor):
    """Samples one token per row and makes it the only possible one, so that greedy `generate` takes it.

    Row r draws its tokens with uniform numbers from a stream keyed by `keys[r]` (inverse of the cumulative
    distribution), after temperature, top-k, top-p and min-p. `temperature` is one number (0: greedy) or one for every
    new token.
    """

    def __init__(
        self,
        keys: Sequence[Sequence[int | str]],
        *,
        max_new_tokens: int,
        temperature: float | Sequence[float] = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        min_p: float | None = None,
    ) -> None:
        self.uniforms_BT = torch.from_numpy(np.stack([row_generator(*key).random(max_new_tokens) for key in keys]))
        self.greedy = temperature == 0
        self.temperatures = [temperature] * max_new_tokens if isinstance(temperature, int | float) else temperature
        self.warpers = LogitsProcessorList()
        if top_k:
            self.warpers.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            self.warpers.append(TopPLogitsWarper(top_p))
        if min_p:
            self.warpers.append(MinPLogitsWarper(min_p))
        self.position = 0
        self._drawn: list[Tensor] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """[B, V] scores with the sampled token at 0 and all others at -inf."""
        check_finite(scores)
        position, self.position = self.position, self.position + 1
        if self.greedy:
            return scores
        scaled_BV = scores.float() / self.temperatures[position]
        cumulative_BV = self.warpers(input_ids, scaled_BV).softmax(dim=-1).double().cumsum(dim=-1)
        threshold_B1 = self.uniforms_BT[:, position : position + 1].to(cumulative_BV) * cumulative_BV[:, -1:]
        token_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True)
        below_B1 = torch.nn.functional.pad(cumulative_BV, (1, 0)).gather(1, token_B1)
        self._drawn.append((cumulative_BV.gather(1, token_B1) - below_B1).log())
        return torch.full_like(scores, -torch.inf).scatter_(1, token_B1, 0.0)

    def log_probs(self) -> Tensor:
        """[B, T]: log-probs of the tokens drawn so far, after temperature, top-k, top-p and min-p; 0 if greedy."""
        return torch.cat(self._drawn, dim=1) if self._drawn else torch.zeros(len(self.uniforms_BT), self.position)


def check_finite(scores_BV: Tensor) -> None:
    """RunError for [B, V] scores from which no token can be chosen: argmax would take any, drawing one outside of V."""
    if not scores_BV.amax(dim=-1).isfinite().all():
        raise RunError(
            "the model's scores of the next token are not finite: its weights or what it computes from them overflow; "
            "use dtype bfloat16 or float32, or in training a lower learning_rate"
        )


def row_generator(*key: int | str) -> np.random.Generator:
    """A stream of random numbers keyed by numbers and words."""
    return np.random.Generator(np.random.Philox(key=seed_of(*key)))


def seed_of(*key: int | str) -> int:
    """A number of 128 bits made of numbers and words."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:16], "little")


@contextmanager
def plain_generation(model: Any) -> Iterator[None]:
    """A context in which `model.generate` does what its caller says, and nothing that the checkpoint says.

    transformers fills every setting that is not given from the checkpoint's `generation_config.json`: penalties, banned
    words, beams. The log-probs that are scored know nothing of them. A mixture of experts that was trained with a
    balance loss would compute that loss at every token; it is switched off.
    """
    owners = {id(owner): owner for owner in (model, bare(model))}.values()
    before = [(owner, owner.generation_config) for owner in owners]
    whole = bare(model).config
    balanced = [config for config in (whole, whole.get_text_config()) if getattr(config, "output_router_logits", False)]
    for owner in owners:
        owner.generation_config = GenerationConfig()
    for config in balanced:
        config.output_router_logits = False
    try:
        yield
    finally:
        for config in balanced:
            config.output_router_logits = True
        for owner, config in before:
            owner.generation_config = config


def stop_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens at which an answer ends: those of the checkpoint's generation config, and the tokenizer's own."""
    stops = model.generation_config.eos_token_id
    stops = stops if isinstance(stops, list) else [stops]
    return list(dict.fromkeys(token for token in (*stops, tokenizer.eos_token_id) if token is not None))


def vision_token_ids(config: Any, processor: Any) -> list[int]:
    """Ids of image, video, audio and vision-boundary tokens. They must not be sampled: the model expects one feature
    for each of them."""
    visual, tokenizer = family_of(config).is_vision_token, processor.tokenizer
    fields = {name for name in {*dir(config), *config.attribute_map} if name.endswith("_token_id") and visual(name)}
    found: list[Any] = [getattr(config, name, None) for name in fields]
    for kind in MEDIA:
        found += [getattr(config, f"{kind}_token_{end}", None) for end in ("id", "index")]
        found += getattr(processor, f"{kind}_token_ids", None) or []
    found += [tokenizer.convert_tokens_to_ids(token) for token in special_tokens(tokenizer) if visual(token)]
    return sorted({int(token) for token in found if token is not None})


def banned(scores: Tensor, ids: Sequence[int]) -> Tensor:
    """`scores` [B, V] with -inf at the tokens `ids`."""
    return scores.index_fill(1, torch.tensor(list(ids), device=scores.device, dtype=torch.long), -torch.inf)


def until_end(ids: list[int], ends: Sequence[int]) -> list[int]:
    """`ids` up to and including the first end token."""
    stop = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: stop + 1]
