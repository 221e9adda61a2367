"""A head that has learned the scores of a slower teacher reads an answer while it is decoded.

The prompt and its pictures are read once, and of each text only the tokens in which it differs from the one before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from eval.generation import Draw
from mmrl.core.config import InputError
from rewards import Rollout, Verdict
from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.process_model_torch import KINDS, row_behind
from rewards.heads.reading_torch import Row, alike, padded
from rewards.heads.reward_model import squashed
from rewards.heads.token_scores_torch import prompt_rows, token_scores


class HeadGuide:
    """The score of a head at the end of a text. `blind` gives none."""

    def __init__(self, model: str, *, blind: bool) -> None:
        self._head, self._blind = token_scores(model, KINDS, "auto", "float32"), blind

    def reading(self, draw: Draw, opened: str) -> Reading | None:
        """What reads the answer to a draw, which goes on with the `opened` one; None where nothing is shown."""
        sample = draw.sample
        if self._blind or not sample.media:
            return None
        return Reading(Rollout("", prompt=sample.prompt, media=sample.media, opened=opened), self._head)


class Reading:
    """The answer of a rollout, as a head reads one text after another. `read` counts the tokens that it has read."""

    def __init__(self, rollout: Rollout, head: Checkpoint) -> None:
        self.read = 0
        self._rollout, self._head, self._backbone = rollout, head, head.model.base_model
        self._prompt: Row | Verdict | None = None
        self._ids: list[int] = []  # of the tokens in the cache
        self._cache, self._rope_deltas = DynamicCache(config=head.model.config), None

    @torch.inference_mode()
    def scores(self, texts: Sequence[str]) -> list[float | None]:
        """The score in [0, 1] at the end of each text, None where it cannot be read."""
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> float | None:
        if self._prompt is None:
            [self._prompt] = prompt_rows([self._rollout], self._head)
        found = row_behind(self._prompt, replace(self._rollout, completion=text), [(0, len(text))], self._head)
        if isinstance(found, Verdict):
            return None
        row, _ = found
        state_H = self._first(row) if not self._ids else self._next(row["input_ids"])
        self._ids = row["input_ids"].tolist() if _keeps_all(self._cache) else []
        raw = float(self._head.model.score(state_H))
        if not math.isfinite(raw):
            raise InputError(f"decode: the head {self._head.name} gives {raw}; train it anew, or name another")
        return squashed(raw)

    def _first(self, row: Row) -> Tensor:
        """The state of the last token of a row, which is read from its beginning."""
        self._cache = DynamicCache(config=self._head.model.config)
        state_H = self._last_state(padded([row], self._head))
        self._rope_deltas = getattr(self._backbone, "rope_deltas", None)
        return state_H

    def _next(self, ids_T: Tensor) -> Tensor:
        """The same of a text to the prompt in the cache."""
        same = alike(ids_T.tolist(), self._ids)
        kept = min(same, len(ids_T) - 1)  # the last token is read for its state
        self._cache.crop(kept - len(self._ids))
        if self._rope_deltas is not None:  # the backbone remembers those of the prompt that it read last
            self._backbone.rope_deltas = self._rope_deltas
        return self._last_state({"input_ids": ids_T[None, kept:]})

    def _last_state(self, inputs: Row) -> Tensor:
        self.read += inputs["input_ids"].shape[1]
        given: dict[str, Any] = {name: value.to(self._backbone.device) for name, value in inputs.items()}
        return self._backbone(**given, past_key_values=self._cache, use_cache=True).last_hidden_state[0, -1]


def _keeps_all(cache: DynamicCache) -> bool:
    """Whether every layer keeps the keys of all tokens, so that the last ones can be taken away again."""
    return cache.is_croppable and not any(cache.is_sliding)
