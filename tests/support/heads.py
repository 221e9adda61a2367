"""Tiny language models that score, saved as checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, LlamaModel

from mmrl.model.tiny_twins import QWEN_TEMPLATE, QWEN_TOKENS, trained_tokenizer
from rewards.heads.checkpoint_torch import Checkpoint
from rewards.heads.multi_response_torch import add_separator
from rewards.heads.token_scores_torch import with_token_scores
from tests.conftest import TEXTS


def config_of(tokenizer: Any, **more: Any) -> LlamaConfig:
    """The config of a tiny Llama with this tokenizer."""
    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.3, **more,
    )  # fmt: skip


def saved(model: Any, tokenizer: Any, place: Path) -> str:
    """The directory of a checkpoint."""
    model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def tiny_head(kind: type[Any], place: Path, **more: Any) -> str:
    """The directory of a random Llama of a class, `LlamaForSequenceClassification` for example, with a tokenizer."""
    tokenizer = trained_tokenizer(TEXTS, QWEN_TOKENS, vocab=512, eos="<|im_end|>")
    tokenizer.chat_template = QWEN_TEMPLATE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return saved(kind(config_of(tokenizer, **more)), tokenizer, place)


def response_head(backbone: Any, tokenizer: Any, processor: Any = None) -> Checkpoint:
    """A random head for several responses on a backbone."""
    model = with_token_scores(backbone, "multi_response")
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    add_separator(model, tokenizer)
    return Checkpoint("tiny", model, tokenizer, processor)


def tiny_heads(out: Path) -> dict[str, str]:
    """A scalar reward model, a language model and an encoder, by kind."""
    return {
        "scorer": tiny_head(LlamaForSequenceClassification, out / "scorer", num_labels=1),
        "language": tiny_head(LlamaForCausalLM, out / "language"),
        "encoder": tiny_head(LlamaModel, out / "encoder"),
    }
