"""The classes of models that score: a family's backbone under a head. Shapes: B rows, T tokens, H hidden."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import TokenClassifierOutput

from mmrl.core.config import InputError

MIDDLE = 1024


def scoring_class(config: Any) -> type:
    """The class of a model of this config with a head for sequence classification.

    For families of which transformers has none, as most that see pictures: its generic head on their own backbone.
    """
    known: Any = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if type(config) in known:
        return known[type(config)]
    return on_backbone(type(config), GenericForSequenceClassification, "SequenceClassification")


@functools.cache
def on_backbone(config_class: type, head: type, purpose: str) -> type:
    """The class of a family's backbone under a `head`, a mixin such as transformers' generic ones."""
    if config_class not in transformers.MODEL_MAPPING:
        family = getattr(config_class, "model_type", config_class.__name__)
        raise InputError(f"transformers has no backbone of {family} models, so no head can be put on one")
    backbone: Any = transformers.MODEL_MAPPING[config_class]
    family = next(base for base in backbone.__mro__[1:] if issubclass(base, transformers.PreTrainedModel))
    name = f"{backbone.__name__.removesuffix('Model')}For{purpose}"
    return type(name, (head, family), {"__module__": __name__})


class ScoreHead(nn.Module):
    """Hidden states to scores: Linear(H, 1024), SiLU, Linear(1024, 1), over sqrt(H), as in YOJO (2604.10966)."""

    def __init__(self, hidden: int, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden, MIDDLE, dtype=dtype), nn.Linear(MIDDLE, 1, dtype=dtype)
        for layer in (self.up, self.down):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """A score for each hidden state."""
        return self.down(functional.silu(self.up(hidden)))[..., 0] / math.sqrt(hidden.shape[-1])


class TokenScores:
    """A mixin before a family's class of transformers: its backbone under a ScoreHead."""

    base_model_prefix = "model"

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # pyright: ignore[reportCallIssue]
        setattr(self, self.base_model_prefix, transformers.AutoModel.from_config(config))
        self.score = ScoreHead(config.get_text_config().hidden_size)
        self.post_init()  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, use_cache: bool = False, return_dict: bool | None = None, **inputs: Any) -> TokenClassifierOutput:
        """`logits` [B, T]: a score at each token."""
        given = {name: value for name, value in inputs.items() if value is not None}
        states = getattr(self, self.base_model_prefix)(**given, use_cache=False)
        return TokenClassifierOutput(logits=self.score(states.last_hidden_state))


def token_scores_class(config_class: type) -> type:
    """The class of a model of this config that gives a score at every token."""
    return on_backbone(config_class, TokenScores, "TokenScores")
