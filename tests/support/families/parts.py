"""What the tiny twins of families are made of: a tokenizer, templates, the sizes of their towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.image_processing_utils import BaseImageProcessor

from mmrl.model.tiny_twins import trained_tokenizer
from tests.conftest import TEXTS

PATCH = 14
PAD = "<|endoftext|>"
CHATML = ("<|im_start|>", "<|im_end|>")
TEXT: dict[str, Any] = {  # sizes of the language model
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 2048,
}  # fmt: skip
VISION: dict[str, Any] = {  # and of the vision tower
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": PATCH,
}  # fmt: skip
MROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}


def tokenizer(*special: str, eos: str = CHATML[1], bos: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """A tokenizer with these special tokens; with `bos` it begins every text with that token, as Llama's and Gemma's
    do. `named` are tokens that have an attribute, such as image_token."""
    tokens: dict[str, None] = dict.fromkeys([PAD, *CHATML, *([bos] if bos else []), eos, *special, *named.values()])
    inner: Any = trained_tokenizer(TEXTS, tuple(tokens), vocab=400, eos=eos).backend_tokenizer
    if bos:
        first = [(bos, inner.token_to_id(bos))]
        inner.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=first)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token=eos,
        bos_token=bos,
        pad_token=PAD,
        padding_side="left",
        extra_special_tokens=named or list(special),
        model_max_length=4096,
    )


def template(
    *,
    image: str,
    video: str = "",
    bos: str = "",
    head: tuple[str, str] = ("<|im_start|>", "\n"),
    end: str = "<|im_end|>\n",
    roles: Mapping[str, str] | None = None,
) -> str:
    """A chat template: `head` stands around the role of a message and `end` behind its content."""
    names = "{'user': 'user', 'assistant': 'assistant', 'system': 'system'}" if roles is None else repr(dict(roles))
    video_branch = f"{{%- elif part['type'] == 'video' %}}{{{{ {video!r} }}}}" if video else ""
    return f"""{{{{ {bos!r} }}}}{{%- set names = {names} %}}{{%- for message in messages %}}
{{{{- {head[0]!r} + names[message['role']] + {head[1]!r} }}}}
{{%- if message['content'] is string %}}{{{{ message['content'] }}}}
{{%- else %}}{{%- for part in message['content'] %}}
{{%- if part['type'] == 'image' %}}{{{{ {image!r} }}}}{video_branch}
{{%- else %}}{{{{ part['text'] }}}}{{%- endif %}}{{%- endfor %}}{{%- endif %}}{{{{ {end!r} }}}}{{%- endfor %}}
{{%- if add_generation_prompt %}}{{{{ {head[0]!r} + names['assistant'] + {head[1]!r} }}}}{{%- endif %}}"""


def text_config(words: PreTrainedTokenizerFast, **options: Any) -> dict[str, Any]:
    """The config of a small language model with the vocabulary `words`."""
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    return {**TEXT, "vocab_size": len(words), **ids, **options}


def model_of(model_type: str, words: PreTrainedTokenizerFast, *, stops: Any = (), **config: Any) -> Any:
    """A random model of a type, with log-probs that differ much from token to token."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = AutoModelForImageTextToText.from_config(AutoConfig.for_model(model_type, **config))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.dim() > 1 and "embed" not in name:
                    weight.normal_(std=0.06)
    ends = [words.eos_token_id, *(id_of(words, token) for token in stops)]
    model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    model.generation_config.pad_token_id = words.pad_token_id
    return model.eval()


def id_of(words: PreTrainedTokenizerFast, token: str) -> int:
    """The id of a token."""
    return int(words.convert_tokens_to_ids(token))  # pyright: ignore[reportArgumentType]


def square(kind: type[BaseImageProcessor], side: int, **options: Any) -> Any:
    """An image processor that makes squares."""
    return kind(size={"height": side, "width": side}, **options)
